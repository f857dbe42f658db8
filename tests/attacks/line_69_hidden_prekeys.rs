//! The prekey bundle hidden, to force the static key.

use pqc_iiot_core::endpoint::{Event, RefusalReason};
use pqc_iiot_core::envelope::Packet;
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::sessions::{Insider, all_grants, assert_in_session, enrol, init_topic};
use pqc_iiot_tests::{
    TOPIC, assert_flows, assert_refused, assert_waits, everything, id, insider_spec, plant, prekeys_topic,
    thief_of,
};

fn without_bundles(gateway: NodeOptions) -> World {
    let mut world = World::default();
    world.broker.withhold("pqc/prekeys/#");
    world.enrol_with(gateway);
    world.enrol("press", &everything());
    for name in ["gateway", "press"] {
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world
}

#[test]
fn without_a_prekey_nothing_is_sent_to_a_peer_that_requires_one() {
    let mut world = without_bundles(NodeOptions::new("gateway", &everything()));
    assert!(!world.node("press").was_ready("gateway"));
    assert_waits(&mut world, "press", "gateway");
    assert!(world.broker.captured_on(TOPIC).is_empty(), "no fallback to the static key");

    let bundle = world.broker.last_on(&prekeys_topic("gateway"));
    world.broker.withhold_nothing();
    world.broker.inject_retained(&prekeys_topic("gateway"), &bundle);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["waits"], "what waited goes once the key is there");
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn a_message_to_the_static_key_of_such_a_peer_is_refused() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let mut spec = insider_spec(&mut world, TOPIC, "x", 1);
    spec.prekey = PrekeyId::STATIC;
    spec.encapsulation_key = world.node("gateway").identity().public().encapsulation_key;
    assert_refused(&mut world, TOPIC, &press.seal(&spec), RefusalReason::StaticKey);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn where_the_static_key_is_allowed_its_use_is_flagged_and_ends_with_the_bundle() {
    let mut world = without_bundles(NodeOptions::new("gateway", &everything()).static_key_allowed());
    let ready = |forward_secret| Event::PeerReady { peer: id("gateway"), forward_secret };
    assert!(world.node("press").events().contains(&ready(false)));
    assert_flows(&mut world, "press", "gateway");
    let bundle = world.broker.last_on(&prekeys_topic("gateway"));
    world.broker.withhold_nothing();
    world.broker.inject(&prekeys_topic("gateway"), &bundle);
    world.settle();
    assert!(world.node("press").events().contains(&ready(true)));
    assert_flows(&mut world, "press", "gateway");
    let packet = world.broker.last_on(TOPIC);
    assert_ne!(Packet::parse(&packet).unwrap().prekey(), PrekeyId::STATIC);
}

#[test]
fn no_session_begins_with_the_static_key_of_a_peer_that_requires_a_prekey() {
    let mut world = World::with_sessions();
    world.broker.withhold("pqc/prekeys/gateway");
    for name in ["gateway", "press"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    assert_waits(&mut world, "press", "gateway");
    assert!(world.broker.captured_on(&init_topic("gateway")).is_empty(), "no fallback to the static key");
    let bundle = world.broker.last_on(&prekeys_topic("gateway"));
    world.broker.withhold_nothing();
    world.broker.inject_retained(&prekeys_topic("gateway"), &bundle);
    world.settle();
    assert_in_session(&mut world, "press", "gateway");

    // Nor when a member insists.
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    let mut m1 = press.m1(&world, 1_000).m1().to_vec();
    let prekey = 1 + 1 + 1 + "press".len() + 32 + 32;
    m1[prekey..prekey + 4].fill(0);
    assert_refused(&mut world, &init_topic("gateway"), &m1, RefusalReason::StaticKey);
    press.shake(&mut world, 1_001);
    press.assert_heard(&mut world);
}
