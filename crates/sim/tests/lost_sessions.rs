//! Sessions that one side has lost, that ended, or of which one side knows more than the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::endpoint::{Command, Durability, Input, Priority, Publish, Ticket};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::store::RecordKind;
use pqc_iiot_core::topic::Topic;
use pqc_iiot_sim::{EPOCH, Node, NodeOptions, World, peer, publish, subscribe};

const MINUTE: Duration = Duration::from_secs(60);

/// Whichever side wins ties.
#[test]
fn a_disk_from_before_the_first_session_is_told_where_to_go_on() {
    for (forgetful, other) in [("gateway", "press"), ("press", "gateway")] {
        let mut world = World::with_sessions();
        for name in ["gateway", "press"] {
            world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
            world.subscribe(name, "plant/#");
        }
        world.introduce("gateway", "press");
        let disk = world.node(forgetful).disk();
        // The session is the other's making, with the attempt that the forgetful one uses next.
        world.node(other).publish(forgetful, "plant/a", b"before");
        world.advance(Duration::from_secs(5));
        assert_eq!(world.node(forgetful).status().sessions, 1);

        world.node(forgetful).replace_disk(disk);
        world.restart(forgetful);
        assert_eq!(world.node(forgetful).status().sessions, 0);
        world.node(forgetful).publish(other, "plant/b", b"after");
        world.advance(Duration::from_secs(20));
        assert_eq!(world.node(forgetful).status().sessions, 1, "{forgetful} has a session again");
        assert_eq!(world.node(other).consumed(), ["after"]);
    }
}

#[test]
fn sessions_of_former_keys_are_erased_at_the_start() {
    let mut world = World::with_sessions();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    for name in ["gateway", "press"] {
        world.enrol(name, &grants);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", "plant/a", b"before");
    world.advance(Duration::from_secs(5));
    let sessions = |node: &mut Node| {
        let rows = node.disk().rows();
        rows.into_iter().filter(|row| row.kind == RecordKind::Session).count()
    };
    assert_eq!(sessions(world.node("press")), 1);

    // The press gets new keys, and keeps its disk.
    let disk = world.node("press").disk();
    let options = NodeOptions::new("press", &grants);
    let renewed = world.certify(&options);
    world.disconnect("press");
    world.start(renewed, options).unwrap();
    world.node("press").replace_disk(disk);
    world.restart("press");
    assert_eq!(world.node("press").status().sessions, 0);
    assert_eq!(sessions(world.node("press")), 0, "their secrets must not stay");
    world.subscribe("press", "plant/#");
    world.node("press").add_peer("gateway");
    world.node("press").publish("gateway", "plant/a", b"after");
    world.advance(Duration::from_secs(60));
    assert_eq!(world.node("gateway").consumed(), ["before", "after"]);
    assert_eq!(world.node("press").status().sessions, 1, "a new one, with the new keys");
}

fn volatile(world: &mut World, from: &str, to: &str, payload: &str) {
    let publish = Publish {
        ticket: Ticket(1_000_000),
        peer: peer(to),
        topic: Topic::new("plant/v").unwrap(),
        stream: StreamId::default(),
        content: Content::telemetry(payload),
        durability: Durability::Volatile,
        priority: Priority::Normal,
        effects: Vec::new(),
    };
    world.node(from).input(Input::Command(Command::Publish(publish)));
}

fn m1s(world: &World, to: &str) -> usize {
    world.broker.captured_on(&format!("pqc/session/init/{to}")).len()
}

/// Nobody confirms volatile messages: the sender asks now and then whether it is read at all.
#[test]
fn a_sender_of_nothing_but_volatile_messages_notices_that_its_peer_lost_the_session() {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    let disk = world.node("gateway").disk();
    world.node("press").publish("gateway", "plant/a", b"first");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("press").status().sessions, 1);
    let made = m1s(&world, "gateway");
    for minute in 0..60 {
        volatile(&mut world, "press", "gateway", &format!("{minute}"));
        world.advance(MINUTE);
    }
    assert_eq!(m1s(&world, "gateway"), made, "a peer that only listens is asked, and answers");
    let heard = world.node("gateway").received().len();
    assert_eq!(heard, 61);

    world.node("gateway").replace_disk(disk);
    world.restart("gateway");
    for minute in 60..80 {
        volatile(&mut world, "press", "gateway", &format!("{minute}"));
        world.advance(MINUTE);
    }
    assert_eq!(world.node("gateway").status().sessions, 1, "there is a session again");
    assert_eq!(world.node("gateway").received().last().unwrap(), "79");
}

/// An inbox that nobody empties gives no receipts; its endpoint reads the session all the same.
#[test]
fn a_peer_whose_application_sleeps_is_not_taken_for_one_that_lost_the_session() {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        let options = NodeOptions::new(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.enrol_with(options.configure(|config| config.delivery.inbox_messages = 2));
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", "plant/a", b"first");
    world.advance(Duration::from_secs(5));
    world.node("gateway").consume_at_once(false);
    let made = m1s(&world, "gateway");
    for n in 0..4 {
        world.node("press").publish("gateway", "plant/a", format!("{n}"));
        world.settle();
    }
    world.advance(120 * MINUTE);
    assert_eq!(m1s(&world, "gateway"), made);
    world.node("gateway").consume_all();
    world.node("gateway").consume_at_once(true);
    world.advance(20 * MINUTE);
    assert_eq!(world.node("gateway").consumed(), ["first", "0", "1", "2", "3"]);
}

#[test]
fn expired_sessions_leave_both_disks_though_nobody_sends() {
    let mut world = World::with_sessions();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    let ends = EPOCH.plus(120 * MINUTE);
    world.enrol_with(NodeOptions::new("press", &grants).valid_until(ends));
    world.enrol("gateway", &grants);
    world.enrol("lathe", &grants);
    for name in ["gateway", "press", "lathe"] {
        world.subscribe(name, "plant/#");
    }
    for name in ["press", "lathe"] {
        world.introduce("gateway", name);
        world.node(name).publish("gateway", "plant/a", b"hello");
        world.advance(Duration::from_secs(5));
    }
    let rows = |world: &mut World, name: &str| {
        let rows = world.node(name).disk().rows();
        rows.into_iter().filter(|row| row.kind == RecordKind::Session).count()
    };
    assert_eq!((rows(&mut world, "gateway"), rows(&mut world, "press")), (2, 1));
    // One of them is off when the time comes.
    world.restart_offline("press");
    world.advance(118 * MINUTE);
    assert_eq!((rows(&mut world, "gateway"), rows(&mut world, "press")), (2, 1));
    world.advance(2 * MINUTE);
    assert_eq!((rows(&mut world, "gateway"), rows(&mut world, "press")), (1, 0));
    assert_eq!(world.node("gateway").status().sessions, 1, "the lathe's goes on");
    world.node("lathe").publish("gateway", "plant/a", b"on");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("gateway").received().last().unwrap(), "on");
}

/// A clock that jumps, as after a long sleep, ends at the next timeout what ended meanwhile.
#[test]
fn sessions_that_expired_while_the_clock_jumped_are_ended() {
    let mut world = World::with_sessions();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    world.enrol_with(NodeOptions::new("press", &grants).valid_until(EPOCH.plus(240 * MINUTE)));
    world.enrol("gateway", &grants);
    for name in ["gateway", "press"] {
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", "plant/a", b"hello");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("gateway").status().sessions, 1);
    let wall = world.clock.wall().plus(300 * MINUTE);
    world.clock.set_wall(wall);
    world.advance(70 * MINUTE);
    assert_eq!(world.node("gateway").status().sessions, 0);
}

/// A peer that missed a revocation learns of it from another's handshake.
#[test]
fn a_handshake_tells_of_revocations_that_the_peer_missed() {
    let mut world = World::with_sessions();
    for name in ["gateway", "press", "lathe"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    let update = world.revocation(&["lathe"]);
    let topic = world.topics.revocations();
    world.publish_control(topic, update);
    world.publish_checkpoint();
    world.broker.drop_queue("gateway");
    world.settle();
    let seq = world.node("press").status().revocation_seq;
    assert!(world.node("gateway").status().revocation_seq < seq, "lost on its way");
    world.node("press").publish("gateway", "plant/a", b"hello");
    world.advance(Duration::from_secs(1));
    assert_eq!(world.node("gateway").status().revocation_seq, seq);
    assert_eq!(world.node("gateway").received(), ["hello"]);
}

/// An offer goes again until its answer arrives; the answer is on the disk since the first.
#[test]
fn an_offer_that_is_repeated_is_answered_again_and_written_once() {
    const TO_GATEWAY: &str = "pqc/control/gateway";
    const TO_PRESS: &str = "pqc/control/press";
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", "plant/a", b"first");
    world.advance(Duration::from_secs(5));
    // After a restart the next epoch is due: it is the initiator's to offer.
    world.restart("press");
    world.advance(Duration::from_secs(5));
    world.broker.withhold(TO_PRESS);
    volatile(&mut world, "press", "gateway", "turn");
    world.advance(Duration::from_secs(1));
    let counts = |world: &mut World| {
        let sent = |topic| world.broker.captured_on(topic).len();
        let (offers, answers) = (sent(TO_GATEWAY), sent(TO_PRESS));
        (offers, answers, world.node("gateway").disk().commits())
    };
    let (offers, answers, commits) = counts(&mut world);
    assert!(offers > 0 && answers > 0);
    world.advance(2 * MINUTE);
    let (more_offers, more_answers, more_commits) = counts(&mut world);
    assert!(more_offers >= offers + 3 && more_answers >= answers + 3, "it was repeated, and answered");
    assert_eq!(more_commits, commits, "and nothing was written for it");
    world.broker.withhold_nothing();
    world.advance(5 * MINUTE);
    world.node("press").publish("gateway", "plant/a", b"healed");
    world.advance(Duration::from_secs(5));
    let last = world.node("gateway").inbox().last().map(|message| message.protection);
    assert_eq!(last.unwrap().to_string(), "session:1");
}
