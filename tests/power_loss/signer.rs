//! A provider that signs the same thing the same way each time, so that equal disks are recognised as equal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pqc_iiot_core::audit::SignerClass;
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::provider::{ProviderFailure, ProviderRequest, ProviderResponse};
use pqc_iiot_provider::provider::{AnchorError, CommitRecord, SealError};
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::{Capabilities, PublicIdentity, SecurityProvider, SoftwareProvider};

pub(crate) struct SteadySigner {
    inner: SoftwareProvider,
    signed: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl SteadySigner {
    pub(crate) fn new() -> Arc<Self> {
        let (set, random) = (SignatureSet::Ed25519MlDsa65, Box::new(SeededRandom::new(1)));
        let inner = SoftwareProvider::ephemeral(default_backend(), set, Kem::XWing, random).unwrap();
        Arc::new(Self { inner, signed: Mutex::default() })
    }
}

impl SecurityProvider for SteadySigner {
    fn identity(&self) -> &PublicIdentity {
        self.inner.identity()
    }

    fn execute(&self, request: ProviderRequest) -> Result<ProviderResponse, ProviderFailure> {
        let ProviderRequest::Sign(structure) = request else { return self.inner.execute(request) };
        let message: Vec<u8> =
            structure.set().halves().iter().flat_map(|half| structure.message(*half)).collect();
        let mut signed = self.signed.lock().unwrap();
        if let Some(signature) = signed.get(&message) {
            return Ok(ProviderResponse::Signature(signature.clone()));
        }
        let response = self.inner.execute(ProviderRequest::Sign(structure))?;
        let ProviderResponse::Signature(signature) = &response else { panic!("no signature") };
        signed.insert(message, signature.clone());
        Ok(response)
    }

    fn seal(&self, purpose: &str, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        self.inner.seal(purpose, plaintext)
    }

    fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        self.inner.unseal(purpose, sealed)
    }

    fn storage_key(&self, purpose: &str) -> Result<Secret<32>, SealError> {
        self.inner.storage_key(purpose)
    }

    fn counter(&self) -> Result<u64, AnchorError> {
        self.inner.counter()
    }

    fn increment_counter(&self) -> Result<u64, AnchorError> {
        self.inner.increment_counter()
    }

    fn commit_record(&self) -> Result<CommitRecord, AnchorError> {
        self.inner.commit_record()
    }

    fn write_commit_record(&self, record: CommitRecord) -> Result<(), AnchorError> {
        self.inner.write_commit_record(record)
    }

    fn attest(&self, nonce: &[u8; 32]) -> Result<Vec<u8>, AnchorError> {
        self.inner.attest(nonce)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn signer_class(&self) -> SignerClass {
        self.inner.signer_class()
    }
}
