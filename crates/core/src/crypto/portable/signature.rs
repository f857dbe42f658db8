//! Ed25519 on `ed25519-dalek`, ECDSA on `p256`, ML-DSA on `ml-dsa`.

use alloc::vec::Vec;

use ed25519_dalek::Signer;
use ml_dsa::signature::RandomizedSigner;
use ml_dsa::{ExpandedSigningKey, MlDsaParams};
use p256::ecdsa::signature::Verifier;

use super::random::Generator;
use crate::crypto::backend::{
    BackendError, BadSignature, InvalidKey, RandomSource, SigningKey, VerifyingKey,
};
use crate::crypto::secret::Secret;

pub(super) struct Ed25519Signing(ed25519_dalek::SigningKey);

impl Ed25519Signing {
    pub(super) fn from_seed(seed: &Secret<32>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }
}

impl SigningKey for Ed25519Signing {
    fn public_key(&self) -> &[u8] {
        self.0.as_ref().as_bytes()
    }

    /// Deterministic, as RFC 8032 defines it: takes nothing from `random`.
    fn sign(&self, _random: &mut dyn RandomSource, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let signature = self.0.try_sign(message).map_err(|_| BackendError)?;
        Ok(signature.to_bytes().to_vec())
    }
}

pub(super) struct Ed25519Verifying(ed25519_dalek::VerifyingKey);

impl Ed25519Verifying {
    /// Refuses small-order points, and a second encoding of any point: one key has one encoding.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let bytes = bytes.try_into().map_err(|_| InvalidKey)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| InvalidKey)?;
        if key.is_weak() || !is_reduced(bytes) {
            return Err(InvalidKey);
        }
        Ok(Self(key))
    }
}

/// Whether y, without the sign of x, is below p = 2^255 − 19. The other second encodings, x = 0 with a sign, are of
/// the points (0, ±1), whose order is small.
fn is_reduced(encoding: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = encoding;
    high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *low < 0xed
}

impl VerifyingKey for Ed25519Verifying {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| BadSignature)?;
        self.0.verify_strict(message, &signature).map_err(|_| BadSignature)
    }
}

pub(super) struct P256Signing {
    key: p256::ecdsa::SigningKey,
    public_key: Vec<u8>,
}

impl P256Signing {
    /// Refuses zero and scalars not below the group's order.
    pub(super) fn from_scalar(scalar: &Secret<32>) -> Result<Self, InvalidKey> {
        let key = p256::ecdsa::SigningKey::from_slice(scalar.expose()).map_err(|_| InvalidKey)?;
        let public_key = key.verifying_key().to_sec1_point(true).as_bytes().to_vec();
        Ok(Self { key, public_key })
    }
}

impl SigningKey for P256Signing {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// RFC 6979 with 32 additional random bytes (§3.6). `s` may be high: ECDSA alone is malleable, and no signature's
    /// bytes serve as an id.
    fn sign(&self, random: &mut dyn RandomSource, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let signature: p256::ecdsa::Signature =
            self.key.try_sign_with_rng(&mut Generator(random), message).map_err(|_| BackendError)?;
        Ok(signature.to_bytes().to_vec())
    }
}

pub(super) struct P256Verifying(p256::ecdsa::VerifyingKey);

impl P256Verifying {
    /// Accepts the 33-byte compressed form only: the library also reads SEC1's other forms and a 33-byte "compact" one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, InvalidKey> {
        if bytes.len() != 33 || !matches!(bytes[0], 2 | 3) {
            return Err(InvalidKey);
        }
        p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).map(Self).map_err(|_| InvalidKey)
    }
}

impl VerifyingKey for P256Verifying {
    /// `r` and `s` out of range are refused; a high `s` is accepted.
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let signature = p256::ecdsa::Signature::from_slice(signature).map_err(|_| BadSignature)?;
        self.0.verify(message, &signature).map_err(|_| BadSignature)
    }
}

pub(super) struct MlDsaSigning<P: MlDsaParams> {
    key: ExpandedSigningKey<P>,
    public_key: Vec<u8>,
}

impl<P: MlDsaParams> MlDsaSigning<P> {
    pub(super) fn from_seed(seed: &Secret<32>) -> Self {
        let key = ExpandedSigningKey::from_seed(seed.expose().into());
        let public_key = key.verifying_key().encode().to_vec();
        Self { key, public_key }
    }
}

impl<P: MlDsaParams + Send + Sync> SigningKey for MlDsaSigning<P> {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Hedged with 32 bytes from `random` (FIPS 204 §3.4), with an empty context.
    fn sign(&self, random: &mut dyn RandomSource, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let signature =
            self.key.try_sign_with_rng(&mut Generator(random), message).map_err(|_| BackendError)?;
        Ok(signature.encode().to_vec())
    }
}

pub(super) struct MlDsaVerifying<P: MlDsaParams>(ml_dsa::VerifyingKey<P>);

impl<P: MlDsaParams> MlDsaVerifying<P> {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let bytes = bytes.try_into().map_err(|_| InvalidKey)?;
        Ok(Self(ml_dsa::VerifyingKey::decode(bytes)))
    }
}

impl<P: MlDsaParams + Send + Sync> VerifyingKey for MlDsaVerifying<P> {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let signature = ml_dsa::Signature::try_from(signature).map_err(|_| BadSignature)?;
        self.0.verify(message, &signature).map_err(|_| BadSignature)
    }
}
