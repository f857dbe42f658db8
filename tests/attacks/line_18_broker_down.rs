//! With the broker down, publishing puts messages on disk within a bound and then says that it is full; it never blocks,
//! and what was accepted arrives once the broker is back.

use std::time::Duration;

use pqc_iiot_core::endpoint::{
    Command, DeliveryLimits, Durability, Event, FullPolicy, Input, Priority, Publish, SendFailure, Ticket,
};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::store::RecordKind;
use pqc_iiot_core::topic::Topic;
use pqc_iiot_provider::store::Store;
use pqc_iiot_sim::{NodeOptions, World, peer};
use pqc_iiot_tests::{TOPIC, assert_flows, everything};

const BOUND: usize = 16 * 1024;

fn pair() -> World {
    let mut world = World::default();
    let press = NodeOptions::new("press", &everything()).configure(|config| {
        config.delivery.outbox_bytes = BOUND;
        config.delivery.when_full = FullPolicy::Refuse;
    });
    world.enrol_with(press);
    world.enrol("gateway", &everything());
    for name in ["gateway", "press"] {
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world
}

fn publish_urgent(world: &mut World, ticket: Ticket) {
    let publish = Publish {
        ticket,
        peer: peer("gateway"),
        topic: Topic::new(TOPIC).unwrap(),
        stream: StreamId::default(),
        content: Content::telemetry("urgent"),
        durability: Durability::Durable,
        priority: Priority::High,
        effects: Vec::new(),
    };
    world.node("press").input(Input::Command(Command::Publish(publish)));
}

#[test]
fn publishing_queues_durably_up_to_the_bound_and_answers_at_once() {
    let mut world = pair();
    world.disconnect("press");
    let sent = world.broker.captured().len();
    let mut accepted = Vec::new();
    for number in 0..200 {
        let text = number.to_string();
        let ticket = world.node("press").publish("gateway", TOPIC, text.as_bytes());
        // The answer is there before anything else happens.
        let press = world.node("press");
        let answer = press.events().last().unwrap().clone();
        match press.send_failure(ticket) {
            None => {
                assert_eq!(answer, Event::Accepted { ticket, durable: true });
                accepted.push(text);
            }
            Some(reason) => assert_eq!(reason, SendFailure::OutboxShare),
        }
    }
    assert!((20..100).contains(&accepted.len()), "{} accepted", accepted.len());
    let bytes = world.node("press").status().outbox.bytes;
    assert!(bytes <= BOUND - BOUND / DeliveryLimits::RESERVE, "{bytes} bytes");

    // The reserve takes urgent ones, within the bound too.
    let mut urgent = 0;
    for number in 0..200 {
        let ticket = Ticket(1_000_000 + number);
        publish_urgent(&mut world, ticket);
        match world.node("press").send_failure(ticket) {
            None => urgent += 1,
            Some(reason) => assert_eq!(reason, SendFailure::OutboxShare),
        }
    }
    assert!((1..20).contains(&urgent), "{urgent} urgent");
    assert!(world.node("press").status().outbox.bytes <= BOUND);
    let rows = world.node("press").disk().load().unwrap();
    let queued = rows.iter().filter(|row| row.kind == RecordKind::Outbox).count();
    assert_eq!(queued, accepted.len() + urgent, "all of it is on disk");
    assert_eq!(world.broker.captured().len(), sent, "nothing left");

    // The process dies as well; then the broker is back.
    world.restart("press");
    world.advance(Duration::from_secs(30));
    let mut expected = accepted;
    expected.extend((0..urgent).map(|_| "urgent".to_owned()));
    assert_eq!(world.node("gateway").received(), expected);
    assert_eq!(world.node("press").status().outbox.messages, 0);
    for (from, to) in [("press", "gateway"), ("gateway", "press")] {
        assert_flows(&mut world, from, to);
    }
}
