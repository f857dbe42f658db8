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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::entry::tests::{after_day, entry};
    use super::*;

    fn rows(changes: Vec<Change>) -> Vec<Row> {
        let rows = changes.into_iter().map(|change| match change {
            Change::Put { kind, key, value } => Row { kind, key, value },
            Change::Delete { .. } => panic!("nothing was dropped"),
        });
        rows.collect()
    }

    #[test]
    fn updates_chain_and_name_only_what_is_new() {
        let mut issuer = RevocationIssuer::new();
        let first = issuer.revoke(&[entry(1, 9), entry(2, 9), entry(1, 9)], UnixTime(1)).unwrap();
        assert_eq!((first.seq(), first.prev(), first.entries().len()), (1, ChainHead::GENESIS, 2));
        let second = issuer.revoke(&[entry(2, 9), entry(3, 9)], UnixTime(2)).unwrap();
        assert_eq!(second.prev(), first.head());
        assert_eq!(second.entries(), [entry(3, 9)]);
        assert_eq!(issuer.head(), second.head());
        assert_eq!(issuer.revoke(&[entry(3, 9)], UnixTime(3)), Err(IssueError::NothingNew));
        assert_eq!(issuer.revoke(&[], UnixTime(3)), Err(IssueError::NothingNew));
        assert_eq!(issuer.head(), second.head());
    }

    #[test]
    fn too_many_at_once_change_nothing() {
        let mut issuer = RevocationIssuer::new();
        let many: Vec<_> = (0..=MAX_UPDATE_ENTRIES as u64).map(|n| entry(n, 9)).collect();
        assert_eq!(issuer.revoke(&many, UnixTime(0)), Err(IssueError::TooMany));
        assert!(issuer.revoked().is_empty());
        assert!(issuer.take_changes().is_empty());
        assert!(issuer.revoke(&many[1..], UnixTime(0)).is_ok());
    }

    #[test]
    fn a_checkpoint_drops_only_what_expired_before_the_margin() {
        let mut issuer = RevocationIssuer::new();
        let _ = issuer.revoke(&[entry(1, 10), entry(2, 11)], UnixTime(0)).unwrap();
        let head = issuer.head();
        assert_eq!(issuer.checkpoint(after_day(39)).manifest.entry_count(), 2);
        let made = issuer.checkpoint(after_day(40));
        assert_eq!(made.manifest.entry_count(), 1);
        assert_eq!(made.manifest.head(), head);
        assert_eq!(made.manifest.dropped_before(), after_day(10));
        assert!(issuer.revoked().contains(&entry(2, 0).id));
    }

    #[test]
    fn its_state_survives_beside_other_rows_of_the_authority() {
        let mut issuer = RevocationIssuer::new();
        for n in 0..100 {
            let _ = issuer.revoke(&[entry(n, 9)], UnixTime(n)).unwrap();
        }
        let mut stored = rows(issuer.take_changes());
        assert!(
            stored.iter().all(|row| row.kind == RecordKind::Authority && row.key.starts_with(b"revocation/"))
        );
        stored.push(Row { kind: RecordKind::Authority, key: b"serials".into(), value: alloc::vec![1] });
        let mut restored = RevocationIssuer::restore(&stored).unwrap();
        assert_eq!(restored.head(), issuer.head());
        assert!(restored.take_changes().is_empty());
        let next = |issuer: &mut RevocationIssuer| issuer.revoke(&[entry(500, 9)], UnixTime(500)).unwrap();
        assert_eq!(next(&mut restored), next(&mut issuer));
        assert!(RevocationIssuer::restore(&stored[1..]).is_err());
        assert_eq!(RevocationIssuer::restore(&[]).unwrap().head(), ChainHead::GENESIS);
    }

    #[test]
    fn a_jump_passes_everything_issued_and_two_of_them_differ() {
        let mut issuer = RevocationIssuer::new();
        let _ = issuer.revoke(&[entry(1, 9)], UnixTime(0)).unwrap();
        let stored = rows(issuer.take_changes());
        let jumped = |seen, random| {
            let mut issuer = RevocationIssuer::restore(&stored).unwrap();
            issuer.jump(seen, &[random; 32], &[entry(2, 9)]).map(|()| issuer)
        };
        let issuer = jumped(57, 1).unwrap();
        assert_eq!(issuer.head().seq, 57 + RESTORE_JUMP);
        assert_eq!(issuer.revoked().len(), 2);
        assert_ne!(issuer.head().digest, jumped(57, 2).unwrap().head().digest);
        assert_eq!(jumped(u64::MAX, 1).err(), Some(IssueError::Exhausted));
    }
}
