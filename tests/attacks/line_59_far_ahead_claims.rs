//! A peer that claims sequence 2^63, or a far-ahead control object, harms nobody but itself.

use pqc_iiot_core::control::revocation::{ChainHead, RevocationEntry, RevocationReason, RevocationUpdate};
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::ids::{Digest, StreamId};
use pqc_iiot_sim::SealSpec;
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
