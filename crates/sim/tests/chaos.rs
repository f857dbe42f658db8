//! The misfortunes themselves: they happen, they follow from the seed, and they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_sim::{Chaos, Forget, World, WorldOptions, publish, subscribe};

const TOPIC: &str = "plant/press/temperature";
const MINUTE: Duration = Duration::from_secs(60);

fn plant(seed: u64) -> World {
    let mut world = World::new(WorldOptions { seed, ..WorldOptions::default() });
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world
}

#[test]
fn a_delayed_message_arrives_at_its_time_and_others_overtake_it() {
    let mut world = plant(7);
    world.broker.delay("plant/#", 10 * MINUTE);
    world.node("press").publish("gateway", TOPIC, "slow");
    world.settle();
    world.broker.delay_nothing();
    world.node("press").publish("gateway", TOPIC, "fast");
    world.advance(Duration::from_millis(500));
    assert_eq!(world.node("gateway").received(), ["fast"]);
    // One for each subscriber: the publisher subscribes too.
    assert_eq!(world.broker.delayed(), 2);
    world.advance(9 * MINUTE);
    assert_eq!(world.node("gateway").received(), ["fast", "slow"], "its sender sent it again meanwhile");
    assert_eq!(world.node("gateway").refused(RefusalReason::Replayed), 0);
    world.advance(MINUTE);
    assert_eq!(world.node("gateway").refused(RefusalReason::Replayed), 1);
}

#[test]
fn a_broker_forgets_what_it_acknowledged_and_subscriptions_are_restored() {
    for forgets in [Forget::Queues, Forget::Sessions, Forget::Everything] {
        let mut world = plant(7);
        world.disconnect("gateway");
        world.node("press").publish("gateway", TOPIC, "forgotten");
        world.settle();
        assert_eq!(world.broker.queued("gateway"), 1);
        world.restart_broker(forgets);
        assert_eq!(world.broker.queued("gateway"), 0);
        let retained = world.broker.retained(&world.topics.keys(&pqc_iiot_sim::peer("gateway"))).is_some();
        assert_eq!(retained, forgets < Forget::Everything, "{forgets:?}");

        world.restart("gateway");
        world.node("press").publish("gateway", TOPIC, "after");
        world.advance(Duration::from_secs(5));
        let mut received = world.node("gateway").received();
        received.sort_unstable();
        assert_eq!(received, ["after", "forgotten"], "{forgets:?}");
    }
}

/// A storm of everything, then calm: what was received, and how much was published.
fn storm(seed: u64) -> (Vec<String>, usize, usize) {
    let mut world = plant(seed);
    world.unleash(Chaos {
        drop: 100,
        duplicate: 100,
        delay: 200,
        longest_delay: 30 * MINUTE,
        disconnect: 50,
        longest_absence: 10 * MINUTE,
        crash: 20,
        forget: 10,
        forgets: Forget::Sessions,
    });
    for number in 0..60 {
        world.node("press").publish("gateway", TOPIC, format!("storm {number}"));
        world.advance(MINUTE);
    }
    world.heal();
    world.settle();
    world.node("press").publish("gateway", TOPIC, "calm");
    world.settle();
    world.advance(30 * MINUTE);
    assert_eq!(world.broker.delayed(), 0);
    for name in ["gateway", "press"] {
        assert_eq!(
            world.broker.unacknowledged(name),
            0,
            "{name} is connected and has acknowledged everything"
        );
    }
    let received = world.node("gateway").consumed();
    assert_eq!(
        world.node("press").status().outbox.messages,
        0,
        "{:?} {:?}",
        world.node("press").status(),
        world.node("gateway").status()
    );
    (received, world.broker.captured().len(), world.node("gateway").audit().len())
}

#[test]
fn a_storm_reorders_follows_from_its_seed_and_ends() {
    let (received, published, audited) = storm(11);
    let mut distinct = received.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), received.len(), "nothing twice");
    assert_eq!(received.len(), 61, "nothing lost");
    assert!(published > 130, "no storm: {published} packets");
    let sent: Vec<usize> =
        received.iter().filter_map(|text| text.strip_prefix("storm ")?.parse().ok()).collect();
    assert!(!sent.is_sorted(), "nothing was overtaken");
    assert_eq!(storm(11), (received, published, audited), "the same seed, another storm");
    assert_ne!(storm(12).0, storm(11).0);
}
