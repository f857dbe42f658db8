//! `pqc-iiot ca revoke` and `pqc-iiot ca publish`.

use std::io::{self, Write};

use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::control::revocation::{IssueError, RevocationEntry, RevocationUpdate};
use pqc_iiot_core::endpoint::ControlTopics;
use serde::Serialize;

use super::Office;
use crate::args::{PublishArgs, RevokeArgs};
use crate::commands::Context;
use crate::commands::control::{ControlMessage, Destination, Published};
use crate::connection;
use crate::error::{CliError, ErrorKind, Result};
use crate::output::{Report, table};
use crate::time::now;

#[derive(Serialize)]
struct Revoked {
    peer: String,
    key_id: String,
    key_epoch: u64,
    reason: &'static str,
    revocation_seq: u64,
    /// It had been revoked before.
    already: bool,
    published: Published,
}

impl Report for Revoked {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", if self.already { "Revoked before:" } else { "Revoked:" })?;
        table(
            out,
            &[
                ("peer", self.peer.clone()),
                ("key id", format!("{} (epoch {})", self.key_id, self.key_epoch)),
                ("reason", self.reason.to_owned()),
                ("sequence", self.revocation_seq.to_string()),
            ],
        )?;
        self.published.human(out)
    }
}

pub(super) fn revoke(args: &RevokeArgs, context: &Context) -> Result<()> {
    // A mistake in the options must not show only after the decision.
    let destination = Destination::find(&args.publication, context)?;
    let topics = connection::topics(&args.publication.connection, &context.config)?;
    let mut office = Office::open(&args.ca, context)?;
    let (issued, change) = office.authority.mark_revoked(&args.peer).ok_or_else(|| {
        CliError::new(ErrorKind::Failed, format!("nothing was ever issued to {}", args.peer))
            .fix("see who there is: pqc-iiot ca show")
    })?;
    let entry = RevocationEntry::new(&args.peer, &issued.key_id, args.reason, issued.not_after);
    let update = match office.revocations.revoke(&[entry], now()) {
        Ok(update) => Some(update),
        Err(IssueError::NothingNew) => None,
        Err(error) => {
            return Err(
                CliError::new(ErrorKind::Failed, format!("{} was not revoked", args.peer)).because(error)
            );
        }
    };
    if let Some(update) = &update {
        let mut changes = office.revocations.take_changes();
        changes.push(change);
        let detail = format!(
            "key {} epoch {} reason {} seq {}",
            issued.key_id,
            issued.key_epoch,
            args.reason,
            update.seq()
        );
        let event = AuditEvent::new(AuditKind::CertificateRevoked, Some(args.peer.clone()), &detail);
        // Durable before any receiver can see it: the sequence must never be used twice.
        office.ledger.commit(&changes, Some(event))?;
    }
    let mut messages = Vec::new();
    if let Some(update) = &update {
        messages.push(office.sign_update(update, &topics)?);
    }
    messages.extend(office.checkpoint(&topics)?);
    let seq = office.revocations.head().seq;
    // Of a repetition, the reason that stands.
    let reason = office.revocations.revoked().find(&entry.id).map_or(args.reason, |entry| entry.reason);
    let published = destination.publish(&messages, context)?;
    let failed = published.check();
    context.output.report(&Revoked {
        peer: args.peer.as_str().to_owned(),
        key_id: issued.key_id.to_string(),
        key_epoch: issued.key_epoch,
        reason: reason.name(),
        revocation_seq: seq,
        already: update.is_none(),
        published,
    })?;
    failed
}

#[derive(Serialize)]
struct PublishedAgain {
    anchors_version: u64,
    revocation_seq: u64,
    revoked: usize,
    published: Published,
}

impl Report for PublishedAgain {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        table(
            out,
            &[
                ("anchors", format!("version {}", self.anchors_version)),
                ("revocations", format!("{} revoked, sequence {}", self.revoked, self.revocation_seq)),
            ],
        )?;
        self.published.human(out)
    }
}

pub(super) fn publish(args: &PublishArgs, context: &Context) -> Result<()> {
    let destination = Destination::find(&args.publication, context)?;
    if matches!(destination, Destination::Nowhere) {
        return Err(
            CliError::new(ErrorKind::Usage, "nowhere to publish to").fix("--broker URL, or --out DIR")
        );
    }
    let topics = connection::topics(&args.publication.connection, &context.config)?;
    let mut office = Office::open(&args.ca, context)?;
    let mut messages = office.checkpoint(&topics)?;
    messages.push(ControlMessage { topic: topics.anchors(), payload: office.anchors.encoded().to_vec() });
    let (version, seq) = (office.anchors.anchors().version, office.revocations.head().seq);
    let revoked = office.revocations.revoked().len();
    let published = destination.publish(&messages, context)?;
    let failed = published.check();
    context.output.report(&PublishedAgain {
        anchors_version: version,
        revocation_seq: seq,
        revoked,
        published,
    })?;
    failed
}

impl Office {
    fn sign_update(&mut self, update: &RevocationUpdate, topics: &ControlTopics) -> Result<ControlMessage> {
        let topic = topics.revocations();
        let payload =
            self.authority.control().sign(&mut self.random, update, &topic.as_str()).map_err(|error| {
                CliError::new(ErrorKind::Failed, "the revocation is recorded and was not signed")
                    .because(error)
                    .fix("pqc-iiot ca publish --broker URL")
            })?;
        Ok(ControlMessage { topic, payload })
    }

    /// The chunks, and after them the manifest that names them.
    pub(super) fn checkpoint(&mut self, topics: &ControlTopics) -> Result<Vec<ControlMessage>> {
        let topic = topics.checkpoint();
        let checkpoint = self.revocations.checkpoint(now());
        let changes = self.revocations.take_changes();
        if !changes.is_empty() {
            self.ledger.commit(&changes, None)?;
        }
        let manifest = self.authority.control().sign(&mut self.random, &checkpoint.manifest, &topic.as_str());
        let manifest = manifest.map_err(|error| {
            CliError::new(ErrorKind::Failed, "the revocation checkpoint was not signed").because(error)
        })?;
        let chunks = (0..).zip(checkpoint.chunks);
        let mut messages: Vec<_> = chunks
            .map(|(index, payload)| ControlMessage { topic: topics.checkpoint_chunk(index), payload })
            .collect();
        messages.push(ControlMessage { topic, payload: manifest });
        Ok(messages)
    }
}
