//! The primitives under an envelope, called directly on a backend: the baselines.

use std::hint::black_box;

use pqc_iiot_core::codec::signed::SigStructure;
use pqc_iiot_core::crypto::backend::{self, Backend, RandomSource};
use pqc_iiot_core::crypto::kdf;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::signature::generate_seeds;
use pqc_iiot_core::crypto::suite::{Aead, SessionSuite, SignatureSet};
use pqc_iiot_core::envelope::HEADER_LEN;

use super::BenchError;

const FAILED: BenchError = BenchError::Outcome("a primitive of the baseline failed");

/// The halves of a signature set, each with its own key on the measured backend, and the length of what each signs.
pub(super) struct Signers {
    halves: Vec<(Box<dyn backend::SigningKey>, Vec<u8>)>,
}

impl Signers {
    /// Fresh keys; messages as long as those of `structure`.
    pub(super) fn new(
        backend: Backend,
        random: &mut dyn RandomSource,
        structure: &SigStructure,
    ) -> Result<Self, BenchError> {
        let set = structure.set();
        let seeds = generate_seeds(set, random);
        let mut rest = seeds.expose();
        let mut halves = Vec::new();
        for &algorithm in set.halves() {
            let (seed, after) = rest.split_at_checked(algorithm.seed_len()).ok_or(FAILED)?;
            let key = backend.signing_key(algorithm, &SecretBytes::new(seed.to_vec())).map_err(|_| FAILED)?;
            halves.push((key, structure.message(algorithm)));
            rest = after;
        }
        Ok(Self { halves })
    }

    /// Makes the messages distinct from all before.
    pub(super) fn number(&mut self, sequence: u64) {
        for (_, message) in &mut self.halves {
            stamp(message, sequence);
        }
    }

    pub(super) fn sign(&self, random: &mut dyn RandomSource) -> Result<(), BenchError> {
        for (key, message) in &self.halves {
            black_box(key.sign(random, message).map_err(|_| FAILED)?);
        }
        Ok(())
    }
}

/// A signature of every half, with keys parsed on the measured backend.
pub(super) struct Verifiers {
    halves: Vec<Half>,
}

struct Half {
    key: Box<dyn backend::VerifyingKey>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Verifiers {
    pub(super) fn new(backend: Backend, set: SignatureSet, public_key: &[u8]) -> Result<Self, BenchError> {
        let mut rest = public_key;
        let mut halves = Vec::new();
        for &algorithm in set.halves() {
            let (key, after) = rest.split_at_checked(algorithm.public_key_len()).ok_or(FAILED)?;
            let key = backend.verifying_key(algorithm, key).map_err(|_| FAILED)?;
            halves.push(Half { key, message: Vec::new(), signature: Vec::new() });
            rest = after;
        }
        Ok(Self { halves })
    }

    /// Takes over what is to be verified next.
    pub(super) fn load(&mut self, structure: &SigStructure, signature: &[u8]) -> Result<(), BenchError> {
        let mut rest = signature;
        for (half, &algorithm) in self.halves.iter_mut().zip(structure.set().halves()) {
            let (this, after) = rest.split_at_checked(algorithm.signature_len()).ok_or(FAILED)?;
            half.message = structure.message(algorithm);
            half.signature = this.to_vec();
            rest = after;
        }
        Ok(())
    }

    pub(super) fn verify(&self) -> Result<(), BenchError> {
        self.halves
            .iter()
            .try_for_each(|half| half.key.verify(&half.message, &half.signature))
            .map_err(|_| FAILED)
    }
}

/// Key derivation and encryption as an envelope of `suite` needs them.
pub(super) struct Symmetric {
    suite: SessionSuite,
    backend: Backend,
    info: Vec<u8>,
    aad: Vec<u8>,
    content: Vec<u8>,
    sealed: Vec<u8>,
    buffer: Vec<u8>,
}

const NONCE: [u8; 12] = [0x24; 12];

impl Symmetric {
    /// For a payload of `bytes`.
    pub(super) fn new(suite: SessionSuite, backend: Backend, bytes: usize) -> Result<Self, BenchError> {
        // An envelope's info: labels, ids and fingerprints (about 150 bytes) and two digests.
        let info = vec![0x5a; 150 + 2 * suite.hash().output_len()];
        let aad = vec![0xa5; HEADER_LEN + suite.kem().ciphertext_len()];
        // The content's map, class and head around the payload.
        let content = vec![0x42; bytes + 8];
        let mut sealed = content.clone();
        let key = backend.aead_key(suite.aead(), &Secret::new([0x11; 32]));
        key.seal(&NONCE, &aad, &mut sealed).map_err(|_| FAILED)?;
        let buffer = Vec::with_capacity(sealed.len());
        Ok(Self { suite, backend, info, aad, content, sealed, buffer })
    }

    pub(super) fn load_plain(&mut self) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.content);
    }

    pub(super) fn load_sealed(&mut self) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.sealed);
    }

    pub(super) fn seal(&mut self, shared: &Secret<32>) -> Result<(), BenchError> {
        let key = self.derive(shared)?;
        self.backend
            .aead_key(self.suite.aead(), &key)
            .seal(&NONCE, &self.aad, &mut self.buffer)
            .map_err(|_| FAILED)
    }

    pub(super) fn open(&mut self, shared: &Secret<32>) -> Result<(), BenchError> {
        black_box(self.derive(shared)?);
        let key = self.backend.aead_key(self.suite.aead(), &Secret::new([0x11; 32]));
        key.open(&NONCE, &self.aad, &mut self.buffer).map_err(|_| FAILED)
    }

    fn derive(&self, shared: &Secret<32>) -> Result<Secret<32>, BenchError> {
        let mut okm = Secret::new([0u8; Aead::KEY_LEN + Aead::NONCE_LEN]);
        kdf::hkdf(self.suite.hash(), &[], shared.expose(), &self.info, okm.expose_mut())
            .map_err(|_| FAILED)?;
        okm.expose().get(..Aead::KEY_LEN).and_then(Secret::from_slice).ok_or(FAILED)
    }
}

/// A record's encryption and nothing else of it.
pub(super) struct BareAead {
    key: Box<dyn backend::AeadKey>,
    aad: Vec<u8>,
    sealed: Vec<u8>,
    buffer: Vec<u8>,
    bytes: usize,
}

impl BareAead {
    /// For a payload of `bytes`.
    pub(super) fn new(suite: SessionSuite, backend: Backend, bytes: usize) -> Result<Self, BenchError> {
        let key = backend.aead_key(suite.aead(), &Secret::new([0x11; Aead::KEY_LEN]));
        // Header and topic hash.
        let aad = vec![0xa5; pqc_iiot_core::session::HEADER_LEN + suite.hash().output_len()];
        let mut sealed = vec![0x42; bytes];
        key.seal(&NONCE, &aad, &mut sealed).map_err(|_| FAILED)?;
        let buffer = Vec::with_capacity(sealed.len());
        Ok(Self { key, aad, sealed, buffer, bytes })
    }

    pub(super) fn seal(&mut self) -> Result<(), BenchError> {
        self.buffer.resize(self.bytes, 0x42);
        // The nonce repeats: this key protects nothing.
        let sealed = self.key.seal(black_box(&NONCE), &self.aad, &mut self.buffer);
        sealed.map_err(|_| BenchError::Outcome("the bare AEAD failed"))
    }

    pub(super) fn open(&mut self) -> Result<(), BenchError> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.sealed);
        let opened = self.key.open(black_box(&NONCE), &self.aad, &mut self.buffer);
        opened.map_err(|_| BenchError::Outcome("the bare AEAD failed"))
    }
}

/// Encapsulates to `key` and derives and encrypts under the result.
pub(super) fn encapsulate_and_seal(
    key: &EncapsulationKey,
    random: &mut dyn RandomSource,
    symmetric: &mut Symmetric,
) -> Result<(), BenchError> {
    let (ciphertext, shared) = key.encapsulate(random).map_err(|_| FAILED)?;
    black_box(ciphertext);
    symmetric.seal(&shared)
}

/// Writes `sequence` over the end of `bytes`.
pub(super) fn stamp(bytes: &mut [u8], sequence: u64) {
    if let Some(end) = bytes.last_chunk_mut::<8>() {
        *end = sequence.to_be_bytes();
    }
}
