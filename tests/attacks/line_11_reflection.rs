//! A reflected message (one's own message sent back) is refused.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::sessions::{
    assert_all_in_sessions, assert_in_session, assert_no_effect, control_topic, init_topic, resp_topic,
    session_plant,
};
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

#[test]
fn own_session_packets_that_come_back_have_no_effect() {
    let mut world = session_plant();
    let start = world.broker.captured().len();
    assert_in_session(&mut world, "gateway", "press");
    world.advance(std::time::Duration::from_secs(1));
    let mut own: Vec<_> =
        world.broker.captured()[start..].iter().map(|packet| packet.payload.clone()).collect();
    for topic in ["lathe", "press"].iter().flat_map(|name| [init_topic(name), resp_topic(name)]) {
        own.extend(world.broker.captured_on(&topic));
    }
    assert!(own.len() > 4);
    for payload in own {
        for topic in [
            TOPIC,
            &control_topic("gateway"),
            &init_topic("gateway"),
            &resp_topic("gateway"),
            "plant/elsewhere",
        ] {
            assert_no_effect(&mut world, topic, &payload);
        }
    }
    assert_all_in_sessions(&mut world);
}
