//! A checkpoint that omits a held entry is refused, even under the CA's own key.

use pqc_iiot_core::control::revocation::RevocationIssuer;
use pqc_iiot_core::endpoint::{RefusalReason, SendFailure};
use pqc_iiot_tests::{TOPIC, assert_flows, everything, intercept, plant};

#[test]
fn a_newer_checkpoint_cannot_take_a_revocation_back() {
    let mut world = plant();
    let unseen = intercept(&mut world, TOPIC, "late");
    world.revoke(&["press"]);
    let held: Vec<_> = world.authority.revocations.revoked().iter().copied().collect();

    // The authority, restored from an old backup or in a thief's hands, signs a later list without the press.
    world.authority.revocations = RevocationIssuer::new();
    world.authority.revocations.jump(1, &[9; 32], &[]).unwrap();
    world.publish_checkpoint();
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.refused(RefusalReason::BadRevocation), 1);
    assert_eq!((gateway.status().revoked, gateway.status().revocation_seq), (1, 1));
    let ticket = gateway.publish("press", TOPIC, "x");
    assert_eq!(gateway.send_failure(ticket), Some(SendFailure::Revoked));
    world.broker.inject(TOPIC, &unseen);
    world.settle();
    assert!(world.node("gateway").inbox().is_empty());
    assert_flows(&mut world, "lathe", "gateway");

    // With the entries recovered it is accepted, and trust can grow again.
    world.authority.revocations.jump(1 << 40, &[8; 32], &held).unwrap();
    world.publish_checkpoint();
    world.settle();
    let status = world.node("gateway").status();
    assert_eq!((status.revoked, status.revocations_behind), (1, false), "negative control");
    world.enrol("drill", &everything());
    world.introduce("gateway", "drill");
    world.subscribe("gateway", "plant/#");
    assert_flows(&mut world, "drill", "gateway");
    assert_flows(&mut world, "lathe", "gateway");
}
