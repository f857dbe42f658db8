//! The one store: keyed rows that change together or not at all.
//!
//! [`SqliteStore`] keeps them sealed on disk, [`MemoryStore`] in memory for simulations, [`Writer`] commits in a
//! thread of its own and groups what has queued.

mod error;
mod integrity;
mod memory;
mod sqlite;
mod writer;

use pqc_iiot_core::audit::ChainHead;
use pqc_iiot_core::store::{Change, RecordKind, Row};

pub use self::error::{Damage, RowName, StoreError};
pub use self::memory::MemoryStore;
pub use self::sqlite::SqliteStore;
pub use self::writer::{Batch, Completion, SubmitError, Writer, WriterError, note_audit_end};

/// The longest row key, in bytes. What can be saved can be loaded: the same limits hold both ways.
pub const MAX_KEY: usize = 256;
/// The longest row content, in bytes.
pub const MAX_VALUE: usize = 1024 * 1024;

/// Where durable rows live.
pub trait Store: Send {
    /// Every row but those of lazy kinds ([`RecordKind::is_lazy`]), each verified. That none of those is missing, older
    /// or surplus is verified too; their content is when it is read.
    fn load(&mut self) -> Result<Vec<Row>, StoreError>;

    /// One row of a lazy kind, verified; `None` if there is none. After an error the store takes no more commits.
    fn read(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes all of `changes` durable, in order, or none; of several changes to one row only the last costs anything. After any error but [`StoreError::TooLarge`] and
    /// [`StoreError::DiskFull`] the store refuses further commits until it is opened again.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// Notes where the audit log ends; durable with the next commit. A log that ends before it lost its tail.
    fn note_audit_head(&mut self, head: ChainHead);

    /// Where the audit log ended at the last commit.
    fn audit_head(&self) -> Option<ChainHead>;
}

fn check_limits(changes: &[Change]) -> Result<(), StoreError> {
    let fits = |change: &Change| match change {
        Change::Put { key, value, .. } => key.len() <= MAX_KEY && value.len() <= MAX_VALUE,
        Change::Delete { key, .. } => key.len() <= MAX_KEY,
    };
    if changes.iter().all(fits) { Ok(()) } else { Err(StoreError::TooLarge) }
}
