//! A reflected message (one's own message sent back) is refused.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, plant};

#[test]
fn an_own_message_that_comes_back_is_refused() {
    let mut world = plant();
    world.node("gateway").publish("press", TOPIC, "to the press");
    world.settle();
    let own = world.broker.last_on(TOPIC);
    assert_eq!(world.node("press").received(), ["to the press"], "negative control");
    assert_eq!(world.node("gateway").refused(RefusalReason::Reflected), 1, "the broker echoes by itself");
    for topic in [TOPIC, "plant/elsewhere"] {
        assert_refused(&mut world, topic, &own, RefusalReason::Reflected);
    }
    assert_all_flow(&mut world);
}
