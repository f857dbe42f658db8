//! Why a log was not opened, written or verified.

use std::io;
use std::path::PathBuf;

use pqc_iiot_core::audit::SegmentError;
use pqc_iiot_core::provider::ProviderFailure;
use thiserror::Error;

/// Why the log could not be opened or appended to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Another writer has the log open.
    #[error("the audit log in {} has another writer", directory.display())]
    Locked {
        /// The log's directory.
        directory: PathBuf,
    },
    /// A segment is missing between others.
    #[error("audit segment {} is missing", path.display())]
    MissingSegment {
        /// The file that should exist.
        path: PathBuf,
    },
    /// The tail does not verify. Nothing is appended to it: keep the files, and start a log in a new directory.
    #[error("{} was altered: {error}; move the log away to keep it for examination", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Its first bad record.
        error: Box<SegmentError>,
    },
    /// The log ends before an entry that the store knows to have been written.
    #[error("the audit log was truncated: it ends with entry {found}, and entry {expected} was written")]
    Truncated {
        /// The last entry known to the store.
        expected: u64,
        /// The last entry found.
        found: u64,
    },
    /// The log holds another entry than the one that the store knows.
    #[error("audit entry {seq} is not the one that was written")]
    Replaced {
        /// The entry.
        seq: u64,
    },
    /// The disk is full. Entries wait in memory.
    #[error("the disk is full")]
    DiskFull,
    /// Reading or writing failed.
    #[error("the audit log cannot be read or written: {0}")]
    Io(String),
    /// The provider did not sign.
    #[error("the provider did not sign an audit entry: {0}")]
    Signing(#[from] ProviderFailure),
    /// An earlier write failed in a way that leaves its outcome unknown.
    #[error("the audit log stopped after an earlier error: {0}")]
    Stopped(String),
}

impl From<io::Error> for AuditError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull { Self::DiskFull } else { Self::Io(error.to_string()) }
    }
}

/// Why a log directory does not verify.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no log.
    #[error("{} holds no audit segments", directory.display())]
    Empty {
        /// The directory.
        directory: PathBuf,
    },
    /// A segment is missing between others.
    #[error("{} is missing", path.display())]
    MissingSegment {
        /// The file that should exist.
        path: PathBuf,
    },
    /// The first bad record.
    #[error("{}: {error}", path.display())]
    Segment {
        /// The segment.
        path: PathBuf,
        /// Its first bad record.
        error: Box<SegmentError>,
    },
    /// The log does not reach the head it was to reach.
    #[error("the log is truncated: it ends with entry {found}, and entry {expected} was published")]
    Truncated {
        /// The entry it was to reach.
        expected: u64,
        /// Its last entry.
        found: u64,
    },
    /// The log holds another entry than the published one.
    #[error("entry {seq} is not the one whose hash was published")]
    Replaced {
        /// The entry.
        seq: u64,
    },
    /// The log is intact and no evidence.
    #[error(
        "the log is intact, and it is observability, not evidence: segment {segment} is signed by an exportable key, \
         so whoever copied that key can have rewritten it"
    )]
    NotEvidence {
        /// The first such segment.
        segment: u64,
    },
    /// Reading the log or writing the export failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
