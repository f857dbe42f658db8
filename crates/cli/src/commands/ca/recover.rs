//! `pqc-iiot ca recover`.

use std::io::{self, Write};
use std::path::Path;

use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::codec::signed::{SignedObject, Unverified};
use pqc_iiot_core::control::revocation::{
    CheckpointAssembler, ChunkOutcome, CompleteCheckpoint, ManifestOutcome, RevocationCheckpoint,
    RevocationEntry, RevocationEntryId, RevocationUpdate,
};
use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::endpoint::ControlTopics;
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::limits::Limits;
use serde::Serialize;

use super::Office;
use crate::args::RecoverArgs;
use crate::commands::Context;
use crate::commands::control::{ControlMessage, Destination, Published};
use crate::connection;
use crate::error::{CliError, ErrorKind, Result};
use crate::output::{Report, table};

#[derive(Serialize)]
struct Recovered {
    /// The highest sequence found, or given.
    seen: u64,
    /// Where the history goes on.
    revocation_seq: u64,
    revoked: usize,
    /// Revocations that this authority had forgotten.
    taken_over: usize,
    published: Published,
}

impl Report for Recovered {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        table(
            out,
            &[
                ("revocations", format!("{} revoked, {} of them taken over", self.revoked, self.taken_over)),
                ("sequence", format!("{}, past {}", self.revocation_seq, self.seen)),
            ],
        )?;
        writeln!(
            out,
            "What was issued since the backup is forgotten: `pqc-iiot ca show` lists what is known."
        )?;
        self.published.human(out)
    }
}

pub(super) fn recover(args: &RecoverArgs, context: &Context) -> Result<()> {
    let destination = Destination::find(&args.publication, context)?;
    let topics = connection::topics(&args.publication.connection, &context.config)?;
    let mut office = Office::open(&args.ca, context)?;
    let messages = match &args.from {
        Some(directory) => read(directory, &topics)?,
        None => {
            let chunks = topics.checkpoint_chunks();
            destination.retained(&[topics.checkpoint(), chunks, topics.revocations()], context)?
        }
    };
    let history = History::gather(&office.anchors, &messages, &topics)?;
    let own = office.revocations.head().seq;
    let unknown: Vec<_> = history
        .entries
        .iter()
        .filter(|entry| !office.revocations.revoked().contains(&entry.id))
        .copied()
        .collect();
    let seen = match (args.seen, history.seen) {
        (None, None) => {
            return Err(CliError::new(ErrorKind::Failed, "no revocations of this authority were found")
                .because("without them it is not known what was published since the backup")
                .fix("name a broker of the fleet, or the highest sequence that any device has seen: --seen SEQ"));
        }
        (None, Some(found)) if found <= own && unknown.is_empty() => {
            return Err(CliError::new(ErrorKind::Failed, "nothing to recover")
                .because(format!(
                    "what is published ends at sequence {found}, and this authority knows all of it"
                ))
                .fix("if devices have seen more than the broker has: --seen SEQ, from `pqc-iiot status`"));
        }
        (given, found) => given.max(found).unwrap_or_default(),
    };

    let failed = |why: &dyn std::fmt::Display| {
        CliError::new(ErrorKind::Failed, "the revocations were not recovered").because(why)
    };
    let mut fresh = [0; 32];
    office.random.fill(&mut fresh);
    // All that was found: what is held takes the later expiry.
    office.revocations.jump(seen, &fresh, &history.entries).map_err(|error| failed(&error))?;
    let mut changes = office.revocations.take_changes();
    changes.extend(office.mark_taken_over());
    let head = office.revocations.head().seq;
    let detail = format!("from {own} past {seen} to {head}, {} taken over", unknown.len());
    let event = AuditEvent::new(AuditKind::RevocationsRecovered, None, &detail);
    office.ledger.commit(&changes, Some(event))?;

    let messages = office.checkpoint(&topics)?;
    let published = destination.publish(&messages, context)?;
    let outcome = published.check();
    context.output.report(&Recovered {
        seen,
        revocation_seq: head,
        revoked: office.revocations.revoked().len(),
        taken_over: unknown.len(),
        published,
    })?;
    outcome
}

impl Office {
    /// Marks the certificates on record whose keys the list names: they are never issued again.
    fn mark_taken_over(&mut self) -> Vec<pqc_iiot_core::store::Change> {
        let revoked = self.revocations.revoked();
        let named = |peer, issued: &pqc_iiot_core::identity::authority::Issued| {
            !issued.revoked && revoked.contains(&RevocationEntryId::new(peer, &issued.key_id))
        };
        let peers: Vec<_> = self
            .authority
            .issued()
            .filter(|(peer, issued)| named(peer, issued))
            .map(|(peer, _)| peer.clone())
            .collect();
        peers.iter().filter_map(|peer| self.authority.mark_revoked(peer)).map(|(_, change)| change).collect()
    }
}

/// What was published under this authority's control key.
#[derive(Default)]
struct History {
    seen: Option<u64>,
    entries: Vec<RevocationEntry>,
}

impl History {
    /// Whatever others retained there does not verify, and is passed over.
    fn gather(anchors: &PinnedAnchors, messages: &[ControlMessage], topics: &ControlTopics) -> Result<Self> {
        let mut history = Self::default();
        let mut assembler = CheckpointAssembler::new();
        let mut complete: Option<CompleteCheckpoint> = None;
        let mut newest_manifest = None;
        for message in messages.iter().filter(|message| message.topic == topics.checkpoint()) {
            let Some(manifest) = verified::<RevocationCheckpoint>(anchors, message) else { continue };
            let head = manifest.head().seq;
            history.seen = history.seen.max(Some(head));
            newest_manifest = newest_manifest.max(Some(head));
            if let ManifestOutcome::Complete(checkpoint) = assembler.manifest(manifest) {
                complete = Some(checkpoint);
            }
        }
        for (index, chunk) in messages.iter().filter_map(|message| {
            let rest = message.topic.strip_prefix(&topics.checkpoint())?.strip_prefix('/')?;
            Some((rest.parse().ok()?, &message.payload))
        }) {
            if let Ok(ChunkOutcome::Complete(checkpoint)) = assembler.chunk(index, chunk) {
                complete = Some(checkpoint);
            }
        }
        if newest_manifest != complete.as_ref().map(|checkpoint| checkpoint.manifest().head().seq) {
            return Err(CliError::new(ErrorKind::Failed, "the published checkpoint is not complete")
                .because("a part of it is missing, so what was revoked is not known")
                .fix("read it from another broker, or from a directory that `--out` wrote: --from DIR"));
        }
        history.entries.extend(complete.iter().flat_map(CompleteCheckpoint::entries).copied());
        for message in messages.iter().filter(|message| message.topic == topics.revocations()) {
            let Some(update) = verified::<RevocationUpdate>(anchors, message) else { continue };
            history.seen = history.seen.max(Some(update.seq()));
            history.entries.extend_from_slice(update.entries());
        }
        history.entries.sort_by_key(|entry| entry.id);
        history.entries.dedup_by_key(|entry| entry.id);
        Ok(history)
    }
}

fn verified<T>(
    anchors: &PinnedAnchors,
    message: &ControlMessage,
) -> Option<pqc_iiot_core::codec::signed::Signed<T>>
where
    T: for<'a> SignedObject<Context<'a> = &'a str>,
{
    let object = Unverified::<T>::decode(&message.payload, Limits::default().revocation).ok()?;
    anchors.verify_control(object, &message.topic.as_str()).ok()
}

/// The messages that `--out` wrote.
fn read(directory: &Path, topics: &ControlTopics) -> Result<Vec<ControlMessage>> {
    let failed = |error: io::Error| {
        CliError::new(ErrorKind::Usage, format!("{} cannot be read", directory.display()))
            .because(error)
            .fix("name a directory that `ca revoke --out` or `ca publish --out` wrote")
    };
    let chunk = format!("{}.", file_name(&topics.checkpoint()));
    let mut messages = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let topic =
            [topics.revocations(), topics.checkpoint()].into_iter().find(|topic| file_name(topic) == name);
        let index = || name.strip_prefix(&chunk)?.parse().ok().map(|index| topics.checkpoint_chunk(index));
        let Some(topic) = topic.or_else(index) else { continue };
        let limit = Limits::default().revocation;
        let payload = crate::files::read(&entry.path(), limit, "control message", ErrorKind::Usage)?;
        messages.push(ControlMessage { topic, payload });
    }
    Ok(messages)
}

fn file_name(topic: &str) -> String {
    topic.replace('/', ".")
}
