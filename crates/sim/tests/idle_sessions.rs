//! Sessions that nothing uses come to rest by themselves, and go on where they were.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_sim::{World, publish, subscribe};

const DEVICES: usize = 5;

/// A gateway and devices, each with a session that was used in both directions.
fn hub() -> World {
    let mut world = World::with_sessions();
    world.enrol("gateway", &[publish("plant/#"), subscribe("plant/#")]);
    world.subscribe("gateway", "plant/#");
    for device in 0..DEVICES {
        let name = format!("device-{device}");
        world.enrol(&name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(&name, "plant/#");
        world.introduce("gateway", &name);
        world.node(&name).publish("gateway", "plant/a", format!("{name} begins"));
        world.advance(Duration::from_secs(5));
        world.node("gateway").publish(&name, "plant/a", "an answer");
        world.advance(Duration::from_secs(2));
    }
    assert_eq!(world.node("gateway").status().sessions, DEVICES);
    world
}

#[test]
fn sessions_rest_after_use_and_go_on_in_their_blocks() {
    let mut world = hub();
    let awake = |world: &mut World| world.node("gateway").status().sessions_awake;
    assert!(awake(&mut world) > 0);
    world.advance(Duration::from_secs(90));
    assert_eq!(awake(&mut world), 0, "all rest");
    assert_eq!(world.node("device-1").status().sessions_awake, 0);

    world.node("device-1").publish("gateway", "plant/a", "later");
    world.advance(Duration::from_secs(10));
    assert_eq!(awake(&mut world), 1, "only the one that was used");
    assert_eq!(world.node("gateway").consumed().last().map(String::as_str), Some("later"));
    world.node("gateway").publish("device-1", "plant/a", "and back");
    world.advance(Duration::from_secs(10));
    assert_eq!(world.node("device-1").consumed().last().map(String::as_str), Some("and back"));
    assert!(world.node("gateway").refusals().is_empty() && world.node("device-1").refusals().is_empty());
    world.advance(Duration::from_secs(90));
    assert_eq!(awake(&mut world), 0);
}

#[test]
fn a_session_in_use_stays_awake_and_one_that_starts_anew_rests() {
    let mut world = hub();
    for minute in 0..10 {
        world.node("device-0").publish("gateway", "plant/a", format!("reading {minute}"));
        world.advance(Duration::from_secs(15));
        assert!(world.node("gateway").status().sessions_awake >= 1);
    }
    assert_eq!(world.node("gateway").status().sessions_awake, 1, "the other sessions rest");
    world.restart("gateway");
    assert_eq!(world.node("gateway").status().sessions_awake, 0, "what was restored rests until it is used");
    world.node("device-0").publish("gateway", "plant/a", "after the restart");
    world.advance(Duration::from_secs(20));
    assert_eq!(world.node("gateway").consumed().last().map(String::as_str), Some("after the restart"));
}
