//! Thousands of random schedules of a hostile broker, cut links and dying processes: at most one delivery, every loss
//! reported with its size, everything delivered once the network heals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::endpoint::{Event, Ticket};
use pqc_iiot_sim::{Chaos, Forget, NodeOptions, World, WorldOptions, publish, subscribe};
use proptest::prelude::*;

const TOPIC: &str = "plant/press/temperature";
const HOUR: Duration = Duration::from_secs(60 * 60);

fn world(seed: u64, sessions: bool) -> World {
    let mut world = World::new(WorldOptions { seed, backend: &AWS_LC, sessions, ..WorldOptions::default() });
    for name in ["gateway", "press"] {
        let options = NodeOptions::new(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.enrol_with(options.configure(|config| config.sessions.rekey_records = 100));
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world
}

fn chaos() -> impl Strategy<Value = Chaos> {
    let forgets = prop::sample::select(vec![Forget::Queues, Forget::Sessions, Forget::Everything]);
    let delay =
        prop::sample::select(vec![Duration::from_millis(200), 60 * Duration::from_secs(1), 72 * HOUR]);
    let absence = prop::sample::select(vec![Duration::from_secs(1), HOUR, 48 * HOUR]);
    (0..300u32, 0..200u32, 0..200u32, delay, 0..30u32, absence, (0..30u32, 0..10u32, forgets)).prop_map(
        |(drop, duplicate, delay, longest_delay, disconnect, longest_absence, (crash, forget, forgets))| {
            Chaos {
                drop,
                duplicate,
                delay,
                longest_delay,
                disconnect,
                longest_absence,
                crash,
                forget,
                forgets,
            }
        },
    )
}

/// Runs one schedule in a world that went through others before.
fn schedule(world: &mut World, round: usize, chaos: Chaos, pauses: &[u64]) -> Result<(), TestCaseError> {
    world.unleash(chaos);
    let mut offered: Vec<(Ticket, String)> = Vec::new();
    for (n, pause) in pauses.iter().enumerate() {
        let text = format!("{round}-{n}");
        offered.push((world.node("press").publish("gateway", TOPIC, text.as_bytes()), text));
        world.advance(Duration::from_millis(*pause));
    }
    world.heal();
    world.settle();
    for _ in 0..200 {
        if world.node("press").status().outbox.messages == 0 {
            break;
        }
        world.advance(Duration::from_secs(60));
    }
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for text in world.node("gateway").consumed() {
        *times.entry(text).or_default() += 1;
    }
    let press = world.node("press");
    prop_assert_eq!(press.status().outbox.messages, 0, "not everything was confirmed");
    let lost = |event: &Event| matches!(event, Event::Lost { .. });
    prop_assert!(!press.events().iter().any(lost), "something was given up");
    for (ticket, text) in offered {
        let told = |event: &Event| matches!(event, Event::Accepted { ticket: t, .. } if *t == ticket);
        prop_assert!(press.events().iter().any(told));
        prop_assert_eq!(times.get(&text).copied().unwrap_or(0), 1, "{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Each case is a world of its own, with 25 schedules after each other: 2,500 in all, in sessions or in envelopes.
    #[test]
    fn every_accepted_message_is_consumed_once(
        seed in any::<u64>(),
        sessions in any::<bool>(),
        schedules in prop::collection::vec((chaos(), prop::collection::vec(0..5_000u64, 1..12)), 25),
    ) {
        let mut world = world(seed, sessions);
        for (round, (chaos, pauses)) in schedules.into_iter().enumerate() {
            schedule(&mut world, round, chaos, &pauses)?;
        }
    }
}
