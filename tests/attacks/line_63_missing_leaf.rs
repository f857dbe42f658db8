//! A seal whose leaves are not all at hand proves nothing until they are; one that was altered proves nothing ever.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_flows, assert_group_flows, flipped, group_plant, tell_group};

const SEALED: Duration = Duration::from_secs(30);

#[test]
fn nothing_is_verified_while_a_leaf_is_missing() {
    let mut world = group_plant();
    tell_group(&mut world, "one");
    world.broker.withhold(TOPIC);
    tell_group(&mut world, "hidden");
    world.broker.withhold_nothing();
    world.broker.withhold("pqc/control/+");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_texts(), ["one"]);
    assert!(world.node("gateway").group_verified().is_empty());
    world.broker.withhold_nothing();
    world.advance(4 * SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["one"]);
    assert_group_flows(&mut world);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn an_altered_seal_is_refused_and_the_genuine_one_still_taken() {
    let mut world = group_plant();
    tell_group(&mut world, "one");
    world.broker.withhold(TOPIC);
    world.advance(SEALED);
    world.broker.withhold_nothing();
    let seal = world.broker.last_on(TOPIC);
    assert_eq!(seal[0], 0xd1);
    // First counter, root, the seal before, signature; and a count of none.
    for at in [14, 20, 60, seal.len() - 1, 16] {
        world.broker.inject(TOPIC, &flipped(&seal, at));
    }
    world.settle();
    assert_eq!(world.node("gateway").refused(RefusalReason::BadSignature), 4);
    assert_eq!(world.node("gateway").refused(RefusalReason::Malformed), 1);
    assert!(world.node("gateway").group_verified().is_empty());
    world.broker.inject(TOPIC, &seal);
    world.broker.inject(TOPIC, &seal);
    world.settle();
    assert_eq!(world.node("gateway").group_verified(), ["one"]);
    assert_eq!(world.node("gateway").refused(RefusalReason::Replayed), 1);
    assert_group_flows(&mut world);
}
