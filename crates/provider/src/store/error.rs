//! What can be wrong with a store, by name.

use std::fmt;
use std::path::PathBuf;

use pqc_iiot_core::store::RecordKind;
use thiserror::Error;

/// Why a store did not open, load or commit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store at this path.
    #[error("{} does not exist; if this identity had a store, it was removed: restore it, or enrol anew", path.display())]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// There is a store at this path already.
    #[error("{} exists; a store is never overwritten", path.display())]
    Exists {
        /// The database file.
        path: PathBuf,
    },
    /// Another process, or another handle in this one, has it open.
    #[error("{} is in use; one identity has one writer", path.display())]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// Written by a newer release.
    #[error(
        "the store has format {found} and this release reads up to {supported}; it is unchanged: \
         install the release that wrote it, or a later one, from its source: cargo install --locked --path crates/cli"
    )]
    NewerFormat {
        /// The store's format.
        found: u32,
        /// The newest format of this release.
        supported: u32,
    },
    /// It has rows that a newer release added.
    #[error(
        "the store has rows of table {table}, which this release does not know; it is unchanged: \
         install the release that wrote them, or a later one, from its source: cargo install --locked --path crates/cli"
    )]
    NewerRows {
        /// The table's number.
        table: u8,
    },
    /// An earlier format could not be brought to this release's.
    #[error(
        "the store could not be brought to format {format}, as {row} is not understood; it is unchanged: \
         go on with the release that wrote it"
    )]
    Upgrade {
        /// The format it was to have.
        format: u32,
        /// The row in question.
        row: RowName,
    },
    /// Rows of this kind are given by `load`, not read one by one.
    #[error("rows of this kind are loaded at the start, not read one by one")]
    LoadedAtStart,
    /// The content is not what was committed. It is not used, not even in part.
    #[error("the store is damaged or was tampered with: {0}")]
    Damaged(Damage),
    /// A key or a row is over its limit.
    #[error("a row is over the store's limits")]
    TooLarge,
    /// The disk is full; nothing changed.
    #[error("the disk is full; free some space")]
    DiskFull,
    /// Reading or writing failed.
    #[error("the store cannot be read or written: {0}")]
    Io(String),
    /// An earlier commit failed in a way that leaves its outcome unknown.
    #[error("the store stopped after an earlier error and must be opened again: {0}")]
    Stopped(String),
}

/// What a check of the store's content found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    /// SQLite cannot read the file.
    #[error("the database file is unreadable ({0})")]
    File(String),
    /// It is a database of something else, or its tables were changed.
    #[error("its tables are not those of a store")]
    Schema,
    /// The head row is missing or altered, or belongs to another identity.
    #[error("its head row is missing, altered, or sealed by another identity")]
    Head,
    /// A row does not authenticate: altered, or swapped with another.
    #[error("{0} was altered or swapped")]
    Altered(RowName),
    /// A row is gone.
    #[error("{0} was removed")]
    Removed(RowName),
    /// A row that was deleted is back.
    #[error("{0} was deleted and came back")]
    Restored(RowName),
    /// A row is an older version of itself.
    #[error("{0} was rolled back to an earlier version")]
    RolledBack(RowName),
    /// Several rows of a table were removed, restored or rolled back.
    #[error(
        "several rows of table {table} were removed, restored or rolled back ({found} rows, {expected} expected)"
    )]
    Several {
        /// The table's number.
        table: u8,
        /// How many rows it should have.
        expected: u64,
        /// How many it has.
        found: u64,
    },
}

/// A row, named for people: keys that are text show as text, others in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowName {
    /// The table's number.
    pub table: u8,
    /// The row's key.
    pub key: Vec<u8>,
}

impl fmt::Display for RowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RecordKind::from_id(self.table) {
            Some(kind) => write!(f, "the {kind:?} row")?,
            None => write!(f, "the row of table {}", self.table)?,
        }
        match std::str::from_utf8(&self.key) {
            Ok("") => Ok(()),
            Ok(text) if text.bytes().all(|b| b.is_ascii_graphic()) => write!(f, " '{text}'"),
            _ => {
                f.write_str(" 0x")?;
                self.key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}
