//! `pqc-iiot device release-hold`.

use std::io::{self, Write};

use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::control::revocation::{ChainHead, MAX_ENTRIES, RevocationState};
use serde::Serialize;

use super::own_name;
use crate::args::ReleaseHoldArgs;
use crate::commands::{Context, identity};
use crate::error::{CliError, ErrorKind, Result};
use crate::keeper::Ledger;
use crate::output::{Report, table};

#[derive(Serialize)]
struct Released {
    peer: String,
    /// Where its list stands.
    revocation_seq: u64,
    /// What was judged.
    released: String,
}

impl Report for Released {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        table(
            out,
            &[
                ("peer", self.peer.clone()),
                ("released", self.released.clone()),
                ("list", format!("stays at sequence {}", self.revocation_seq)),
            ],
        )?;
        writeln!(
            out,
            "If the broker still retains what contradicts, it holds again: publish the authority's own first."
        )
    }
}

pub(super) fn release(args: &ReleaseHoldArgs, context: &Context) -> Result<()> {
    let dir = identity::directory(args.dir.as_deref(), context)?;
    let keeper = identity::open(&dir, &args.unlock, context)?;
    let name = own_name(&keeper)?;
    let (mut ledger, rows) = Ledger::open(&keeper, name.clone())?;
    let mut revocations = RevocationState::restore(&rows, MAX_ENTRIES).map_err(|error| {
        CliError::new(ErrorKind::Verification, "a stored record is damaged").because(error)
    })?;
    let Some((seq, reason)) = held(&revocations) else {
        return Err(CliError::new(ErrorKind::Failed, "nothing holds")
            .because("the revocations are complete as far as is known, and uncontradicted"));
    };
    if seq != args.seq {
        return Err(CliError::new(ErrorKind::Refused, format!("sequence {} is not what holds", args.seq))
            .because(&reason)
            .fix(format!(
                "judge that one; then: pqc-iiot device release-hold --dir '{}' --seq {seq}",
                dir.display()
            )));
    }
    revocations.release_hold();
    let event = AuditEvent::new(AuditKind::HoldReleased, None, &reason);
    ledger.commit(&revocations.take_changes(), Some(event))?;
    context.output.report(&Released {
        peer: name.as_str().to_owned(),
        revocation_seq: revocations.head().seq,
        released: reason,
    })
}

/// What keeps new peers from being trusted, and its sequence.
pub(in crate::commands) fn held(revocations: &RevocationState) -> Option<(u64, String)> {
    let head = |head: ChainHead| format!("{}:{}", head.seq, head.digest);
    if let Some(found) = revocations.equivocation() {
        return Some((
            found.seen.seq,
            format!("held {} contradicted by {}", head(found.held), head(found.seen)),
        ));
    }
    let gap = revocations.gap()?;
    Some((gap.need, format!("held {}, missing up to {}", gap.have, gap.need)))
}
