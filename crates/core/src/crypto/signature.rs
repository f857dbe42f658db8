//! Hybrid signatures: a set's halves sign in order, and all must verify.
//!
//! Each half signs its own message, because the algorithm's number stands in its signed header; callers therefore pass
//! a function from algorithm to message. A half verified alone proves nothing: nothing here accepts fewer than the set.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::backend::{self, Backend, BackendError, BadSignature, InvalidKey, RandomSource};
use super::secret::SecretBytes;
use super::suite::{SignatureAlgorithm, SignatureSet};

/// Fresh private seeds of a set's halves, concatenated.
pub fn generate_seeds(set: SignatureSet, random: &mut dyn RandomSource) -> SecretBytes {
    let mut seeds = vec![0; seeds_len(set)];
    let mut rest = seeds.as_mut_slice();
    for &algorithm in set.halves() {
        let (seed, after) = rest.split_at_mut(algorithm.seed_len());
        random.fill(seed);
        // One P-256 candidate in 2^32 is zero or not below the group's order.
        while algorithm == SignatureAlgorithm::EcdsaP256 && p256::ecdsa::SigningKey::from_slice(seed).is_err()
        {
            random.fill(seed);
        }
        rest = after;
    }
    SecretBytes::new(seeds)
}

/// A signer's public keys, parsed and validated once; cheap to clone.
#[derive(Clone)]
pub struct VerifyingKey {
    set: SignatureSet,
    bytes: Arc<[u8]>,
    halves: Arc<[Box<dyn backend::VerifyingKey>]>,
}

impl VerifyingKey {
    /// Parses a set's concatenated public keys.
    pub fn parse(backend: Backend, set: SignatureSet, bytes: &[u8]) -> Result<Self, InvalidKey> {
        if bytes.len() != set.public_key_len() {
            return Err(InvalidKey);
        }
        let mut rest = bytes;
        let mut halves = Vec::with_capacity(set.halves().len());
        for &algorithm in set.halves() {
            let (half, after) = rest.split_at(algorithm.public_key_len());
            halves.push(backend.verifying_key(algorithm, half)?);
            rest = after;
        }
        Ok(Self { set, bytes: bytes.into(), halves: halves.into() })
    }

    /// Its signature set.
    pub fn set(&self) -> SignatureSet {
        self.set
    }

    /// The concatenated public keys.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Verifies the concatenated signatures of every half, each over its own message, the cheapest first.
    pub fn verify(
        &self,
        message_for: &dyn Fn(SignatureAlgorithm) -> Vec<u8>,
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        if signature.len() != self.set.signature_len() {
            return Err(BadSignature);
        }
        let mut rest = signature;
        for (index, &algorithm) in self.set.halves().iter().enumerate() {
            let (half, after) = rest.split_at(algorithm.signature_len());
            self.verify_half(index, &message_for(algorithm), half)?;
            rest = after;
        }
        Ok(())
    }

    /// Verifies one half, for formats that carry the halves apart. The caller answers for verifying all of them.
    pub fn verify_half(&self, index: usize, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let algorithm = self.set.halves().get(index).ok_or(BadSignature)?;
        let key = self.halves.get(index).ok_or(BadSignature)?;
        if signature.len() != algorithm.signature_len() {
            return Err(BadSignature);
        }
        key.verify(message, signature)
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.set == other.set && self.bytes == other.bytes
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("set", &self.set).finish_non_exhaustive()
    }
}

/// The private keys of a set, expanded once. They have no `Debug`.
pub struct SigningKey {
    set: SignatureSet,
    public_key: Vec<u8>,
    halves: Vec<Box<dyn backend::SigningKey>>,
}

impl SigningKey {
    /// Expands a set's concatenated seeds.
    pub fn from_seeds(backend: Backend, set: SignatureSet, seeds: &SecretBytes) -> Result<Self, InvalidKey> {
        if seeds.expose().len() != seeds_len(set) {
            return Err(InvalidKey);
        }
        let mut rest = seeds.expose();
        let mut halves = Vec::with_capacity(set.halves().len());
        let mut public_key = Vec::with_capacity(set.public_key_len());
        for &algorithm in set.halves() {
            let (seed, after) = rest.split_at(algorithm.seed_len());
            let half = backend.signing_key(algorithm, &SecretBytes::new(seed.to_vec()))?;
            public_key.extend_from_slice(half.public_key());
            halves.push(half);
            rest = after;
        }
        Ok(Self { set, public_key, halves })
    }

    /// Its signature set.
    pub fn set(&self) -> SignatureSet {
        self.set
    }

    /// The concatenated public keys.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Signs each half's own message and concatenates the signatures, [`SignatureSet::signature_len`] bytes in all.
    pub fn sign(
        &self,
        random: &mut dyn RandomSource,
        message_for: &dyn Fn(SignatureAlgorithm) -> Vec<u8>,
    ) -> Result<Vec<u8>, BackendError> {
        let mut signature = Vec::with_capacity(self.set.signature_len());
        for (half, &algorithm) in self.halves.iter().zip(self.set.halves()) {
            let part = half.sign(random, &message_for(algorithm))?;
            if part.len() != algorithm.signature_len() {
                return Err(BackendError);
            }
            signature.extend_from_slice(&part);
        }
        Ok(signature)
    }
}

fn seeds_len(set: SignatureSet) -> usize {
    set.halves().iter().map(|half| half.seed_len()).sum()
}
