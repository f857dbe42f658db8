//! An old copy of a sender's disk is put back. Its receiver's receipt shows it; what waits is sealed anew, and nothing that
//! the restored sender accepts is lost, without a person.

use std::time::Duration;

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::endpoint::{Event, RefusalReason};
use pqc_iiot_sim::World;
use pqc_iiot_tests::sessions::{assert_all_in_sessions, assert_no_counter_twice, command, session_plant};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, fast_plant};

const MINUTE: Duration = Duration::from_secs(60);

fn rolled_back(world: &mut World) -> usize {
    let of = |event: &&Event| matches!(event, Event::RolledBack { peer, .. } if peer.as_str() == "gateway");
    world.node("press").events().iter().filter(of).count()
}

fn send(world: &mut World, what: &str, count: usize) -> Vec<String> {
    let texts: Vec<String> = (0..count).map(|n| format!("{what} {n}")).collect();
    for text in &texts {
        world.node("press").publish("gateway", TOPIC, text.as_bytes());
    }
    texts
}

#[test]
fn a_restored_sender_is_noticed_and_loses_nothing() {
    let mut world = fast_plant();
    let old = world.node("press").disk();
    let mut texts = send(&mut world, "first life", 100);
    world.advance(MINUTE);
    assert_eq!(rolled_back(&mut world), 0);

    world.node("press").replace_disk(old);
    world.restart("press");
    texts.extend(send(&mut world, "second life", 100));
    world.advance(MINUTE);
    assert_eq!(rolled_back(&mut world), 1, "the application is told, once");
    assert_eq!(world.node("press").audited(AuditKind::RollbackNoticed), 1);
    assert_eq!(world.node("gateway").received(), texts, "every message, once, in order");
    assert_eq!(world.node("press").status().outbox.messages, 0);
    for packet in world.broker.captured_on(TOPIC).into_iter().rev().take(40) {
        assert_refused(&mut world, TOPIC, &packet, RefusalReason::Replayed);
    }
    assert_all_flow(&mut world);
}

#[test]
fn messages_that_the_old_copy_still_held_are_recognised() {
    let mut world = fast_plant();
    // The old copy has them on its way, and does not know that they arrived.
    world.broker.withhold("plant/#");
    let mut texts = send(&mut world, "under way", 20);
    world.settle();
    let old = world.node("press").disk();
    world.broker.withhold_nothing();
    world.advance(MINUTE);
    // Two more starts, each of which leaves out what was reserved and not used.
    for _ in 0..2 {
        world.restart("press");
        texts.extend(send(&mut world, "later", 20));
        world.advance(MINUTE);
    }
    assert_eq!(world.node("gateway").received(), texts);

    world.node("press").replace_disk(old);
    world.restart("press");
    assert_eq!(world.node("press").status().outbox.messages, 20);
    texts.extend(send(&mut world, "after", 20));
    world.advance(MINUTE);
    assert_eq!(rolled_back(&mut world), 1);
    assert_eq!(world.node("gateway").received(), texts, "what arrived before is not told again");
    assert_eq!(world.node("press").status().outbox.messages, 0);
    assert_all_flow(&mut world);
}

#[test]
fn a_restored_disk_repeats_no_key_and_nonce_and_its_session_heals() {
    let mut world = session_plant();
    let old = world.node("press").disk();
    let before = world.node("gateway").received().len();
    let mut texts = send(&mut world, "first life", 100);
    world.advance(MINUTE);
    world.node("press").replace_disk(old);
    world.restart("press");
    texts.extend(send(&mut world, "second life", 100));
    world.advance(20 * MINUTE);
    assert_no_counter_twice(&world);
    let mut received = world.node("gateway").received()[before..].to_vec();
    received.sort_by_key(|text| texts.iter().position(|sent| sent == text));
    assert_eq!(received, texts, "every message, once");
    assert_eq!(world.node("press").status().outbox.messages, 0);
    assert_all_in_sessions(&mut world);
}

#[test]
fn a_restored_receiver_accepts_no_command_twice() {
    let mut world = session_plant();
    let old = world.node("gateway").disk();
    world.node("press").publish_content("gateway", TOPIC, command("press on"));
    world.settle();
    let record = world.broker.last_on(TOPIC);
    assert_eq!(world.node("gateway").received().last().unwrap(), "press on");
    let consumed = world.node("gateway").disk();
    // A crash alone brings nothing back.
    world.node("gateway").replace_disk(consumed);
    world.restart("gateway");
    let told = world.node("gateway").inbox().len();
    world.broker.deliver_to("gateway", TOPIC, &record);
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), told);
    // An older disk of the receiver's is beyond what software can notice; the session heals all the same.
    world.node("gateway").replace_disk(old);
    world.restart("gateway");
    world.advance(20 * MINUTE);
    assert_all_in_sessions(&mut world);
}
