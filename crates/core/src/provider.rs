//! What the core asks of the keeper of long-term secrets, and what comes back.

use alloc::vec::Vec;

use crate::codec::signed::SigStructure;
use crate::crypto::secret::Secret;
use crate::crypto::suite::Kem;

/// Names one of our own KEM keys: 0 is the certificate's static key, others are prekeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrekeyId(pub u32);

impl PrekeyId {
    /// The certificate's own KEM key: not forward secret.
    pub const STATIC: Self = Self(0);
}

/// An operation that needs a long-term secret.
#[non_exhaustive]
pub enum ProviderRequest {
    /// Sign with the identity key.
    Sign(SigStructure),
    /// Decapsulate with the static key or a prekey.
    Decapsulate {
        /// Which key.
        key: PrekeyId,
        /// The KEM ciphertext.
        ciphertext: Vec<u8>,
    },
    /// Make a prekey and remember it.
    GeneratePrekey {
        /// Its name, unique for this identity.
        id: PrekeyId,
        /// Its mechanism.
        kem: Kem,
    },
    /// Load a prekey that was generated before.
    ImportPrekey {
        /// Its name.
        id: PrekeyId,
        /// Its mechanism.
        kem: Kem,
        /// The blob that generation returned.
        sealed: Vec<u8>,
    },
    /// Forget and erase a prekey.
    ErasePrekey(PrekeyId),
}

/// The answer to a [`ProviderRequest`].
#[non_exhaustive]
pub enum ProviderResponse {
    /// The halves of a signature, concatenated.
    Signature(Vec<u8>),
    /// The shared secret of a decapsulation.
    SharedSecret(Secret<32>),
    /// A new prekey.
    Prekey {
        /// Its public key.
        encapsulation_key: Vec<u8>,
        /// Its secret, sealed by the provider, for the store.
        sealed: Vec<u8>,
    },
    /// Imported or erased.
    Done,
}

/// Why the provider could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderFailure {
    /// No such key, or it was erased.
    #[error("the provider has no such key")]
    UnknownKey,
    /// The key exists; the input did not fit it.
    #[error("the provider refused the input")]
    Refused,
    /// The device or library behind the provider failed.
    #[error("the provider failed")]
    Unavailable,
}
