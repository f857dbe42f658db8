//! Attacks through real brokers: secure clients on one side, a plain MQTT client without any limits on the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::suite::SignatureSet;
use pqc_iiot_core::endpoint::{Event, RefusalReason};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::{Topic, TopicFilter};
use pqc_iiot_mqtt::broker::EmbeddedBroker;
use pqc_iiot_mqtt::client::Storage;
use pqc_iiot_mqtt::testing::Mosquitto;
use pqc_iiot_mqtt::transport::{self, Outbound, ProtocolVersion, Transport, TransportOptions};
use pqc_iiot_mqtt::{ClientConfig, ClientEvent, Events, SecureMqttClient};
use pqc_iiot_provider::audit::{AuditOptions, ChainedAuditLogger};
use pqc_iiot_provider::store::MemoryStore;
use pqc_iiot_sim::{EPOCH, Identity, NodeOptions, SimAuthority};
use pqc_iiot_tests::{TOPIC, everything, id};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
const NINE_YEARS: Duration = Duration::from_secs(9 * 365 * 24 * 3_600);

struct Fleet {
    authority: SimAuthority,
    url: String,
    version: ProtocolVersion,
    directory: tempfile::TempDir,
}

struct Member {
    client: SecureMqttClient,
    events: Events,
    connections: u32,
}

impl Fleet {
    fn new(url: String, version: ProtocolVersion) -> Self {
        let authority = SimAuthority::new(default_backend(), SignatureSet::Ed25519MlDsa65, 7);
        Self { authority, url, version, directory: tempfile::tempdir().unwrap() }
    }

    fn transport(&self, name: &str) -> TransportOptions {
        let mut options = TransportOptions::new(self.url.parse().unwrap(), name);
        options.version = self.version;
        options
    }

    /// Certifies a member and connects it to the broker, subscribed below `plant/`.
    async fn join(&mut self, name: &str, seed: u64) -> Member {
        let options = NodeOptions::new(name, &everything()).valid_until(EPOCH.plus(NINE_YEARS));
        let kem = options.suites[0].kem();
        let identity = Identity::generate(default_backend(), id(name), options.set, kem, seed);
        let certificate = self.authority.issue(&identity.request(), &options.parameters()).unwrap();
        let provider = identity.provider().clone();
        let log = self.directory.path().join(name);
        let audit = ChainedAuditLogger::new_signed(&log, provider.clone(), id(name), AuditOptions::default())
            .unwrap();
        let anchors = self.authority.anchors().to_vec();
        let config = ClientConfig::new(&*provider, certificate, anchors, self.transport(name)).unwrap();
        let storage = Storage { store: Box::new(MemoryStore::new()), audit, directory: None };
        let (client, events) = SecureMqttClient::new_with_provider(provider, storage, config).await.unwrap();
        client.subscribe(&TopicFilter::new("plant/#").unwrap()).await.unwrap();
        Member { client, events, connections: 0 }
    }

    /// A client without our limits leaves something behind.
    async fn retain(&self, topic: &str, size: usize) {
        let mut options = self.transport("attacker");
        options.max_packet = 20 << 20;
        let (attacker, mut network) = Transport::connect(options).unwrap();
        let drained = tokio::spawn(async move { while network.recv().await.is_some() {} });
        let mut message = Outbound::new(topic, vec![0x30; size]);
        message.retain = true;
        attacker.publish(message).await.unwrap().await.unwrap();
        attacker.close(Duration::from_secs(2)).await;
        drained.abort();
    }
}

impl Member {
    async fn next(&mut self) -> Event {
        loop {
            match tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time") {
                Some(ClientEvent::Protocol(event)) => return event,
                Some(ClientEvent::Connected { .. }) => self.connections += 1,
                Some(_) => {}
                None => panic!("the client has closed"),
            }
        }
    }

    async fn ready(&mut self, peer: &PeerId) {
        while !matches!(self.next().await, Event::PeerReady { peer: ready, .. } if ready == *peer) {}
    }

    async fn message(&mut self) -> Content {
        loop {
            if let Event::Message(message) = self.next().await {
                return message.content;
            }
        }
    }

    async fn hears(&mut self, text: &str) {
        assert_eq!(self.message().await.payload, text.as_bytes());
    }

    async fn says(&self, to: &str, text: &str) {
        let topic = Topic::new(TOPIC).unwrap();
        self.client.publish_encrypted(&topic, &id(to), Content::telemetry(text)).await.unwrap();
    }

    async fn refused(&self, reason: RefusalReason) -> u64 {
        let status = self.client.status().await.unwrap();
        status.endpoint.refused.iter().find(|(why, _)| *why == reason).map_or(0, |(_, count)| *count)
    }
}

async fn introduce(a: &mut Member, b: &mut Member) {
    let (first, second) = (a.client.peer_id().clone(), b.client.peer_id().clone());
    a.client.add_peer(second.clone()).await.unwrap();
    b.client.add_peer(first.clone()).await.unwrap();
    a.ready(&second).await;
    b.ready(&first).await;
}

/// Retained giants at every kind of topic, before and while a fleet works.
async fn giants(url: String, version: ProtocolVersion) {
    let mut fleet = Fleet::new(url, version);
    let mut gateway = fleet.join("gateway", 1).await;
    let mut press = fleet.join("press", 2).await;
    introduce(&mut gateway, &mut press).await;
    press.says("gateway", "before").await;
    gateway.hears("before").await;

    for (topic, size) in [
        ("plant/giant", 16 * MIB),
        ("pqc/keys/press", MIB),
        ("pqc/prekeys/press", 16 * MIB),
        ("pqc/revocations/v1", MIB),
        ("pqc/revocations/checkpoint/v1", 16 * MIB),
        ("pqc/anchors/v1", MIB),
    ] {
        fleet.retain(topic, size).await;
    }
    for n in 0..20 {
        press.says("gateway", &n.to_string()).await;
        gateway.hears(&n.to_string()).await;
        gateway.says("press", &n.to_string()).await;
        press.hears(&n.to_string()).await;
    }
    // A newcomer meets them all at once, retained, and works.
    let mut lathe = fleet.join("lathe", 3).await;
    introduce(&mut gateway, &mut lathe).await;
    lathe.says("gateway", "new").await;
    gateway.hears("new").await;

    for member in [&gateway, &press, &lathe] {
        assert!(member.connections <= 1, "disconnected by an oversized message");
        if version == ProtocolVersion::V311 {
            // The broker cannot know the limit, so each was met here, and counted.
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while member.refused(RefusalReason::Oversized).await < 4 {
                assert!(tokio::time::Instant::now() < deadline, "not counted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        member.client.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_03_retained_giants_through_mosquitto() {
    for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
        let broker = Mosquitto::start(&[]);
        giants(broker.url(), version).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_03_retained_giants_through_the_embedded_broker() {
    for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
        let broker = EmbeddedBroker::start(None).unwrap();
        let address = if version == ProtocolVersion::V5 { broker.v5() } else { broker.v311() };
        giants(format!("mqtt://{address}"), version).await;
    }
}

/// What goes over a real wire comes back changed, doubled and at other topics: none of it is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_rerouted_and_flipped_packets_through_mosquitto() {
    let broker = Mosquitto::start(&[]);
    let mut fleet = Fleet::new(broker.url(), ProtocolVersion::V5);
    let mut gateway = fleet.join("gateway", 1).await;
    let mut press = fleet.join("press", 2).await;
    introduce(&mut gateway, &mut press).await;

    let (attacker, mut network) = Transport::connect(fleet.transport("attacker")).unwrap();
    attacker.subscribe(TOPIC, transport::Qos::AtLeastOnce).await.unwrap();
    press.says("gateway", "81.5").await;
    gateway.hears("81.5").await;
    let packet = loop {
        match network.recv().await.unwrap() {
            transport::Event::Message(message) => break message.payload.to_vec(),
            _ => continue,
        }
    };
    let flipped = pqc_iiot_tests::flipped(&packet, packet.len() - 1);
    for (topic, payload) in [(TOPIC, packet.clone()), ("plant/other", packet), (TOPIC, flipped)] {
        attacker.publish(Outbound::new(topic, payload)).await.unwrap().await.unwrap();
    }
    press.says("gateway", "honest").await;
    gateway.hears("honest").await;
    // All three repeat a sequence that was accepted, and the cheapest check comes first.
    assert_eq!(gateway.refused(RefusalReason::Replayed).await, 3);
    gateway.client.shutdown().await;
    press.client.shutdown().await;
}

/// Whoever republishes a genuine packet chooses its MQTT 5 properties; what was sealed is what arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_35_properties_tampered_with_through_mosquitto() {
    let broker = Mosquitto::start(&[]);
    let mut fleet = Fleet::new(broker.url(), ProtocolVersion::V5);
    let mut gateway = fleet.join("gateway", 1).await;
    let mut press = fleet.join("press", 2).await;
    introduce(&mut gateway, &mut press).await;
    let (attacker, mut network) = Transport::connect(fleet.transport("attacker")).unwrap();
    attacker.subscribe(TOPIC, transport::Qos::AtLeastOnce).await.unwrap();

    let in_an_hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600;
    let sealed = Content {
        content_type: Some("application/cbor".into()),
        response_topic: Some("plant/answers".into()),
        correlation_data: Some(b"42".to_vec()),
        expires: Some(UnixTime(in_an_hour)),
        ..Content::telemetry("81.5")
    };
    let tampered = transport::Properties {
        response_topic: Some("attacker/answers".into()),
        correlation_data: Some("666".into()),
        content_type: Some("text/html".into()),
        message_expiry_secs: Some(9),
    };
    let (topic, filter) = (Topic::new(TOPIC).unwrap(), TopicFilter::new("plant/#").unwrap());
    for (content, properties) in [
        (sealed.clone(), tampered.clone()),
        (sealed, transport::Properties::default()),
        (Content::telemetry("82.5"), tampered),
    ] {
        // Only the attacker hears the genuine packet, so that what the gateway hears is the attacker's copy.
        gateway.client.unsubscribe(&filter).await;
        press.client.publish_encrypted(&topic, &id("gateway"), content.clone()).await.unwrap();
        let (packet, clear) = overheard(&attacker, &mut network).await;
        assert_eq!(clear, transport::Properties::default(), "nothing travels in the clear");
        gateway.client.subscribe(&filter).await.unwrap();
        let forged = Outbound { properties: properties.clone(), ..Outbound::new(TOPIC, packet) };
        attacker.publish(forged).await.unwrap().await.unwrap();
        let (_, relayed) = overheard(&attacker, &mut network).await;
        assert_eq!(relayed.response_topic, properties.response_topic, "the broker relays what was forged");
        assert_eq!(gateway.message().await, content);
    }
    gateway.client.shutdown().await;
    press.client.shutdown().await;
}

/// The next packet that the attacker hears, and its properties.
async fn overheard(
    attacker: &Transport,
    network: &mut transport::Events,
) -> (Vec<u8>, transport::Properties) {
    loop {
        let event = tokio::time::timeout(PATIENCE, network.recv()).await.expect("a message in time");
        if let transport::Event::Message(message) = event.unwrap() {
            attacker.acknowledge(message.token);
            return (message.payload.to_vec(), message.properties);
        }
    }
}
