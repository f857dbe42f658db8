//! What a message's number costs on the wire, and what becomes of it when its receiver's disk is put back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::session::{Class, Header, OVERHEAD, SALT_LEN};
use pqc_iiot_sim::{World, publish, subscribe};

const SECOND: Duration = Duration::from_secs(1);
/// All payloads are of this length.
const PAYLOAD: usize = 8;

fn plant() -> World {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    send(&mut world, 0..1);
    world.advance(5 * SECOND);
    world
}

fn send(world: &mut World, numbers: std::ops::Range<u32>) {
    for number in numbers {
        world.node("press").publish("gateway", "plant/a", text(number).as_bytes());
        if number % 64 == 63 {
            world.settle();
        }
    }
    world.settle();
}

fn text(number: u32) -> String {
    format!("{number:0PAYLOAD$}")
}

/// What telemetry records since the packet `start` added to their payloads: the salted ones', and the others'.
fn overheads(world: &World, start: usize) -> (Vec<usize>, Vec<usize>) {
    let packets = &world.broker.captured()[start..];
    let records = packets.iter().filter(|packet| packet.topic == "plant/a").filter_map(|packet| {
        let header = Header::parse(&packet.payload).filter(|header| header.class == Class::Telemetry)?;
        Some((header, packet.payload.len() - PAYLOAD))
    });
    let (salted, others): (Vec<_>, Vec<_>) = records.partition(|(header, _)| header.salt.is_some());
    let lengths = |records: Vec<(Header, usize)>| records.into_iter().map(|(_, length)| length).collect();
    (lengths(salted), lengths(others))
}

fn assert_all_heard(world: &mut World, numbers: std::ops::Range<u32>) {
    world.advance(60 * SECOND);
    let mut heard = world.node("gateway").consumed();
    heard.sort();
    heard.dedup();
    let missing: Vec<_> = numbers.map(text).filter(|text| heard.binary_search(text).is_err()).collect();
    assert!(missing.is_empty(), "{} are missing, as {:?}", missing.len(), missing.first());
}

#[test]
fn a_number_costs_nothing_from_the_first_record_of_a_session_an_epoch_or_a_start() {
    let mut world = plant();
    let start = world.broker.captured().len();
    // Through a change of the epoch, which 10,000 messages bring.
    send(&mut world, 1..11_000);
    world.advance(5 * SECOND);
    let (salted, others) = overheads(&world, start);
    assert_eq!((salted.len(), others.len()), (0, 10_999));
    assert!(others.iter().all(|length| *length == OVERHEAD), "28 bytes");
    let epochs = world.broker.captured().iter().filter_map(|packet| Header::parse(&packet.payload));
    assert!(epochs.map(|header| header.epoch).max() > Some(0));

    let start = world.broker.captured().len();
    world.restart("press");
    world.subscribe("press", "plant/#");
    send(&mut world, 11_000..11_100);
    world.advance(5 * SECOND);
    send(&mut world, 11_100..11_200);
    let (salted, others) = overheads(&world, start);
    assert!(!salted.is_empty() && others.len() >= 100);
    assert!(salted.iter().all(|length| *length == OVERHEAD + SALT_LEN), "36 bytes");
    assert!(others.iter().all(|length| *length == OVERHEAD));
    assert_all_heard(&mut world, 0..11_200);
    assert_eq!(world.node("gateway").refused(RefusalReason::BadCiphertext), 0);
}

#[test]
fn a_backlog_and_fresh_messages_in_turn_cost_little_more() {
    let mut world = plant();
    world.disconnect("press");
    send(&mut world, 1..5_000);
    let start = world.broker.captured().len();
    world.connect("press", true);
    send(&mut world, 5_000..5_100);
    assert_all_heard(&mut world, 0..5_100);
    assert_eq!(world.node("gateway").refused(RefusalReason::BadCiphertext), 0);
    let (salted, others) = overheads(&world, start);
    assert!(salted.is_empty() && others.len() >= 5_000);
    let whole = others.iter().filter(|length| **length == OVERHEAD + 8).count();
    assert!(others.iter().all(|length| *length <= OVERHEAD + 8));
    // Those that overtake the backlog before a receipt says that one arrived.
    assert!((1..200).contains(&whole), "{whole} had their whole number");
}

/// Numbers that it cannot tell any more do not authenticate; they come again with their whole names, and it goes on.
#[test]
fn a_receiver_whose_disk_was_put_back_misses_nothing_for_good() {
    let mut world = plant();
    let disk = world.node("gateway").disk();
    send(&mut world, 1..5_000);
    world.advance(5 * SECOND);
    world.node("gateway").replace_disk(disk);
    world.restart("gateway");
    world.subscribe("gateway", "plant/#");
    send(&mut world, 5_000..5_300);
    assert_all_heard(&mut world, 5_000..5_300);
    let refused = world.node("gateway").refused(RefusalReason::BadCiphertext);
    assert!((1..=300).contains(&refused), "{refused} records had numbers that it could not tell");
}
