//! The attackers: MQTT clients of their own, with no more power than anyone who reaches the broker.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pqc_iiot_core::codec::signed::Unverified;
use pqc_iiot_core::control::revocation::{RevocationEntry, RevocationIssuer, RevocationReason};
use pqc_iiot_core::endpoint::ControlTopics;
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::session::Header;
use pqc_iiot_mqtt::transport::{Event, Outbound, Qos, Transport, TransportOptions};

use crate::error::{CliError, ErrorKind, Result};
use crate::unlock::random;

use super::client::{Device, wait_until};
use super::fleet::Fleet;
use super::forger::Forger;
use super::gateway::InboxHandle;
use super::report::{Expectation, Revocation};
use super::thief::Packet;
use super::topics::{self, Kind};

/// How many packets the attacker keeps and sends again.
const REPLAYED: usize = 32;
/// Forgeries of each kind.
const FORGED: u64 = 8;
/// Messages of the stolen device before and after its revocation.
const STOLEN: u64 = 8;

/// How many packets around the copied session are kept.
const WATCHED_AT_MOST: usize = 20_000;

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
    /// Of the device whose session is copied, and what goes to the gateway beside messages.
    watched: Vec<Packet>,
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
    let gateway = fleet.gateway();
    let own = [topics.prekeys(gateway), topics.control(gateway)];
    for filter in ["plant/#".to_owned(), "workshop/#".to_owned()].into_iter().chain(own) {
        let subscribed =
            tokio::time::timeout(super::PATIENCE, transport.subscribe(filter, Qos::AtLeastOnce)).await;
        subscribed.map_err(failed)?.map_err(failed)?;
    }
    let (id, provider, certificate) = fleet.stolen_keys()?;
    let stolen = Forger::new(id, provider, certificate);
    let rogue = Forger::self_issued(fleet.devices().first().ok_or_else(|| failed("no device"))?)?;
    Ok(Attackers { transport, heard, topics, stolen, rogue })
}

pub(super) fn failed(error: impl std::fmt::Display) -> CliError {
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
        } else if topic.contains("/control/") || matches!(Kind::of(topic), Kind::Watched) {
            if self.watched.len() < WATCHED_AT_MOST {
                self.watched.push((topic.to_owned(), payload.to_vec()));
            }
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
        let topic = topics::telemetry(name)?;
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
        let notes = topics::notes(device.id())?;
        // Nobody who could open it listens there, so that no receipt comes either.
        let mut note = device.queue(&notes, stream, Content::telemetry("a note for the workshop")).await?;
        note.accepted().await.map_err(super::client::publish_failed)?;
        wait_until("the attacker to overhear a note", super::PATIENCE, || lock(&self.heard).notes.is_some())
            .await?;
        let packet = lock(&self.heard).notes.clone().unwrap_or_default();
        self.send(topics::telemetry(device.id())?.as_str(), packet).await?;
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
        let (id, stream) = (self.stolen.id().clone(), StreamId::default());
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

    /// What was overheard of the device whose session is copied, and of what the gateway is told beside messages.
    pub(super) fn of_watched(&self) -> Vec<Packet> {
        lock(&self.heard).watched.clone()
    }

    /// How many of those packets are such records.
    pub(super) fn heard(&self, such: impl Fn(&Header) -> bool) -> u64 {
        let heard = lock(&self.heard);
        let of_device = heard.watched.iter().filter(|(topic, _)| matches!(Kind::of(topic), Kind::Watched));
        of_device.filter_map(|(_, record)| Header::parse(record)).filter(|header| such(header)).count() as u64
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
        for peer in fleet.everybody().chain([self.stolen.id()]) {
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
