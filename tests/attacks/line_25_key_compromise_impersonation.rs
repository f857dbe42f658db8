//! Key-compromise impersonation: whoever holds A's keys can pose as A, never as B to A.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_refused, everything, insider_spec, intercept, keys_topic, plant, thief_of,
};

#[test]
fn with_the_gateways_keys_nobody_poses_as_the_press_to_the_gateway() {
    let mut world = plant();
    let gateway = thief_of(&mut world, "gateway");
    // Everything of the gateway's is known to the thief, its KEM keys too; only the name is the press's.
    let mut posing = gateway.clone();
    posing.peer = pqc_iiot_tests::id("press");
    let spec = insider_spec(&mut world, TOPIC, "forged", 1);
    assert_refused(&mut world, TOPIC, &posing.seal(&spec), RefusalReason::BadSignature);

    // Nor by re-signing a genuine message of the press's.
    let genuine = intercept(&mut world, TOPIC, "81.5");
    let blob = &genuine[1 + "press".len()..genuine.len() - 3373];
    assert_refused(&mut world, TOPIC, &posing.sign_blob(TOPIC, blob), RefusalReason::BadSignature);
    world.broker.inject(TOPIC, &genuine);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
    assert_all_flow(&mut world);
}

#[test]
fn nor_announces_keys_in_the_presss_name() {
    let mut world = plant();
    let gateway = thief_of(&mut world, "gateway");
    let press = thief_of(&mut world, "press");
    let topic = keys_topic("press");
    // A newcomer that has not seen the press yet.
    world.broker.withhold("pqc/keys/press");
    world.enrol("drill", &everything());
    world.settle();
    world.broker.withhold_nothing();
    world.broker.hide_retained(&topic);
    world.introduce("drill", "press");
    assert!(!world.node("drill").was_ready("press"));
    for (certificate, reason) in [
        (&gateway.certificate, RefusalReason::IdentityMismatch),
        (&press.certificate, RefusalReason::IdentityMismatch),
    ] {
        let forged = gateway.announcement(certificate, 1, &press.peer, &topic);
        world.broker.deliver_to("drill", &topic, &forged);
        world.settle();
        assert_eq!(world.node("drill").refusals().last(), Some(&reason));
        assert!(!world.node("drill").was_ready("press"));
    }
    let honest = press.announcement(&press.certificate, 1, &press.peer, &topic);
    world.broker.deliver_to("drill", &topic, &honest);
    world.settle();
    assert!(world.node("drill").was_ready("press"), "negative control");
    assert_all_flow(&mut world);
}
