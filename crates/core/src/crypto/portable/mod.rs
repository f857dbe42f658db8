//! The backend in pure Rust: RustCrypto and dalek. No std, and deterministic given its random source.
//!
//! Why these crates: `ml-kem` and `ml-dsa` keep keys as seeds, zeroize and run without std; they have never been
//! audited. FN-DSA is its designer's own crate, here only until FIPS 206 is final.

mod aead;
#[cfg(feature = "experimental-fn-dsa")]
mod fn_dsa;
mod kem;
mod random;
mod signature;

use alloc::boxed::Box;

use ml_kem::{MlKem768, MlKem1024};

use super::backend::{
    AeadKey, CryptoBackend, InvalidKey, MlKemDecapsulationKey, MlKemEncapsulationKey, MlKemParameters,
    SigningKey, VerifyingKey, X25519Key,
};
use super::secret::{Secret, SecretBytes};
use super::suite::{Aead, SignatureAlgorithm};

/// The `portable` backend.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

/// The `portable` backend, to be passed as a [`Backend`](super::backend::Backend).
pub static PORTABLE: Portable = Portable;

impl CryptoBackend for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn ml_kem_decapsulation_key(
        &self,
        parameters: MlKemParameters,
        seed: &[u8],
    ) -> Result<Box<dyn MlKemDecapsulationKey>, InvalidKey> {
        match parameters {
            MlKemParameters::MlKem768 => Ok(Box::new(kem::Decapsulation::<MlKem768>::from_seed(seed)?)),
            MlKemParameters::MlKem1024 => Ok(Box::new(kem::Decapsulation::<MlKem1024>::from_seed(seed)?)),
        }
    }

    fn ml_kem_encapsulation_key(
        &self,
        parameters: MlKemParameters,
        bytes: &[u8],
    ) -> Result<Box<dyn MlKemEncapsulationKey>, InvalidKey> {
        match parameters {
            MlKemParameters::MlKem768 => Ok(Box::new(kem::Encapsulation::<MlKem768>::parse(bytes)?)),
            MlKemParameters::MlKem1024 => Ok(Box::new(kem::Encapsulation::<MlKem1024>::parse(bytes)?)),
        }
    }

    fn x25519_key(&self, secret: &Secret<32>) -> Result<Box<dyn X25519Key>, InvalidKey> {
        Ok(Box::new(kem::X25519::new(secret)))
    }

    fn signing_key(
        &self,
        algorithm: SignatureAlgorithm,
        seed: &SecretBytes,
    ) -> Result<Box<dyn SigningKey>, InvalidKey> {
        let seed = Secret::from_slice(seed.expose()).ok_or(InvalidKey)?;
        match algorithm {
            SignatureAlgorithm::Ed25519 => Ok(Box::new(signature::Ed25519Signing::from_seed(&seed))),
            SignatureAlgorithm::EcdsaP256 => Ok(Box::new(signature::P256Signing::from_scalar(&seed)?)),
            SignatureAlgorithm::MlDsa65 => {
                Ok(Box::new(signature::MlDsaSigning::<ml_dsa::MlDsa65>::from_seed(&seed)))
            }
            SignatureAlgorithm::MlDsa87 => {
                Ok(Box::new(signature::MlDsaSigning::<ml_dsa::MlDsa87>::from_seed(&seed)))
            }
            #[cfg(feature = "experimental-fn-dsa")]
            SignatureAlgorithm::FnDsa512 => Ok(Box::new(fn_dsa::FnDsaSigning::from_seed(&seed))),
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
                Ok(Box::new(signature::MlDsaVerifying::<ml_dsa::MlDsa65>::parse(bytes)?))
            }
            SignatureAlgorithm::MlDsa87 => {
                Ok(Box::new(signature::MlDsaVerifying::<ml_dsa::MlDsa87>::parse(bytes)?))
            }
            #[cfg(feature = "experimental-fn-dsa")]
            SignatureAlgorithm::FnDsa512 => Ok(Box::new(fn_dsa::FnDsaVerifying::parse(bytes)?)),
        }
    }

    fn aead_key(&self, aead: Aead, key: &Secret<32>) -> Box<dyn AeadKey> {
        match aead {
            Aead::Aes256Gcm => Box::new(aead::Cipher::<aes_gcm::Aes256Gcm>::new(key)),
            Aead::ChaCha20Poly1305 => Box::new(aead::Cipher::<chacha20poly1305::ChaCha20Poly1305>::new(key)),
        }
    }
}
