//! Messages accepted before a restart are refused after it; messages not yet delivered are accepted.

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
