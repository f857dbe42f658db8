//! Whoever holds keys and a certificate of some kind, and writes what it likes.

use pqc_iiot_core::codec::signed::{SignedObject, ToBeSigned, Unverified, signer_fingerprint};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::crypto::suite::{Kem, SessionSuite, SignatureSet};
use pqc_iiot_core::envelope::{Content, PendingSeal, Recipient, Sender};
use pqc_iiot_core::identity::announcement::{KeyAnnouncement, PublishedBy, assemble_announcement};
use pqc_iiot_core::identity::certificate::{OperationalCertificate, Serial, Tier};
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::provider::{ProviderRequest, ProviderResponse};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::software::SoftwareProvider;

use crate::error::Result;
use crate::unlock::random;

use super::attackers::failed;

/// Keys, and a certificate for them that need not be worth anything.
pub(super) struct Forger {
    id: PeerId,
    provider: SoftwareProvider,
    certificate: Vec<u8>,
}

impl Forger {
    pub(super) fn new(id: PeerId, provider: SoftwareProvider, certificate: Vec<u8>) -> Self {
        Self { id, provider, certificate }
    }

    pub(super) fn id(&self) -> &PeerId {
        &self.id
    }

    /// Keys under someone else's name, and a certificate that they signed themselves.
    pub(super) fn self_issued(name: &PeerId) -> Result<Self> {
        let set = SignatureSet::Ed25519MlDsa65;
        let provider = SoftwareProvider::ephemeral(default_backend(), set, Kem::XWing, Box::new(random()?))
            .map_err(failed)?;
        let now = crate::time::now();
        let keys = provider.identity().clone();
        let certificate = OperationalCertificate {
            issuer: signer_fingerprint(set, &keys.signing_key),
            subject: name.clone(),
            serial: Serial([7; 16]),
            not_before: UnixTime(now.0 - 60),
            not_after: UnixTime(now.0 + 3600),
            keys,
            key_epoch: 1_000,
            tier: Tier::Device,
            suites: vec![SessionSuite::Hybrid],
            prekey_required: true,
            grants: vec![Grant::new(Action::Publish, TopicFilter::new("#").map_err(failed)?)],
        };
        let mut rogue = Self { id: name.clone(), provider, certificate: Vec::new() };
        rogue.certificate = rogue.sign(&certificate, &())?;
        Ok(rogue)
    }

    fn sign<T: SignedObject>(&self, object: &T, context: &T::Context<'_>) -> Result<Vec<u8>> {
        let keys = self.provider.identity();
        let signer = signer_fingerprint(keys.set, &keys.signing_key);
        let framed = ToBeSigned::new(object, keys.set, signer, context);
        match self.provider.execute(ProviderRequest::Sign(framed.structure().clone())) {
            Ok(ProviderResponse::Signature(signature)) => {
                framed.assemble(&signature).ok_or_else(|| failed("signature length"))
            }
            _ => Err(failed("the provider did not sign")),
        }
    }

    pub(super) fn announcement(&self, topic: &str) -> Result<Vec<u8>> {
        let certificate =
            Unverified::<OperationalCertificate>::decode(&self.certificate, 65_536).map_err(failed)?;
        let claims = certificate.unverified();
        let announcement = KeyAnnouncement::new(&self.certificate, claims.key_epoch, claims.key_id());
        let signed = self.sign(&announcement, &PublishedBy { peer: &self.id, topic })?;
        Ok(assemble_announcement(&self.certificate, &signed))
    }

    pub(super) fn envelope(
        &self,
        to: &PrekeyBundle,
        topic: &str,
        stream: StreamId,
        sequence: u64,
    ) -> Result<Vec<u8>> {
        let keys = self.provider.identity();
        let sender = Sender {
            id: self.id.clone(),
            fingerprint: keys.fingerprint(),
            set: keys.set,
            signer: signer_fingerprint(keys.set, &keys.signing_key),
        };
        let backend = default_backend();
        let key = EncapsulationKey::parse(backend, to.kem, &to.encapsulation_key).map_err(failed)?;
        let recipient = Recipient {
            key_id: to.identity.key_id(),
            prekey: to.prekey_id,
            encapsulation_key: &key,
            suite: SessionSuite::Hybrid,
        };
        let content = Content::telemetry("forged");
        let sealed = PendingSeal::new(
            backend,
            &mut random()?,
            &sender,
            &recipient,
            topic,
            stream,
            sequence,
            &content.into(),
        )
        .map_err(failed)?;
        match self.provider.execute(ProviderRequest::Sign(sealed.structure().clone())) {
            Ok(ProviderResponse::Signature(signature)) => {
                sealed.finish(&signature).ok_or_else(|| failed("signature length"))
            }
            _ => Err(failed("the provider did not sign")),
        }
    }
}
