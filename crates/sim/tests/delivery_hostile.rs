//! Delivery against misbehaving receivers, brokers and providers, and through changes of keys: flaws that a review found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::delivery::{LossReason, Origin, Receipt, StreamReceipt};
use pqc_iiot_core::endpoint::{Event, Input, OperationId, OutboxId};
use pqc_iiot_core::envelope::{Body, Content, Tracking};
use pqc_iiot_core::ids::{BootId, StreamId};
use pqc_iiot_core::provider::ProviderFailure;
use pqc_iiot_sim::{EPOCH, NodeOptions, World, peer, publish, subscribe};

const TOPIC: &str = "plant/press/temperature";
const HOUR: Duration = Duration::from_secs(60 * 60);

fn pair() -> World {
    let mut world = World::default();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    world.enrol("gateway", &grants);
    world.enrol("press", &grants);
    for name in ["gateway", "press"] {
        world.subscribe(name, "plant/press/#");
    }
    world.introduce("gateway", "press");
    world
}

fn send(world: &mut World, count: usize) {
    for n in 0..count {
        world.node("press").publish("gateway", TOPIC, format!("{n}"));
    }
}

fn waiting(world: &mut World) -> usize {
    world.node("press").status().outbox.messages
}

fn lost(world: &mut World, name: &str, why: LossReason, outgoing: bool) -> u64 {
    let count = |event: &Event| match event {
        Event::Lost { count, reason, outgoing: out, .. } if *reason == why && *out == outgoing => *count,
        _ => 0,
    };
    world.node(name).events().iter().map(count).sum()
}

#[test]
fn a_window_of_messages_on_an_unheard_topic_blocks_no_other_topic() {
    let mut world = pair();
    for _ in 0..48 {
        world.node("press").publish("gateway", "plant/unheard", "x");
    }
    send(&mut world, 10);
    world.settle();
    world.advance(24 * HOUR);
    assert_eq!(world.node("gateway").received().len(), 10);
}

#[test]
fn one_unheard_message_before_a_restart_blocks_no_other() {
    let mut world = pair();
    world.node("press").publish("gateway", "plant/unheard", "x");
    world.settle();
    world.restart("press");
    world.settle();
    send(&mut world, 10);
    world.settle();
    world.advance(24 * HOUR);
    assert_eq!(world.node("gateway").received().len(), 10);
}

#[test]
fn a_report_that_is_too_large_for_the_broker_is_counted_once_and_not_signed_for_ever() {
    let mut world = pair();
    world.broker.withhold("#");
    send(&mut world, 1);
    world.settle();
    let calls = world.node("press").provider_calls();
    for _ in 0..50 {
        world.node("press").input(Input::Undeliverable(OutboxId(1)));
        world.settle();
    }
    let calls = world.node("press").provider_calls() - calls;
    let lost = lost(&mut world, "press", LossReason::Unsendable, true);
    assert_eq!((lost, calls < 10), (1, true), "{calls} signatures");
}

#[test]
fn given_up_while_it_is_being_sealed_leaves_no_ghost_in_the_window() {
    let mut world = pair();
    world.node("press").hold_provider(true);
    send(&mut world, 1);
    world.node("press").input(Input::Undeliverable(OutboxId(1)));
    world.node("press").hold_provider(false);
    world.settle();
    world.advance(Duration::from_secs(5));
    send(&mut world, 100);
    world.settle();
    world.advance(24 * HOUR);
    assert_eq!(world.node("gateway").received().len(), 100);
}

#[test]
fn messages_to_a_peer_revoked_while_out_of_force_are_given_up() {
    let mut world = World::default();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    world.enrol_with(NodeOptions::new("gateway", &grants).valid_until(EPOCH.plus(2 * HOUR)));
    world.enrol("press", &grants);
    world.introduce("gateway", "press");
    world.disconnect("press");
    send(&mut world, 5);
    world.advance(3 * HOUR);
    world.restart("press");
    world.settle();
    world.revoke(&["gateway"]);
    world.advance(24 * HOUR);
    let lost = lost(&mut world, "press", LossReason::Revoked, true);
    assert_eq!((waiting(&mut world), lost), (0, 5));
}

#[test]
fn an_unsendable_message_is_reported_on_both_sides() {
    let mut world = World::default();
    world.enrol("gateway", &[subscribe("other/#")]);
    world.enrol("press", &[publish("plant/#")]);
    world.node("gateway").add_peer("press");
    world.settle();
    world.node("press").add_peer("gateway");
    send(&mut world, 1);
    world.settle();
    world.advance(HOUR);
    assert_eq!(lost(&mut world, "press", LossReason::Unsendable, true), 1);
    assert_eq!(lost(&mut world, "gateway", LossReason::Unsendable, false), 1);
}

#[test]
fn a_lying_receipt_causes_neither_audit_entries_nor_signatures_without_bound() {
    let mut world = pair();
    world.broker.withhold(TOPIC);
    send(&mut world, 40);
    world.settle();
    let liar = world.node("gateway").identity().clone();
    let control = world.topics.control(&peer("press"));
    let calls = world.node("press").provider_calls();
    for n in 1..=100 {
        let mut spec = world.seal_spec("press", &control, "");
        (spec.stream, spec.sequence) = (StreamId::CONTROL, 1000 + n);
        let stream =
            StreamReceipt { stream: StreamId::default(), last_sequence: 10_000 * n, boots: Vec::new() };
        spec.body = Body::Receipt(Receipt { streams: vec![stream] });
        let packet = liar.seal(&spec);
        world.broker.inject(&control, &packet);
        world.settle();
    }
    let calls = world.node("press").provider_calls() - calls;
    let audited = world.node("press").audited(AuditKind::RollbackNoticed);
    assert!(audited <= 10 && calls < 1_000, "{audited} audit entries, {calls} calls of the provider");
}

#[test]
fn a_replayed_message_without_room_costs_its_replayer_budget() {
    let mut world = pair();
    world.disconnect("press");
    let insider = world.node("press").identity().clone();
    let mut last = Vec::new();
    for n in 1..=129 {
        let mut spec = world.seal_spec("gateway", TOPIC, "x");
        spec.sequence = n;
        let origin = Origin { boot: BootId([1; 8]), msg_seq: 2 * n };
        spec.body = Body::Message { content: Content::telemetry("x"), tracking: Tracking::Durable(origin) };
        last = insider.seal(&spec);
        if n <= 128 {
            world.broker.deliver_to("gateway", TOPIC, &last);
            world.settle();
        }
    }
    assert_eq!(world.node("gateway").received().len(), 128);
    let calls = world.node("gateway").provider_calls();
    for _ in 0..2_000 {
        world.broker.deliver_to("gateway", TOPIC, &last);
        world.settle();
    }
    let calls = world.node("gateway").provider_calls() - calls;
    // The budget's burst, and what a signed receipt or two cost.
    assert!(calls < 1_100, "{calls} calls of the provider for one packet and no time");
}

#[test]
fn new_keys_of_a_receiver_while_something_is_being_sealed_lose_nothing() {
    let mut world = pair();
    world.node("press").hold_provider(true);
    send(&mut world, 10);
    let grants = [publish("plant/#"), subscribe("plant/#")];
    let identity = world.certify(&NodeOptions::new("gateway", &grants));
    world.start(identity, NodeOptions::new("gateway", &grants)).unwrap();
    world.subscribe("gateway", "plant/press/#");
    world.node("gateway").add_peer("press");
    world.settle();
    send(&mut world, 10);
    world.node("press").hold_provider(false);
    world.settle();
    world.advance(24 * HOUR);
    assert_eq!((world.node("gateway").received().len(), waiting(&mut world)), (20, 0));
}

#[test]
fn messages_under_way_survive_new_keys_of_their_sender() {
    let mut world = pair();
    world.broker.withhold(TOPIC);
    send(&mut world, 10);
    world.settle();
    let disk = world.node("press").disk();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    let identity = world.certify(&NodeOptions::new("press", &grants));
    world.start(identity, NodeOptions::new("press", &grants)).unwrap();
    world.node("press").replace_disk(disk);
    world.broker.withhold_nothing();
    world.restart("press");
    world.settle();
    world.node("press").add_peer("gateway");
    world.settle();
    send(&mut world, 10);
    world.advance(24 * HOUR);
    assert_eq!((world.node("gateway").received().len(), waiting(&mut world)), (20, 0));
}

#[test]
fn a_seal_that_fails_after_its_message_is_gone_blocks_nothing() {
    let mut world = pair();
    world.node("press").hold_provider(true);
    send(&mut world, 1);
    world.revoke(&["gateway"]);
    for n in 1..200 {
        world.node("press").input(Input::Provided(OperationId(n), Err(ProviderFailure::Refused)));
    }
    world.node("press").hold_provider(false);
    let grants = [publish("plant/#"), subscribe("plant/#")];
    let identity = world.certify(&NodeOptions::new("gateway", &grants));
    world.start(identity, NodeOptions::new("gateway", &grants)).unwrap();
    world.subscribe("gateway", "plant/press/#");
    world.node("gateway").add_peer("press");
    world.settle();
    send(&mut world, 10);
    world.settle();
    world.advance(HOUR);
    assert_eq!((world.node("gateway").received().len(), waiting(&mut world)), (10, 0));
}
