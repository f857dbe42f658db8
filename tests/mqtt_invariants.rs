//! Messages: invariants I3 (domain separation and topic binding) and I4 (the replay window), clause by clause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pqc_iiot_core::codec::signed::{ContextItem, SigStructure};
use pqc_iiot_core::crypto::kdf::sha256;
use pqc_iiot_core::crypto::labels;
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureSet};
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::replay::WINDOW;
use pqc_iiot_sim::{NodeOptions, SealSpec, World, WorldOptions};
use pqc_iiot_tests::{
    TOPIC, assert_flows, assert_refused, everything, flipped, insider_spec, intercept, plant, populate,
    thief_of,
};

const SIGNATURE: usize = 3373;

#[test]
fn mqtt_signature_binds_topic() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    for elsewhere in ["plant/lathe/temperature", "plant/press", "plant/press/temperature/", "$SYS/x"] {
        assert_refused(&mut world, elsewhere, &packet, RefusalReason::BadSignature);
    }
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"], "the same bytes at their own topic");
}

/// The envelope of the press, with its signature made anew over another context by the press's own key.
fn signed_over(world: &mut World, packet: &[u8], tag: &str, sender: &str, topic: &str) -> Vec<u8> {
    let press = thief_of(world, "press");
    let signed = packet.len() - SIGNATURE;
    let blob = &packet[1 + "press".len()..signed];
    let digest = sha256(&[blob]);
    let context = [ContextItem::Text(sender), ContextItem::Text(topic), ContextItem::Bytes(&digest)];
    let structure = SigStructure::new(press.public().set, press.signer(), tag, &context, Vec::new());
    [&packet[..signed], &press.sign_structure(&structure)].concat()
}

#[test]
fn i3_signature_covers_the_domain_tag() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    for tag in [labels::KEY_ANNOUNCEMENT, labels::AUDIT, "pqc-iiot:mqtt-msg:v2", ""] {
        let other = signed_over(&mut world, &packet, tag, "press", TOPIC);
        assert_refused(&mut world, TOPIC, &other, RefusalReason::BadSignature);
    }
    let right = signed_over(&mut world, &packet, "pqc-iiot:mqtt-msg:v1", "press", TOPIC);
    world.broker.inject(TOPIC, &right);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
}

#[test]
fn i3_signature_covers_the_sender_id() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    let other = signed_over(&mut world, &packet, labels::ENVELOPE, "lathe", TOPIC);
    assert_refused(&mut world, TOPIC, &other, RefusalReason::BadSignature);
    let mut renamed = packet.clone();
    renamed[1..6].copy_from_slice(b"lathe");
    assert_refused(&mut world, TOPIC, &renamed, RefusalReason::BadSignature);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn i3_signature_covers_the_encrypted_blob() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    let blob = 1 + "press".len();
    // Key ids, prekey ids and sequences fail cheaper checks first; from the KEM ciphertext on it is the signature.
    let ciphertext = blob + pqc_iiot_core::envelope::HEADER_LEN;
    for at in
        [ciphertext, ciphertext + 1087, ciphertext + 1119, ciphertext + 1120, packet.len() - SIGNATURE - 1]
    {
        assert_refused(&mut world, TOPIC, &flipped(&packet, at), RefusalReason::BadSignature);
    }
    for at in blob..ciphertext {
        world.broker.inject(TOPIC, &flipped(&packet, at));
    }
    world.settle();
    assert!(world.node("gateway").inbox().is_empty());
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
}

#[test]
fn i3_every_suite_and_signature_set_carries_messages() {
    use {SessionSuite as Suite, SignatureSet as Set};
    for (suite, set) in [
        (Suite::Hybrid, Set::Ed25519MlDsa65),
        (Suite::Cnsa2, Set::MlDsa87),
        (Suite::HybridChaCha, Set::Ed25519MlDsa65),
        (Suite::Hybrid, Set::P256MlDsa65),
    ] {
        for backend in [pqc_iiot_core::crypto::default_backend(), WorldOptions::default().backend] {
            let mut world = World::new(WorldOptions { backend, ..WorldOptions::default() });
            for name in ["gateway", "press"] {
                let options = NodeOptions::new(name, &everything()).suites(&[suite]).set(set);
                world.enrol_with(options);
                world.subscribe(name, "plant/#");
            }
            world.introduce("gateway", "press");
            assert_flows(&mut world, "press", "gateway");
            assert_flows(&mut world, "gateway", "press");
        }
    }
}

/// The press's first messages, at most 48 as no receipt comes, held back by the broker.
fn sequence_of(world: &mut World, count: usize) -> Vec<Vec<u8>> {
    world.broker.withhold(TOPIC);
    for n in 1..=count {
        world.node("press").publish("gateway", TOPIC, format!("{n}"));
    }
    world.settle();
    world.broker.withhold_nothing();
    world.broker.captured_on(TOPIC)
}

/// Messages with sequences 1 to `count` by whoever has the press's keys: more than an honest press has under way.
fn forged_sequence(world: &mut World, count: u64) -> Vec<Vec<u8>> {
    let press = thief_of(world, "press");
    let sealed = |n: u64| press.seal(&insider_spec(world, TOPIC, &n.to_string(), n));
    (1..=count).map(sealed).collect()
}

#[test]
fn mqtt_replay_window_accepts_out_of_order_within_window() {
    let mut world = plant();
    let messages = forged_sequence(&mut world, 64);
    // The newest first: everything else then lies within the window, down to its last place.
    for message in messages.iter().rev() {
        world.broker.inject(TOPIC, message);
    }
    world.settle();
    let expected: Vec<_> = (1..=64).rev().map(|n| n.to_string()).collect();
    assert_eq!(world.node("gateway").received(), expected);
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn i4_accepts_each_sequence_once() {
    let mut world = plant();
    let messages = sequence_of(&mut world, 10);
    for _ in 0..3 {
        for message in &messages {
            world.broker.inject(TOPIC, message);
        }
    }
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.received().len(), 10);
    assert_eq!(gateway.refused(RefusalReason::Replayed), 20);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn i4_a_copy_that_arrives_while_the_first_is_being_opened_costs_no_second_decapsulation() {
    let mut world = plant();
    let messages = sequence_of(&mut world, 1);
    world.node("gateway").hold_provider(true);
    let calls = world.node("gateway").provider_calls();
    for _ in 0..10 {
        world.broker.inject(TOPIC, &messages[0]);
    }
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.provider_calls(), calls + 1);
    assert_eq!(gateway.refused(RefusalReason::Replayed), 9);
    gateway.hold_provider(false);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["1"]);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn i4_any_shuffle_with_duplicates_delivers_each_once() {
    let mut world = plant();
    let messages = sequence_of(&mut world, 48);
    for message in messages.iter().chain(&messages) {
        world.broker.inject(TOPIC, message);
    }
    world.broker.reorder("gateway");
    world.settle();
    let mut received: Vec<u32> =
        world.node("gateway").received().iter().map(|n| n.parse().unwrap()).collect();
    received.sort_unstable();
    assert_eq!(received, (1..=48).collect::<Vec<_>>());
}

#[test]
fn i4_refuses_older_than_the_window_deterministically() {
    let mut world = plant();
    let messages = forged_sequence(&mut world, WINDOW + 1);
    world.broker.inject(TOPIC, messages.last().unwrap());
    world.settle();
    for _ in 0..5 {
        assert_refused(&mut world, TOPIC, &messages[0], RefusalReason::TooOld);
    }
    world.broker.inject(TOPIC, &messages[1]);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["65", "2"], "one place further is inside");
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn i4_windows_are_apart_for_each_peer_and_stream() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let spec = insider_spec(&mut world, TOPIC, "far ahead", 1_000_000);
    world.broker.inject(TOPIC, &press.seal(&spec));
    world.settle();
    let second = SealSpec { stream: StreamId::new(1).unwrap(), sequence: 1, ..spec.clone() };
    world.broker.inject(TOPIC, &press.seal(&second));
    world.settle();
    assert_eq!(world.node("gateway").received().len(), 2);
    let early = SealSpec { sequence: 1, ..spec };
    assert_refused(&mut world, TOPIC, &press.seal(&early), RefusalReason::TooOld);
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn i4_the_window_survives_a_restart() {
    let mut world = plant();
    let messages = sequence_of(&mut world, 3);
    world.broker.inject(TOPIC, &messages[1]);
    world.settle();
    world.restart("gateway");
    world.settle();
    assert_refused(&mut world, TOPIC, &messages[1], RefusalReason::Replayed);
    world.broker.inject(TOPIC, &messages[0]);
    world.broker.inject(TOPIC, &messages[2]);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["2", "1", "3"]);
}

#[test]
fn i4_the_window_moves_only_after_authentication() {
    let mut world = World::default();
    populate(&mut world);
    let packet = intercept(&mut world, TOPIC, "1");
    // The sequence stands in clear: a forger moves it far ahead, and the signature fails.
    let mut forged = packet.clone();
    let sequence = 1 + "press".len() + pqc_iiot_core::envelope::HEADER_LEN - 8;
    forged[sequence..sequence + 8].copy_from_slice(&u64::MAX.to_be_bytes());
    assert_refused(&mut world, TOPIC, &forged, RefusalReason::BadSignature);
    // So does an insider whose ciphertext does not open.
    let press = thief_of(&mut world, "press");
    let mut spec = insider_spec(&mut world, TOPIC, "x", 5_000);
    spec.encapsulation_key = world.node("lathe").identity().public().encapsulation_key;
    assert_refused(&mut world, TOPIC, &press.seal(&spec), RefusalReason::BadCiphertext);
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["1"]);
}
