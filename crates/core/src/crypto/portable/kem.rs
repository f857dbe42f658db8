//! ML-KEM on the crate `ml-kem`, X25519 on `x25519-dalek`.

use alloc::vec::Vec;

use ml_kem::array::sizes::{U32, U64};
use ml_kem::kem::{Decapsulate, Encapsulate, FromSeed, Kem, KeyExport, TryKeyInit};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

use super::random::Generator;
use crate::crypto::backend::{
    InvalidKey, MlKemDecapsulationKey, MlKemEncapsulationKey, RandomSource, X25519Key,
};
use crate::crypto::secret::Secret;

pub(super) struct Decapsulation<K: Kem> {
    key: K::DecapsulationKey,
    encapsulation_key: Vec<u8>,
}

impl<K: FromSeed<SeedSize = U64>> Decapsulation<K> {
    pub(super) fn from_seed(seed: &[u8]) -> Result<Self, InvalidKey> {
        let seed = seed.try_into().map_err(|_| InvalidKey)?;
        let (key, encapsulation_key) = K::from_seed(seed);
        Ok(Self { key, encapsulation_key: encapsulation_key.to_bytes().to_vec() })
    }
}

impl<K> MlKemDecapsulationKey for Decapsulation<K>
where
    K: Kem<SharedKeySize = U32>,
    K::DecapsulationKey: Decapsulate<Kem = K> + Send + Sync,
{
    fn encapsulation_key(&self) -> &[u8] {
        &self.encapsulation_key
    }

    fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<32>, InvalidKey> {
        let mut shared = self.key.decapsulate_slice(ciphertext).map_err(|_| InvalidKey)?;
        Ok(take(&mut shared))
    }
}

pub(super) struct Encapsulation<K: Kem>(K::EncapsulationKey);

impl<K: Kem> Encapsulation<K> {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, InvalidKey> {
        K::EncapsulationKey::new_from_slice(bytes).map(Self).map_err(|_| InvalidKey)
    }
}

impl<K> MlKemEncapsulationKey for Encapsulation<K>
where
    K: Kem<SharedKeySize = U32>,
    K::EncapsulationKey: Send + Sync,
{
    fn encapsulate(&self, random: &mut dyn RandomSource) -> Result<(Vec<u8>, Secret<32>), InvalidKey> {
        let (ciphertext, mut shared) = self.0.encapsulate_with_rng(&mut Generator(random));
        Ok((ciphertext.to_vec(), take(&mut shared)))
    }
}

pub(super) struct X25519 {
    secret: StaticSecret,
    public_key: [u8; 32],
}

impl X25519 {
    pub(super) fn new(secret: &Secret<32>) -> Self {
        let secret = StaticSecret::from(*secret.expose());
        let public_key = PublicKey::from(&secret).to_bytes();
        Self { secret, public_key }
    }
}

impl X25519Key for X25519 {
    fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    fn agree(&self, peer: &[u8; 32]) -> Result<Secret<32>, InvalidKey> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*peer));
        if !shared.was_contributory() {
            return Err(InvalidKey);
        }
        Ok(Secret::new(shared.to_bytes()))
    }
}

fn take(shared: &mut ml_kem::SharedKey) -> Secret<32> {
    let secret = Secret::new(shared.0);
    shared.0.zeroize();
    secret
}
