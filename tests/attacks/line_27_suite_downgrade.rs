//! Suite downgrade: nobody on the path chooses the suite, and none outside certificate and policy is used.

use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::endpoint::{RefusalReason, SendFailure};
use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::sessions::{
    all_grants, assert_in_session, assert_no_effect, enrol, init_topic, resp_topic,
};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_flows, assert_refused, everything, insider_spec, intercept, plant,
    thief_of,
};

const SUITE: usize = 1 + "press".len() + 1;

#[test]
fn the_suite_of_a_message_cannot_be_exchanged() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    assert_eq!(packet[SUITE], 1, "the recipient's first suite");
    for (suite, reason) in [
        (0, RefusalReason::UnknownSuite),
        (2, RefusalReason::SuiteNotAllowed),
        (3, RefusalReason::BadSignature),
        (4, RefusalReason::UnknownSuite),
        (255, RefusalReason::UnknownSuite),
    ] {
        let mut changed = packet.clone();
        changed[SUITE] = suite;
        assert_refused(&mut world, TOPIC, &changed, reason);
    }
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
    assert_all_flow(&mut world);
}

#[test]
fn a_suite_outside_local_policy_is_refused_even_from_a_member() {
    let mut world = World::default();
    world.enrol_with(
        NodeOptions::new("gateway", &everything())
            .configure(|config| config.suites = vec![SessionSuite::Hybrid]),
    );
    world.enrol("press", &everything());
    world.subscribe("gateway", "plant/#");
    world.introduce("gateway", "press");
    let press = thief_of(&mut world, "press");
    let mut spec = insider_spec(&mut world, TOPIC, "x", 1);
    spec.suite = SessionSuite::HybridChaCha;
    assert_refused(&mut world, TOPIC, &press.seal(&spec), RefusalReason::SuiteNotAllowed);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn without_a_common_suite_nothing_is_sent() {
    let mut world = World::default();
    world.enrol_with(NodeOptions::new("gateway", &everything()).suites(&[SessionSuite::Cnsa2]));
    world.enrol_with(
        NodeOptions::new("press", &everything())
            .configure(|config| config.suites = vec![SessionSuite::Hybrid]),
    );
    world.enrol("lathe", &everything());
    world.subscribe("gateway", "plant/#");
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    let ticket = world.node("press").publish("gateway", TOPIC, "x");
    assert_eq!(world.node("press").send_failure(ticket), Some(SendFailure::Suite));
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn a_handshake_is_of_the_suite_that_both_signed() {
    let mut world = pqc_iiot_sim::World::with_sessions();
    for name in ["gateway", "press"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    world.broker.withhold("pqc/session/#");
    world.node("press").publish("gateway", TOPIC, "x");
    world.settle();
    let m1 = world.broker.last_on(&init_topic("gateway"));
    world.broker.withhold_nothing();
    // Every other suite, in m1 and in the answer to it.
    for suite in (0..=255u8).filter(|suite| *suite != m1[1]) {
        let mut altered = m1.clone();
        altered[1] = suite;
        assert_no_effect(&mut world, &init_topic("gateway"), &altered);
    }
    assert!(world.broker.captured_on(&resp_topic("press")).is_empty(), "an altered m1 was answered");
    world.broker.withhold(&resp_topic("press"));
    world.broker.deliver_to("gateway", &init_topic("gateway"), &m1);
    world.settle();
    let m2 = world.broker.last_on(&resp_topic("press"));
    world.broker.withhold_nothing();
    for suite in (0..=255u8).filter(|suite| *suite != m2[1]) {
        let mut altered = m2.clone();
        altered[1] = suite;
        world.broker.deliver_to("press", &resp_topic("press"), &altered);
    }
    world.settle();
    assert_eq!(world.node("press").status().sessions, 0);
    world.broker.deliver_to("press", &resp_topic("press"), &m2);
    world.settle();
    assert_in_session(&mut world, "press", "gateway");
    assert_in_session(&mut world, "gateway", "press");
}
