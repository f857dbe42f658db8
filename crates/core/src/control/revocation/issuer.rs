//! The authority's side: the history it signs.

use alloc::vec::Vec;
use core::time::Duration;

use thiserror::Error;

use super::chain::ChainHead;
use super::checkpoint::Checkpoint;
use super::entry::RevocationEntry;
use super::set::{RevocationSet, SetFull};
use super::stored::{RestoreError, Rows, StoredHead};
use super::update::{MAX_UPDATE_ENTRIES, RevocationUpdate};
use crate::store::{Change, RecordKind, Row};
use crate::time::UnixTime;

/// How long after a certificate's expiry a checkpoint still lists it. Receivers refuse a checkpoint that omits what
/// has not expired by their own time floor, which may lag behind the authority's clock by this much.
pub const CHECKPOINT_EXPIRY_MARGIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far [`RevocationIssuer::jump`] leaps.
pub const RESTORE_JUMP: u64 = 1 << 32;

const ROWS: Rows = Rows {
    head: (RecordKind::Authority, b"revocation/head"),
    blocks: (RecordKind::Authority, b"revocation/block/"),
};

/// Why nothing was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// Every identity named is revoked already, or none was named.
    #[error("nothing to revoke that is not revoked already")]
    NothingNew,
    /// More than [`MAX_UPDATE_ENTRIES`]: revoke them in parts.
    #[error("at most 3000 identities in one update")]
    TooMany,
    /// The list is full.
    #[error(transparent)]
    Full(#[from] SetFull),
    /// The sequence cannot grow further.
    #[error("the revocation sequence is exhausted")]
    Exhausted,
}

/// Everything the authority ever revoked and has not expired, and where its history stands.
///
/// [`take_changes`](Self::take_changes) must be durable before what was issued is published. A crash in between leaves
/// a sequence that nobody saw: the next checkpoint carries its entries.
pub struct RevocationIssuer {
    head: ChainHead,
    set: RevocationSet,
    head_dirty: bool,
}

impl Default for RevocationIssuer {
    fn default() -> Self {
        Self::new()
    }
}

impl RevocationIssuer {
    /// A new authority that revoked nothing.
    pub fn new() -> Self {
        Self { head: ChainHead::GENESIS, set: RevocationSet::new(), head_dirty: false }
    }

    /// The last position issued.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// What is revoked.
    pub fn revoked(&self) -> &RevocationSet {
        &self.set
    }

    /// Revokes; gives the update to sign under the updates' topic. Entries already revoked are left out. Each entry's
    /// expiry is that of the last certificate issued to the identity.
    pub fn revoke(
        &mut self,
        entries: &[RevocationEntry],
        issued_at: UnixTime,
    ) -> Result<RevocationUpdate, IssueError> {
        let new: Vec<_> = entries.iter().filter(|entry| !self.set.contains(&entry.id)).copied().collect();
        if new.is_empty() {
            return Err(IssueError::NothingNew);
        }
        if new.len() > MAX_UPDATE_ENTRIES {
            return Err(IssueError::TooMany);
        }
        let seq = self.head.seq.checked_add(1).ok_or(IssueError::Exhausted)?;
        let update = RevocationUpdate::new(self.head, seq, issued_at, new).ok_or(IssueError::TooMany)?;
        self.set.merge(update.entries())?;
        self.head = update.head();
        self.head_dirty = true;
        Ok(update)
    }

    /// A checkpoint at the current head: sign the manifest under its topic, and publish the chunks before it. Entries
    /// whose certificates expired [`CHECKPOINT_EXPIRY_MARGIN`] before `now`, the authority's trusted time, are dropped.
    pub fn checkpoint(&mut self, now: UnixTime) -> Checkpoint {
        let dropped_before = UnixTime(now.0.saturating_sub(CHECKPOINT_EXPIRY_MARGIN.as_secs()));
        self.set.drop_expired(|entry| entry.expires.is_before(dropped_before));
        Checkpoint::new(self.head, &self.set, now, dropped_before)
    }

    /// Leaves everything behind that was issued since a backup: to be called after restoring one, with the highest
    /// sequence `seen` at the broker, fresh random bytes (two restorations of one backup must not agree), and the
    /// entries `recovered` from a receiver or a retained checkpoint, without which receivers refuse the next checkpoint.
    /// Then publish a checkpoint.
    pub fn jump(
        &mut self,
        seen: u64,
        random: &[u8; 32],
        recovered: &[RevocationEntry],
    ) -> Result<(), IssueError> {
        let seq = self.head.seq.max(seen).checked_add(RESTORE_JUMP).ok_or(IssueError::Exhausted)?;
        self.set.merge(recovered)?;
        self.head = self.head.extended(seq, random);
        self.head_dirty = true;
        Ok(())
    }

    /// The rows changed since the last call, of kind [`RecordKind::Authority`] under keys that begin `revocation/`.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = ROWS.put_blocks(&mut self.set);
        if core::mem::take(&mut self.head_dirty) || !changes.is_empty() {
            let head = StoredHead { head: self.head, newest: self.head.seq, equivocation: None };
            changes.push(ROWS.put_head(&head, self.set.len()));
        }
        changes
    }

    /// The issuer that these rows hold, a new one if none; other rows are ignored.
    pub fn restore<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Result<Self, RestoreError> {
        let Some((stored, set)) = ROWS.restore(rows)? else { return Ok(Self::new()) };
        Ok(Self { head: stored.head, set, head_dirty: false })
    }
}
