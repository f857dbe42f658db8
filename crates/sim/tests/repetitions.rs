//! What a sender seals again, because it never heard that it arrived, is no attack; a copy of what it sealed may be one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_sim::{World, publish, subscribe};

const TOPIC: &str = "plant/a";
const RECEIPTS: &str = "pqc/control/press";

/// A message that arrived, was sealed again for want of a receipt, and arrived again.
fn sealed_again(mut world: World) -> World {
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", TOPIC, b"session");
    world.advance(Duration::from_secs(5));
    world.broker.withhold(RECEIPTS);
    world.node("press").publish("gateway", TOPIC, b"once");
    world.advance(Duration::from_secs(10));
    world.broker.withhold_nothing();
    world.advance(Duration::from_secs(60));
    world
}

#[test]
fn an_honest_resend_is_counted_as_what_it_is_and_a_copy_as_a_replay() {
    let mut world = sealed_again(World::with_sessions());
    let gateway = world.node("gateway");
    assert_eq!(gateway.consumed(), ["session", "once"]);
    assert!(gateway.refused(RefusalReason::Repeated) > 0);
    assert_eq!(gateway.refused(RefusalReason::Replayed), 0);
    assert_eq!(gateway.audited(AuditKind::ReplayRefused), 0, "nobody replayed anything");
    let repeated = |event: &AuditEvent| event.detail.as_str() == RefusalReason::Repeated.name();
    assert!(!gateway.audit().iter().any(repeated), "the log is for what somebody did wrong");

    // Neither the first packet nor the repetition is a repetition when somebody else sends it.
    for packet in world.broker.captured_on(TOPIC).into_iter().rev().take(2) {
        let (gateway, repeated) = (world.node("gateway"), RefusalReason::Repeated);
        let (repetitions, replays) = (gateway.refused(repeated), gateway.refused(RefusalReason::Replayed));
        world.broker.inject(TOPIC, &packet);
        world.settle();
        let gateway = world.node("gateway");
        assert_eq!(gateway.refused(repeated), repetitions);
        assert_eq!(gateway.refused(RefusalReason::Replayed), replays + 1);
    }
    assert!(world.node("gateway").audited(AuditKind::ReplayRefused) > 0);
    assert_eq!(world.node("gateway").consumed(), ["session", "once"]);
}

/// A block from before the restart does not know its records any more: a copy of one opens, and only its origin is known.
#[test]
fn a_copy_from_before_a_restart_is_a_replay() {
    let mut world = sealed_again(World::with_sessions());
    world.restart("gateway");
    let before = world.node("gateway").refused(RefusalReason::Repeated);
    let packet = world.broker.last_on(TOPIC);
    world.broker.inject(TOPIC, &packet);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.refused(RefusalReason::Repeated), before);
    assert_eq!(gateway.refused(RefusalReason::Replayed), 1);
    assert!(gateway.audited(AuditKind::ReplayRefused) > 0);
}
