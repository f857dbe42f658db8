//! The sizes of packets: epochs change over transports that take only small ones, and a message costs 28 bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::endpoint::{Command, Durability, Input, Priority, Protection, Publish, Ticket};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::session::{OVERHEAD, TYPE_RECORD};
use pqc_iiot_core::topic::Topic;
use pqc_iiot_sim::{Chaos, NodeOptions, World, peer, publish, subscribe};

const LIMIT: usize = 256;
const PAYLOAD: &[u8] = b"73.9";

/// A pair in a session, over transports that take 256 bytes from now on.
fn pair_with(rekey_records: u64, max_packet: usize) -> World {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        let options = NodeOptions::new(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.enrol_with(options.configure(move |config| {
            config.sessions.rekey_records = rekey_records;
            config.sessions.max_packet = max_packet;
        }));
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", "plant/a", b"first");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("gateway").status().sessions, 1);
    world.packet_limit = LIMIT;
    world
}

fn talk(world: &mut World, rounds: usize) {
    for round in 0..rounds {
        world.node("press").publish("gateway", "plant/a", format!("{round}"));
        world.node("gateway").publish("press", "plant/a", format!("{round}"));
        world.advance(Duration::from_secs(5));
    }
}

fn epoch(world: &mut World, name: &str) -> u16 {
    match world.node(name).inbox().last().unwrap().protection {
        Protection::Session { epoch } => epoch,
        other => panic!("in {other:?}"),
    }
}

#[test]
fn an_epoch_changes_in_small_packets_under_loss_and_restarts() {
    for (drop, restarts) in [(0, false), (250, false), (100, true)] {
        let mut world = pair_with(30, LIMIT);
        let before = world.broker.captured().len();
        world.unleash(Chaos {
            drop,
            duplicate: drop,
            delay: drop,
            longest_delay: Duration::from_secs(20),
            ..Chaos::default()
        });
        for round in 0..8 {
            talk(&mut world, 20);
            if restarts {
                // Whatever had arrived of an offer or an answer is gone; it comes again as a whole.
                world.restart(["gateway", "press"][round % 2]);
            }
        }
        world.heal();
        world.advance(Duration::from_secs(20 * 60));
        talk(&mut world, 1);
        for name in ["gateway", "press"] {
            let epoch = epoch(&mut world, name);
            assert!(epoch >= 2, "{name} is in epoch {epoch} with {drop} lost");
            assert_eq!(world.node(name).status().outbox.messages, 0);
        }
        let session = |packet: &&pqc_iiot_sim::Packet| packet.payload.first() == Some(&TYPE_RECORD);
        let longest =
            world.broker.captured()[before..].iter().filter(session).map(|packet| packet.payload.len());
        let longest = longest.max().unwrap();
        assert!((200..=LIMIT).contains(&longest), "{longest} bytes");
    }
}

#[test]
fn without_parts_no_epoch_changes_over_such_a_transport() {
    let mut world = pair_with(30, usize::MAX);
    talk(&mut world, 60);
    assert_eq!(epoch(&mut world, "gateway"), 0, "or the test before shows nothing");
}

/// However many streams take turns, a message costs 28 bytes once their numbers are confirmed.
#[test]
fn a_thousand_messages_on_four_streams_cost_28_bytes_each() {
    let mut world = pair_with(u64::MAX, usize::MAX);
    world.packet_limit = usize::MAX;
    let send = |world: &mut World, n: u64| {
        let publish = Publish {
            ticket: Ticket(n),
            peer: peer("gateway"),
            topic: Topic::new("plant/a").unwrap(),
            stream: StreamId::new((n % 4) as u8).unwrap(),
            content: Content::telemetry(PAYLOAD.to_vec()),
            durability: Durability::Durable,
            priority: Priority::Normal,
            effects: Vec::new(),
        };
        world.node("press").input(Input::Command(Command::Publish(publish)));
        world.advance(Duration::from_millis(100));
    };
    let sizes = |world: &World| {
        let records = world.broker.captured_on("plant/a").into_iter();
        records.map(|record| record.len() - PAYLOAD.len()).collect::<Vec<_>>()
    };
    // Until the receiver has confirmed where each stream is.
    for n in 0..16 {
        send(&mut world, n);
    }
    let first = sizes(&world).len();
    for n in 16..1_016 {
        send(&mut world, n);
    }
    let sizes = sizes(&world).split_off(first);
    assert_eq!(sizes, [OVERHEAD; 1_000]);
    world.advance(Duration::from_secs(10));
    assert_eq!(world.node("gateway").received().len(), 1 + 1_016);
}
