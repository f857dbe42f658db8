//! Malformed input of any kind never surfaces as a connection error: it is refused, acknowledged and forgotten.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::ids::{GroupId, StreamId};
use pqc_iiot_core::session::{Class, Control, Settled, Text};
use pqc_iiot_core::topic::MAX_TOPIC;
use pqc_iiot_sim::World;
use pqc_iiot_tests::sessions::{Insider, assert_in_session, control_topic, session_plant};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, keys_topic, plant, prekeys_topic};

#[test]
fn malformed_input_is_refused_and_acknowledged_and_the_connection_stays() {
    let mut world = plant();
    let control =
        ["pqc/revocations/v1".to_string(), "pqc/revocations/checkpoint/v1".into(), keys_topic("press")];
    let junk: [&[u8]; 8] =
        [b"", b"\0", b"\xff", b"\x84", b"\x9f\xff", b"{\"json\":1}", b"\x84\x40\xa0\x40\x80", &[0x84; 5_000]];
    for payload in junk {
        for topic in &control {
            assert_refused(&mut world, topic, payload, RefusalReason::Malformed);
        }
        assert_refused(&mut world, "pqc/anchors/v1", payload, RefusalReason::BadAnchors);
        assert_refused(&mut world, "pqc/keys/nobody", payload, RefusalReason::UnknownPeer);
        assert_refused(&mut world, "pqc/keys/a/b", payload, RefusalReason::InvalidPeerId);
        assert_refused(&mut world, "pqc/unheard/of", payload, RefusalReason::InvalidTopic);
    }
    assert_refused(&mut world, &prekeys_topic("press"), b"\0", RefusalReason::Malformed);
    for (payload, reason) in [
        (&b""[..], RefusalReason::Malformed),
        (b"\0", RefusalReason::UnknownKind),
        (b"\x81", RefusalReason::UnknownKind),
        (b"\xc4\x01", RefusalReason::UnknownKind),
        (b"\xc0\x01", RefusalReason::Malformed),
        (b"\x05pre", RefusalReason::Malformed),
        (b"\x05pr/ss\x01\x01", RefusalReason::InvalidPeerId),
        (b"\x05press\x01\x01", RefusalReason::Malformed),
    ] {
        assert_refused(&mut world, TOPIC, payload, reason);
    }
    assert_all_flow(&mut world);
}

/// Whatever numbers a peer uses, what is kept of them and of its session can be read again.
#[test]
fn no_peer_makes_a_session_that_does_not_wake_or_a_keeper_that_does_not_start() {
    for restarts in [true, false] {
        let mut world = session_plant();
        let mut press = Insider::instead_of(&mut world, "press", "gateway");
        press.shake(&mut world, 1_000);
        press.assert_heard(&mut world);
        let control = control_topic("gateway");
        for stream in 1..StreamId::COUNT {
            for number in [u64::MAX, 5, 1] {
                for topic in [&control, TOPIC] {
                    let text = Text::Telemetry { number, confirmed: Settled::default(), payload: b"x" };
                    let record = press.record(Class::Telemetry, stream, topic, text);
                    world.broker.deliver_to("gateway", topic, &record);
                    world.settle();
                }
            }
        }
        if restarts {
            world.restart("gateway");
            world.settle();
        } else {
            world.advance(Duration::from_secs(120));
        }
        press.assert_heard(&mut world);
        assert_in_session(&mut world, "lathe", "gateway");
    }
}

/// A message is kept with its topic: one whose topic is longer than what a row may hold is refused.
#[test]
fn no_topic_is_too_long_to_be_read_again() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    press.assert_heard(&mut world);
    let grant = TOPIC.split('/').next().unwrap();
    let mut number = 10;
    for (len, taken) in [(MAX_TOPIC, true), (MAX_TOPIC + 1, false), (60_000, false)] {
        let topic = format!("{grant}/{}", "t".repeat(len - grant.len() - 1));
        number += 1;
        let record = press.telemetry(&topic, number, &format!("at {len}"));
        let inbox = world.node("gateway").inbox().len();
        world.broker.deliver_to("gateway", &topic, &record);
        world.settle();
        assert_eq!(world.node("gateway").inbox().len() > inbox, taken, "{len}");
    }
    world.restart("gateway");
    world.settle();
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}

/// What a peer tells of groups that nobody follows is answered in bounds.
#[test]
fn ends_of_groups_that_nobody_follows_are_not_answered_without_end() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    press.assert_heard(&mut world);
    let answers = |world: &World| world.broker.captured_on(&control_topic("press")).len();
    let before = answers(&world);
    for epoch in 0..200 {
        press.say(&mut world, &Control::GroupOver { gid: GroupId([9; 7]), epoch });
    }
    let answered = answers(&world) - before;
    assert!((1..40).contains(&answered), "{answered} answers");
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}
