//! The host backend: AWS-LC through `aws-lc-rs`.
//!
//! AWS-LC draws from its own generator for ML-KEM encapsulation, ML-DSA and ECDSA signing: it accepts no other. Where
//! it cannot do what a suite needs, the other library does:
//!
//! - ML-KEM key expansion: `aws-lc-rs` takes no seed, so `ml-kem` expands it and AWS-LC imports the expanded key.
//! - ML-KEM encapsulation keys: AWS-LC checks coefficients only while encapsulating, so they are checked here at parse.
//! - Ed25519 keys: AWS-LC accepts those of small order and a second encoding of a key, so the portable backend parses
//!   them first.
//! - FN-DSA: AWS-LC has none.

mod aead;
mod kem;
mod signature;

use alloc::boxed::Box;

use aws_lc_rs::signature::{ML_DSA_65, ML_DSA_65_SIGNING, ML_DSA_87, ML_DSA_87_SIGNING};

use super::backend::{
    AeadKey, CryptoBackend, InvalidKey, MlKemDecapsulationKey, MlKemEncapsulationKey, MlKemParameters,
    SigningKey, VerifyingKey, X25519Key,
};
use super::portable::PORTABLE;
use super::secret::{Secret, SecretBytes};
use super::suite::{Aead, SignatureAlgorithm};

/// The `aws-lc` backend.
#[derive(Debug, Clone, Copy)]
pub struct AwsLc;

/// The `aws-lc` backend, to be passed as a [`Backend`](super::backend::Backend).
pub static AWS_LC: AwsLc = AwsLc;

impl CryptoBackend for AwsLc {
    fn name(&self) -> &'static str {
        "aws-lc"
    }

    fn ml_kem_decapsulation_key(
        &self,
        parameters: MlKemParameters,
        seed: &[u8],
    ) -> Result<Box<dyn MlKemDecapsulationKey>, InvalidKey> {
        Ok(Box::new(kem::Decapsulation::from_seed(parameters, seed)?))
    }

    fn ml_kem_encapsulation_key(
        &self,
        parameters: MlKemParameters,
        bytes: &[u8],
    ) -> Result<Box<dyn MlKemEncapsulationKey>, InvalidKey> {
        Ok(Box::new(kem::Encapsulation::parse(parameters, bytes)?))
    }

    fn x25519_key(&self, secret: &Secret<32>) -> Result<Box<dyn X25519Key>, InvalidKey> {
        Ok(Box::new(kem::X25519::new(secret)?))
    }

    fn signing_key(
        &self,
        algorithm: SignatureAlgorithm,
        seed: &SecretBytes,
    ) -> Result<Box<dyn SigningKey>, InvalidKey> {
        match algorithm {
            SignatureAlgorithm::Ed25519 => Ok(Box::new(signature::Ed25519Signing::from_seed(seed)?)),
            SignatureAlgorithm::EcdsaP256 => Ok(Box::new(signature::P256Signing::from_scalar(seed)?)),
            SignatureAlgorithm::MlDsa65 => {
                Ok(Box::new(signature::MlDsaSigning::from_seed(&ML_DSA_65_SIGNING, seed)?))
            }
            SignatureAlgorithm::MlDsa87 => {
                Ok(Box::new(signature::MlDsaSigning::from_seed(&ML_DSA_87_SIGNING, seed)?))
            }
            #[cfg(feature = "experimental-fn-dsa")]
            SignatureAlgorithm::FnDsa512 => PORTABLE.signing_key(algorithm, seed),
        }
    }

    fn verifying_key(
        &self,
        algorithm: SignatureAlgorithm,
        bytes: &[u8],
    ) -> Result<Box<dyn VerifyingKey>, InvalidKey> {
        match algorithm {
            SignatureAlgorithm::Ed25519 => Ok(Box::new(signature::Ed25519Verifying::parse(bytes)?)),
            SignatureAlgorithm::EcdsaP256 => Ok(Box::new(signature::P256Verifying::parse(bytes)?)),
            SignatureAlgorithm::MlDsa65 => {
                Ok(Box::new(signature::MlDsaVerifying::parse(&ML_DSA_65, 1952, bytes)?))
            }
            SignatureAlgorithm::MlDsa87 => {
                Ok(Box::new(signature::MlDsaVerifying::parse(&ML_DSA_87, 2592, bytes)?))
            }
            #[cfg(feature = "experimental-fn-dsa")]
            SignatureAlgorithm::FnDsa512 => PORTABLE.verifying_key(algorithm, bytes),
        }
    }

    fn aead_key(&self, aead: Aead, key: &Secret<32>) -> Box<dyn AeadKey> {
        match aead::Cipher::new(aead, key) {
            Some(cipher) => Box::new(cipher),
            // AWS-LC refuses a 32-byte key only when it cannot allocate; the same cipher, elsewhere.
            None => PORTABLE.aead_key(aead, key),
        }
    }
}
