//! What surrounds the PQC-IIoT core on a host: the keeper of long-term secrets, the durable store, the audit log.
//!
//! ```text
//!   core ── ProviderRequest ──► SecurityProvider   the only door to long-term secrets
//!   core ── changes, events ──► store::Writer ──► audit::ChainedAuditLogger (signed, synced first)
//!                                            └──► store::SqliteStore        (sealed rows, one transaction)
//! ```
//!
//! What this crate does *not* do: it speaks no protocol and opens no socket. The [`software`] provider keeps
//! *exportable* keys: it is for demonstrations, tests and hosts without a security chip, and says so in
//! [`Capabilities`] and in the header of each audit log it signs.

pub mod audit;
pub mod datadir;
pub mod disk;
pub mod provider;
pub mod random;
pub mod seal;
pub mod software;
pub mod store;

pub use datadir::DataDir;
pub use provider::{Capabilities, PublicIdentity, SecurityProvider};
pub use software::SoftwareProvider;
