//! Rows of a revocation list: one head, and entries in blocks so that an update rewrites few and small rows.

use alloc::vec::Vec;

use thiserror::Error;

use super::chain::{ChainHead, Equivocation};
use super::entry::{read_entries, write_entries};
use super::set::RevocationSet;
use crate::codec::{DecodeError, Reader, Writer};
use crate::store::{Change, RecordKind, Row};

/// The format of the head row.
const FORMAT: u64 = 1;

/// Why stored rows are not a revocation list. The list must then come from a fresh checkpoint: never start without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Blocks without a head.
    #[error("stored revocations have no head")]
    NoHead,
    /// The head row does not decode.
    #[error("the stored revocation head is damaged: {0}")]
    Head(DecodeError),
    /// A block row does not decode, or holds entries of another block.
    #[error("a stored block of revocations is damaged")]
    Block,
    /// The blocks do not hold as many entries as the head says.
    #[error("stored revocations are incomplete: {held} of {expected}")]
    Count {
        /// Entries found.
        held: usize,
        /// Entries that the head says.
        expected: u64,
    },
}

/// What the head row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredHead {
    pub(super) head: ChainHead,
    /// The highest sequence the authority is known to have signed.
    pub(super) newest: u64,
    pub(super) equivocation: Option<Equivocation>,
}

/// Where a list's rows are.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) head: (RecordKind, &'static [u8]),
    pub(super) blocks: (RecordKind, &'static [u8]),
}

impl Rows {
    pub(super) fn put_head(&self, head: &StoredHead, count: usize) -> Change {
        let mut writer = Writer::new();
        writer.array(if head.equivocation.is_some() { 9 } else { 5 }).uint(FORMAT);
        head.head.write(&mut writer);
        writer.uint(head.newest).uint(count as u64);
        if let Some(Equivocation { held, seen }) = &head.equivocation {
            held.write(&mut writer);
            seen.write(&mut writer);
        }
        Change::Put { kind: self.head.0, key: self.head.1.into(), value: writer.finish() }
    }

    /// The changed blocks of `set` since the last call.
    pub(super) fn put_blocks(&self, set: &mut RevocationSet) -> Vec<Change> {
        let (kind, prefix) = self.blocks;
        let changes = set.take_dirty().map(|(number, entries)| {
            let key = [prefix, &number.to_be_bytes()].concat();
            if entries.is_empty() {
                return Change::Delete { kind, key };
            }
            Change::Put { kind, key, value: write_entries(entries) }
        });
        changes.collect()
    }

    /// Reads back what the changes wrote, ignoring every other row; `None` if there is nothing.
    pub(super) fn restore<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<Option<(StoredHead, RevocationSet)>, RestoreError> {
        let mut stored = None;
        let mut set = RevocationSet::new();
        for row in rows {
            if row.kind == self.head.0 && row.key == self.head.1 {
                stored = Some(read_head(&row.value).map_err(RestoreError::Head)?);
                continue;
            }
            let Some(number) = row.key.strip_prefix(self.blocks.1).filter(|_| row.kind == self.blocks.0)
            else {
                continue;
            };
            let number = number.try_into().map(u16::from_be_bytes).map_err(|_| RestoreError::Block)?;
            let entries = read_entries(&row.value).map_err(|_| RestoreError::Block)?;
            if entries.is_empty() || !set.restore_block(number, entries) {
                return Err(RestoreError::Block);
            }
        }
        match stored {
            Some((head, expected)) if expected == set.len() as u64 => Ok(Some((head, set))),
            Some((_, expected)) => Err(RestoreError::Count { held: set.len(), expected }),
            None if set.is_empty() => Ok(None),
            None => Err(RestoreError::NoHead),
        }
    }
}

fn read_head(value: &[u8]) -> Result<(StoredHead, u64), DecodeError> {
    let mut reader = Reader::new(value)?;
    let length = reader.array()?;
    if reader.uint()? != FORMAT {
        return Err(DecodeError::Version);
    }
    let head = ChainHead::read(&mut reader)?;
    let newest = reader.uint()?;
    let count = reader.uint()?;
    let equivocation = match length {
        5 => None,
        9 => Some(Equivocation { held: ChainHead::read(&mut reader)?, seen: ChainHead::read(&mut reader)? }),
        _ => return Err(DecodeError::Shape),
    };
    reader.finish()?;
    if newest < head.seq {
        return Err(DecodeError::Value);
    }
    Ok((StoredHead { head, newest, equivocation }, count))
}
