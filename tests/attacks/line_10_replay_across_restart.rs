//! Messages accepted before a restart are refused after it; messages not yet delivered are accepted, and those that the
//! application had not consumed are told again.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, plant};

#[test]
fn accepted_before_is_refused_after_and_undelivered_is_accepted() {
    let mut world = plant();
    world.node("press").publish("gateway", TOPIC, "accepted");
    world.settle();

    // Opened, but neither durable nor acknowledged when the power fails.
    world.node("gateway").hold_persists(true);
    world.node("press").publish("gateway", TOPIC, "in memory");
    world.settle();
    assert_eq!(world.node("gateway").received(), ["accepted"], "nothing is delivered before it is durable");
    assert_eq!(world.broker.unacknowledged("gateway"), 1);

    // And one that still waits at the broker.
    world.disconnect("gateway");
    world.node("press").publish("gateway", TOPIC, "at the broker");
    world.settle();
    world.restart("gateway");
    world.node("gateway").hold_persists(false);
    world.settle();

    assert_eq!(world.node("gateway").received(), ["accepted", "in memory", "at the broker"]);
    for packet in world.broker.captured_on(TOPIC) {
        assert_refused(&mut world, TOPIC, &packet, RefusalReason::Replayed);
    }
    assert_all_flow(&mut world);
}

#[test]
fn what_was_not_consumed_is_told_again_and_a_replay_adds_nothing_to_it() {
    let mut world = plant();
    world.node("press").publish("gateway", TOPIC, "consumed");
    world.settle();
    world.node("gateway").consume_at_once(false);
    for text in ["told", "told too"] {
        world.node("press").publish("gateway", TOPIC, text);
    }
    world.settle();
    let before: Vec<_> = world.node("gateway").inbox().into_iter().cloned().collect();
    assert_eq!(before.len(), 3);

    for restart in 1..=2 {
        world.restart("gateway");
        world.settle();
        let inbox = world.node("gateway").inbox();
        let again: Vec<_> = inbox[1 + 2 * restart..].to_vec();
        assert_eq!(again.len(), 2, "exactly what was not consumed");
        for (again, before) in again.into_iter().zip(&before[1..]) {
            assert!(again.redelivered && !before.redelivered);
            assert_eq!((again.origin, again.id), (before.origin, before.id), "under its name");
            assert_eq!(again.content, before.content);
        }
        for packet in world.broker.captured_on(TOPIC) {
            assert_refused(&mut world, TOPIC, &packet, RefusalReason::Replayed);
        }
    }
    world.node("gateway").consume_all();
    world.node("gateway").consume_at_once(true);
    let told = world.node("gateway").inbox().len();
    world.restart("gateway");
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), told, "what was consumed stays so");
    assert_all_flow(&mut world);
}
