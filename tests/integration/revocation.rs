//! I7: distributed revocation updates are authenticated and monotonic.

use pqc_iiot_core::crypto::suite::SignatureSet;
use pqc_iiot_core::endpoint::{Event, RefusalReason};
use pqc_iiot_sim::{EPOCH, NodeOptions, SimAuthority};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_flows, assert_refused, everything, flipped, id, intercept, plant, thief_of,
};

use crate::REVOCATIONS;

#[test]
fn i7_only_the_pinned_control_key_revokes() {
    let mut world = plant();
    let update = world.authority.revoke(&[id("lathe")], EPOCH);
    let press = thief_of(&mut world, "press");
    let mut other = SimAuthority::new(world.backend(), SignatureSet::Ed25519MlDsa65, 99);
    let mut wrong = vec![
        press.sign(&update, &REVOCATIONS),
        world.authority.issuer(&update, &REVOCATIONS),
        other.control(&update, &REVOCATIONS),
    ];
    let genuine = world.authority.control(&update, &REVOCATIONS);
    wrong.push(flipped(&genuine, genuine.len() - 1));
    wrong.push(flipped(&genuine, genuine.len() - 3_340));
    for forged in wrong {
        assert_refused(&mut world, REVOCATIONS, &forged, RefusalReason::BadRevocation);
    }
    assert_all_flow(&mut world);
    world.broker.inject(REVOCATIONS, &genuine);
    world.settle();
    assert_eq!(world.node("gateway").status().revoked, 1, "negative control");
}

#[test]
fn i7_updates_are_bound_to_the_configured_topic() {
    let mut world = plant();
    let update = world.authority.revoke(&[id("lathe")], EPOCH);
    for topic in ["fleet-2/revocations/v1", "pqc/revocations/v2", "pqc/revocations/checkpoint/v1", ""] {
        let elsewhere = world.authority.control(&update, &topic);
        assert_refused(&mut world, REVOCATIONS, &elsewhere, RefusalReason::BadRevocation);
    }
    assert_all_flow(&mut world);
}

#[test]
fn i7_sequences_never_fall_and_never_fork() {
    let mut world = plant();
    for name in ["saw", "mill"] {
        world.enrol(name, &everything());
        world.introduce("gateway", name);
    }
    let first = world.revocation(&["saw"]);
    let second = world.revocation(&["mill"]);
    for update in [&first, &second, &second] {
        world.broker.inject(REVOCATIONS, update);
    }
    world.settle();
    assert_eq!(world.node("gateway").status().revocation_seq, 2);
    assert_eq!(world.node("gateway").refusals(), [], "a repetition is no news");
    assert_refused(&mut world, REVOCATIONS, &first, RefusalReason::RevocationRollback);

    // The same sequence with other content, under the CA's own key.
    let mut forked = SimAuthority::new(world.backend(), SignatureSet::Ed25519MlDsa65, 7);
    for name in ["saw", "mill", "lathe"] {
        let options = NodeOptions::new(name, &everything());
        let stranger = world.stranger(name);
        forked.issue(&stranger.request(), &options.parameters()).unwrap();
    }
    let mut fork = || {
        forked.revoke(&[id("saw")], EPOCH);
        forked.revoke(&[id("lathe")], EPOCH)
    };
    let fork = fork();
    assert_eq!(fork.seq(), 2);
    let signed = world.authority.control(&fork, &REVOCATIONS);
    world.broker.inject(REVOCATIONS, &signed);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.refused(RefusalReason::RevocationEquivocation), 1);
    assert_eq!((gateway.status().revocation_seq, gateway.status().revoked), (2, 2));
    assert_all_flow(&mut world);
}

#[test]
fn i7_revocation_withdraws_trust_at_once_and_durably() {
    let mut world = plant();
    // The store is slow: in memory the peer is out at once; the application hears of it once it is durable.
    world.node("gateway").hold_persists(true);
    let update = world.revocation(&["press"]);
    let unseen = intercept(&mut world, TOPIC, "late");
    world.publish_control(REVOCATIONS.into(), update);
    world.settle();
    let lost = |event: &Event| matches!(event, Event::PeerLost { .. });
    assert!(!world.node("gateway").events().iter().any(lost));
    world.broker.inject(TOPIC, &unseen);
    world.settle();
    world.node("gateway").hold_persists(false);
    world.settle();
    let gateway = world.node("gateway");
    assert!(gateway.events().iter().any(lost));
    assert!(gateway.inbox().is_empty());
    assert_eq!(gateway.refused(RefusalReason::Revoked), 1);
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn i7_a_newcomer_learns_old_revocations_from_the_checkpoint() {
    let mut world = plant();
    world.revoke(&["press"]);
    world.broker.hide_retained(REVOCATIONS);
    world.enrol("drill", &everything());
    world.subscribe("drill", "plant/#");
    world.settle();
    assert_eq!(world.node("drill").status().revoked, 1);
    world.introduce("drill", "lathe");
    assert_flows(&mut world, "drill", "lathe");
}
