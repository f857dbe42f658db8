//! Suite downgrade: nobody on the path chooses the suite, and none outside certificate and policy is used.

use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::endpoint::{RefusalReason, SendFailure};
use pqc_iiot_sim::{NodeOptions, World};
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
