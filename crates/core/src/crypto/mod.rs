//! Cryptography: closed suites over a small backend trait.
//!
//! [`suite`] registers what may be used, [`backend`] is the trait that two libraries implement, [`kem`] and
//! [`signature`] compose its primitives into X-Wing and the hybrid signature sets, [`kdf`] and [`labels`] derive
//! keys, [`secret`] holds what must be erased.

#[cfg(feature = "aws-lc")]
pub mod aws_lc;
pub mod backend;
pub mod kdf;
pub mod kem;
pub mod labels;
pub mod portable;
pub mod secret;
pub mod signature;
pub mod suite;

/// The backend of this build: `aws-lc` if its feature is on, else `portable`.
pub fn default_backend() -> backend::Backend {
    #[cfg(feature = "aws-lc")]
    return &aws_lc::AWS_LC;
    #[cfg(not(feature = "aws-lc"))]
    return &portable::PORTABLE;
}
