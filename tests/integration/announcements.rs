//! I2: key announcements are identity-bound and non-malleable.

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::crypto::suite::SignatureSet;
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::identity::announcement::assemble_announcement;
use pqc_iiot_sim::{EPOCH, NodeOptions, SimAuthority};
use pqc_iiot_tests::{
    announcement_parts, assert_all_flow, assert_refused, everything, flipped, keys_topic, plant,
};

use crate::waiting_for;

#[test]
fn i2_no_byte_of_an_announcement_can_change() {
    let mut world = waiting_for("drill");
    let drill = world.certify(&NodeOptions::new("drill", &everything()));
    let topic = keys_topic("drill");
    let genuine = drill.announcement(&drill.certificate, 1, &drill.peer, &topic);
    let state = world.node("gateway").snapshot();
    for at in (0..genuine.len()).step_by(37) {
        world.broker.deliver_to("gateway", &topic, &flipped(&genuine, at));
        world.advance(std::time::Duration::from_millis(100));
    }
    assert_eq!(world.node("gateway").refused(RefusalReason::OverBudget), 0, "every one was judged");
    assert_eq!(world.node("gateway").status().ready, 2);
    assert_eq!(world.node("gateway").snapshot(), state);
    world.broker.inject(&topic, &genuine);
    world.settle();
    assert_eq!(world.node("gateway").status().ready, 3, "negative control");
    assert_all_flow(&mut world);
}

#[test]
fn i2_an_announcement_without_key_signature_is_refused() {
    let mut world = waiting_for("drill");
    let drill = world.certify(&NodeOptions::new("drill", &everything()));
    let topic = keys_topic("drill");
    let genuine = drill.announcement(&drill.certificate, 1, &drill.peer, &topic);
    let (certificate, signed) = announcement_parts(&genuine);
    let body = &signed[..signed.len() - 3_391 - 1];
    for object in [&[body, &[0x80]].concat()[..], body, &[]] {
        let unsigned = assemble_announcement(&certificate, object);
        assert_refused(&mut world, &topic, &unsigned, RefusalReason::Malformed);
    }
    assert_refused(&mut world, &topic, &certificate, RefusalReason::Malformed);
    assert_all_flow(&mut world);
}

#[test]
fn i2_the_key_signature_is_of_the_certificate_beside_it() {
    let mut world = waiting_for("drill");
    let drill = world.certify(&NodeOptions::new("drill", &everything()));
    let topic = keys_topic("drill");
    // The same keys certified again, with later dates and other grants: epoch and key id are the same.
    let mut renewed = NodeOptions::new("drill", &[]);
    renewed.not_before = EPOCH.plus(std::time::Duration::from_secs(1));
    world.advance(std::time::Duration::from_secs(2));
    let renewed = world.authority.issue(&drill.request(), &renewed.parameters()).unwrap();
    let first = drill.announcement(&drill.certificate, 1, &drill.peer, &topic);
    let second = drill.announcement(&renewed, 1, &drill.peer, &topic);
    let (_, about_first) = announcement_parts(&first);
    let (_, about_second) = announcement_parts(&second);
    for mixed in [
        assemble_announcement(&renewed, &about_first),
        assemble_announcement(&drill.certificate, &about_second),
    ] {
        assert_refused(&mut world, &topic, &mixed, RefusalReason::BadSignature);
    }
    assert_eq!(world.node("gateway").status().ready, 2);
    world.broker.inject(&topic, &second);
    world.settle();
    assert_eq!(world.node("gateway").status().ready, 3, "negative control");
    assert_all_flow(&mut world);
}

#[test]
fn i2_key_epochs_never_fall_even_after_a_restart() {
    let mut world = plant();
    let topic = keys_topic("press");
    let old = world.broker.last_on(&topic);
    world.enrol_with(NodeOptions::new("press", &everything()));
    world.subscribe("press", "plant/#");
    world.introduce("press", "gateway");
    world.introduce("press", "lathe");
    assert_refused(&mut world, &topic, &old, RefusalReason::Rollback);
    world.restart("gateway");
    world.settle();
    assert_refused(&mut world, &topic, &old, RefusalReason::Rollback);
    assert_all_flow(&mut world);
}

#[test]
fn i2_one_epoch_has_one_key_even_from_the_ca() {
    let mut world = plant();
    // A second authority state under the same keys, as after a restored backup, certifies other keys in epoch 1.
    let mut forked = SimAuthority::new(world.backend(), SignatureSet::Ed25519MlDsa65, 7);
    assert_eq!(forked.anchors(), world.authority.anchors(), "the same CA");
    let twin = world.stranger("press");
    let certificate =
        forked.issue(&twin.request(), &NodeOptions::new("press", &everything()).parameters()).unwrap();
    let topic = keys_topic("press");
    let announcement = twin.announcement(&certificate, 1, &twin.peer, &topic);
    assert_refused(&mut world, &topic, &announcement, RefusalReason::Collision);
    assert_eq!(world.node("gateway").audited(AuditKind::KeyExchangeRefused), 1);
    assert_all_flow(&mut world);
}
