//! A disk that loses power between any two operations, and an explorer that tries everything it can leave behind.
//!
//! ```text
//!   run(disk) with the real writers ─► after each operation: a crash point
//!     crash point ─► every subset of unsynced sectors, lengths and names that may have survived
//!       survivor  ─► run(disk) again: it has to start and keep its promises; its operations are crash points too
//! ```
//!
//! `docs/crash-testing.md` says what is modelled and what the counts mean.

mod disk;
mod explorer;
mod file;
mod state;

pub use disk::{CrashDisk, Skip};
pub use explorer::{Explorer, Report};
