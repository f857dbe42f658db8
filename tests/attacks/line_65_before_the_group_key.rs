//! A group's records that overtake the key wait for it, and are told once whatever copies there are.

use std::time::Duration;

use pqc_iiot_tests::{GROUP, TOPIC, assert_flows, assert_group_flows, group_plant, tell_group};

#[test]
fn copies_that_overtake_the_key_are_told_once() {
    let mut world = group_plant();
    world.broker.delay("pqc/control/gateway", Duration::from_secs(2));
    world.node("press").remove_subscriber(GROUP, "lathe");
    world.settle();
    tell_group(&mut world, "early");
    let early = world.broker.last_on(TOPIC);
    for _ in 0..3 {
        world.broker.inject(TOPIC, &early);
    }
    world.settle();
    assert!(world.node("gateway").group_texts().is_empty());
    world.broker.delay_nothing();
    world.advance(Duration::from_secs(3));
    assert_eq!(world.node("gateway").group_texts(), ["early"]);
    assert_group_flows(&mut world);
    assert_eq!(world.node("gateway").group_verified().iter().filter(|text| *text == "early").count(), 1);
    assert_flows(&mut world, "press", "gateway");
}
