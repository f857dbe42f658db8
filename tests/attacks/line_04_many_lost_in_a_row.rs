//! Losing 51, 500 or 5,000 consecutive messages kills nothing: what is durable arrives in the end, each message once, and
//! of what is volatile the receiver is told how many are missing.

use std::time::Duration;

use pqc_iiot_core::delivery::LossReason;
use pqc_iiot_core::endpoint::{Command, Durability, Event, Input, Priority, Publish, Ticket};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::topic::Topic;
use pqc_iiot_sim::{World, peer};
use pqc_iiot_tests::sessions::{assert_all_in_sessions, command, handshakes, publish_as, session_plant};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_no_sequence_twice, fast_plant};

/// More than are ever under way at once.
const MESSAGES: usize = 60;

#[test]
fn durable_messages_arrive_however_many_packets_are_lost_in_a_row() {
    for losses in [51, 500, 5_000] {
        let mut world = fast_plant();
        world.broker.withhold("plant/#");
        let texts: Vec<String> = (0..MESSAGES).map(|n| format!("{losses}: {n}")).collect();
        for text in &texts {
            world.node("press").publish("gateway", TOPIC, text.as_bytes());
        }
        world.settle();
        // Each new connection has everything under way sent again.
        let sent =
            |world: &World| world.broker.captured().iter().filter(|packet| packet.topic == TOPIC).count();
        while sent(&world) < losses {
            let before = sent(&world);
            world.disconnect("press");
            world.connect("press", true);
            world.settle();
            assert!(sent(&world) > before, "nothing is sent again");
        }
        assert_eq!(world.node("gateway").received(), [] as [&str; 0]);
        assert_eq!(world.node("press").status().outbox.messages, MESSAGES);

        world.broker.withhold_nothing();
        world.advance(Duration::from_secs(60));
        let mut received = world.node("gateway").received();
        // What was lost and sent again comes after its successors.
        received.sort_by_key(|text| texts.iter().position(|sent| sent == text));
        assert_eq!(received, texts, "after {losses} losses");
        assert_eq!(world.node("press").status().outbox.messages, 0);
        assert_no_sequence_twice(&world);
        assert_all_flow(&mut world);
    }
}

fn publish_volatile(world: &mut World, number: u64) {
    let publish = Publish {
        ticket: Ticket(1_000_000 + number),
        peer: peer("gateway"),
        topic: Topic::new(TOPIC).unwrap(),
        stream: StreamId::new(3).unwrap(),
        content: Content::telemetry(number.to_string()),
        durability: Durability::Volatile,
        priority: Priority::Normal,
        effects: Vec::new(),
    };
    world.node("press").input(Input::Command(Command::Publish(publish)));
    world.settle();
}

#[test]
fn a_gap_in_a_volatile_stream_is_told_exactly() {
    for losses in [51, 500] {
        let mut world = fast_plant();
        publish_volatile(&mut world, 0);
        world.broker.withhold("plant/#");
        for number in 1..=losses {
            publish_volatile(&mut world, number);
        }
        world.broker.withhold_nothing();
        publish_volatile(&mut world, losses + 1);
        assert_eq!(world.node("gateway").received(), ["0".into(), (losses + 1).to_string()]);
        let lost: Vec<_> = world
            .node("gateway")
            .events()
            .iter()
            .filter_map(|event| match event {
                Event::Lost { count, reason, outgoing, .. } => Some((*count, *reason, *outgoing)),
                _ => None,
            })
            .collect();
        assert_eq!(lost, [(losses, LossReason::Volatile, false)]);
        assert_all_flow(&mut world);
    }
}

/// Sends what nobody hears.
fn lose(world: &mut World, count: usize, content: &Content) {
    world.broker.withhold("plant/#");
    for number in 0..count {
        publish_as(world, "press", "gateway", 3, content.clone(), Durability::Volatile);
        if number % 500 == 0 {
            world.settle();
        }
    }
    world.settle();
    world.broker.withhold_nothing();
}

#[test]
fn a_session_survives_the_loss_of_51_500_and_60_000_records_in_a_row() {
    let mut world = session_plant();
    let before = handshakes(&world);
    for losses in [51, 500, 60_000] {
        let sent = world.broker.captured_on(TOPIC).len();
        lose(&mut world, losses, &Content::telemetry("lost"));
        assert_eq!(world.broker.captured_on(TOPIC).len(), sent + losses, "all of them were sent");
        publish_as(&mut world, "press", "gateway", 3, Content::telemetry("heard"), Durability::Volatile);
        world.settle();
        assert_eq!(world.node("gateway").received().last().unwrap(), "heard", "after {losses}");
        assert_all_in_sessions(&mut world);
    }
    assert_eq!(handshakes(&world), before, "in the session there was");
}

#[test]
fn however_many_commands_are_lost_later_ones_arrive() {
    for losses in [51, 500, 1_100, 3_000] {
        let mut world = session_plant();
        lose(&mut world, losses, &command("lost"));
        // Telemetry and receipts flow all the while: nothing looks silent.
        assert_all_in_sessions(&mut world);
        world.advance(Duration::from_secs(40));
        assert_all_in_sessions(&mut world);
        world.advance(Duration::from_secs(40));
        publish_as(&mut world, "press", "gateway", 3, command("stop"), Durability::Volatile);
        world.settle();
        assert_eq!(world.node("gateway").received().last().unwrap(), "stop", "after {losses}");
        assert_all_in_sessions(&mut world);
    }
}
