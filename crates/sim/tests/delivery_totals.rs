//! Whatever is given up, on whatever network: in the end both sides count every accepted message once, as delivered or as
//! lost for certain, and agree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::delivery::LossReason;
use pqc_iiot_core::endpoint::{Event, FullPolicy, Input, OutboxId, SendFailure};
use pqc_iiot_core::store::RecordKind;
use pqc_iiot_provider::store::Store;
use pqc_iiot_sim::{Chaos, Forget, NodeOptions, World, WorldOptions, peer, publish, subscribe};
use proptest::prelude::*;

const TOPIC: &str = "plant/press/temperature";

fn world(seed: u64, when_full: FullPolicy) -> World {
    let mut world = World::new(WorldOptions { seed, backend: &AWS_LC, ..WorldOptions::default() });
    let grants = [publish("plant/#"), subscribe("plant/#")];
    world.enrol("gateway", &grants);
    world.enrol_with(NodeOptions::new("press", &grants).configure(move |config| {
        config.delivery.when_full = when_full;
        config.delivery.outbox_bytes = 12 * 1024;
        config.delivery.outbox_age = Duration::from_secs(3 * 60 * 60);
    }));
    world.subscribe("gateway", TOPIC);
    world.introduce("gateway", "press");
    world
}

/// What a side was told.
#[derive(Debug, Default, PartialEq)]
struct Told {
    accepted: u64,
    delivered: u64,
    certain: u64,
    uncertain: u64,
    lost: u64,
    arrived: u64,
    unknown: u64,
}

fn told(world: &mut World, name: &str) -> Told {
    let mut told = Told::default();
    for event in world.node(name).events() {
        match event {
            Event::Accepted { .. } => told.accepted += 1,
            // It has a number, and is reported.
            Event::SendFailed { reason: SendFailure::Lost(LossReason::DroppedNewest), .. } => {
                told.accepted += 1
            }
            Event::Delivered { count, .. } => told.delivered += *count as u64,
            Event::Lost { count, certain: true, .. } => told.certain += count,
            Event::Lost { count, certain: false, .. } => told.uncertain += count,
            Event::LossConfirmed { lost, arrived, unknown, .. } => {
                told.lost += lost;
                told.arrived += arrived;
                told.unknown += unknown;
            }
            _ => {}
        }
    }
    told
}

fn outbox(world: &mut World) -> usize {
    let rows = world.node("press").disk().load().unwrap();
    rows.iter().filter(|row| row.kind == RecordKind::Outbox).count()
}

/// Whether a row of the outbox is a message: the last item of a report says whether it is certain, that of a message is
/// null.
fn is_message(world: &mut World, id: OutboxId) -> bool {
    let rows = world.node("press").disk().load().unwrap();
    let mut rows = rows.iter().filter(|row| row.kind == RecordKind::Outbox && row.key == id.0.to_be_bytes());
    rows.next().is_some_and(|row| row.value.last() == Some(&0xf6))
}

fn assert_totals_agree(world: &mut World) {
    let (sender, receiver) = (told(world, "press"), told(world, "gateway"));
    let consumed = world.node("gateway").consumed();
    let all = consumed.len() as u64;
    let mut once = consumed;
    once.sort();
    once.dedup();
    assert_eq!(once.len() as u64, all, "something was told twice");
    assert_eq!(sender.unknown, 0);
    assert_eq!(sender.uncertain, sender.lost + sender.arrived, "{sender:?}");
    assert_eq!(
        sender.accepted,
        sender.delivered + sender.certain + sender.lost + sender.arrived,
        "{sender:?}"
    );
    assert_eq!(sender.delivered + sender.arrived, all, "{sender:?}");
    assert_eq!(sender.certain + sender.lost, receiver.certain, "{sender:?} {receiver:?}");
}

#[derive(Debug, Clone)]
enum Step {
    /// Publishes so many.
    Send(usize),
    /// To a topic that nobody reads.
    Unheard,
    /// The transport says that it will never take the row this far back.
    Undeliverable(u64),
    Cut,
    Restart,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..20usize).prop_map(Step::Send),
        1 => Just(Step::Unheard),
        3 => (0..12u64).prop_map(Step::Undeliverable),
        1 => Just(Step::Cut),
        1 => Just(Step::Restart),
        4 => prop::sample::select(vec![0, 1, 5, 600, 4 * 60 * 60]).prop_map(Step::Wait),
    ]
}

fn run(world: &mut World, chaos: Chaos, steps: &[Step]) {
    world.unleash(chaos);
    let mut sent = 0;
    for step in steps {
        match step {
            Step::Send(count) => {
                for _ in 0..*count {
                    sent += 1;
                    world.node("press").publish("gateway", TOPIC, format!("{sent}"));
                }
            }
            Step::Unheard => {
                sent += 1;
                world.node("press").publish("gateway", "plant/unheard", "x");
            }
            Step::Undeliverable(back) => {
                let id = OutboxId(u64::saturating_sub(sent, *back));
                // A report that cannot be sent is dropped, and nobody could count what it spoke of.
                if is_message(world, id) {
                    world.node("press").input(Input::Undeliverable(id));
                }
            }
            Step::Cut => world.disconnect("press"),
            Step::Restart => world.restart("press"),
            Step::Wait(seconds) => world.advance(Duration::from_secs(*seconds)),
        }
    }
    world.heal();
    world.connect("press", true);
    world.settle();
    // What never arrives is given up once there was enough other traffic.
    for _ in 0..400 {
        if outbox(world) == 0 {
            break;
        }
        sent += 1;
        world.node("press").publish("gateway", TOPIC, format!("{sent}"));
        world.advance(Duration::from_secs(20 * 60));
    }
    assert_eq!(outbox(world), 0, "something waits for ever");
    assert_totals_agree(world);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn totals_agree_whatever_is_given_up(
        seed in any::<u64>(),
        when_full in prop::sample::select(vec![FullPolicy::Refuse, FullPolicy::DropOldest, FullPolicy::DropNewest]),
        (drop, duplicate, disconnect, crash) in (0..300u32, 0..100u32, 0..30u32, 0..30u32),
        steps in prop::collection::vec(step(), 4..40),
    ) {
        let chaos = Chaos {
            drop,
            duplicate,
            disconnect,
            longest_absence: Duration::from_secs(600),
            crash,
            forgets: Forget::Queues,
            ..Chaos::default()
        };
        run(&mut world(seed, when_full), chaos, &steps);
    }
}

#[test]
fn what_arrived_although_it_was_given_up_is_corrected() {
    let mut world = world(1, FullPolicy::Refuse);
    let control = world.topics.control(&peer("press"));
    world.broker.withhold(&control);
    for n in 0..4 {
        world.node("press").publish("gateway", TOPIC, format!("{n}"));
    }
    world.settle();
    world.broker.withhold("#");
    for n in 4..10 {
        world.node("press").publish("gateway", TOPIC, format!("{n}"));
    }
    world.settle();
    for row in 1..=10 {
        world.node("press").input(Input::Undeliverable(OutboxId(row)));
    }
    world.restart_offline("press");
    let before = told(&mut world, "press");
    assert_eq!((before.certain, before.uncertain, before.lost + before.arrived), (0, 10, 0));
    world.broker.withhold_nothing();
    world.connect("press", true);
    world.settle();
    world.advance(Duration::from_secs(10));
    let after = told(&mut world, "press");
    assert_eq!((after.lost, after.arrived, told(&mut world, "gateway").certain), (6, 4, 6));
    assert_eq!(outbox(&mut world), 0);
    assert_totals_agree(&mut world);
}

#[test]
fn a_revoked_sender_is_forgotten() {
    let mut world = world(1, FullPolicy::Refuse);
    world.node("press").publish("gateway", TOPIC, "x");
    world.settle();
    let heard = |world: &mut World| {
        let rows = world.node("gateway").disk().load().unwrap();
        rows.iter().filter(|row| row.kind == RecordKind::Received).count()
    };
    assert_eq!(heard(&mut world), 1);
    world.revoke(&["press"]);
    world.settle();
    assert_eq!(heard(&mut world), 0);
}
