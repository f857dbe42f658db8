//! A receiver whose application does not take anything through a burst of 5,000 messages loses nothing: what the broker
//! was told is taken is on the receiver's disk, and what does not fit there stays in the sender's outbox.

use std::time::Duration;

use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_sim::{NodeOptions, World, WorldOptions};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_no_sequence_twice, everything, fast_plant, first_told, told_once,
};

const BURST: usize = 5_000;
/// The inbox of a small receiver, and more than it takes.
const BOUND: usize = 100;

fn send(world: &mut World, count: usize) -> Vec<String> {
    let texts: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    for text in &texts {
        world.node("press").publish("gateway", TOPIC, text.as_bytes());
    }
    world.advance(Duration::from_secs(60));
    texts
}

#[test]
fn a_burst_of_5000_is_kept_until_it_is_polled() {
    let mut world = fast_plant();
    world.node("gateway").consume_at_once(false);
    let texts = send(&mut world, BURST);
    assert_eq!(world.broker.unacknowledged("gateway"), 0);
    assert_eq!(world.node("press").status().outbox.messages, 0, "all is confirmed");
    assert_eq!(world.node("gateway").status().inbox.messages, BURST, "and none of it is consumed");
    assert_eq!(world.node("gateway").received(), texts);

    // The process dies without having looked at one of them.
    let told = world.node("gateway").inbox().len();
    world.restart("gateway");
    world.settle();
    assert_eq!(world.node("gateway").received()[told..], texts);
    world.node("gateway").consume_all();
    world.node("gateway").consume_at_once(true);
    assert_eq!(world.node("gateway").status().inbox.messages, 0);
    assert_all_flow(&mut world);
}

#[test]
fn beyond_its_bound_the_sender_keeps_them() {
    let backend = default_backend();
    let mut world = World::new(WorldOptions { backend, ..WorldOptions::default() });
    let gateway =
        NodeOptions::new("gateway", &everything()).configure(|config| config.delivery.inbox_messages = BOUND);
    world.enrol_with(gateway);
    for name in ["press", "lathe"] {
        world.enrol(name, &everything());
    }
    for name in ["gateway", "press", "lathe"] {
        world.subscribe(name, "plant/#");
    }
    for (a, b) in [("gateway", "press"), ("gateway", "lathe"), ("press", "lathe")] {
        world.introduce(a, b);
    }
    world.node("gateway").consume_at_once(false);
    let texts = send(&mut world, 4 * BOUND);
    let inside = world.node("gateway").status().inbox.messages;
    // Those that were being opened when the bound was reached still go in.
    assert!((BOUND..BOUND + 64).contains(&inside), "{inside} in the inbox");
    let kept = world.node("press").status().outbox.messages;
    assert!(inside + kept >= texts.len(), "{inside} in the inbox and {kept} in the outbox");

    // A crash of either side while it is full changes nothing.
    world.restart("gateway");
    world.restart("press");
    world.settle();
    for _ in 0..10 {
        world.node("gateway").consume_all();
        world.advance(Duration::from_secs(30));
    }
    world.node("gateway").consume_at_once(true);
    assert_eq!(told_once(&mut world, "gateway"), texts, "everything arrives, in order");
    assert_eq!(
        first_told(&mut world, "gateway").len(),
        texts.len(),
        "each once, apart from what was told again"
    );
    assert_eq!(world.node("press").status().outbox.messages, 0);
    assert_no_sequence_twice(&world);
    assert_all_flow(&mut world);
}
