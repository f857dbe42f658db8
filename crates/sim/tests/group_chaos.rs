//! Random schedules for topic groups: a lossy network, processes that die with what their disks had not written yet, and a
//! member that forges all along.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/hall.rs"]
mod hall;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hall::TOPIC;
use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::endpoint::Event;
use pqc_iiot_sim::{Chaos, Forget, Insider, World, WorldOptions};
use proptest::prelude::*;

const NODES: [&str; 4] = ["press", "gateway", "logger", "panel"];
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn plant(seed: u64) -> World {
    let mut world =
        World::new(WorldOptions { seed, backend: &AWS_LC, sessions: true, ..WorldOptions::default() });
    hall::enrol(&mut world);
    hall::begin_group(&mut world);
    for name in NODES {
        // Disks write late from now on, and what they have not written dies with the process.
        world.node(name).explore(None);
    }
    world
}

#[derive(Debug, Clone)]
struct Step {
    /// How many messages go out.
    messages: u32,
    /// A forgery under a counter so far from the window's beginning.
    forge: Option<u32>,
    /// Who dies, after how many more of its steps, with how many of its waiting transactions on disk.
    dies: Option<(usize, u64, usize)>,
    pause: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let dies = prop::option::weighted(0.1, (0..NODES.len(), 0..20u64, 0..4usize));
    (0..4u32, prop::option::weighted(0.3, 0..300u32), dies, 0..120u64)
        .prop_map(|(messages, forge, dies, pause)| Step { messages, forge, dies, pause })
}

fn chaos() -> impl Strategy<Value = Chaos> {
    (0..200u32, 0..200u32, 0..200u32, 1..60u64, 0..5u32, 1..300u64).prop_map(
        |(drop, duplicate, delay, longest_delay, disconnect, longest_absence)| Chaos {
            drop,
            duplicate,
            delay,
            longest_delay: Duration::from_secs(longest_delay),
            disconnect,
            longest_absence: Duration::from_secs(longest_absence),
            crash: 0,
            forget: 0,
            forgets: Forget::Queues,
        },
    )
}

fn revive(world: &mut World, deaths: &mut BTreeSet<&str>) {
    for name in NODES {
        if world.node(name).is_dead() {
            deaths.insert(name);
            world.restart(name);
        }
    }
}

/// No key and nonce twice: a counter of a group epoch names one record, on one topic.
fn assert_no_counter_twice(world: &World) {
    let mut seen = BTreeMap::new();
    for packet in world.broker.captured().iter().filter(|packet| packet.payload.first() == Some(&0xd0)) {
        let first = seen.entry(packet.payload[..15].to_vec()).or_insert(packet);
        assert_eq!(
            (&first.topic, &first.payload),
            (&packet.topic, &packet.payload),
            "a counter was used twice"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_verified_at_most_once_and_ends_and_goes_on(
        seed in any::<u64>(),
        chaos in chaos(),
        steps in prop::collection::vec(step(), 10..60),
    ) {
        let mut world = plant(seed);
        let mut deaths = BTreeSet::new();
        world.unleash(chaos);
        let mut sent = 0;
        for Step { messages, forge, dies, pause } in steps {
            if let Some((who, steps, surviving)) = dies {
                world.node(NODES[who]).die_after(steps, surviving);
            }
            for _ in 0..messages {
                // Cut off, or just restarted, it refuses.
                world.node("press").publish_topic(TOPIC, &format!("genuine {sent}"));
                sent += 1;
            }
            if let (Some(ahead), Some(row)) = (forge, world.node("panel").followed_groups().last()) {
                let insider = Insider::new(world.backend(), row);
                let first = insider.first_counter();
                let forged = insider.seal(first + ahead, TOPIC, &format!("forged {sent} {ahead}"));
                for name in ["gateway", "logger"] {
                    world.broker.deliver_to(name, TOPIC, &forged);
                }
            }
            world.advance(Duration::from_secs(pause));
            revive(&mut world, &mut deaths);
        }
        for name in NODES {
            world.node(name).live_on();
        }
        world.heal();
        world.settle();
        revive(&mut world, &mut deaths);
        assert_no_counter_twice(&world);

        // It goes on: whatever was lost, later records are verified by all.
        let mut last = String::new();
        let verified_by_all = |world: &mut World, text: &str| {
            NODES[1..].iter().all(|name| world.node(name).group_verified().iter().any(|told| told == text))
        };
        for attempt in 0..20 {
            last = format!("calm {attempt}");
            world.node("press").publish_topic(TOPIC, &last);
            world.advance(310 * SECOND);
            if verified_by_all(&mut world, &last) {
                break;
            }
        }
        prop_assert!(verified_by_all(&mut world, &last), "new records are not verified after the storm");
        world.advance(2 * HOUR);
        for name in &NODES[1..] {
            let node = world.node(name);
            let verified = node.group_verified();
            let distinct: BTreeSet<&String> = verified.iter().collect();
            prop_assert_eq!(distinct.len(), verified.len(), "{}: verified twice", name);
            prop_assert!(!verified.iter().any(|text| text.starts_with("forged")), "{}", name);
            prop_assert!(node.received().is_empty());
            if deaths.contains(name) {
                continue;
            }
            // What lived through it all has told the end of everything.
            let forged: BTreeSet<(Vec<u8>, u32)> = node.events().iter().filter_map(|event| match event {
                Event::GroupForged { gid, epoch, counter, .. } => {
                    Some(([gid.as_bytes(), &epoch.to_be_bytes()[..]].concat(), *counter))
                }
                _ => None,
            }).collect();
            let unproved: BTreeSet<String> = node.group_unproved().into_iter().collect();
            for (text, of, _) in node.group_messages() {
                let group = [of.gid.as_bytes(), &of.epoch.to_be_bytes()[..]].concat();
                let ended = distinct.contains(&text)
                    || unproved.contains(&text)
                    || (text.starts_with("forged") && forged.contains(&(group, of.counter)));
                prop_assert!(ended, "{}: {} has no end", name, text);
            }
        }

        // What a member has the key of it reads after its death as well, though nobody can tell it the key again.
        world.broker.withhold("pqc/#");
        for name in &NODES[1..] {
            world.restart(name);
        }
        world.node("press").publish_topic(TOPIC, "after all deaths");
        world.settle();
        for name in &NODES[1..] {
            let read = world.node(name).group_texts().iter().any(|told| told == "after all deaths");
            prop_assert!(read, "{}: its key was not on its disk", name);
        }
    }
}
