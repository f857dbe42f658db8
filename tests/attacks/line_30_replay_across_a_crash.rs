//! A receiver that loses power at any of the write boundaries on a message's way in, with the packet replayed before and
//! after: the message is told once, or again only until it was consumed.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::session::{Class, Header, OVERHEAD, Settled};
use pqc_iiot_sim::World;
use pqc_iiot_tests::sessions::{
    Insider, assert_all_in_sessions, assert_in_session, control_topic, session_plant,
};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_no_sequence_twice, assert_refused, plant, told_once};

/// Stops the gateway after so many writes of what a message brings, with copies before, at and after that. Gives the packet,
/// and whether there were so many writes.
fn replay_at_boundary(
    world: &mut World,
    boundary: usize,
    text: &str,
    copy: fn(&mut World, &[u8]),
) -> (Vec<u8>, bool) {
    let (start, told) = (world.broker.captured().len(), world.node("gateway").inbox().len());
    world.node("gateway").hold_persists(true);
    world.node("press").publish("gateway", TOPIC, text.as_bytes());
    world.settle();
    let sent = world.broker.captured()[start..].iter().find(|packet| packet.topic == TOPIC);
    let packet = sent.unwrap().payload.clone();
    // A copy comes while the first is not durable.
    copy(world, &packet);
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), told, "nothing is told before it is durable");
    assert_eq!(world.broker.unacknowledged("gateway"), 2, "nor acknowledged");

    let reached = world.node("gateway").release_persists(boundary);
    copy(world, &packet);
    if boundary % 2 == 1 {
        world.settle();
    }
    world.restart("gateway");
    copy(world, &packet);
    world.node("gateway").hold_persists(false);
    copy(world, &packet);
    world.advance(Duration::from_secs(5));

    let inbox = world.node("gateway").inbox();
    let of_this: Vec<_> = inbox.iter().filter(|message| message.content.payload == text.as_bytes()).collect();
    assert!(of_this.len() == 1 || (of_this.len() == 2 && of_this[1].redelivered), "{boundary}");
    assert!(of_this.iter().all(|message| message.origin == of_this[0].origin), "{boundary}");
    (packet, reached)
}

/// Every message so far was told, and its sender knows.
fn assert_told(world: &mut World, texts: &[String]) {
    assert_eq!(told_once(world, "gateway"), texts, "nothing is lost");
    assert_eq!(world.node("press").status().outbox.messages, 0, "and all is confirmed");
}

#[test]
fn a_replay_at_any_write_boundary_has_no_effect() {
    let mut world = plant();
    world.node("press").publish("gateway", TOPIC, "before");
    world.settle();
    let mut texts = vec!["before".to_owned()];
    let inject = |world: &mut World, packet: &[u8]| world.broker.inject(TOPIC, packet);
    let mut boundaries = 0;
    loop {
        let text = format!("boundary {boundaries}");
        texts.push(text.clone());
        let (packet, reached) = replay_at_boundary(&mut world, boundaries, &text, inject);
        assert_refused(&mut world, TOPIC, &packet, RefusalReason::Replayed);
        assert_told(&mut world, &texts);
        boundaries += 1;
        if !reached {
            break;
        }
    }
    assert!(boundaries > 3, "only {boundaries} boundaries");
    // Consumed is consumed: after one more start nothing is told again.
    let told = world.node("gateway").inbox().len();
    world.restart("gateway");
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), told);
    assert_no_sequence_twice(&world);
    assert_all_flow(&mut world);
}

#[test]
fn a_record_replayed_at_any_write_boundary_has_no_effect() {
    let mut world = session_plant();
    let mut texts = told_once(&mut world, "gateway");
    let deliver = |world: &mut World, record: &[u8]| world.broker.deliver_to("gateway", TOPIC, record);
    let mut boundaries = 0;
    loop {
        let text = format!("boundary {boundaries}");
        texts.push(text.clone());
        let (record, reached) = replay_at_boundary(&mut world, boundaries, &text, deliver);
        assert!(Header::parse(&record).is_some(), "it is a record");
        let inbox = world.node("gateway").inbox().len();
        deliver(&mut world, &record);
        world.settle();
        assert_eq!(world.node("gateway").inbox().len(), inbox, "a replay is told");
        assert_told(&mut world, &texts);
        boundaries += 1;
        if !reached {
            break;
        }
    }
    assert!(boundaries > 1, "only {boundaries} boundaries");
    assert_all_in_sessions(&mut world);
}

/// An untracked message is told at most once: its record's block is noted with the first record in it, whatever that
/// brings.
#[test]
fn a_refused_record_does_not_open_the_door_for_replays_after_a_crash() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    press.assert_heard(&mut world);
    // The first record of the next block is genuine and refused; the second is told.
    for _ in 0..64 {
        press.untracked(Class::Control, TOPIC, Content::telemetry("lost"));
    }
    let refused = press.untracked(Class::Control, "press/elsewhere", Content::telemetry("no grant"));
    let told = press.untracked(Class::Control, TOPIC, Content::telemetry("told"));
    world.broker.deliver_to("gateway", "press/elsewhere", &refused);
    world.settle();
    assert_eq!(world.node("gateway").refused(RefusalReason::NoGrant), 1);
    world.broker.deliver_to("gateway", TOPIC, &told);
    world.settle();
    let times =
        |world: &mut World| world.node("gateway").received().iter().filter(|text| *text == "told").count();
    assert_eq!(times(&mut world), 1);
    world.restart("gateway");
    world.broker.deliver_to("gateway", TOPIC, &told);
    world.settle();
    assert_eq!(times(&mut world), 1, "told again after a crash");
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}

/// What a receipt confirms is durable before its sender leaves out numbers for it.
#[test]
fn a_crash_after_a_receipt_shifts_no_numbers() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    let telemetry = |press: &mut Insider, world: &mut World, number: u64| {
        let record = press.telemetry(TOPIC, number, &format!("number {number}"));
        world.broker.deliver_to("gateway", TOPIC, &record);
        world.settle();
        record.len() - format!("number {number}").len()
    };
    assert_eq!(telemetry(&mut press, &mut world, 50_000), OVERHEAD + 8, "nothing is near it");
    let heard = world.broker.captured_on(&control_topic("press")).len();
    world.advance(Duration::from_secs(2));
    assert!(world.broker.captured_on(&control_topic("press")).len() > heard, "a receipt");
    press.confirmed = Settled { cumulative: 0, highest: 50_000 };
    world.restart("gateway");
    world.settle();
    assert_eq!(telemetry(&mut press, &mut world, 50_001), OVERHEAD);
    let last = world.node("gateway").inbox().last().map(|message| (message.origin, message.content.clone()));
    let (origin, content) = last.unwrap();
    assert_eq!(content.payload, b"number 50001");
    assert_eq!(origin.unwrap().msg_seq, 50_001, "a message is taken for another");
    assert_in_session(&mut world, "lathe", "gateway");
}
