//! A revocation ends trust in both directions at once: nothing of the peer's is accepted, nothing is sent to it.

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::endpoint::{Event, PeerLoss, RefusalReason, SendFailure};
use pqc_iiot_tests::sessions::{Insider, assert_in_session, session_plant};
use pqc_iiot_tests::{TOPIC, assert_flows, assert_refused, intercept, plant};

#[test]
fn nothing_is_accepted_from_and_nothing_sent_to_a_revoked_peer() {
    let mut world = plant();
    assert_flows(&mut world, "press", "gateway");
    let unseen = intercept(&mut world, TOPIC, "late");
    world.revoke(&["press"]);

    let gateway = world.node("gateway");
    assert!(
        gateway
            .events()
            .contains(&Event::PeerLost { peer: pqc_iiot_tests::id("press"), reason: PeerLoss::Revoked })
    );
    assert_eq!(gateway.audited(AuditKind::PeerRevoked), 1);
    let ticket = gateway.publish("press", TOPIC, "stop");
    assert_eq!(gateway.send_failure(ticket), Some(SendFailure::Revoked));

    let inbox = world.node("gateway").inbox().len();
    world.broker.inject(TOPIC, &unseen);
    world.node("press").publish("gateway", TOPIC, "still here");
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), inbox);
    assert!(world.node("gateway").refused(RefusalReason::Revoked) >= 1);
    assert_flows(&mut world, "lathe", "gateway");
    assert_flows(&mut world, "gateway", "lathe");
}

#[test]
fn a_message_that_is_being_opened_meanwhile_is_not_delivered() {
    let mut world = plant();
    world.node("gateway").hold_provider(true);
    world.node("press").publish("gateway", TOPIC, "in flight");
    world.settle();
    world.revoke(&["press"]);
    world.node("gateway").hold_provider(false);
    world.settle();
    assert!(world.node("gateway").inbox().is_empty());
    assert_eq!(world.node("gateway").refused(RefusalReason::Revoked), 1);
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn a_message_that_is_being_signed_to_a_revoked_peer_is_not_sent() {
    let mut world = plant();
    world.node("gateway").hold_provider(true);
    world.node("gateway").publish("press", TOPIC, "in flight");
    world.revoke(&["press"]);
    let sent = world.broker.captured_on(TOPIC).len();
    world.node("gateway").hold_provider(false);
    world.settle();
    assert_eq!(world.broker.captured_on(TOPIC).len(), sent, "a revoked peer was sent to");
    assert_flows(&mut world, "gateway", "lathe");
}

#[test]
fn a_revoked_peer_stops_by_itself() {
    let mut world = plant();
    world.revoke(&["press"]);
    let press = world.node("press");
    assert!(press.events().contains(&Event::SelfRevoked));
    let ticket = press.publish("gateway", TOPIC, "x");
    assert_eq!(press.send_failure(ticket), Some(SendFailure::Closed));
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn the_revocation_holds_after_a_restart_without_the_broker() {
    let mut world = plant();
    let unseen = intercept(&mut world, TOPIC, "late");
    world.revoke(&["press"]);
    for topic in ["pqc/revocations/v1", "pqc/revocations/checkpoint/v1", "pqc/revocations/checkpoint/v1/0"] {
        world.broker.hide_retained(topic);
    }
    world.restart("gateway");
    world.settle();
    // Its retained announcement was refused, too.
    let before = world.node("gateway").refused(RefusalReason::Revoked);
    world.broker.inject(TOPIC, &unseen);
    world.settle();
    assert!(world.node("gateway").inbox().is_empty());
    assert_eq!(world.node("gateway").refused(RefusalReason::Revoked), before + 1);
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn a_revocation_ends_live_sessions_at_once() {
    let mut world = session_plant();
    let unseen = intercept(&mut world, TOPIC, "late");
    let sessions = world.node("gateway").status().sessions;
    let m1 = Insider::instead_of(&mut world, "press", "gateway").m1(&world, 1_000);
    world.connect("press", true);
    world.revoke(&["press"]);
    assert_eq!(world.node("gateway").status().sessions, sessions - 1);

    for topic in [TOPIC, "pqc/control/gateway"] {
        assert_refused(&mut world, topic, &unseen, RefusalReason::Revoked);
    }
    assert_refused(&mut world, "pqc/session/init/gateway", m1.m1(), RefusalReason::Revoked);
    let ticket = world.node("gateway").publish("press", TOPIC, "stop");
    assert_eq!(world.node("gateway").send_failure(ticket), Some(SendFailure::Revoked));
    // Nor does a restart bring it back.
    world.restart("gateway");
    world.settle();
    let inbox = world.node("gateway").inbox().len();
    world.broker.deliver_to("gateway", TOPIC, &unseen);
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), inbox);
    assert_eq!(world.node("gateway").status().sessions, sessions - 1);
    assert_in_session(&mut world, "lathe", "gateway");
    assert_in_session(&mut world, "gateway", "lathe");
}
