//! The attackers: MQTT clients of their own, with no more power than anyone who reaches the broker.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pqc_iiot_core::codec::signed::{SignedObject, ToBeSigned, Unverified, signer_fingerprint};
use pqc_iiot_core::control::revocation::{RevocationEntry, RevocationIssuer, RevocationReason};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::crypto::suite::{Kem, SessionSuite, SignatureSet};
use pqc_iiot_core::endpoint::ControlTopics;
use pqc_iiot_core::envelope::{Content, PendingSeal, Recipient, Sender};
use pqc_iiot_core::identity::announcement::{KeyAnnouncement, PublishedBy, assemble_announcement};
use pqc_iiot_core::identity::certificate::{OperationalCertificate, Serial, Tier};
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::provider::{ProviderRequest, ProviderResponse};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_mqtt::transport::{Event, Outbound, Qos, Transport, TransportOptions};
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::software::SoftwareProvider;

use crate::error::{CliError, ErrorKind, Result};
use crate::unlock::random;

use super::client::{Device, wait_until};
use super::fleet::{self, Fleet};
use super::gateway::InboxHandle;
use super::report::{Expectation, Revocation};

/// How many packets the attacker keeps and sends again.
const REPLAYED: usize = 32;
/// Forgeries of each kind.
const FORGED: u64 = 8;
/// Messages of the stolen device before and after its revocation.
const STOLEN: u64 = 8;

/// Everything the attackers hold.
pub(super) struct Attackers {
    transport: Transport,
    heard: Arc<Mutex<Heard>>,
    topics: ControlTopics,
    stolen: Forger,
    rogue: Forger,
}

/// What the attacker overheard, newest last.
#[derive(Default)]
struct Heard {
    telemetry: VecDeque<(String, Vec<u8>)>,
    notes: Option<Vec<u8>>,
    bundle: Option<PrekeyBundle>,
}

/// Keys, and a certificate for them that need not be worth anything.
struct Forger {
    id: PeerId,
    provider: SoftwareProvider,
    certificate: Vec<u8>,
}

pub(super) async fn start(fleet: &Fleet, options: &TransportOptions) -> Result<Attackers> {
    let mut options = options.clone();
    options.client_id = format!("mallory-{}", std::process::id());
    options.clean_start = true;
    options.session_expiry_secs = 0;
    options.max_packet = options.max_packet.max(4 * 1024 * 1024);
    let (transport, mut events) = Transport::connect(options).map_err(failed)?;
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let (ears, listener) = (heard.clone(), transport.clone());
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Event::Message(message) = event {
                listener.acknowledge(message.token);
                lock(&ears).hear(&message.topic, &message.payload);
            }
        }
    });
    let topics = fleet.topics();
    for filter in ["plant/#".to_owned(), "workshop/#".to_owned(), topics.prekeys(fleet.gateway())] {
        let subscribed =
            tokio::time::timeout(super::PATIENCE, transport.subscribe(filter, Qos::AtMostOnce)).await;
        subscribed.map_err(failed)?.map_err(failed)?;
    }
    let (id, provider, certificate) = fleet.stolen_keys()?;
    let stolen = Forger { id, provider, certificate };
    let rogue = Forger::self_issued(fleet.devices().first().ok_or_else(|| failed("no device"))?)?;
    Ok(Attackers { transport, heard, topics, stolen, rogue })
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::new(ErrorKind::Failed, "an attacker of the demo could not do its work").because(error)
}

fn lock(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heard {
    fn hear(&mut self, topic: &str, payload: &[u8]) {
        if topic.contains("/prekeys/") {
            self.bundle = Unverified::<PrekeyBundle>::decode(payload, 65_536)
                .ok()
                .map(|bundle| bundle.unverified().clone())
                .or_else(|| self.bundle.take());
        } else if topic.starts_with("workshop/") {
            self.notes = Some(payload.to_vec());
        } else if topic.ends_with("/telemetry") {
            if self.telemetry.len() >= REPLAYED {
                self.telemetry.pop_front();
            }
            self.telemetry.push_back((topic.to_owned(), payload.to_vec()));
        }
    }
}

impl Attackers {
    /// Everything but the stolen device, each aimed at the first device's name.
    pub(super) async fn attack(&self, fleet: &Fleet, devices: &[Device]) -> Result<Vec<Expectation>> {
        let device = devices.first().ok_or_else(|| failed("no device"))?;
        wait_until("the attacker to overhear something", super::PATIENCE, || {
            let heard = lock(&self.heard);
            heard.bundle.is_some() && !heard.telemetry.is_empty()
        })
        .await?;
        // The replay comes first: what is overheard later may be a forgery of our own.
        Ok(vec![
            self.replay().await?,
            self.rogue_announces(device.id()).await?,
            self.rogue_sends(fleet, device.id()).await?,
            self.reroute(device).await?,
            self.oversize(device.id()).await?,
        ])
    }

    /// A device without a certificate announces keys of its own under an honest name.
    async fn rogue_announces(&self, name: &PeerId) -> Result<Expectation> {
        let topic = self.topics.keys(name);
        for _ in 0..FORGED {
            self.send(&topic, self.rogue.announcement(&topic)?).await?;
        }
        Ok(Expectation::at_least(
            &["bad-certificate", "rollback", "collision"],
            FORGED,
            "a rogue without a certificate announces keys",
        ))
    }

    /// The same device sends messages in the honest name.
    async fn rogue_sends(&self, fleet: &Fleet, name: &PeerId) -> Result<Expectation> {
        let topic = fleet::telemetry_topic(name)?;
        for sequence in 0..FORGED {
            // Far ahead, so that nothing cheaper than the signature refuses it.
            let packet =
                self.forge(&self.rogue, fleet, topic.as_str(), StreamId::default(), (1 << 40) + sequence)?;
            self.send(topic.as_str(), packet).await?;
        }
        Ok(Expectation::at_least(&["bad-signature"], FORGED, "the rogue sends in an honest name"))
    }

    /// The broker delivers old packets once more.
    async fn replay(&self) -> Result<Expectation> {
        let packets: Vec<_> = lock(&self.heard).telemetry.iter().cloned().collect();
        let count = packets.len() as u64;
        for (topic, payload) in packets {
            self.send(&topic, payload).await?;
        }
        Ok(Expectation::at_least(&["replayed", "too-old"], count, "the broker replays packets"))
    }

    /// A packet that the gateway has not seen moves to a topic it follows.
    async fn reroute(&self, device: &Device) -> Result<Expectation> {
        let stream = StreamId::new(1).unwrap_or_default();
        let notes = fleet::notes_topic(device.id())?;
        // Nobody who could open it listens there, so that no receipt comes either.
        let mut note = device.queue(&notes, stream, Content::telemetry("a note for the workshop")).await?;
        note.accepted().await.map_err(super::client::publish_failed)?;
        wait_until("the attacker to overhear a note", super::PATIENCE, || lock(&self.heard).notes.is_some())
            .await?;
        let packet = lock(&self.heard).notes.clone().unwrap_or_default();
        self.send(fleet::telemetry_topic(device.id())?.as_str(), packet).await?;
        Ok(Expectation::at_least(
            &["bad-signature", "bad-ciphertext"],
            FORGED + 1,
            "a packet is moved to another topic",
        ))
    }

    /// Announcements over the limit: one that only the protocol refuses, one that already the transport discards.
    async fn oversize(&self, name: &PeerId) -> Result<Expectation> {
        let topic = self.topics.keys(name);
        for size in [128 * 1024, 1024 * 1024] {
            self.send(&topic, vec![0xa5; size]).await?;
        }
        Ok(Expectation::at_least(&["oversized"], 1, "oversized announcements"))
    }

    /// A device works, is revoked, and goes on sending.
    pub(super) async fn revoke(&self, fleet: &Fleet, inbox: &InboxHandle) -> Result<Revocation> {
        let (id, stream) = (self.stolen.id.clone(), StreamId::default());
        let keys = self.topics.keys(&id);
        self.send(&keys, self.stolen.announcement(&keys)?).await?;
        let topic = format!("plant/{id}/state");
        let honest = inbox.counts().from_revoked;
        for sequence in 1..=STOLEN {
            let packet = self.forge(&self.stolen, fleet, &topic, stream, sequence)?;
            self.send(&topic, packet).await?;
        }
        wait_until("the device to be heard before its revocation", super::PATIENCE, || {
            inbox.counts().from_revoked >= honest + STOLEN
        })
        .await?;
        let started = Instant::now();
        for (topic, payload) in revocation(fleet, &id)? {
            let message = Outbound { retain: true, ..Outbound::new(topic, payload) };
            self.deliver(message).await?;
        }
        wait_until("the revocation to take effect", super::PATIENCE, || inbox.lost(&id).is_some()).await?;
        let enforced = inbox.lost(&id).map_or(Duration::MAX, |at| at.saturating_duration_since(started));
        let accepted_before = inbox.counts().from_revoked;
        for sequence in STOLEN + 1..=2 * STOLEN {
            let packet = self.forge(&self.stolen, fleet, &topic, stream, sequence)?;
            self.send(&topic, packet).await?;
        }
        Ok(Revocation { enforced, attempts: STOLEN, accepted_before })
    }

    fn forge(
        &self,
        forger: &Forger,
        fleet: &Fleet,
        topic: &str,
        stream: StreamId,
        sequence: u64,
    ) -> Result<Vec<u8>> {
        let bundle = lock(&self.heard).bundle.clone().ok_or_else(|| failed("no prekey overheard"))?;
        debug_assert!(!fleet.devices().is_empty());
        forger.envelope(&bundle, topic, stream, sequence)
    }

    async fn send(&self, topic: &str, payload: Vec<u8>) -> Result<()> {
        self.deliver(Outbound::new(topic, payload)).await
    }

    async fn deliver(&self, message: Outbound) -> Result<()> {
        self.transport.publish(message).await.map_err(failed)?.await.map_err(failed)
    }

    /// Removes what the run left at the broker, and disconnects.
    pub(super) async fn close(self, fleet: &Fleet) {
        let topics = &self.topics;
        let mut retained = vec![topics.revocations(), topics.checkpoint(), topics.checkpoint_chunk(0)];
        for peer in fleet.devices().iter().chain([fleet.gateway(), &self.stolen.id]) {
            retained.extend([topics.keys(peer), topics.prekeys(peer)]);
        }
        for topic in retained {
            // What cannot be removed expires with the broker's own rules; the run is over.
            let _ = self.deliver(Outbound { retain: true, ..Outbound::new(topic, Vec::new()) }).await;
        }
        self.transport.close(Duration::from_secs(2)).await;
    }
}

/// The authority's update and checkpoint that revoke `peer`, as they are published.
fn revocation(fleet: &Fleet, peer: &PeerId) -> Result<Vec<(String, Vec<u8>)>> {
    let (mut random, topics, now) = (random()?, fleet.topics(), crate::time::now());
    let mut authority = fleet.authority();
    let (issued, _) = authority.mark_revoked(peer).ok_or_else(|| failed("nothing was issued to it"))?;
    let entry = RevocationEntry::new(peer, &issued.key_id, RevocationReason::LOST, issued.not_after);
    let mut issuer = RevocationIssuer::new();
    let update = issuer.revoke(&[entry], now).map_err(failed)?;
    let checkpoint = issuer.checkpoint(now);
    let control = authority.control();
    let mut messages = Vec::new();
    let topic = topics.revocations();
    messages.push((topic.clone(), control.sign(&mut random, &update, &topic.as_str()).map_err(failed)?));
    for (index, chunk) in (0..).zip(checkpoint.chunks) {
        messages.push((topics.checkpoint_chunk(index), chunk));
    }
    let topic = topics.checkpoint();
    messages.push((
        topic.clone(),
        control.sign(&mut random, &checkpoint.manifest, &topic.as_str()).map_err(failed)?,
    ));
    Ok(messages)
}

impl Forger {
    /// Keys under someone else's name, and a certificate that they signed themselves.
    fn self_issued(name: &PeerId) -> Result<Self> {
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

    fn announcement(&self, topic: &str) -> Result<Vec<u8>> {
        let certificate =
            Unverified::<OperationalCertificate>::decode(&self.certificate, 65_536).map_err(failed)?;
        let claims = certificate.unverified();
        let announcement = KeyAnnouncement::new(&self.certificate, claims.key_epoch, claims.key_id());
        let signed = self.sign(&announcement, &PublishedBy { peer: &self.id, topic })?;
        Ok(assemble_announcement(&self.certificate, &signed))
    }

    fn envelope(&self, to: &PrekeyBundle, topic: &str, stream: StreamId, sequence: u64) -> Result<Vec<u8>> {
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
