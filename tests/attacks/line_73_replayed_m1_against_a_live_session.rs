//! A replayed m1 against a live session: nothing ends, nothing comes back, and what an earlier session may still say is
//! never a command.

use std::time::Duration;

use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::session::{Class, Control};
use pqc_iiot_core::store::RecordKind;
use pqc_iiot_sim::World;
use pqc_iiot_tests::TOPIC;
use pqc_iiot_tests::sessions::{
    Insider, assert_all_in_sessions, assert_in_session, assert_no_effect, command, handshakes, init_topic,
    session_plant,
};

#[test]
fn a_replayed_m1_does_nothing_to_a_live_session() {
    let mut world = session_plant();
    let old: Vec<_> = world.broker.captured_on(&init_topic("gateway"));
    assert!(!old.is_empty());
    let before = handshakes(&world);
    for restart in [false, true] {
        if restart {
            world.restart("gateway");
            world.settle();
        }
        let calls = world.node("gateway").provider_calls();
        for m1 in &old {
            assert_no_effect(&mut world, &init_topic("gateway"), m1);
        }
        assert_eq!(world.node("gateway").provider_calls(), calls, "a replay costs no operation");
        assert_all_in_sessions(&mut world);
    }
    assert_eq!(handshakes(&world), before, "no new handshake either");
}

/// The m1 of a session before the present one.
#[test]
fn a_replayed_m1_of_an_earlier_session_does_not_bring_it_back() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    world.advance(Duration::from_secs(2));
    let first = world.broker.captured_on(&init_topic("gateway"));
    press.shake(&mut world, 1_001);
    for m1 in &first {
        assert_no_effect(&mut world, &init_topic("gateway"), m1);
        world.advance(Duration::from_secs(2));
    }
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}

#[test]
fn a_session_that_drains_is_read_but_commands_nothing() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    for (class, content, heard) in
        [(Class::Command, command("before"), true), (Class::Control, command("before, again"), true)]
    {
        let text = String::from_utf8(content.payload.clone()).unwrap();
        let record = press.untracked(class, TOPIC, content);
        world.broker.deliver_to("gateway", TOPIC, &record);
        world.settle();
        assert_eq!(world.node("gateway").received().last() == Some(&text), heard);
    }
    let command_late = press.untracked(Class::Command, TOPIC, command("late"));
    let repeated_late = press.untracked(Class::Control, TOPIC, command("late"));
    let telemetry_late = press.untracked(Class::Control, TOPIC, Content::telemetry("late telemetry"));
    world.advance(Duration::from_secs(2));
    press.shake(&mut world, 1_001);
    press.assert_heard(&mut world);
    let inbox = world.node("gateway").inbox().len();
    for record in [command_late, repeated_late] {
        world.broker.deliver_to("gateway", TOPIC, &record);
        world.settle();
        assert_eq!(world.node("gateway").inbox().len(), inbox, "an ended session commands");
    }
    world.broker.deliver_to("gateway", TOPIC, &telemetry_late);
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "late telemetry");
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}

/// What was closed, or drained long enough, is gone from the disk at its time, however often its keeper restarts.
#[test]
fn restarts_do_not_prolong_an_ended_session() {
    let rows = |world: &mut World| {
        let rows = world.node("gateway").disk().rows();
        rows.into_iter().filter(|row| row.kind == RecordKind::Session).count()
    };
    for closed in [true, false] {
        let mut world = session_plant();
        let mut press = Insider::instead_of(&mut world, "press", "gateway");
        press.shake(&mut world, 1_000);
        let before = press.session.take();
        world.advance(Duration::from_secs(2));
        press.shake(&mut world, 1_001);
        // The lathe's, and the insider's two.
        assert_eq!(rows(&mut world), 3);
        let pause = if closed {
            let now = std::mem::replace(&mut press.session, before);
            press.say(&mut world, &Control::Close);
            press.session = now;
            Duration::from_secs(10)
        } else {
            Duration::from_secs(2 * 24 * 3_600)
        };
        for left in [3, 3, 2] {
            world.advance(pause + pause / 4);
            world.restart_offline("gateway");
            assert_eq!(rows(&mut world), left.max(2), "closed: {closed}");
        }
    }
}
