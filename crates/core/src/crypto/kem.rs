//! Key encapsulation: ML-KEM-1024, and X-Wing composed from a backend's ML-KEM-768 and X25519.
//!
//! X-Wing follows draft-connolly-cfrg-xwing-kem: the 32-byte seed expands through SHAKE-256 into `d ‖ z ‖ sk_X`, keys
//! and ciphertexts are ML-KEM's followed by X25519's, and the shared secret is
//! SHA3-256(`ss_M ‖ ss_X ‖ ct_X ‖ pk_X ‖ label`). One choice that the draft leaves open: an X25519 share that does not
//! contribute (a low-order point) is refused on both sides.
//!
//! Expanding a private key costs as much as several decapsulations, so the objects here keep their expanded form.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use zeroize::Zeroize;

use super::backend::{
    Backend, InvalidKey, MlKemDecapsulationKey, MlKemEncapsulationKey, MlKemParameters, RandomSource,
    X25519Key,
};
use super::secret::{Secret, SecretBytes};
use super::suite::Kem;

const X_WING_LABEL: &[u8; 6] = br"\.//^\";
const ML_KEM_768_EK_LEN: usize = 1184;
const ML_KEM_768_CT_LEN: usize = 1088;
const ML_KEM_SEED_LEN: usize = 64;

/// A fresh private seed of [`Kem::seed_len`] bytes.
pub fn generate_seed(kem: Kem, random: &mut dyn RandomSource) -> SecretBytes {
    let mut seed = vec![0; kem.seed_len()];
    random.fill(&mut seed);
    SecretBytes::new(seed)
}

/// A peer's public key, parsed and validated once; cheap to clone.
#[derive(Clone)]
pub struct EncapsulationKey {
    kem: Kem,
    bytes: Arc<[u8]>,
    expanded: ExpandedEncapsulationKey,
}

#[derive(Clone)]
enum ExpandedEncapsulationKey {
    XWing { backend: Backend, ml_kem: Arc<dyn MlKemEncapsulationKey>, x25519: [u8; 32] },
    MlKem1024(Arc<dyn MlKemEncapsulationKey>),
}

impl EncapsulationKey {
    /// Checks length and ML-KEM's coefficients (FIPS 203 §7.2).
    ///
    /// Whether X-Wing's X25519 half contributes shows only with a private key: [`Self::encapsulate`] refuses it then.
    pub fn parse(backend: Backend, kem: Kem, bytes: &[u8]) -> Result<Self, InvalidKey> {
        if bytes.len() != kem.encapsulation_key_len() {
            return Err(InvalidKey);
        }
        let expanded = match kem {
            Kem::XWing => {
                let (ml_kem, x25519) = bytes.split_at(ML_KEM_768_EK_LEN);
                ExpandedEncapsulationKey::XWing {
                    backend,
                    ml_kem: backend.ml_kem_encapsulation_key(MlKemParameters::MlKem768, ml_kem)?.into(),
                    x25519: x25519.try_into().map_err(|_| InvalidKey)?,
                }
            }
            Kem::MlKem1024 => ExpandedEncapsulationKey::MlKem1024(
                backend.ml_kem_encapsulation_key(MlKemParameters::MlKem1024, bytes)?.into(),
            ),
        };
        Ok(Self { kem, bytes: bytes.into(), expanded })
    }

    /// Its mechanism.
    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// The bytes that were parsed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives a ciphertext of [`Kem::ciphertext_len`] bytes and the shared secret; an error means an invalid key.
    ///
    /// The `portable` backend draws all its randomness from `random`: 32 bytes for ML-KEM, then 32 for X25519.
    pub fn encapsulate(&self, random: &mut dyn RandomSource) -> Result<(Vec<u8>, Secret<32>), InvalidKey> {
        let (backend, ml_kem, recipient) = match &self.expanded {
            ExpandedEncapsulationKey::MlKem1024(key) => return key.encapsulate(random),
            ExpandedEncapsulationKey::XWing { backend, ml_kem, x25519 } => (backend, ml_kem, x25519),
        };
        let (mut ciphertext, ml_kem_secret) = ml_kem.encapsulate(random)?;
        let mut scalar = Secret::new([0; 32]);
        random.fill(scalar.expose_mut());
        let ephemeral = backend.x25519_key(&scalar)?;
        let x25519_secret = ephemeral.agree(recipient)?;
        ciphertext.extend_from_slice(ephemeral.public_key());
        let shared = combine(&ml_kem_secret, &x25519_secret, ephemeral.public_key(), recipient);
        Ok((ciphertext, shared))
    }
}

impl PartialEq for EncapsulationKey {
    fn eq(&self, other: &Self) -> bool {
        self.kem == other.kem && self.bytes == other.bytes
    }
}

impl Eq for EncapsulationKey {}

impl fmt::Debug for EncapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncapsulationKey").field("kem", &self.kem).finish_non_exhaustive()
    }
}

/// A private key, expanded once. It has no `Debug`.
pub struct DecapsulationKey {
    kem: Kem,
    encapsulation_key: Vec<u8>,
    expanded: ExpandedDecapsulationKey,
}

enum ExpandedDecapsulationKey {
    XWing { ml_kem: Box<dyn MlKemDecapsulationKey>, x25519: Box<dyn X25519Key> },
    MlKem1024(Box<dyn MlKemDecapsulationKey>),
}

impl DecapsulationKey {
    /// Expands a seed of exactly [`Kem::seed_len`] bytes.
    pub fn from_seed(backend: Backend, kem: Kem, seed: &SecretBytes) -> Result<Self, InvalidKey> {
        if seed.expose().len() != kem.seed_len() {
            return Err(InvalidKey);
        }
        match kem {
            Kem::XWing => Self::x_wing(backend, seed.expose()),
            Kem::MlKem1024 => {
                let ml_kem = backend.ml_kem_decapsulation_key(MlKemParameters::MlKem1024, seed.expose())?;
                let encapsulation_key = ml_kem.encapsulation_key().to_vec();
                Ok(Self { kem, encapsulation_key, expanded: ExpandedDecapsulationKey::MlKem1024(ml_kem) })
            }
        }
    }

    fn x_wing(backend: Backend, seed: &[u8]) -> Result<Self, InvalidKey> {
        let mut ml_kem_seed = [0; ML_KEM_SEED_LEN];
        let mut scalar = Secret::new([0; 32]);
        let mut shake = Shake256::default();
        shake.update(seed);
        let mut reader = shake.finalize_xof();
        reader.read(&mut ml_kem_seed);
        reader.read(scalar.expose_mut());

        let ml_kem = backend.ml_kem_decapsulation_key(MlKemParameters::MlKem768, &ml_kem_seed);
        ml_kem_seed.zeroize();
        let ml_kem = ml_kem?;
        let x25519 = backend.x25519_key(&scalar)?;
        let mut encapsulation_key = ml_kem.encapsulation_key().to_vec();
        encapsulation_key.extend_from_slice(x25519.public_key());
        let expanded = ExpandedDecapsulationKey::XWing { ml_kem, x25519 };
        Ok(Self { kem: Kem::XWing, encapsulation_key, expanded })
    }

    /// Its mechanism.
    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// The matching public key's bytes.
    pub fn encapsulation_key(&self) -> &[u8] {
        &self.encapsulation_key
    }

    /// Recovers the shared secret.
    ///
    /// A wrong length or a low-order X25519 share is an error. Any other wrong ciphertext gives an unrelated secret
    /// (ML-KEM's implicit rejection), which shows when the AEAD refuses.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<32>, InvalidKey> {
        if ciphertext.len() != self.kem.ciphertext_len() {
            return Err(InvalidKey);
        }
        let (ml_kem, x25519) = match &self.expanded {
            ExpandedDecapsulationKey::MlKem1024(key) => return key.decapsulate(ciphertext),
            ExpandedDecapsulationKey::XWing { ml_kem, x25519 } => (ml_kem, x25519),
        };
        let (ml_kem_ciphertext, share) = ciphertext.split_at(ML_KEM_768_CT_LEN);
        let share: &[u8; 32] = share.try_into().map_err(|_| InvalidKey)?;
        let x25519_secret = x25519.agree(share)?;
        let ml_kem_secret = ml_kem.decapsulate(ml_kem_ciphertext)?;
        Ok(combine(&ml_kem_secret, &x25519_secret, share, x25519.public_key()))
    }
}

fn combine(ml_kem: &Secret<32>, x25519: &Secret<32>, share: &[u8; 32], recipient: &[u8; 32]) -> Secret<32> {
    let mut hasher = Sha3_256::new();
    Digest::update(&mut hasher, ml_kem.expose());
    Digest::update(&mut hasher, x25519.expose());
    Digest::update(&mut hasher, share);
    Digest::update(&mut hasher, recipient);
    Digest::update(&mut hasher, X_WING_LABEL);
    let mut shared = hasher.finalize();
    let secret = Secret::new(shared.into());
    shared.as_mut_slice().zeroize();
    secret
}
