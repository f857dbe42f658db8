//! I5: input size limits exist before parsing and cryptography.

use pqc_iiot_core::endpoint::{RefusalReason, SendFailure};
use pqc_iiot_core::limits::Limits;
use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_flows, assert_refused, everything, intercept, keys_topic, plant,
};

use crate::REVOCATIONS;

#[test]
fn i5_limits_are_explicit_and_configurable_for_each_kind() {
    let mut world = World::default();
    let small = Limits { message: 6_000, announcement: 12_000, prekeys: 6_000, ..Limits::default() };
    world.enrol_with(
        NodeOptions::new("gateway", &everything()).configure(move |config| config.limits = small),
    );
    world.enrol("press", &everything());
    world.subscribe("gateway", "plant/#");
    world.introduce("gateway", "press");
    assert_refused(&mut world, &keys_topic("press"), &[0; 12_001], RefusalReason::Oversized);
    assert_refused(&mut world, "pqc/prekeys/press", &[0; 6_001], RefusalReason::Oversized);
    assert_refused(&mut world, TOPIC, &[0; 6_001], RefusalReason::Oversized);
    // The limit holds for a genuine message as for any other.
    let genuine = intercept(&mut world, TOPIC, &"x".repeat(2_000));
    assert!(genuine.len() > 6_000);
    assert_refused(&mut world, TOPIC, &genuine, RefusalReason::Oversized);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn i5_size_is_judged_before_content() {
    let mut world = plant();
    let limits = Limits::default();
    // Each would be refused for another reason, or accepted, were it read at all.
    for (topic, limit) in [
        (keys_topic("not a peer"), limits.announcement),
        (keys_topic("nobody"), limits.announcement),
        ("plant/press".into(), limits.message),
        (REVOCATIONS.into(), limits.revocation),
    ] {
        assert_refused(&mut world, &topic, &vec![0; limit + 1], RefusalReason::Oversized);
    }
    assert_all_flow(&mut world);
}

#[test]
fn i5_senders_keep_the_limit_themselves() {
    let mut world = plant();
    let ticket = world.node("press").publish("gateway", TOPIC, vec![0; Limits::default().message]);
    assert_eq!(world.node("press").send_failure(ticket), Some(SendFailure::TooLarge));
    assert_all_flow(&mut world);
}
