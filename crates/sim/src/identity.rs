//! The keys of a peer, in its own hands or a thief's: they sign and seal what an honest endpoint never would.

use std::sync::Arc;

use pqc_iiot_core::codec::signed::{ContextItem, SigStructure, SignedObject, ToBeSigned, signer_fingerprint};
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kdf::sha256;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::crypto::labels;
use pqc_iiot_core::crypto::suite::{Kem, SessionSuite, SignatureSet};
use pqc_iiot_core::envelope::{Body, PendingSeal, Recipient, Sender};
use pqc_iiot_core::identity::announcement::{KeyAnnouncement, PublishedBy, assemble_announcement};
use pqc_iiot_core::identity::keys::PublicIdentity;
use pqc_iiot_core::identity::request::CertificateRequest;
use pqc_iiot_core::ids::{Fingerprint, KeyId, PeerId, StreamId};
use pqc_iiot_core::provider::{PrekeyId, ProviderRequest, ProviderResponse};
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::{SecurityProvider, SoftwareProvider};

/// Private keys, a name, and perhaps a certificate. A clone is a stolen copy.
#[derive(Clone)]
pub struct Identity {
    /// The name it goes by.
    pub peer: PeerId,
    /// Its certificate, if it has one.
    pub certificate: Vec<u8>,
    backend: Backend,
    provider: Arc<SoftwareProvider>,
}

/// What to seal, with every field that an honest sender would not choose.
#[derive(Clone)]
pub struct SealSpec {
    /// The recipient's lookup key.
    pub recipient: KeyId,
    /// The prekey's name as the packet states it.
    pub prekey: PrekeyId,
    /// The key encapsulated to.
    pub encapsulation_key: Vec<u8>,
    /// The suite.
    pub suite: SessionSuite,
    /// The topic bound into key and signature.
    pub topic: String,
    /// The stream.
    pub stream: StreamId,
    /// The sequence.
    pub sequence: u64,
    /// What it seals.
    pub body: Body,
}

impl Identity {
    /// Fresh keys without a certificate.
    pub fn generate(backend: Backend, peer: PeerId, set: SignatureSet, kem: Kem, seed: u64) -> Self {
        let random = Box::new(SeededRandom::new(seed));
        let provider = SoftwareProvider::ephemeral(backend, set, kem, random).expect("fresh keys are valid");
        Self { peer, certificate: Vec::new(), backend, provider: Arc::new(provider) }
    }

    /// The provider that holds the keys.
    pub fn provider(&self) -> &Arc<SoftwareProvider> {
        &self.provider
    }

    /// The public keys.
    pub fn public(&self) -> PublicIdentity {
        let keys = self.provider.identity();
        PublicIdentity {
            set: keys.set,
            signing_key: keys.signing_key.clone(),
            kem: keys.kem,
            encapsulation_key: keys.encapsulation_key.clone(),
        }
    }

    /// The signing key's fingerprint.
    pub fn signer(&self) -> Fingerprint {
        let keys = self.public();
        signer_fingerprint(keys.set, &keys.signing_key)
    }

    /// Signs any structure.
    pub fn sign_structure(&self, structure: &SigStructure) -> Vec<u8> {
        match self.provider.execute(ProviderRequest::Sign(structure.clone())) {
            Ok(ProviderResponse::Signature(signature)) => signature,
            _ => panic!("the provider did not sign"),
        }
    }

    /// Signs any object with any context.
    pub fn sign<T: SignedObject>(&self, object: &T, context: &T::Context<'_>) -> Vec<u8> {
        let framed = ToBeSigned::new(object, self.public().set, self.signer(), context);
        let signature = self.sign_structure(framed.structure());
        framed.assemble(&signature).expect("a signature of the set's length")
    }

    /// A request for a certificate over these keys.
    pub fn request(&self) -> Vec<u8> {
        self.sign(&CertificateRequest { subject: self.peer.clone(), keys: self.public() }, &())
    }

    /// An announcement of `certificate` in the name of `peer` on `topic`, signed by these keys.
    pub fn announcement(&self, certificate: &[u8], key_epoch: u64, peer: &PeerId, topic: &str) -> Vec<u8> {
        let announcement = KeyAnnouncement::new(certificate, key_epoch, self.public().key_id());
        assemble_announcement(certificate, &self.sign(&announcement, &PublishedBy { peer, topic }))
    }

    /// Seals and signs `spec` as this identity.
    pub fn seal(&self, spec: &SealSpec) -> Vec<u8> {
        let keys = self.public();
        let sender = Sender {
            id: self.peer.clone(),
            fingerprint: keys.fingerprint(),
            set: keys.set,
            signer: self.signer(),
        };
        let key = EncapsulationKey::parse(self.backend, spec.suite.kem(), &spec.encapsulation_key)
            .expect("a valid encapsulation key");
        let recipient = Recipient {
            key_id: spec.recipient,
            prekey: spec.prekey,
            encapsulation_key: &key,
            suite: spec.suite,
        };
        let mut random = SeededRandom::new(spec.sequence);
        let sealed = PendingSeal::new(
            self.backend,
            &mut random,
            &sender,
            &recipient,
            &spec.topic,
            spec.stream,
            spec.sequence,
            &spec.body,
        )
        .expect("sealable");
        let signature = self.sign_structure(sealed.structure());
        sealed.finish(&signature).expect("a signature of the set's length")
    }

    /// Signs any blob as an envelope of this identity's on `topic`, whoever sealed it.
    pub fn sign_blob(&self, topic: &str, blob: &[u8]) -> Vec<u8> {
        let digest = sha256(&[blob]);
        let context =
            [ContextItem::Text(self.peer.as_str()), ContextItem::Text(topic), ContextItem::Bytes(&digest)];
        let structure =
            SigStructure::new(self.public().set, self.signer(), labels::ENVELOPE, &context, Vec::new());
        let id = self.peer.as_str().as_bytes();
        let length = u8::try_from(id.len()).expect("at most 128");
        [&[length], id, blob, &self.sign_structure(&structure)].concat()
    }
}
