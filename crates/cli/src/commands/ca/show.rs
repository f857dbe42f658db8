//! `pqc-iiot ca show`.

use std::io::{self, Write};

use serde::Serialize;

use super::{OWN_NAME, Office};
use crate::args::CaDir;
use crate::commands::Context;
use crate::error::Result;
use crate::output::{Report, columns, table};
use crate::time::{now, rfc3339};

#[derive(Serialize)]
struct Peer {
    peer: String,
    key_epoch: u64,
    key_id: String,
    not_after: String,
    state: &'static str,
}

#[derive(Serialize)]
struct Shown {
    root: String,
    issuer: String,
    control: String,
    set: &'static str,
    anchors_version: u64,
    not_after: String,
    revocation_seq: u64,
    revoked: usize,
    issued: Vec<Peer>,
}

impl Report for Shown {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        table(
            out,
            &[
                ("root", self.root.clone()),
                ("issuer", self.issuer.clone()),
                ("control", self.control.clone()),
                ("keys", self.set.to_owned()),
                ("anchors", format!("version {}, until {}", self.anchors_version, self.not_after)),
                ("revocations", format!("{} revoked, sequence {}", self.revoked, self.revocation_seq)),
            ],
        )?;
        if self.issued.is_empty() {
            return writeln!(out, "\nNothing issued yet. Next: pqc-iiot ca issue DEVICE/request.cbor");
        }
        let cells = |peer: &Peer| {
            vec![
                peer.peer.clone(),
                peer.key_epoch.to_string(),
                peer.key_id.clone(),
                peer.not_after.clone(),
                peer.state.to_owned(),
            ]
        };
        let rows: Vec<_> = self.issued.iter().map(cells).collect();
        writeln!(out)?;
        columns(out, &["PEER", "EPOCH", "KEY ID", "VALID UNTIL", "STATE"], &rows)
    }
}

pub(super) fn show(args: &CaDir, context: &Context) -> Result<()> {
    let office = Office::open(args, context)?;
    let at = now();
    let issued = office.authority.issued().filter(|(peer, _)| peer.as_str() != OWN_NAME);
    let issued = issued
        .map(|(peer, issued)| Peer {
            peer: peer.as_str().to_owned(),
            key_epoch: issued.key_epoch,
            key_id: issued.key_id.to_string(),
            not_after: rfc3339(issued.not_after),
            state: match issued {
                issued if issued.revoked => "revoked",
                issued if issued.not_after <= at => "expired",
                _ => "valid",
            },
        })
        .collect();
    let anchors = office.anchors.anchors();
    context.output.report(&Shown {
        root: office.authority.root().fingerprint().to_string(),
        issuer: office.authority.issuer().fingerprint().to_string(),
        control: office.authority.control().fingerprint().to_string(),
        set: office.authority.issuer().anchor_key().set.name(),
        anchors_version: anchors.version,
        not_after: rfc3339(anchors.not_after),
        revocation_seq: office.revocations.head().seq,
        revoked: office.revocations.revoked().len(),
        issued,
    })
}
