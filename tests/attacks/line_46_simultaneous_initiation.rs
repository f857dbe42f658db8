//! Both begin at once, with loss, delay and duplication: exactly one session in the end, and every message once.

use std::time::Duration;

use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::TOPIC;
use pqc_iiot_tests::sessions::{all_grants, assert_in_session, enrol, handshakes};

#[test]
fn simultaneous_initiations_end_in_one_session() {
    let lost = [
        None,
        Some("pqc/session/init/gateway"),
        Some("pqc/session/init/press"),
        Some("pqc/session/resp/gateway"),
        Some("pqc/session/resp/press"),
        Some("pqc/control/gateway"),
        Some("pqc/control/press"),
    ];
    for copies in [1, 3] {
        for lost in lost {
            for late in [None, Some("pqc/session/init/#"), Some("pqc/session/resp/#")] {
                let mut world = World::with_sessions();
                for name in ["gateway", "press"] {
                    enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
                }
                world.introduce("gateway", "press");
                world.broker.duplicate(copies);
                if let Some(lost) = lost {
                    world.broker.withhold(lost);
                }
                if let Some(late) = late {
                    world.broker.delay(late, Duration::from_secs(40));
                }
                world.node("press").publish("gateway", TOPIC, "there");
                world.node("gateway").publish("press", TOPIC, "back");
                world.advance(Duration::from_secs(120));
                world.broker.withhold_nothing();
                world.broker.delay_nothing();
                world.advance(Duration::from_secs(3_600));
                world.broker.duplicate(1);
                let what = format!("{copies} copies, {lost:?} lost, {late:?} late");
                for (name, text) in [("gateway", "there"), ("press", "back")] {
                    assert_eq!(world.node(name).received(), [text], "{what}");
                    assert_eq!(world.node(name).status().sessions, 1, "{what}");
                }
                let before = handshakes(&world);
                for _ in 0..3 {
                    assert_in_session(&mut world, "press", "gateway");
                    assert_in_session(&mut world, "gateway", "press");
                }
                world.advance(Duration::from_secs(3_600));
                assert_eq!(handshakes(&world), before, "one session, and both keep it: {what}");
            }
        }
    }
}

/// The winner of the tie lets the other's m1 lie: one answer, one session, one signature each.
#[test]
fn of_two_handshakes_at_once_one_is_answered() {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", TOPIC, "there");
    world.node("gateway").publish("press", TOPIC, "back");
    world.advance(Duration::from_secs(20));
    let answers = ["pqc/session/resp/gateway", "pqc/session/resp/press"]
        .map(|topic| world.broker.captured_on(topic).len());
    assert_eq!((handshakes(&world), answers.iter().sum()), (2, 1));
    assert_in_session(&mut world, "press", "gateway");
    assert_in_session(&mut world, "gateway", "press");
}
