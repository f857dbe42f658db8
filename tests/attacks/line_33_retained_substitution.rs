//! Retained substitution: an older valid announcement, bundle, revocation list or anchors in place of the newest.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_sim::NodeOptions;
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_flows, assert_refused, everything, keys_topic, plant, prekeys_topic,
    retained_bundle,
};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600 + 3_600);

#[test]
fn an_older_bundle_does_not_come_back() {
    let mut world = plant();
    let old = world.broker.last_on(&prekeys_topic("gateway"));
    world.advance(WEEK);
    let new = retained_bundle(&world.broker, "gateway");
    assert_eq!(new.bundle_seq, 2, "the prekey rotated");
    world.broker.inject_retained(&prekeys_topic("gateway"), &old);
    world.settle();
    for name in ["press", "lathe"] {
        world.disconnect(name);
        world.connect(name, false);
        world.subscribe(name, "plant/#");
        world.settle();
        assert!(world.node(name).refused(RefusalReason::Rollback) >= 2);
    }
    world.node("press").publish("gateway", TOPIC, "x");
    world.settle();
    let packet = world.broker.last_on(TOPIC);
    let prekey = pqc_iiot_core::envelope::Packet::parse(&packet).unwrap().prekey();
    assert_eq!(prekey, new.prekey_id, "the newest prekey stays in use");
    assert_all_flow(&mut world);
}

#[test]
fn older_keys_and_certificates_do_not_come_back() {
    let mut world = plant();
    let topic = keys_topic("press");
    let old = world.broker.last_on(&topic);
    // The press is enrolled again with new keys: the next epoch.
    world.enrol_with(NodeOptions::new("press", &everything()));
    world.subscribe("press", "plant/#");
    world.introduce("gateway", "press");
    world.introduce("lathe", "press");
    assert_flows(&mut world, "press", "gateway");
    assert_refused(&mut world, &topic, &old, RefusalReason::Rollback);
    world.broker.substitute_retained(&topic, &old);
    world.restart("gateway");
    world.settle();
    world.disconnect("gateway");
    world.connect("gateway", false);
    world.subscribe("gateway", "plant/#");
    world.settle();
    assert!(world.node("gateway").refused(RefusalReason::Rollback) >= 2);
    assert_all_flow(&mut world);
}

#[test]
fn an_older_revocation_list_does_not_come_back() {
    let mut world = plant();
    for name in ["saw", "mill"] {
        world.enrol(name, &everything());
        world.introduce("gateway", name);
    }
    world.revoke(&["saw"]);
    let control = ["pqc/revocations/v1", "pqc/revocations/checkpoint/v1", "pqc/revocations/checkpoint/v1/0"];
    let old = control.map(|topic| world.broker.last_on(topic));
    world.revoke(&["mill"]);
    for (topic, payload) in control.iter().zip(&old) {
        world.broker.inject_retained(topic, payload);
    }
    world.settle();
    world.restart("gateway");
    world.settle();
    world.disconnect("gateway");
    world.connect("gateway", false);
    world.subscribe("gateway", "plant/#");
    world.settle();
    let gateway = world.node("gateway");
    assert!(gateway.refused(RefusalReason::RevocationRollback) >= 4);
    assert_eq!((gateway.status().revocation_seq, gateway.status().revoked), (2, 2));
    assert_all_flow(&mut world);
}

#[test]
fn older_anchors_do_not_come_back() {
    let mut world = plant();
    let old = world.authority.anchors().to_vec();
    let new = world.authority.next_anchors(|_| {});
    world.publish_control("pqc/anchors/v1".into(), new);
    world.settle();
    assert_eq!(world.node("gateway").status().anchors_version, 2);
    assert_refused(&mut world, "pqc/anchors/v1", &old, RefusalReason::BadAnchors);
    // Not even when the device is installed anew from an old image of its configuration.
    world.restart("gateway");
    world.settle();
    assert_eq!(world.node("gateway").status().anchors_version, 2);
    assert_all_flow(&mut world);
}
