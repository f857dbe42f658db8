//! The secure client among hostile packets: it stays connected, says why it refuses, and honest messages arrive once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::plant::{Attacker, Plant, flows, peer};
use common::{BOTH, Broker};
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::envelope::Packet;
use pqc_iiot_core::ids::KeyId;
use pqc_iiot_mqtt::transport::ProtocolVersion;

const MIB: usize = 1 << 20;

/// Retains 1 MiB and then 16 MiB at every topic that the clients follow, around honest traffic.
async fn giants(broker: &Broker, version: ProtocolVersion) {
    let plant = Plant::new();
    let attacker = Attacker::new(broker, version).await;
    let topics = plant.subscribed(&["press", "gateway"]);
    let (small, large) = (Bytes::from(vec![0x30; MIB]), Bytes::from(vec![0x30; 16 * MIB]));
    // Before anybody connects: the clients meet them as retained messages.
    for topic in &topics {
        attacker.retain(topic, small.clone()).await;
    }
    let (mut gateway, mut press) = plant.pair(broker, version).await;
    flows(&plant, &press, &mut gateway, "up among giants", 5).await;
    flows(&plant, &gateway, &mut press, "down among giants", 5).await;

    // While they work: the keys and prekeys that were retained honestly are overwritten.
    for topic in &topics {
        attacker.retain(topic, large.clone()).await;
    }
    flows(&plant, &press, &mut gateway, "up after giants", 5).await;
    flows(&plant, &gateway, &mut press, "down after giants", 5).await;

    // A client that starts again meets them all, and goes on with what it knows.
    for member in [&gateway, &press] {
        assert_eq!((member.told.connections, member.told.disconnections), (1, 0), "{version:?}");
    }
    gateway.shutdown().await;
    let mut gateway = plant.open("gateway", &["press"], broker, version).await;
    gateway.until("the press is ready", |told| told.ready.contains("press")).await;
    flows(&plant, &press, &mut gateway, "up again", 5).await;
    flows(&plant, &gateway, &mut press, "down again", 5).await;
    assert_eq!((gateway.told.connections, gateway.told.disconnections), (1, 0), "{version:?}");
    assert_eq!((press.told.connections, press.told.disconnections), (1, 0), "{version:?}");
    if version == ProtocolVersion::V311 || matches!(broker, Broker::Embedded(_)) {
        // The broker delivers what it was not told to hold back: all of it was discarded, counted and told.
        assert!(press.refused(RefusalReason::Oversized).await >= topics.len() as u64 - 2);
    }
    for topic in &topics {
        attacker.retain(topic, Bytes::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_giants_at_every_topic_through_mosquitto() {
    let broker = Broker::mosquitto(&[]);
    for version in BOTH {
        giants(&broker, version).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_giants_at_every_topic_through_rumqttd() {
    let broker = Broker::embedded();
    for version in BOTH {
        giants(&broker, version).await;
    }
}

/// A copy with one byte replaced.
fn with(packet: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut copy = packet.to_vec();
    copy[at] = byte;
    copy
}

async fn junk(broker: &Broker, version: ProtocolVersion) {
    use RefusalReason as Why;

    let plant = Plant::new();
    let mut attacker = Attacker::new(broker, version).await;
    attacker.listen(&plant.everything()).await;
    // What is not authentic in a session is told apart in `tests/attacks`.
    let (mut gateway, mut press) = plant.pair_with_envelopes(broker, version).await;
    flows(&plant, &press, &mut gateway, "before", 1).await;
    let (topic, packet) = attacker.overhear(1).await.remove(0);
    assert_eq!(Packet::parse(&packet).unwrap().sender(), "press");

    // The packet is: length of the sender's id, the id, version, suite, recipient, …, ciphertexts, signature.
    let (id, end) = (1 + "press".len(), packet.len() - 1);
    let other = plant.topic("elsewhere").as_str().to_owned();
    let stranger = [&[8u8][..], b"stranger", &packet[id..]].concat();
    let reflected = [&[7u8][..], b"gateway", &packet[id..]].concat();
    let unseen = with(&packet, id + 2 + KeyId::LEN + 4 + 1 + 7, 99);
    let control = plant.control();
    let press_id = peer("press");
    let cases: Vec<(&str, String, Vec<u8>, RefusalReason)> = vec![
        ("nothing", topic.clone(), Vec::new(), Why::Malformed),
        ("cut inside the id", topic.clone(), packet[..3].to_vec(), Why::Malformed),
        ("cut inside the header", topic.clone(), packet[..id + 20].to_vec(), Why::Malformed),
        ("kind 0x00", topic.clone(), with(&packet, 0, 0), Why::UnknownKind),
        ("kind 0xff", topic.clone(), with(&packet, 0, 0xff), Why::UnknownKind),
        ("an id with a slash", topic.clone(), with(&packet, 1, b'/'), Why::InvalidPeerId),
        ("version 2", topic.clone(), with(&packet, id, 2), Why::UnknownVersion),
        ("suite 0", topic.clone(), with(&packet, id + 1, 0), Why::UnknownSuite),
        ("suite 99", topic.clone(), with(&packet, id + 1, 99), Why::UnknownSuite),
        ("another recipient", topic.clone(), with(&packet, id + 2, !packet[id + 2]), Why::WrongRecipient),
        ("stream 200", topic.clone(), with(&packet, id + 2 + KeyId::LEN + 4, 200), Why::Malformed),
        ("a stranger", topic.clone(), stranger, Why::UnknownPeer),
        ("reflected", topic.clone(), reflected, Why::Reflected),
        ("seen", topic.clone(), packet.to_vec(), Why::Replayed),
        ("another sequence", topic.clone(), unseen.clone(), Why::BadSignature),
        ("cut before the signature", topic.clone(), unseen[..end - 3000].to_vec(), Why::Malformed),
        ("cut by a byte", topic.clone(), unseen[..end].to_vec(), Why::BadSignature),
        ("another topic", other, unseen, Why::BadSignature),
        ("an announcement of nothing", control.keys(&press_id), Vec::new(), Why::Malformed),
        ("an announcement of noise", control.keys(&press_id), vec![0xd2; 4000], Why::Malformed),
        ("a message as an announcement", control.keys(&press_id), packet.to_vec(), Why::Malformed),
        ("an announcement over its limit", control.keys(&press_id), vec![0; 65 * 1024], Why::Oversized),
        ("a bundle of noise", control.prekeys(&press_id), vec![0xd2; 4000], Why::Malformed),
        ("a bundle over its limit", control.prekeys(&press_id), vec![0; 17 * 1024], Why::Oversized),
        ("anchors of noise", control.anchors(), vec![0x84; 4000], Why::BadAnchors),
        ("anchors over their limit", control.anchors(), vec![0; 65 * 1024], Why::Oversized),
        ("a revocation of noise", control.revocations(), vec![0xd2; 4000], Why::Malformed),
        ("a revocation over its limit", control.revocations(), vec![0; 65 * 1024], Why::Oversized),
        ("a manifest of noise", control.checkpoint(), vec![0xd2; 4000], Why::Malformed),
        ("a manifest over its limit", control.checkpoint(), vec![0; 65 * 1024], Why::Oversized),
        ("a chunk over its limit", control.checkpoint_chunk(0), vec![0; 65 * 1024], Why::Oversized),
        ("a message over its limit", topic.clone(), vec![5; 257 * 1024], Why::Oversized),
    ];
    for (what, topic, payload, reason) in cases {
        let before = gateway.refused(reason).await;
        attacker.send(&topic, payload).await;
        let told = gateway.told.count(reason);
        gateway.until(what, |now| now.count(reason) > told).await;
        assert_eq!(gateway.refused(reason).await, before + 1, "{what}");
    }

    flows(&plant, &press, &mut gateway, "after", 3).await;
    flows(&plant, &gateway, &mut press, "after", 3).await;
    for member in [&gateway, &press] {
        assert_eq!((member.told.connections, member.told.disconnections), (1, 0), "{version:?}");
    }
    assert_eq!(gateway.told.messages.len(), 4);
    // A receipt may be in hand at this moment.
    while gateway.client.status().await.unwrap().unacknowledged > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn junk_at_every_topic_is_refused_by_reason_and_harms_nothing() {
    for broker in Broker::both() {
        for version in BOTH {
            junk(&broker, version).await;
        }
    }
}

#[tokio::test]
async fn a_stranger_is_never_trusted() {
    let broker = Broker::mosquitto(&[]);
    for version in BOTH {
        let plant = Plant::new();
        // Valid certificates, of an authority that nobody here pinned, under an honest name.
        let rogues = Plant::rogue(&plant);
        let mut gateway = plant.open("gateway", &["press"], &broker, version).await;
        let mut rogue = rogues.open("press", &["gateway"], &broker, version).await;
        gateway.until("the rogue is refused", |told| told.count(RefusalReason::BadCertificate) > 0).await;
        rogue.until("the gateway is refused", |told| told.count(RefusalReason::BadCertificate) > 0).await;
        let topic = plant.topic("press/state");
        gateway.publish(&topic, "press", "secret").await.unwrap();
        assert_eq!(gateway.client.status().await.unwrap().endpoint.outbox.messages, 1, "it waits, unsent");
        gateway.settle(Duration::from_millis(50)).await;
        assert!(gateway.told.ready.is_empty() && gateway.told.messages.is_empty());
        rogue.shutdown().await;

        // The honest press is welcome all the same.
        let mut press = plant.try_open("press", plant.transport("honest", &broker, version)).await.unwrap();
        press.client.add_peer(peer("gateway")).await.unwrap();
        press.client.subscribe(&plant.everything()).await.unwrap();
        gateway.until("the press is ready", |told| told.ready.contains("press")).await;
        press.until("the gateway is ready", |told| told.ready.contains("gateway")).await;
        flows(&plant, &press, &mut gateway, "honest", 3).await;
    }
}
