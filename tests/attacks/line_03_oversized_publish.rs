//! One oversized publish, retained or not, at any topic must not deafen a subscriber.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, keys_topic, plant, prekeys_topic};

const KIB: usize = 1024;

#[test]
fn oversized_publishes_are_dropped_unread_and_counted() {
    let mut world = plant();
    let places = [
        (keys_topic("press"), 64 * KIB),
        (prekeys_topic("press"), 16 * KIB),
        ("pqc/anchors/v1".into(), 64 * KIB),
        ("pqc/revocations/v1".into(), 64 * KIB),
        ("pqc/revocations/checkpoint/v1".into(), 64 * KIB),
        ("pqc/revocations/checkpoint/v1/0".into(), 64 * KIB),
        (TOPIC.into(), 256 * KIB),
    ];
    let calls = world.node("gateway").provider_calls();
    for (topic, limit) in &places {
        for size in [limit + 1, 1024 * KIB, 16 * 1024 * KIB] {
            assert_refused(&mut world, topic, &vec![1; size], RefusalReason::Oversized);
        }
        // At the limit it is read, and refused for what it says.
        world.broker.deliver_to("gateway", topic, &vec![0; *limit]);
        world.settle();
        assert_eq!(world.node("gateway").refused(RefusalReason::Oversized) % 3, 0, "{topic}");
    }
    assert_eq!(world.node("gateway").provider_calls(), calls);
    assert_eq!(world.node("gateway").refused(RefusalReason::Oversized), 3 * places.len());
    assert_all_flow(&mut world);
}

#[test]
fn retained_oversized_publishes_do_not_survive_as_a_blockade() {
    let mut world = plant();
    for name in ["press", "lathe"] {
        world.broker.inject_retained(&keys_topic(name), &vec![1; 1024 * KIB]);
    }
    world.broker.inject_retained("pqc/revocations/v1", &vec![1; 1024 * KIB]);
    world.settle();
    world.disconnect("gateway");
    world.connect("gateway", false);
    world.subscribe("gateway", "plant/#");
    world.settle();
    assert!(world.node("gateway").refused(RefusalReason::Oversized) >= 6);
    assert_all_flow(&mut world);
}

#[test]
fn what_the_transport_discards_is_counted_too() {
    let mut world = plant();
    world.packet_limit = 300 * KIB;
    for topic in [keys_topic("press"), TOPIC.into(), "pqc/anchors/v1".into()] {
        assert_refused(&mut world, &topic, &vec![1; 1024 * KIB], RefusalReason::Oversized);
    }
    assert_all_flow(&mut world);
}
