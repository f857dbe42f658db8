//! The trait that every keeper of long-term secrets implements, and what it may claim of itself.

use pqc_iiot_core::audit::SignerClass;
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
pub use pqc_iiot_core::identity::keys::PublicIdentity;
use pqc_iiot_core::provider::{ProviderFailure, ProviderRequest, ProviderResponse};
use thiserror::Error;

/// What a provider was found to offer. Each is a fact of its own, found by trying, never read from a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The classical half of the identity key never exists outside its hardware.
    pub classical_non_exportable: bool,
    /// The post-quantum half of the identity key never exists outside its hardware.
    pub pq_non_exportable: bool,
    /// At rest, the post-quantum seeds exist only sealed.
    pub pq_sealed_at_rest: bool,
    /// State can be bound to hardware that cannot be rolled back.
    pub rollback_resistant: bool,
    /// A third party can be shown, by hardware, where the identity key lives and what booted.
    pub attestable: bool,
}

impl Capabilities {
    /// Name and value of each fact, for reports and policies.
    pub fn facts(self) -> [(&'static str, bool); 5] {
        [
            ("classical_non_exportable", self.classical_non_exportable),
            ("pq_non_exportable", self.pq_non_exportable),
            ("pq_sealed_at_rest", self.pq_sealed_at_rest),
            ("rollback_resistant", self.rollback_resistant),
            ("attestable", self.attestable),
        ]
    }

    /// The facts that `required` asks for and these lack.
    pub fn missing(self, required: Self) -> Vec<&'static str> {
        let pairs = self.facts().into_iter().zip(required.facts());
        pairs.filter(|((_, have), (_, need))| *need && !have).map(|((name, _), _)| name).collect()
    }
}

/// Why a provider did not seal or unseal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// Sealed by another identity, for another purpose, or altered.
    #[error("the sealed data was altered, or sealed by another identity or for another purpose")]
    NotAuthentic,
    /// The device or library behind the provider failed.
    #[error("the provider failed")]
    Unavailable,
}

/// Why a hardware-backed operation gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// This kind of provider has no such hardware.
    #[error("this provider has no hardware for it")]
    Unsupported,
    /// The hardware failed.
    #[error("the provider's hardware failed")]
    Unavailable,
}

/// The only door to long-term secrets. Every method may block for as long as its hardware takes; callers run it off
/// the protocol's path.
pub trait SecurityProvider: Send + Sync {
    /// The identity's public half.
    fn identity(&self) -> &PublicIdentity;

    /// Does what the core asks. A decapsulation may be asked with any bytes that a stranger sent.
    fn execute(&self, request: ProviderRequest) -> Result<ProviderResponse, ProviderFailure>;

    /// Encrypts `plaintext` so that only this provider opens it, for `purpose` only.
    fn seal(&self, purpose: &str, plaintext: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what [`SecurityProvider::seal`] gave for the same purpose.
    fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<SecretBytes, SealError>;

    /// The key under which the store seals its rows: the same after each start, for `purpose` only.
    fn storage_key(&self, purpose: &str) -> Result<Secret<32>, SealError>;

    /// The value of a counter in hardware that only grows: the boot epoch.
    fn counter(&self) -> Result<u64, AnchorError>;

    /// Increments [`SecurityProvider::counter`] and gives the new value.
    fn increment_counter(&self) -> Result<u64, AnchorError>;

    /// The last commit record `{seq, digest}`, from hardware that cannot be rolled back.
    fn commit_record(&self) -> Result<CommitRecord, AnchorError>;

    /// Replaces the commit record.
    fn write_commit_record(&self, record: CommitRecord) -> Result<(), AnchorError>;

    /// Evidence over `nonce`, signed by hardware, of where the identity lives and what booted.
    fn attest(&self, nonce: &[u8; 32]) -> Result<Vec<u8>, AnchorError>;

    /// Tries each operation that a claim rests on, without spending any write of the hardware, and reports the result.
    fn capabilities(&self) -> Capabilities;

    /// What logs signed by this identity may be called.
    fn signer_class(&self) -> SignerClass;
}

/// What binds a store to hardware: the digest of the last anchored set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitRecord {
    /// Grows with each commit.
    pub seq: u64,
    /// The digest of what was committed.
    pub digest: [u8; 32],
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        let software = Capabilities { pq_sealed_at_rest: true, ..Capabilities::default() };
        let required = Capabilities { pq_sealed_at_rest: true, rollback_resistant: true, ..software };
        assert_eq!(software.missing(required), ["rollback_resistant"]);
        assert!(required.missing(software).is_empty());
    }
}
