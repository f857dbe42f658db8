//! Who a peer is: certificates under pinned trust anchors, announcements and prekeys bound to them.
//!
//! Chain: trust anchors → role `issuer` → [`certificate::OperationalCertificate`] → the peer's own announcement and
//! prekeys. Nothing deeper, and no trust on first use.

pub mod announcement;
pub mod authority;
pub mod certificate;
pub mod grants;
pub mod keys;
pub mod prekey;
pub mod request;
pub mod trust;
