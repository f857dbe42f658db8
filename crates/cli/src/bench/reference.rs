//! `aes256gcm_256` and `ml_dsa_65_verify`: how fast this machine is, by which targets are scaled.
//!
//! Their baseline is the same primitive again: its ratio shows how much the run's noise weighs.

use std::hint::black_box;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::backend::{AeadKey, Backend, VerifyingKey};
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::suite::{Aead, SignatureAlgorithm};

use super::fleet::random;
use super::{BenchError, Workload};

const OPERATIONS: usize = 256;
const PLAINTEXT: usize = 256;

/// AES-256-GCM over 256 bytes, in place, with a ready key and no associated data.
pub(super) struct Aes256Gcm {
    key: Box<dyn AeadKey>,
    buffer: Vec<u8>,
}

impl Aes256Gcm {
    pub(super) fn new(backend: Backend) -> Self {
        let key = backend.aead_key(Aead::Aes256Gcm, &Secret::new([0x11; Aead::KEY_LEN]));
        let mut buffer = Vec::with_capacity(PLAINTEXT + Aead::TAG_LEN);
        buffer.resize(PLAINTEXT, 0x42);
        Self { key, buffer }
    }
}

impl Workload for Aes256Gcm {
    fn operations(&self) -> usize {
        OPERATIONS
    }

    fn bytes(&self) -> usize {
        PLAINTEXT
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        for _ in 0..OPERATIONS {
            // The nonce repeats: this key protects nothing.
            let sealed = self.key.seal(black_box(&[0; Aead::NONCE_LEN]), &[], &mut self.buffer);
            sealed.map_err(|_| BenchError::Outcome("AES-256-GCM failed"))?;
            self.buffer.truncate(PLAINTEXT);
        }
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        self.run()
    }
}

/// ML-DSA-65 verification of a 256-byte message under a parsed key.
pub(super) struct MlDsa65Verify {
    key: Box<dyn VerifyingKey>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl MlDsa65Verify {
    pub(super) fn new(backend: Backend) -> Result<Self, BenchError> {
        const FAILED: BenchError = BenchError::Setup("an ML-DSA-65 signature");
        const ALGORITHM: SignatureAlgorithm = SignatureAlgorithm::MlDsa65;
        let seed = SecretBytes::new(vec![0x11; ALGORITHM.seed_len()]);
        let signer: Backend = &AWS_LC;
        let signing = signer.signing_key(ALGORITHM, &seed).map_err(|_| FAILED)?;
        let message = vec![0x42; 256];
        let signature = signing.sign(&mut random()?, &message).map_err(|_| FAILED)?;
        let key = backend.verifying_key(ALGORITHM, signing.public_key()).map_err(|_| FAILED)?;
        Ok(Self { key, message, signature })
    }
}

impl Workload for MlDsa65Verify {
    fn bytes(&self) -> usize {
        self.message.len()
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let verified = self.key.verify(black_box(&self.message), &self.signature);
        verified.map_err(|_| BenchError::Outcome("a genuine ML-DSA-65 signature did not verify"))
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        self.run()
    }
}
