//! The receiver's side: what is revoked, how far the list reaches, and whether it can be relied on.

use alloc::vec::Vec;

use thiserror::Error;

use super::assembler::CompleteCheckpoint;
use super::chain::{ChainHead, Equivocation, Gap, Relation, relate, relate_head};
use super::checkpoint::RevocationCheckpoint;
use super::entry::{RevocationEntry, RevocationEntryId};
use super::set::{MAX_ENTRIES, RevocationSet, SetFull};
use super::stored::{RestoreError, Rows, StoredHead};
use super::update::RevocationUpdate;
use crate::codec::signed::Signed;
use crate::store::{Change, RecordKind, Row};
use crate::time::UnixTime;

/// Verified updates kept until the gap before them is filled; of more, those nearest to the gap stay.
pub const MAX_PENDING_UPDATES: usize = 16;

const ROWS: Rows =
    Rows { head: (RecordKind::RevocationHead, b""), blocks: (RecordKind::RevocationEntries, b"") };

/// What is worth doing with an object before its signature is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precheck {
    /// Verify it.
    Worth,
    /// Already applied or already waiting: drop it, at no cost.
    Duplicate,
    /// Below what is applied: drop it, at no cost.
    Old,
}

/// What a verified object led to. Whatever it is, persist [`RevocationState::take_changes`], which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The list moved on: end trust in `added` at once.
    Applied {
        /// Identities revoked by this, not revoked before.
        added: Vec<RevocationEntry>,
        /// A waiting update turned out to contradict the filled gap.
        equivocation: Option<Equivocation>,
    },
    /// Applied before.
    Unchanged,
    /// Older than what is applied.
    Stale(Gap),
    /// Something before it is missing: ask for a sync. An update waits until then, within [`MAX_PENDING_UPDATES`]; a
    /// noted checkpoint is to be assembled.
    Gap(Gap),
    /// It contradicts what is held, which stays; high-risk operations hold. Each contradiction is reported once.
    Equivocation(Equivocation),
}

/// Why a verified object was not applied. Nothing was changed but that the list is now known to be behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// More entries than this receiver holds.
    #[error(transparent)]
    Full(#[from] SetFull),
    /// A checkpoint lacks an entry that is held and has not expired.
    #[error("the checkpoint omits {0}, which is revoked and has not expired")]
    Omits(RevocationEntryId),
}

/// A verified update, waiting or about to be applied.
#[derive(Clone)]
struct Link {
    prev: ChainHead,
    next: ChainHead,
    entries: Vec<RevocationEntry>,
}

/// The revocation list of one receiver.
///
/// Only [`Signed`] objects, verified under role `control` and the topic they came on, reach it. The sequence never
/// falls; an entry leaves only when its certificate has expired below the caller's durable time floor.
pub struct RevocationState {
    head: ChainHead,
    set: RevocationSet,
    newest: u64,
    equivocation: Option<Equivocation>,
    pending: Vec<Link>,
    head_dirty: bool,
}

impl Default for RevocationState {
    fn default() -> Self {
        Self::with_limit(MAX_ENTRIES)
    }
}

impl RevocationState {
    /// Before the first update, for at most [`MAX_ENTRIES`].
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`RevocationState::new`], for at most `limit` entries.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            head: ChainHead::GENESIS,
            set: RevocationSet::with_limit(limit),
            newest: 0,
            equivocation: None,
            pending: Vec::new(),
            head_dirty: false,
        }
    }

    /// Whether this identity is revoked.
    pub fn is_revoked(&self, id: &RevocationEntryId) -> bool {
        self.set.contains(id)
    }

    /// All revoked identities.
    pub fn revoked(&self) -> &RevocationSet {
        &self.set
    }

    /// The last applied position.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// The gap, if the authority is known to have signed more than is applied.
    pub fn gap(&self) -> Option<Gap> {
        self.is_behind().then_some(Gap { have: self.head.seq, need: self.newest })
    }

    /// Whether something the authority signed is missing here.
    pub fn is_behind(&self) -> bool {
        self.newest > self.head.seq
    }

    /// The contradiction found, if any.
    pub fn equivocation(&self) -> Option<Equivocation> {
        self.equivocation
    }

    /// Whether high-risk operations must wait: behind, or the authority contradicted itself.
    pub fn hold_high_risk(&self) -> bool {
        self.is_behind() || self.equivocation.is_some()
    }

    /// Whether a sequence that a peer merely claims is reason to ask for a sync. A claim never changes anything.
    pub fn hint_is_ahead(&self, claimed_seq: u64) -> bool {
        claimed_seq > self.newest
    }

    /// Lifts the hold that a contradiction or an unreachable sequence caused. For an operator's decision, or new trust
    /// anchors with another `control` key; nothing received may lead here.
    pub fn release_hold(&mut self) {
        self.equivocation = None;
        self.newest = self.head.seq;
        self.pending.clear();
        self.head_dirty = true;
    }

    /// Sorts out replays before any signature is checked; hashes the payload only at the current or a waiting sequence.
    pub fn precheck_update(&self, update: &RevocationUpdate) -> Precheck {
        let seq = update.seq();
        if seq < self.head.seq {
            return Precheck::Old;
        }
        let contradicted = self.equivocation.is_some_and(|known| known.seen.seq == seq);
        if seq > self.head.seq && !contradicted && !self.pending.iter().any(|link| link.next.seq == seq) {
            return Precheck::Worth;
        }
        let next = update.head();
        if self.pending.iter().any(|link| link.next == next) {
            Precheck::Duplicate
        } else {
            self.precheck(next)
        }
    }

    /// As [`RevocationState::precheck_update`], for a manifest.
    pub fn precheck_checkpoint(&self, checkpoint: &RevocationCheckpoint) -> Precheck {
        self.precheck(checkpoint.head())
    }

    fn precheck(&self, other: ChainHead) -> Precheck {
        if self.equivocation.is_some_and(|known| known.seen == other) {
            return Precheck::Duplicate;
        }
        match relate_head(&self.head, &other) {
            Relation::Older => Precheck::Old,
            Relation::Same => Precheck::Duplicate,
            _ => Precheck::Worth,
        }
    }

    /// Applies a verified update if it is the next one, and then every waiting one that follows.
    ///
    /// `floor` is the durable time floor: on a full list, entries whose certificates expired before it make room.
    pub fn apply_update(
        &mut self,
        update: &Signed<RevocationUpdate>,
        floor: UnixTime,
    ) -> Result<Outcome, ApplyError> {
        let prev = update.prev();
        let next = prev.extended(update.seq(), update.payload());
        self.advance(Link { prev, next, entries: update.entries().to_vec() }, floor)
    }

    fn advance(&mut self, link: Link, floor: UnixTime) -> Result<Outcome, ApplyError> {
        let gap = Gap { have: self.head.seq, need: link.prev.seq };
        match relate(&self.head, &link.prev, &link.next) {
            Relation::Older => Ok(Outcome::Stale(Gap { have: self.head.seq, need: link.next.seq })),
            Relation::Same => Ok(Outcome::Unchanged),
            Relation::Fork(found) => Ok(self.contradiction(found)),
            Relation::Ahead => {
                self.reached(link.next.seq);
                self.hold(link);
                Ok(Outcome::Gap(gap))
            }
            Relation::Next => {
                self.reached(link.next.seq);
                let mut added = self.add(&link, floor)?;
                let equivocation = self.drain(&mut added, floor);
                Ok(Outcome::Applied { added, equivocation })
            }
        }
    }

    /// Judges a verified manifest before its chunks are fetched: [`Outcome::Gap`] means that it is worth assembling.
    pub fn note_checkpoint(&mut self, manifest: &Signed<RevocationCheckpoint>) -> Outcome {
        self.judge(manifest.head())
    }

    fn judge(&mut self, other: ChainHead) -> Outcome {
        let gap = Gap { have: self.head.seq, need: other.seq };
        match relate_head(&self.head, &other) {
            Relation::Older => Outcome::Stale(gap),
            Relation::Fork(found) => self.contradiction(found),
            Relation::Ahead | Relation::Next => {
                self.reached(other.seq);
                Outcome::Gap(gap)
            }
            Relation::Same => Outcome::Unchanged,
        }
    }

    /// Moves to a newer checkpoint, and then through every waiting update that follows it.
    ///
    /// A held entry may be missing from it only if its certificate expired both before the checkpoint's own
    /// `dropped_before` and before `floor`, the caller's durable time floor.
    pub fn apply_checkpoint(
        &mut self,
        checkpoint: &CompleteCheckpoint,
        floor: UnixTime,
    ) -> Result<Outcome, ApplyError> {
        let manifest = checkpoint.manifest();
        let judged = self.judge(manifest.head());
        let Outcome::Gap(_) = judged else { return Ok(judged) };

        let omitted = self.omitted(checkpoint);
        let cutoff = floor.min(manifest.dropped_before());
        if let Some(entry) = omitted.iter().find(|entry| !entry.expires.is_before(cutoff)) {
            return Err(ApplyError::Omits(entry.id));
        }
        if manifest.entry_count() > self.set.limit() {
            return Err(SetFull.into());
        }
        self.set.drop_expired(|entry| omitted.binary_search_by_key(&entry.id, |gone| gone.id).is_ok());
        let mut added = Vec::new();
        for chunk in checkpoint.chunks() {
            added.append(&mut self.set.merge(chunk)?);
        }
        self.move_to(manifest.head());
        let equivocation = self.drain(&mut added, floor);
        Ok(Outcome::Applied { added, equivocation })
    }

    /// Held entries that `checkpoint` lacks, ids ascending.
    fn omitted(&self, checkpoint: &CompleteCheckpoint) -> Vec<RevocationEntry> {
        let mut listed = checkpoint.entries().peekable();
        let missing = self.set.iter().filter(|held| {
            while listed.next_if(|entry| entry.id < held.id).is_some() {}
            listed.peek().is_none_or(|entry| entry.id != held.id)
        });
        missing.copied().collect()
    }

    /// The rows changed since the last call, to become durable together before their effects are announced.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = ROWS.put_blocks(&mut self.set);
        if core::mem::take(&mut self.head_dirty) || !changes.is_empty() {
            let head = StoredHead { head: self.head, newest: self.newest, equivocation: self.equivocation };
            changes.push(ROWS.put_head(&head, self.set.len()));
        }
        changes
    }

    /// The state that these rows hold, [`RevocationState::with_limit`] if none; other kinds of rows are ignored.
    /// Updates that were waiting are not stored: the state is then behind, and asks for a sync.
    pub fn restore<'a>(rows: impl IntoIterator<Item = &'a Row>, limit: usize) -> Result<Self, RestoreError> {
        let Some((stored, set)) = ROWS.restore(rows)? else { return Ok(Self::with_limit(limit)) };
        Ok(Self {
            head: stored.head,
            set: set.limited_to(limit),
            newest: stored.newest,
            equivocation: stored.equivocation,
            pending: Vec::new(),
            head_dirty: false,
        })
    }

    fn add(&mut self, link: &Link, floor: UnixTime) -> Result<Vec<RevocationEntry>, SetFull> {
        let added = match self.set.merge(&link.entries) {
            Ok(added) => added,
            Err(SetFull) => {
                self.set.drop_expired(|entry| entry.expires.is_before(floor));
                self.set.merge(&link.entries)?
            }
        };
        self.move_to(link.next);
        Ok(added)
    }

    fn move_to(&mut self, head: ChainHead) {
        self.head = head;
        self.newest = self.newest.max(head.seq);
        self.head_dirty = true;
    }

    fn reached(&mut self, seq: u64) {
        if seq > self.newest {
            self.newest = seq;
            self.head_dirty = true;
        }
    }

    fn contradiction(&mut self, found: Equivocation) -> Outcome {
        if self.equivocation.is_some_and(|known| known.seen == found.seen) {
            return Outcome::Unchanged;
        }
        self.equivocation = Some(found);
        self.head_dirty = true;
        Outcome::Equivocation(found)
    }

    fn hold(&mut self, link: Link) {
        if self.pending.iter().any(|held| held.next == link.next) {
            return;
        }
        self.pending.push(link);
        self.pending.sort_by_key(|held| held.next.seq);
        self.pending.truncate(MAX_PENDING_UPDATES);
    }

    /// Applies waiting updates as far as they chain, and drops those that were overtaken.
    fn drain(&mut self, added: &mut Vec<RevocationEntry>, floor: UnixTime) -> Option<Equivocation> {
        let mut contradicted = None;
        let waiting = core::mem::take(&mut self.pending);
        // Ascending by sequence, so one pass follows the chain to its end.
        for link in waiting {
            match relate(&self.head, &link.prev, &link.next) {
                Relation::Older | Relation::Same => {}
                Relation::Ahead => self.pending.push(link),
                Relation::Fork(found) => {
                    if let Outcome::Equivocation(found) = self.contradiction(found) {
                        contradicted = Some(found);
                    }
                }
                // Without room it stays known to be missing, and a checkpoint brings it back.
                Relation::Next => added.extend(self.add(&link, floor).unwrap_or_default()),
            }
        }
        contradicted
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "state_tests/mod.rs"]
mod tests;
