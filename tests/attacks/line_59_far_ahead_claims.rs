//! A peer that claims sequence 2^63, or a far-ahead control object, harms nobody but itself.

use pqc_iiot_core::control::revocation::{ChainHead, RevocationEntry, RevocationReason, RevocationUpdate};
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::ids::{Digest, StreamId};
use pqc_iiot_core::session::handshake::M1;
use pqc_iiot_core::session::{Class, Settled, Text};
use pqc_iiot_sim::SealSpec;
use pqc_iiot_tests::sessions::{Insider, assert_in_session, init_topic, resp_topic, session_plant};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_flows, assert_refused, everything, insider_spec, intercept, plant,
    thief_of,
};

#[test]
fn a_strangers_claim_moves_nothing() {
    let mut world = plant();
    let mut packet = intercept(&mut world, TOPIC, "81.5");
    let genuine = packet.clone();
    let at = 1 + "press".len() + pqc_iiot_core::envelope::HEADER_LEN - 8;
    for claim in [1 << 63, u64::MAX, 65, 1 << 32] {
        packet[at..at + 8].copy_from_slice(&u64::to_be_bytes(claim));
        assert_refused(&mut world, TOPIC, &packet, RefusalReason::BadSignature);
    }
    world.broker.inject(TOPIC, &genuine);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
    assert_all_flow(&mut world);
}

#[test]
fn a_members_claim_costs_only_its_own_stream() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    for (sequence, text) in [(1 << 63, "far"), (u64::MAX, "furthest")] {
        let spec = insider_spec(&mut world, TOPIC, text, sequence);
        world.broker.inject(TOPIC, &press.seal(&spec));
        world.settle();
        assert_eq!(world.node("gateway").received().last().unwrap(), text);
        assert_refused(&mut world, TOPIC, &press.seal(&spec), RefusalReason::Replayed);
    }
    // Its own stream is spent, and only that: another stream, its other peers, everybody else go on.
    let spec = insider_spec(&mut world, TOPIC, "x", 1);
    assert_refused(&mut world, TOPIC, &press.seal(&spec), RefusalReason::TooOld);
    let other = SealSpec { stream: StreamId::new(6).unwrap(), ..spec };
    world.broker.inject(TOPIC, &press.seal(&other));
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "x");
    for (from, to) in [("press", "lathe"), ("gateway", "press"), ("lathe", "gateway"), ("gateway", "lathe")] {
        assert_flows(&mut world, from, to);
    }
}

#[test]
fn a_members_far_ahead_control_object_changes_no_mode() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let key = world.node("lathe").identity().public().key_id();
    let entry =
        RevocationEntry::new(&pqc_iiot_tests::id("lathe"), &key, RevocationReason::LOST, pqc_iiot_sim::EPOCH);
    let prev = ChainHead { seq: (1 << 63) - 1, digest: Digest([7; 32]) };
    let update = RevocationUpdate::new(prev, 1 << 63, pqc_iiot_sim::EPOCH, vec![entry]).unwrap();
    let topic = "pqc/revocations/v1";
    assert_refused(&mut world, topic, &press.sign(&update, &topic), RefusalReason::BadRevocation);
    // Nor does one that another role of the authority signed.
    let by_issuer = world.authority.issuer(&update, &topic);
    assert_refused(&mut world, topic, &by_issuer, RefusalReason::BadRevocation);
    assert!(!world.node("gateway").status().revocations_behind);
    world.enrol("drill", &everything());
    world.introduce("gateway", "drill");
    assert!(world.node("gateway").was_ready("drill"), "new trust is not held");
    assert_all_flow(&mut world);
}

#[test]
fn a_members_claims_in_a_session_cost_only_its_own_stream() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    for number in [0, 1, 1 << 63, u64::MAX, u64::MAX, 5] {
        let record = press.telemetry(TOPIC, number, &format!("number {number}"));
        world.broker.deliver_to("gateway", TOPIC, &record);
        world.settle();
    }
    let told = world.node("gateway").received();
    let times = |number: u64| told.iter().filter(|text| **text == format!("number {number}")).count();
    assert_eq!(times(0), 0, "messages are numbered from 1");
    assert!(times(u64::MAX) <= 1);
    assert_in_session(&mut world, "lathe", "gateway");

    // An attempt from which there is no next: only this pair has none any more.
    world.advance(std::time::Duration::from_secs(5));
    press.shake(&mut world, u64::MAX);
    world.advance(std::time::Duration::from_secs(5));
    let record = press.telemetry(TOPIC, 1, "the last session");
    world.broker.deliver_to("gateway", TOPIC, &record);
    world.settle();
    for (from, to) in [("lathe", "gateway"), ("gateway", "lathe")] {
        assert_in_session(&mut world, from, to);
    }
    assert_flows_on_stream_six(&mut world, &mut press);
}

fn assert_flows_on_stream_six(world: &mut pqc_iiot_sim::World, press: &mut Insider) {
    let text = Text::Telemetry { number: 1, confirmed: Settled::default(), payload: b"stream six" };
    let record = press.record(Class::Telemetry, 6, TOPIC, text);
    world.broker.deliver_to("gateway", TOPIC, &record);
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "stream six");
}

#[test]
fn a_member_that_sends_us_ahead_again_and_again_buys_no_signatures() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    // As after the loss of the session: the gateway begins anew.
    world.advance(std::time::Duration::from_secs(3_600));
    world.node("gateway").publish("press", TOPIC, "x");
    world.advance(std::time::Duration::from_secs(3_600));
    let start = world.broker.captured_on(&init_topic("press")).len();
    let calls = world.node("gateway").provider_calls();
    let mut answered = 0;
    for round in 1..=50u64 {
        let m1s = world.broker.captured_on(&init_topic("press"));
        let by_gateway = |m1: &&Vec<u8>| M1::parse(m1).is_ok_and(|m1| m1.initiator() == "gateway");
        let m1 = m1s.iter().rev().find(by_gateway).unwrap().clone();
        if let Some(stale) = press.stale(&mut world, &m1, 1_000 * round) {
            answered += 1;
            world.broker.deliver_to("gateway", &resp_topic("gateway"), &stale);
            world.settle();
        }
    }
    assert!(answered > 1);
    let calls = world.node("gateway").provider_calls() - calls;
    assert!(calls <= 3, "{calls} operations of the provider in no time");
    assert!(world.broker.captured_on(&init_topic("press")).len() > start, "it went ahead");
    assert_in_session(&mut world, "gateway", "lathe");
    world.advance(std::time::Duration::from_secs(120));
    press.shake(&mut world, 1 << 33);
    press.assert_heard(&mut world);
}
