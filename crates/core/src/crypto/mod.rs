//! Cryptography: closed suites over a small backend trait.
//!
//! [`suite`] registers what may be used, [`backend`] is the trait that two libraries implement, [`kem`] and
//! [`signature`] compose its primitives into X-Wing and the hybrid signature sets, [`kdf`] and [`labels`] derive
//! keys, [`secret`] holds what must be erased.

pub mod backend;
pub mod secret;
pub mod suite;
