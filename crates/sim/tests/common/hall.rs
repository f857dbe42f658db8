//! A publisher with a topic group of three.
#![allow(dead_code, unreachable_pub)]

use std::time::Duration;

use pqc_iiot_core::group::MAX_INTERVAL;
use pqc_iiot_sim::{World, publish, subscribe};

pub const FILTER: &str = "plant/+/temperature";
pub const TOPIC: &str = "plant/press/temperature";
pub const SUBSCRIBERS: [&str; 3] = ["gateway", "logger", "panel"];
/// Longer than any batch stays open.
pub const SEALED: Duration = MAX_INTERVAL.saturating_add(Duration::from_secs(1));

/// A publisher and three members that know each other; no key was handed out yet.
pub fn strangers() -> World {
    let mut world = World::with_sessions();
    enrol(&mut world);
    world
}

/// Press may publish; the others read it.
pub fn enrol(world: &mut World) {
    world.enrol("press", &[publish("plant/#"), subscribe("status/#")]);
    for name in SUBSCRIBERS {
        world.enrol(name, &[publish("status/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
        world.introduce("press", name);
    }
}

/// Everybody is a member and has the key.
pub fn begin_group(world: &mut World) {
    world.node("press").create_group(FILTER);
    for name in SUBSCRIBERS {
        world.node("press").add_subscriber(FILTER, name);
    }
    world.advance(Duration::from_secs(10));
}

/// Telemetry for the group.
pub fn say(world: &mut World, text: &str) {
    let ticket = world.node("press").publish_topic(TOPIC, text);
    assert_eq!(world.node("press").send_failure(ticket), None);
    world.settle();
}
