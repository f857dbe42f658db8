//! 600 junk packets without a key must not make an endpoint drop a revocation of the CA's.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_flows, intercept, keys_topic, plant};

const REVOCATIONS: &str = "pqc/revocations/v1";

/// Delivers the junk, then the genuine revocation, all at one instant.
fn junk_then_revoke(junk: impl Fn(usize) -> (String, Vec<u8>)) -> pqc_iiot_sim::World {
    let mut world = plant();
    let unseen = intercept(&mut world, TOPIC, "late");
    for n in 0..600 {
        let (topic, payload) = junk(n);
        world.broker.deliver_to("gateway", &topic, &payload);
    }
    world.settle();
    world.revoke(&["press"]);
    world.advance(Duration::from_secs(10));
    assert_eq!(world.node("gateway").status().revoked, 1, "the revocation was dropped");
    world.broker.inject(TOPIC, &unseen);
    world.settle();
    assert!(world.node("gateway").inbox().is_empty());
    assert_flows(&mut world, "lathe", "gateway");
    world
}

#[test]
fn junk_messages_do_not_cost_the_revocation_its_budget() {
    let mut model = plant();
    let mut forged = intercept(&mut model, TOPIC, "x");
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let mut world = junk_then_revoke(|_| (TOPIC.into(), forged.clone()));
    assert!(world.node("gateway").refused(RefusalReason::BadSignature) >= 600);
}

#[test]
fn junk_announcements_do_not_either() {
    junk_then_revoke(|n| (keys_topic("press"), vec![u8::try_from(n % 256).unwrap(); 4_000]));
}

#[test]
fn forged_revocations_delay_the_genuine_one_and_never_drop_it() {
    // Genuine in every byte but the last of the signature: each costs a verification of the CA's own reserve.
    let mut model = plant();
    let genuine = model.revocation(&["press"]);
    let mut world = junk_then_revoke(|_| {
        let mut forged = genuine.clone();
        *forged.last_mut().unwrap() ^= 1;
        (REVOCATIONS.into(), forged)
    });
    let gateway = world.node("gateway");
    assert!(gateway.refused(RefusalReason::OverBudget) > 0, "the flood did reach the reserve");
    assert!(gateway.refused(RefusalReason::BadRevocation) >= 64);
}
