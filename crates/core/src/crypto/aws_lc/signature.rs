//! ML-DSA, ECDSA P-256 and Ed25519 on AWS-LC.

use alloc::vec;
use alloc::vec::Vec;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    ParsedPublicKey, PqdsaKeyPair, PqdsaSigningAlgorithm, PqdsaVerificationAlgorithm,
};

use crate::crypto::backend::{
    BackendError, BadSignature, CryptoBackend, InvalidKey, RandomSource, SigningKey, VerifyingKey,
};
use crate::crypto::secret::SecretBytes;
use crate::crypto::suite::SignatureAlgorithm;

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

/// y of the points whose order divides 8: 1, −1, 0 and the two of order 8. Each is that of a point and of its negative.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; 32],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
];

/// Ed25519 as strict as dalek's `verify_strict`, in a fifth less time.
///
/// AWS-LC computes R = \[s\]B − \[k\]A without a cofactor, refuses s ≥ L, and compares R's canonical encoding with the
/// signature's bytes, which leaves no second encoding of R. What it lacks is refusing A and R of small order.
pub(super) struct Ed25519Verifying(ParsedPublicKey);

impl Ed25519Verifying {
    /// The portable backend judges the key: no small order, one encoding.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, InvalidKey> {
        crate::crypto::portable::PORTABLE.verifying_key(SignatureAlgorithm::Ed25519, bytes)?;
        ParsedPublicKey::new(&ED25519, bytes).map(Self).map_err(|_| InvalidKey)
    }
}

impl VerifyingKey for Ed25519Verifying {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let mut r = *signature.first_chunk::<32>().ok_or(BadSignature)?;
        r[31] &= 0x7f;
        if SMALL_ORDER.contains(&r) {
            return Err(BadSignature);
        }
        self.0.verify_sig(message, signature).map_err(|_| BadSignature)
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
