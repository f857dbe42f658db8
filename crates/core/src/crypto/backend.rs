//! What a cryptographic library must provide. Two implement it; both pass the same known-answer suites.

use alloc::boxed::Box;
use alloc::vec::Vec;

use thiserror::Error;
use zeroize::Zeroize;

use super::secret::{Secret, SecretBytes};
use super::suite::{Aead, SignatureAlgorithm};

/// A shared generator handle: implementations are cryptographically secure and already seeded.
pub trait RandomSource {
    /// Fills `out` with fresh random bytes.
    fn fill(&mut self, out: &mut [u8]);
}

/// A key's bytes were not a valid key of its algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a valid key of this algorithm")]
pub struct InvalidKey;

/// A signature did not verify, for whatever reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// A ciphertext did not authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the ciphertext does not authenticate")]
pub struct OpenError;

/// An operation of the library itself failed although its inputs were valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the cryptographic library failed")]
pub struct BackendError;

/// Which ML-KEM parameter set (FIPS 203).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MlKemParameters {
    /// ek 1184, ct 1088, seed 64 bytes.
    MlKem768,
    /// ek 1568, ct 1568, seed 64 bytes.
    MlKem1024,
}

/// An expanded ML-KEM decapsulation key.
pub trait MlKemDecapsulationKey: Send + Sync {
    /// The matching encapsulation key's bytes.
    fn encapsulation_key(&self) -> &[u8];
    /// Decapsulates; a ciphertext of the wrong length is the only error (implicit rejection otherwise).
    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<32>, InvalidKey>;
}

/// A validated ML-KEM encapsulation key.
pub trait MlKemEncapsulationKey: Send + Sync {
    /// Gives ciphertext and shared secret.
    fn encapsulate(&self, random: &mut dyn RandomSource) -> Result<(Vec<u8>, Secret<32>), InvalidKey>;
}

/// A private X25519 key.
pub trait X25519Key: Send + Sync {
    /// The matching public key.
    fn public_key(&self) -> &[u8; 32];
    /// X25519 with `peer`; an all-zero output, which only a low-order `peer` gives, is an error.
    fn agree(&self, peer: &[u8; 32]) -> Result<Secret<32>, InvalidKey>;
}

/// A private signing key of one algorithm.
pub trait SigningKey: Send + Sync {
    /// The matching public key's bytes.
    fn public_key(&self) -> &[u8];
    /// Signs `message`: hedged where the algorithm can be, with an empty context.
    fn sign(&self, random: &mut dyn RandomSource, message: &[u8]) -> Result<Vec<u8>, BackendError>;
}

/// A parsed public key of one algorithm.
pub trait VerifyingKey: Send + Sync {
    /// Verifies strictly.
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature>;
}

/// An expanded AEAD key.
pub trait AeadKey: Send + Sync {
    /// Encrypts `text` in place and gives its tag.
    fn seal_in_place(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; Aead::TAG_LEN], BackendError>;

    /// Verifies `sealed`, a ciphertext and its tag, and decrypts the former in place. On error what is in it has no meaning
    /// and may be secret.
    fn open_in_place(&self, nonce: &[u8; 12], aad: &[u8], sealed: &mut [u8]) -> Result<(), OpenError>;

    /// Encrypts what is in `buffer` from `start` on, in place, and appends the 16-byte tag. A `start` beyond the end counts
    /// as the end.
    fn seal_from(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), BackendError> {
        let start = start.min(buffer.len());
        let tag = self.seal_in_place(nonce, aad, buffer.get_mut(start..).ok_or(BackendError)?)?;
        buffer.extend_from_slice(&tag);
        Ok(())
    }

    /// Verifies what is in `buffer` from `start` on, decrypts it in place and removes the tag; on error `buffer` is cleared.
    fn open_from(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), OpenError> {
        let end = buffer.len().checked_sub(Aead::TAG_LEN).filter(|end| start <= *end);
        let opened = end.and_then(|end| {
            self.open_in_place(nonce, aad, buffer.get_mut(start..)?).ok()?;
            Some(end)
        });
        let Some(end) = opened else {
            buffer.zeroize();
            return Err(OpenError);
        };
        buffer.truncate(end);
        Ok(())
    }

    /// Encrypts the whole `buffer` in place and appends the 16-byte tag.
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), BackendError> {
        self.seal_from(nonce, aad, buffer, 0)
    }

    /// Verifies the whole `buffer`, decrypts it in place and removes the tag; on error `buffer` is cleared.
    fn open(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        self.open_from(nonce, aad, buffer, 0)
    }
}

/// A cryptographic library, seen through the primitives that the suites compose.
///
/// Hashing, HMAC and HKDF are not here: both backends use the same crates for them (`sha2`, `hmac`).
pub trait CryptoBackend: Send + Sync {
    /// `aws-lc` or `portable`.
    fn name(&self) -> &'static str;

    /// Expands a 64-byte seed `d ‖ z`.
    fn ml_kem_decapsulation_key(
        &self,
        parameters: MlKemParameters,
        seed: &[u8],
    ) -> Result<Box<dyn MlKemDecapsulationKey>, InvalidKey>;

    /// Validates an encapsulation key (FIPS 203 §7.2).
    fn ml_kem_encapsulation_key(
        &self,
        parameters: MlKemParameters,
        bytes: &[u8],
    ) -> Result<Box<dyn MlKemEncapsulationKey>, InvalidKey>;

    /// The X25519 key of `secret`, with its public key computed once (RFC 7748).
    fn x25519_key(&self, secret: &Secret<32>) -> Result<Box<dyn X25519Key>, InvalidKey>;

    /// The signing key of a 32-byte seed (for P-256, the private scalar).
    fn signing_key(
        &self,
        algorithm: SignatureAlgorithm,
        seed: &SecretBytes,
    ) -> Result<Box<dyn SigningKey>, InvalidKey>;

    /// Parses a public key.
    fn verifying_key(
        &self,
        algorithm: SignatureAlgorithm,
        bytes: &[u8],
    ) -> Result<Box<dyn VerifyingKey>, InvalidKey>;

    /// Expands an AEAD key.
    fn aead_key(&self, aead: Aead, key: &Secret<32>) -> Box<dyn AeadKey>;
}

/// A backend that lives as long as the program.
pub type Backend = &'static dyn CryptoBackend;
