//! ML-DSA, ECDSA P-256 and Ed25519 signing on AWS-LC.

use alloc::vec;
use alloc::vec::Vec;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    ParsedPublicKey, PqdsaKeyPair, PqdsaSigningAlgorithm, PqdsaVerificationAlgorithm,
};

use crate::crypto::backend::{
    BackendError, BadSignature, InvalidKey, RandomSource, SigningKey, VerifyingKey,
};
use crate::crypto::secret::SecretBytes;

pub(super) struct Ed25519Signing(Ed25519KeyPair);

impl Ed25519Signing {
    pub(super) fn from_seed(seed: &SecretBytes) -> Result<Self, InvalidKey> {
        Ed25519KeyPair::from_seed_unchecked(seed.expose()).map(Self).map_err(|_| InvalidKey)
    }
}

impl SigningKey for Ed25519Signing {
    fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn sign(&self, _random: &mut dyn RandomSource, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let signature = self.0.try_sign(message).map_err(|_| BackendError)?;
        Ok(signature.as_ref().to_vec())
    }
}

pub(super) struct P256Signing {
    key: EcdsaKeyPair,
    public_key: Vec<u8>,
}

impl P256Signing {
    /// AWS-LC wants the public key beside the scalar; `p256` computes it and its compressed form.
    pub(super) fn from_scalar(scalar: &SecretBytes) -> Result<Self, InvalidKey> {
        let private = p256::ecdsa::SigningKey::from_slice(scalar.expose()).map_err(|_| InvalidKey)?;
        let point = private.verifying_key();
        let key = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            scalar.expose(),
            point.to_sec1_point(false).as_bytes(),
        )
        .map_err(|_| InvalidKey)?;
        Ok(Self { key, public_key: point.to_sec1_point(true).as_bytes().to_vec() })
    }
}

impl SigningKey for P256Signing {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn sign(&self, _random: &mut dyn RandomSource, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let signature = self.key.sign(&SystemRandom::new(), message).map_err(|_| BackendError)?;
        Ok(signature.as_ref().to_vec())
    }
}

pub(super) struct P256Verifying(ParsedPublicKey);

impl P256Verifying {
    /// Accepts the 33-byte compressed form only: the library also reads other encodings of a key.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, InvalidKey> {
        if bytes.len() != 33 || !matches!(bytes[0], 2 | 3) {
            return Err(InvalidKey);
        }
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).map(Self).map_err(|_| InvalidKey)
    }
}

impl VerifyingKey for P256Verifying {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.0.verify_sig(message, signature).map_err(|_| BadSignature)
    }
}

pub(super) struct MlDsaSigning(PqdsaKeyPair);

impl MlDsaSigning {
    pub(super) fn from_seed(
        algorithm: &'static PqdsaSigningAlgorithm,
        seed: &SecretBytes,
    ) -> Result<Self, InvalidKey> {
        PqdsaKeyPair::from_seed(algorithm, seed.expose()).map(Self).map_err(|_| InvalidKey)
    }
}

impl SigningKey for MlDsaSigning {
    fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// Hedged from AWS-LC's generator, with an empty context.
    fn sign(&self, _random: &mut dyn RandomSource, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let mut signature = vec![0; self.0.algorithm().signature_len()];
        let length = self.0.sign(message, &mut signature).map_err(|_| BackendError)?;
        signature.truncate(length);
        Ok(signature)
    }
}

pub(super) struct MlDsaVerifying(ParsedPublicKey);

impl MlDsaVerifying {
    /// Accepts raw keys of `length` bytes only: the library also reads X.509 encodings.
    pub(super) fn parse(
        algorithm: &'static PqdsaVerificationAlgorithm,
        length: usize,
        bytes: &[u8],
    ) -> Result<Self, InvalidKey> {
        if bytes.len() != length {
            return Err(InvalidKey);
        }
        ParsedPublicKey::new(algorithm, bytes).map(Self).map_err(|_| InvalidKey)
    }
}

impl VerifyingKey for MlDsaVerifying {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.0.verify_sig(message, signature).map_err(|_| BadSignature)
    }
}
