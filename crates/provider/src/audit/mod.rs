//! The audit log on disk: the writer, the verifier of a directory, the export. `docs/audit.md` is the format.

mod error;
mod files;
mod logger;
mod verify;

pub use self::error::{AuditError, VerifyError};
pub use self::logger::{AuditOptions, ChainedAuditLogger, Repair};
pub use self::verify::{VerifyOptions, VerifyReport, export_json_lines, verify_dir, verify_dir_on};
