//! End-to-end delivery between real endpoints: outbox, receipts, inbox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::endpoint::Event;
use pqc_iiot_sim::{World, publish, subscribe};

const TOPIC: &str = "plant/press/temperature";

fn pair() -> World {
    let mut world = World::default();
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world
}

fn send(world: &mut World, count: usize) -> Vec<String> {
    let start = world.broker.captured().len();
    let texts: Vec<String> = (0..count).map(|n| format!("{start}-{n}")).collect();
    for text in &texts {
        world.node("press").publish("gateway", TOPIC, text.as_bytes());
    }
    texts
}

#[test]
fn what_is_confirmed_leaves_the_outbox() {
    let mut world = pair();
    let texts = send(&mut world, 200);
    world.settle();
    world.advance(Duration::from_secs(2));
    assert_eq!(world.node("gateway").received(), texts);
    assert_eq!(world.node("press").status().outbox.messages, 0);
    let confirmed: usize = world
        .node("press")
        .events()
        .iter()
        .map(|event| match event {
            Event::Delivered { count, .. } => *count,
            _ => 0,
        })
        .sum();
    assert_eq!(confirmed, 200);
}
