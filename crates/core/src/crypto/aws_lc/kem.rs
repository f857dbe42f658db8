//! ML-KEM and X25519 on AWS-LC.

use alloc::vec::Vec;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::kem::{self, ML_KEM_768, ML_KEM_1024};
#[allow(deprecated, reason = "the expanded form is the only one that AWS-LC imports")]
use ml_kem::ExpandedKeyEncoding;
use ml_kem::kem::{FromSeed, KeyExport};
use ml_kem::{MlKem768, MlKem1024};
use zeroize::Zeroize;

use crate::crypto::backend::{
    InvalidKey, MlKemDecapsulationKey, MlKemEncapsulationKey, MlKemParameters, RandomSource, X25519Key,
};
use crate::crypto::secret::Secret;

/// ML-KEM's modulus (FIPS 203 §2.4).
const Q: u16 = 3329;
/// Length of the public seed that ends an encapsulation key.
const RHO_LEN: usize = 32;

pub(super) struct Decapsulation {
    key: kem::DecapsulationKey,
    encapsulation_key: Vec<u8>,
}

impl Decapsulation {
    pub(super) fn from_seed(parameters: MlKemParameters, seed: &[u8]) -> Result<Self, InvalidKey> {
        let seed = seed.try_into().map_err(|_| InvalidKey)?;
        match parameters {
            MlKemParameters::MlKem768 => {
                let (key, encapsulation_key) = MlKem768::from_seed(seed);
                #[allow(deprecated)]
                let mut expanded = key.to_expanded_bytes();
                Self::import(parameters, &mut expanded, encapsulation_key.to_bytes().to_vec())
            }
            MlKemParameters::MlKem1024 => {
                let (key, encapsulation_key) = MlKem1024::from_seed(seed);
                #[allow(deprecated)]
                let mut expanded = key.to_expanded_bytes();
                Self::import(parameters, &mut expanded, encapsulation_key.to_bytes().to_vec())
            }
        }
    }

    /// Imports and erases `expanded`.
    fn import(
        parameters: MlKemParameters,
        expanded: &mut [u8],
        encapsulation_key: Vec<u8>,
    ) -> Result<Self, InvalidKey> {
        let key = kem::DecapsulationKey::new(algorithm(parameters), expanded);
        expanded.zeroize();
        Ok(Self { key: key.map_err(|_| InvalidKey)?, encapsulation_key })
    }
}

impl MlKemDecapsulationKey for Decapsulation {
    fn encapsulation_key(&self) -> &[u8] {
        &self.encapsulation_key
    }

    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<32>, InvalidKey> {
        let shared = self.key.decapsulate(ciphertext.into()).map_err(|_| InvalidKey)?;
        Secret::from_slice(shared.as_ref()).ok_or(InvalidKey)
    }
}

pub(super) struct Encapsulation(kem::EncapsulationKey);

impl Encapsulation {
    pub(super) fn parse(parameters: MlKemParameters, bytes: &[u8]) -> Result<Self, InvalidKey> {
        let key = kem::EncapsulationKey::new(algorithm(parameters), bytes).map_err(|_| InvalidKey)?;
        if !is_reduced(bytes) {
            return Err(InvalidKey);
        }
        Ok(Self(key))
    }
}

impl MlKemEncapsulationKey for Encapsulation {
    fn encapsulate(&self, _random: &mut dyn RandomSource) -> Result<(Vec<u8>, Secret<32>), InvalidKey> {
        let (ciphertext, shared) = self.0.encapsulate().map_err(|_| InvalidKey)?;
        let shared = Secret::from_slice(shared.as_ref()).ok_or(InvalidKey)?;
        Ok((ciphertext.as_ref().to_vec(), shared))
    }
}

pub(super) struct X25519 {
    key: PrivateKey,
    public_key: [u8; 32],
}

impl X25519 {
    pub(super) fn new(secret: &Secret<32>) -> Result<Self, InvalidKey> {
        let key =
            PrivateKey::from_private_key(&agreement::X25519, secret.expose()).map_err(|_| InvalidKey)?;
        let public_key = key.compute_public_key().map_err(|_| InvalidKey)?;
        let public_key = public_key.as_ref().try_into().map_err(|_| InvalidKey)?;
        Ok(Self { key, public_key })
    }
}

impl X25519Key for X25519 {
    fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    fn agree(&self, peer: &[u8; 32]) -> Result<Secret<32>, InvalidKey> {
        let peer = UnparsedPublicKey::new(&agreement::X25519, peer);
        let shared = agreement::agree(&self.key, peer, InvalidKey, |shared| {
            Secret::<32>::from_slice(shared).ok_or(InvalidKey)
        })?;
        // AWS-LC refuses an all-zero output itself; the promise of this method does not rest on that alone.
        if shared == Secret::new([0; 32]) {
            return Err(InvalidKey);
        }
        Ok(shared)
    }
}

fn algorithm(parameters: MlKemParameters) -> &'static kem::Algorithm<kem::AlgorithmId> {
    match parameters {
        MlKemParameters::MlKem768 => &ML_KEM_768,
        MlKemParameters::MlKem1024 => &ML_KEM_1024,
    }
}

/// The modulus check of FIPS 203 §7.2: every 12-bit coefficient is below [`Q`].
fn is_reduced(encapsulation_key: &[u8]) -> bool {
    let coefficients = encapsulation_key.len().saturating_sub(RHO_LEN);
    encapsulation_key[..coefficients].chunks_exact(3).all(|bytes| {
        let [a, b, c] = [bytes[0], bytes[1], bytes[2]].map(u16::from);
        (a | (b & 0x0f) << 8) < Q && (b >> 4 | c << 4) < Q
    })
}
