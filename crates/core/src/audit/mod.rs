//! The audit log (invariant I6): what happened, chained by hash and signed entry by entry.
//!
//! [`event`] says what can be recorded, [`entry`] is the signed object, [`segment`] the self-describing file header,
//! [`frame`] the record framing, [`verify`] the offline check. Nothing here opens a file: a writer hands records to its
//! disk, a verifier hands in the bytes it read. `docs/audit.md` is the format.

pub mod entry;
pub mod event;
pub mod frame;
pub mod segment;
pub mod verify;

pub use entry::{AuditEntry, ChainHead};
pub use event::{AuditEvent, AuditKind, AuditText};
pub use segment::{SegmentHeader, SignerClass};
pub use verify::{Defect, LogVerifier, SegmentError, SegmentSummary};
