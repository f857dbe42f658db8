//! A dropped issuer ends its certificates; older anchors do not bring it back.

use std::time::Duration;

use pqc_iiot_core::endpoint::{Event, PeerLoss, RefusalReason};
use pqc_iiot_sim::World;
use pqc_iiot_tests::{
    TOPIC, assert_flows, assert_refused, assert_waits, everything, id, intercept, keys_topic,
};

const ANCHORS: &str = "pqc/anchors/v1";

#[test]
fn a_dropped_issuers_peers_are_no_longer_trusted() {
    let mut world = World::default();
    // The press has its certificate from the first issuer, everybody else from the second.
    world.enrol("press", &everything());
    let first = world.authority.keys().issuer().anchor_key();
    world.authority.replace_issuer();
    let both = world.authority.next_anchors(|anchors| anchors.issuers.push(first));
    world.publish_control(ANCHORS.into(), both.clone());
    for name in ["gateway", "lathe"] {
        world.enrol(name, &everything());
    }
    for name in ["gateway", "press", "lathe"] {
        world.subscribe(name, "plant/#");
    }
    world.settle();
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    assert_flows(&mut world, "press", "gateway");
    let unseen = intercept(&mut world, TOPIC, "late");
    let announcement = world.broker.last_on(&keys_topic("press"));

    let second_only = world.authority.next_anchors(|_| {});
    world.publish_control(ANCHORS.into(), second_only);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.status().anchors_version, 3);
    let lost = Event::PeerLost { peer: id("press"), reason: PeerLoss::IssuerDropped };
    assert!(gateway.events().contains(&lost));
    assert_waits(&mut world, "gateway", "press");

    let inbox = world.node("gateway").inbox().len();
    for _ in 0..2 {
        world.broker.deliver_to("gateway", TOPIC, &unseen);
        world.advance(Duration::from_secs(6));
        assert_eq!(world.node("gateway").inbox().len(), inbox);
        assert_refused(&mut world, &keys_topic("press"), &announcement, RefusalReason::BadCertificate);
        assert_refused(&mut world, ANCHORS, &both, RefusalReason::BadAnchors);
        world.restart("gateway");
        world.settle();
    }
    assert_flows(&mut world, "lathe", "gateway");
    assert_flows(&mut world, "gateway", "lathe");
}
