//! Names of messages: given when they are accepted, written once, and none of them missing for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use pqc_iiot_core::budget::Rate;
use pqc_iiot_core::delivery::LossReason;
use pqc_iiot_core::endpoint::{
    Command, DeliveryLimits, Durability, Event, FullPolicy, Input, Priority, Publish, RefusalReason, Ticket,
};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::store::{Change, RecordKind};
use pqc_iiot_core::topic::Topic;
use pqc_iiot_provider::store::Store;
use pqc_iiot_sim::{NodeOptions, World, peer, publish, subscribe};

const TOPIC: &str = "plant/press/temperature";

fn pair_with(limit: fn(&mut DeliveryLimits)) -> World {
    let mut world = World::default();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    world.enrol("gateway", &grants);
    world.enrol_with(NodeOptions::new("press", &grants).configure(move |config| limit(&mut config.delivery)));
    world.subscribe("gateway", "plant/press/#");
    world.introduce("gateway", "press");
    world
}

fn send(world: &mut World, text: &str, priority: Priority) {
    let publish = Publish {
        ticket: Ticket(9),
        peer: peer("gateway"),
        topic: Topic::new(TOPIC).unwrap(),
        stream: StreamId::default(),
        content: Content::telemetry(text),
        durability: Durability::Durable,
        priority,
        effects: Vec::new(),
    };
    world.node("press").input(Input::Command(Command::Publish(publish)));
}

fn rows(world: &mut World, name: &str, kind: RecordKind) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let rows = world.node(name).disk().load().unwrap().into_iter().filter(|row| row.kind == kind);
    rows.map(|row| (row.key, row.value)).collect()
}

fn lost(world: &mut World, name: &str, why: LossReason) -> u64 {
    let count = |event: &Event| match event {
        Event::Lost { count, reason, .. } if *reason == why => *count,
        _ => 0,
    };
    world.node(name).events().iter().map(count).sum()
}

/// Whatever is still on its way arrives, each message once.
fn deliver_all(world: &mut World, expected: usize) {
    world.settle();
    for _ in 0..200 {
        if world.node("press").status().outbox.messages == 0 {
            break;
        }
        world.advance(Duration::from_secs(30));
    }
    let mut consumed = world.node("gateway").consumed();
    consumed.sort();
    consumed.dedup();
    assert_eq!((consumed.len(), world.node("gateway").consumed().len()), (expected, expected));
    assert_eq!(world.node("press").status().outbox.messages, 0);
    assert_eq!(world.node("gateway").refused(RefusalReason::TooManyGaps), 0);
}

#[test]
fn a_message_is_written_once_with_its_packet_beside_it_and_both_go_together() {
    let mut world = pair_with(|_| ());
    world.node("press").hold_provider(true);
    send(&mut world, "x", Priority::Normal);
    let accepted = rows(&mut world, "press", RecordKind::Outbox);
    assert_eq!((accepted.len(), rows(&mut world, "press", RecordKind::Packet).len()), (1, 0));
    world.broker.withhold("#");
    world.node("press").hold_provider(false);
    world.settle();
    assert_eq!(rows(&mut world, "press", RecordKind::Outbox), accepted, "written again");
    let packets = rows(&mut world, "press", RecordKind::Packet);
    assert!(packets.keys().eq(accepted.keys()));
    world.broker.withhold_nothing();
    world.restart("press");
    deliver_all(&mut world, 1);
    for kind in [RecordKind::Outbox, RecordKind::Packet] {
        assert!(rows(&mut world, "press", kind).is_empty(), "{kind:?}");
    }
}

#[test]
fn a_packet_that_is_missing_or_left_over_does_no_harm() {
    let mut world = pair_with(|_| ());
    world.broker.withhold(&world.topics.control(&peer("press")));
    send(&mut world, "x", Priority::Normal);
    world.settle();
    assert_eq!(world.node("gateway").received().len(), 1, "it arrived, and its receipt does not");
    world.restart_offline("press");
    let mut disk = world.node("press").disk();
    let packets = rows(&mut world, "press", RecordKind::Packet);
    let (key, value) = packets.into_iter().next().unwrap();
    let stray = Change::Put { kind: RecordKind::Packet, key: vec![0; 8], value };
    disk.commit(&[stray, Change::Delete { kind: RecordKind::Packet, key }]).unwrap();
    world.node("press").replace_disk(disk);
    world.broker.withhold_nothing();
    world.restart("press");
    deliver_all(&mut world, 1);
    assert!(rows(&mut world, "press", RecordKind::Packet).is_empty());
}

#[test]
fn reports_leave_no_gaps_however_many_are_dropped_between_others() {
    let mut world = pair_with(|limits| {
        (limits.outbox_bytes, limits.when_full) = (180 * 1024, FullPolicy::DropOldest);
    });
    world.disconnect("press");
    for n in 0..300 {
        send(&mut world, &format!("high {n}"), Priority::High);
        send(&mut world, &format!("normal {n}"), Priority::Normal);
    }
    // These drop what is normal between the urgent ones, each a gap of its own.
    let before = world.node("press").status().outbox.messages;
    let mut dropped = 0;
    while dropped < 300 {
        send(&mut world, "more", Priority::Normal);
        dropped = lost(&mut world, "press", LossReason::DroppedOldest);
        assert!(world.node("press").status().outbox.messages <= before + 400);
    }
    let kept = world.node("press").status().outbox.messages;
    world.connect("press", true);
    world.settle();
    for _ in 0..200 {
        world.advance(Duration::from_secs(5));
    }
    assert_eq!(world.node("press").status().outbox.messages, 0);
    assert_eq!(world.node("gateway").consumed().len(), kept);
    assert_eq!(lost(&mut world, "gateway", LossReason::DroppedOldest), dropped);
    assert_eq!(world.node("gateway").refused(RefusalReason::TooManyGaps), 0);
    assert!(rows(&mut world, "press", RecordKind::Outbox).is_empty(), "reports wait for ever");
}

#[test]
fn neighbours_given_up_for_one_reason_are_one_report() {
    let mut world = pair_with(|limits| {
        (limits.outbox_bytes, limits.when_full) = (16 * 1024, FullPolicy::DropNewest);
    });
    world.disconnect("press");
    for n in 0..500 {
        send(&mut world, &n.to_string(), Priority::Normal);
    }
    let kept = world.node("press").status().outbox.messages;
    assert_eq!(rows(&mut world, "press", RecordKind::Outbox).len(), kept + 1);
    world.restart_offline("press");
    send(&mut world, "of another start", Priority::Normal);
    assert_eq!(rows(&mut world, "press", RecordKind::Outbox).len(), kept + 2);
    world.connect("press", true);
    deliver_all(&mut world, kept);
    world.advance(Duration::from_secs(5));
    assert_eq!(lost(&mut world, "gateway", LossReason::DroppedNewest), 501 - kept as u64);
}

/// Fresh messages overtake a backlog, again and again as the link flaps: the receiver has room for the gaps all the same.
#[test]
fn a_flapping_link_costs_no_message() {
    let mut world = pair_with(|limits| limits.drain = Rate { burst: 1, per_second: 1 });
    world.disconnect("press");
    for n in 0..200 {
        send(&mut world, &format!("old {n}"), Priority::Normal);
    }
    for n in 0..150 {
        world.connect("press", true);
        send(&mut world, &format!("new {n}"), Priority::Normal);
        world.settle();
        world.disconnect("press");
        send(&mut world, &format!("between {n}"), Priority::Normal);
        world.advance(Duration::from_millis(300));
    }
    world.connect("press", true);
    world.settle();
    for _ in 0..80 {
        world.advance(Duration::from_secs(10));
    }
    assert_eq!(world.node("press").status().outbox.messages, 0);
    assert_eq!(world.node("gateway").consumed().len(), 200 + 300);
    assert_eq!(world.node("gateway").refused(RefusalReason::TooManyGaps), 0);
}

/// Messages accepted in many starts: receipts name few of them at once, and none is told twice.
#[test]
fn messages_of_many_starts_arrive_once_whatever_becomes_of_receipts() {
    let mut world = pair_with(|_| ());
    world.disconnect("press");
    for n in 0..150 {
        world.restart_offline("press");
        send(&mut world, &n.to_string(), Priority::Normal);
    }
    let control = world.topics.control(&peer("press"));
    world.broker.withhold(&control);
    world.connect("press", true);
    world.settle();
    for _ in 0..10 {
        world.advance(Duration::from_secs(600));
    }
    assert!(world.node("gateway").consumed().len() <= 31, "{}", world.node("gateway").consumed().len());
    world.broker.withhold_nothing();
    deliver_all(&mut world, 150);
}
