//! End-to-end delivery between real endpoints: outbox, receipts, inbox, and what is said when something is given up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::delivery::LossReason;
use pqc_iiot_core::endpoint::{
    Command, DeliveryLimits, Durability, Effect, Event, FullPolicy, Input, Priority, Publish, RefusalReason,
    SendFailure, Ticket,
};
use pqc_iiot_core::envelope::{Content, Packet};
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::topic::Topic;
use pqc_iiot_sim::{EPOCH, Forget, NodeOptions, World, publish, subscribe};

const TOPIC: &str = "plant/press/temperature";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn pair() -> World {
    pair_with(|_| ())
}

/// With other limits for the press.
fn pair_with(limit: fn(&mut DeliveryLimits)) -> World {
    let mut world = World::default();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    world.enrol("gateway", &grants);
    world.enrol_with(NodeOptions::new("press", &grants).configure(move |config| limit(&mut config.delivery)));
    for name in ["gateway", "press"] {
        world.subscribe(name, "plant/press/#");
    }
    world.introduce("gateway", "press");
    world
}

fn send(world: &mut World, count: usize) -> Vec<String> {
    let start = world.node("press").events().len();
    let texts: Vec<String> = (0..count).map(|n| format!("{start}-{n}")).collect();
    for text in &texts {
        world.node("press").publish("gateway", TOPIC, text.as_bytes());
    }
    texts
}

fn waiting(world: &mut World) -> usize {
    world.node("press").status().outbox.messages
}

/// How many messages a node was told are lost, for a reason.
fn lost(world: &mut World, name: &str, why: LossReason, outgoing: bool) -> u64 {
    let count = |event: &Event| match event {
        Event::Lost { count, reason, outgoing: out, .. } if *reason == why && *out == outgoing => *count,
        _ => 0,
    };
    world.node(name).events().iter().map(count).sum()
}

#[test]
fn what_is_confirmed_leaves_the_outbox() {
    let mut world = pair();
    let texts = send(&mut world, 200);
    world.settle();
    world.advance(Duration::from_secs(2));
    assert_eq!(world.node("gateway").received(), texts);
    assert_eq!(world.node("gateway").consumed(), texts);
    assert_eq!(waiting(&mut world), 0);
    let confirmed = |event: &Event| match event {
        Event::Delivered { count, tickets, .. } => count.min(&tickets.len()).to_owned(),
        _ => 0,
    };
    assert_eq!(world.node("press").events().iter().map(confirmed).sum::<usize>(), 200);
}

#[test]
fn what_a_broker_acknowledged_and_forgot_is_sent_again_byte_for_byte() {
    let mut world = pair();
    world.broker.withhold(TOPIC);
    let texts = send(&mut world, 30);
    world.settle();
    let first = world.broker.captured_on(TOPIC);
    world.broker.withhold_nothing();
    world.restart_broker(Forget::Everything);
    world.settle();
    let all = world.broker.captured_on(TOPIC);
    assert_eq!(all[first.len()..], first[..], "the same bytes");
    assert_eq!(world.node("gateway").received(), texts);
    world.advance(Duration::from_secs(2));
    assert_eq!(waiting(&mut world), 0);
}

#[test]
fn silence_is_probed_ever_more_rarely_with_one_message() {
    let mut world = pair();
    world.disconnect("gateway");
    send(&mut world, 40);
    world.settle();
    let sent = world.broker.captured_on(TOPIC).len();
    world.advance(DAY);
    let probes = world.broker.captured_on(TOPIC).len() - sent;
    assert!((90..250).contains(&probes), "{probes} in a day");
    world.connect("gateway", true);
    world.settle();
    world.advance(Duration::from_secs(2));
    assert_eq!(world.node("gateway").consumed().len(), 40);
    assert_eq!(waiting(&mut world), 0);
}

#[test]
fn a_week_without_a_link_across_a_restart_loses_nothing_and_fresh_messages_do_not_wait() {
    let mut world = pair();
    world.disconnect("press");
    let old = send(&mut world, 2_000);
    world.advance(7 * DAY);
    world.restart_offline("press");
    let status = world.node("press").status().outbox;
    assert_eq!((status.messages, status.oldest >= 7 * DAY), (2_000, true));
    world.connect("press", true);
    let fresh = send(&mut world, 100);
    world.settle();
    world.advance(Duration::from_secs(5));
    let arrived = world.node("gateway").consumed();
    let mut expected: Vec<String> = old.into_iter().chain(fresh.clone()).collect();
    let last_fresh = arrived.iter().position(|text| text == fresh.last().unwrap()).unwrap();
    assert!(last_fresh < 400, "fresh messages go between, not behind: {last_fresh}");
    let mut arrived = arrived;
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
    assert_eq!(waiting(&mut world), 0);
}

#[test]
fn a_full_outbox_refuses_unless_its_policy_drops_and_both_sides_count_the_same() {
    const BOUND: usize = 16 * 1024;
    let mut world = pair_with(|limits| limits.outbox_bytes = BOUND);
    world.disconnect("press");
    send(&mut world, 100);
    let refused = |event: &Event| matches!(event, Event::SendFailed { reason: SendFailure::OutboxShare, .. });
    let kept = waiting(&mut world);
    assert_eq!(world.node("press").events().iter().filter(|event| refused(event)).count(), 100 - kept);
    assert!(kept > 30 && world.node("press").status().outbox.bytes <= BOUND - BOUND / 8);

    for (policy, reason) in [
        (FullPolicy::DropOldest, LossReason::DroppedOldest),
        (FullPolicy::DropNewest, LossReason::DroppedNewest),
    ] {
        let mut world = pair_with(match policy {
            FullPolicy::DropOldest => |limits| {
                (limits.outbox_bytes, limits.when_full) = (BOUND, FullPolicy::DropOldest);
            },
            _ => |limits| (limits.outbox_bytes, limits.when_full) = (BOUND, FullPolicy::DropNewest),
        });
        world.disconnect("press");
        let texts = send(&mut world, 100);
        let kept = waiting(&mut world);
        world.restart("press");
        world.settle();
        world.advance(Duration::from_secs(5));
        let arrived = world.node("gateway").consumed();
        let expected = if policy == FullPolicy::DropOldest { &texts[100 - kept..] } else { &texts[..kept] };
        assert_eq!(arrived, expected);
        let dropped = u64::try_from(100 - kept).unwrap();
        assert_eq!(lost(&mut world, "press", reason, true), dropped);
        assert_eq!(lost(&mut world, "gateway", reason, false), dropped);
        assert_eq!(waiting(&mut world), 0);
    }
}

#[test]
fn what_waits_too_long_is_given_up_by_the_monotonic_clock_and_reported() {
    let mut world = pair_with(|limits| limits.outbox_age = 10 * DAY);
    world.disconnect("press");
    send(&mut world, 5);
    // A clock that leaps years ahead ages nothing.
    world.clock.set_wall(EPOCH.plus(3_000 * DAY));
    world.advance(Duration::from_secs(120));
    assert_eq!(waiting(&mut world), 5);
    world.clock.set_wall(EPOCH);
    world.advance(11 * DAY);
    assert_eq!(waiting(&mut world), 0);
    assert_eq!(lost(&mut world, "press", LossReason::Aged, true), 5);
    world.connect("press", true);
    world.settle();
    world.advance(Duration::from_secs(2));
    assert_eq!(lost(&mut world, "gateway", LossReason::Aged, false), 5);
    let texts = send(&mut world, 1);
    world.settle();
    assert_eq!(world.node("gateway").received(), texts);
}

#[test]
fn a_topic_nobody_subscribes_to_holds_up_no_other_and_is_given_up_in_the_end() {
    let mut world = pair();
    world.node("press").publish("gateway", "plant/unheard", "x");
    for _ in 0..10 {
        let before = world.node("gateway").received().len();
        let texts = send(&mut world, 100);
        world.settle();
        world.advance(Duration::from_secs(3));
        assert_eq!(world.node("gateway").received()[before..], texts);
    }
    assert_eq!(waiting(&mut world), 1);
    for _ in 0..60 {
        send(&mut world, 1);
        world.advance(Duration::from_secs(20 * 60));
    }
    assert_eq!(waiting(&mut world), 0);
    assert_eq!(lost(&mut world, "press", LossReason::Unconfirmed, true), 1);
    assert_eq!(lost(&mut world, "gateway", LossReason::Unconfirmed, false), 1);
}

#[test]
fn a_revoked_receivers_messages_are_given_up_and_nothing_of_them_leaves() {
    let mut world = pair();
    world.broker.withhold(TOPIC);
    send(&mut world, 100);
    world.settle();
    world.broker.withhold_nothing();
    let sent = world.broker.captured_on(TOPIC).len();
    // Signed, and not yet on disk: what waits must not leave either.
    world.node("press").hold_persists(true);
    send(&mut world, 1);
    world.revoke(&["gateway"]);
    world.node("press").hold_persists(false);
    world.advance(DAY);
    assert_eq!(world.broker.captured_on(TOPIC).len(), sent);
    assert_eq!(waiting(&mut world), 0);
    assert_eq!(lost(&mut world, "press", LossReason::Revoked, true), 101);
}

#[test]
fn a_full_inbox_takes_no_more_than_its_bound_and_loses_nothing() {
    let mut world = World::default();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    world.enrol_with(NodeOptions::new("gateway", &grants).configure(|config| {
        config.delivery.inbox_messages = 50;
    }));
    world.enrol("press", &grants);
    world.subscribe("gateway", "plant/#");
    world.introduce("gateway", "press");
    world.node("gateway").consume_at_once(false);
    let texts = send(&mut world, 400);
    world.settle();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.node("gateway").status().inbox.messages, 50);
    assert!(waiting(&mut world) >= 350);
    for _ in 0..40 {
        world.node("gateway").consume_all();
        world.settle();
        world.advance(Duration::from_secs(2));
    }
    assert_eq!(world.node("gateway").consumed(), texts);
    assert_eq!(waiting(&mut world), 0);
}

#[test]
fn receipts_by_others_and_from_the_past_end_nothing() {
    let mut world = pair();
    let texts = send(&mut world, 20);
    world.settle();
    world.advance(Duration::from_secs(2));
    let control = world.topics.control(&pqc_iiot_sim::peer("press"));
    let receipts = world.broker.captured_on(&control);
    assert!(!receipts.is_empty());
    let stream = Packet::parse(&receipts[0]).unwrap().stream();
    world.broker.withhold(TOPIC);
    send(&mut world, 20);
    world.settle();
    for receipt in &receipts {
        let mut forged = receipt.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        for packet in [receipt, &forged] {
            world.broker.inject(&control, packet);
            world.broker.inject(TOPIC, packet);
        }
        world.settle();
    }
    assert_eq!(stream.value(), 7);
    assert_eq!(waiting(&mut world), 20, "nothing was confirmed");
    assert!(world.node("press").refused(RefusalReason::Replayed) > 0);
    world.broker.withhold_nothing();
    world.restart_broker(Forget::Queues);
    world.settle();
    world.advance(Duration::from_secs(2));
    assert_eq!(waiting(&mut world), 0);
    assert_eq!(world.node("gateway").consumed().len(), texts.len() + 20);
}

/// What an application notes about a message becomes durable with its acceptance or not at all: it knows after a crash which
/// message comes next.
#[test]
fn a_note_is_durable_exactly_if_its_message_is() {
    let mut world = pair();
    let send = |world: &mut World, number: u8| {
        let note = Effect::put(b"last", &[number]).unwrap();
        world.node("press").publish_noting("gateway", TOPIC, Content::telemetry([number]), vec![note]);
    };
    let last =
        |world: &mut World| world.node("press").endpoint().application_row(b"last").map(<[u8]>::to_vec);
    send(&mut world, 1);
    world.node("press").hold_persists(true);
    send(&mut world, 2);
    world.restart("press");
    assert_eq!(last(&mut world), Some(vec![1]));

    world.node("press").hold_persists(false);
    send(&mut world, 2);
    // Refused: nothing is noted.
    let note = Effect::put(b"last", &[9]).unwrap();
    world.node("press").publish_noting("nobody", TOPIC, Content::telemetry([9]), vec![note]);
    world.restart("press");
    assert_eq!(last(&mut world), Some(vec![2]));
    world.advance(Duration::from_secs(5));
    world.settle();
    assert_eq!(world.node("gateway").received(), ["\u{1}", "\u{2}"]);
}

/// Publishes in another manner than most; tells why it failed, if it did.
fn send_as(
    world: &mut World,
    ticket: u64,
    durability: Durability,
    priority: Priority,
) -> Option<SendFailure> {
    let ticket = Ticket(1_000_000 + ticket);
    let publish = Publish {
        ticket,
        peer: pqc_iiot_sim::peer("gateway"),
        topic: Topic::new(TOPIC).unwrap(),
        stream: StreamId::new(1).unwrap(),
        content: Content::telemetry(format!("{}", ticket.0)),
        durability,
        priority,
        effects: Vec::new(),
    };
    world.node("press").input(Input::Command(Command::Publish(publish)));
    world.settle();
    world.node("press").send_failure(ticket)
}

#[test]
fn what_is_volatile_is_kept_nowhere_and_its_gaps_are_counted() {
    let mut world = pair();
    let volatile = |world: &mut World, n| send_as(world, n, Durability::Volatile, Priority::Normal);
    assert_eq!(volatile(&mut world, 1), None);
    world.broker.withhold(TOPIC);
    assert_eq!((volatile(&mut world, 2), volatile(&mut world, 3)), (None, None));
    world.broker.withhold_nothing();
    assert_eq!(volatile(&mut world, 4), None);
    assert_eq!(world.node("gateway").received(), ["1000001", "1000004"]);
    assert!(world.node("gateway").inbox().iter().all(|message| message.id.is_none()));
    assert_eq!(lost(&mut world, "gateway", LossReason::Volatile, false), 2);
    assert_eq!(waiting(&mut world), 0);
    world.advance(DAY);
    assert_eq!(world.node("gateway").received().len(), 2, "nobody sends them again");
    world.disconnect("press");
    assert_eq!(volatile(&mut world, 5), Some(SendFailure::Offline));
}

#[test]
fn urgent_messages_find_room_in_a_full_outbox() {
    let mut world = pair_with(|limits| limits.outbox_bytes = 16 * 1024);
    world.disconnect("press");
    send(&mut world, 100);
    let normal = send_as(&mut world, 1, Durability::Durable, Priority::Normal);
    assert_eq!(normal, Some(SendFailure::OutboxShare));
    assert_eq!(send_as(&mut world, 2, Durability::Durable, Priority::High), None);
    world.connect("press", true);
    world.settle();
    world.advance(Duration::from_secs(5));
    assert!(world.node("gateway").consumed().contains(&"1000002".to_owned()));
    assert_eq!(waiting(&mut world), 0);
}

#[test]
fn a_silent_peer_leaves_room_for_others_and_they_for_one_more() {
    let mut world = pair_with(|limits| limits.outbox_bytes = 64 * 1024);
    let topic = "plant/press/x";
    for name in ["cloud", "vault"] {
        world.enrol(name, &[subscribe("plant/#")]);
        world.node("press").add_peer(name);
    }
    world.settle();
    world.disconnect("press");
    let mut held = Vec::new();
    for name in ["gateway", "cloud", "vault"] {
        let before = world.node("press").status().outbox;
        let failures: Vec<_> = (0..400)
            .filter_map(|n| {
                let press = world.node("press");
                let ticket = press.publish(name, topic, format!("{n}"));
                press.send_failure(ticket)
            })
            .collect();
        assert!(!failures.is_empty());
        assert!(failures.iter().all(|failure| *failure == SendFailure::OutboxShare), "{name}");
        let after = world.node("press").status().outbox;
        held.push(after.bytes - before.bytes);
        assert_eq!(after.largest_peer_bytes, held[0]);
    }
    let limit = 64 * 1024 - 64 * 1024 / 8;
    let mut left = limit;
    for held in held {
        // To within one message.
        assert!(held <= left * 3 / 4 && held + 300 > left * 3 / 4, "{held} of {left}");
        left -= held;
    }
    // What is delivered makes room.
    world.connect("press", true);
    world.settle();
    world.advance(Duration::from_secs(5));
    world.settle();
    let ticket = world.node("press").publish("vault", topic, "more");
    assert_eq!(world.node("press").send_failure(ticket), None);
}
