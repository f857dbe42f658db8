//! Invariants I0, I1, I2, I5, I6 and I7 through whole endpoints: the scenarios that give them their sense here, their clauses
//! one by one in `integration/`. I3 and I4 are in `mqtt_invariants.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "integration/announcements.rs"]
mod announcements;
#[path = "integration/audit.rs"]
mod audit;
#[path = "integration/identities.rs"]
mod identities;
#[path = "integration/limits.rs"]
mod limits;
#[path = "integration/revocation.rs"]
mod revocation;

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::codec::signed::Unverified;
use pqc_iiot_core::crypto::suite::SignatureSet;
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::identity::certificate::OperationalCertificate;
use pqc_iiot_sim::{Identity, NodeOptions, SimAuthority, World};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_flows, assert_refused, assert_waits, everything, id, intercept,
    keys_topic, plant, thief_of,
};

const REVOCATIONS: &str = "pqc/revocations/v1";

/// A plant whose gateway follows `name` and has heard nothing from it.
fn waiting_for(name: &str) -> World {
    let mut world = plant();
    world.node("gateway").add_peer(name);
    world.settle();
    world
}

/// Announces a stranger as `rogue` under the certificate given, and requires the refusal.
fn assert_not_trusted(world: &mut World, rogue: &Identity, certificate: &[u8], reason: RefusalReason) {
    let topic = keys_topic("rogue");
    let announcement = rogue.announcement(certificate, 1, &id("rogue"), &topic);
    assert_refused(world, &topic, &announcement, reason);
    assert!(!world.node("gateway").was_ready("rogue"));
    assert_waits(world, "gateway", "rogue");
}

/// A certificate that its own key signed.
fn self_issued(rogue: &Identity) -> Vec<u8> {
    let options = NodeOptions::new("rogue", &everything());
    let parameters = options.parameters();
    let certificate = OperationalCertificate {
        issuer: rogue.signer(),
        subject: rogue.peer.clone(),
        serial: pqc_iiot_core::identity::certificate::Serial([1; 16]),
        not_before: parameters.not_before,
        not_after: parameters.not_after,
        keys: rogue.public(),
        key_epoch: 1,
        tier: parameters.tier,
        suites: parameters.suites,
        prekey_required: true,
        grants: parameters.grants,
    };
    rogue.sign(&certificate, &())
}

fn self_issued_as(rogue: &Identity, key_epoch: u64) -> Vec<u8> {
    let encoded = self_issued(rogue);
    let mut certificate =
        Unverified::<OperationalCertificate>::decode(&encoded, 1 << 20).unwrap().unverified().clone();
    certificate.key_epoch = key_epoch;
    rogue.sign(&certificate, &())
}

#[test]
fn test_strict_mode() {
    let mut world = waiting_for("rogue");
    let mut rogue = world.stranger("rogue");
    // No certificate at all, then one that another CA issued.
    assert_not_trusted(&mut world, &rogue, &[], RefusalReason::Malformed);
    let mut other = SimAuthority::new(world.backend(), SignatureSet::Ed25519MlDsa65, 99);
    let parameters = NodeOptions::new("rogue", &everything()).parameters();
    rogue.certificate = other.issue(&rogue.request(), &parameters).unwrap();
    assert_not_trusted(&mut world, &rogue, &rogue.certificate, RefusalReason::BadCertificate);

    // Its messages are refused as well, once nobody waits for its certificate any more.
    let spec = world.seal_spec("gateway", TOPIC, "rogue");
    world.broker.inject(TOPIC, &rogue.seal(&spec));
    world.advance(std::time::Duration::from_secs(6));
    assert!(world.node("gateway").inbox().is_empty());

    // The very same keys under the pinned CA are trusted: negative control.
    let certificate = world.authority.issue(&rogue.request(), &parameters).unwrap();
    let topic = keys_topic("rogue");
    let announcement = rogue.announcement(&certificate, 1, &id("rogue"), &topic);
    world.broker.inject(&topic, &announcement);
    world.settle();
    assert_eq!(world.node("gateway").status().ready, 3);
    assert_all_flow(&mut world);
}

#[test]
fn test_key_announcement_binds_peer_id() {
    let mut world = waiting_for("drill");
    let drill = world.certify(&NodeOptions::new("drill", &everything()));
    let topic = keys_topic("drill");
    // Signed for another name, or for another topic.
    for (peer, place) in
        [("press", topic.clone()), ("drill", keys_topic("press")), ("drill", "keys/drill".into())]
    {
        let wrong = drill.announcement(&drill.certificate, 1, &id(peer), &place);
        assert_refused(&mut world, &topic, &wrong, RefusalReason::BadSignature);
    }
    // A genuine announcement republished under other names.
    let genuine = drill.announcement(&drill.certificate, 1, &drill.peer, &topic);
    assert_refused(&mut world, &keys_topic("press"), &genuine, RefusalReason::Collision);
    world.node("gateway").add_peer("saw");
    world.settle();
    assert_refused(&mut world, &keys_topic("saw"), &genuine, RefusalReason::IdentityMismatch);
    assert_eq!(world.node("gateway").status().ready, 2);
    world.broker.inject(&topic, &genuine);
    world.settle();
    assert_eq!(world.node("gateway").status().ready, 3, "negative control");
    assert_all_flow(&mut world);
}

#[test]
fn test_malicious_key_announcement_rejected() {
    let mut world = plant();
    let topic = keys_topic("press");
    // A man in the middle announces its own keys as the press's: uncertified, and in a later epoch.
    let mallory = world.stranger("press");
    for (certificate, epoch, reason) in [
        (vec![], 2, RefusalReason::Malformed),
        (self_issued_as(&mallory, 2), 2, RefusalReason::BadCertificate),
        (self_issued_as(&mallory, 1), 1, RefusalReason::Collision),
        (thief_of(&mut world, "lathe").certificate, 2, RefusalReason::IdentityMismatch),
    ] {
        let forged = mallory.announcement(&certificate, epoch, &mallory.peer, &topic);
        assert_refused(&mut world, &topic, &forged, reason);
    }
    assert!(world.node("gateway").audited(AuditKind::KeyExchangeRefused) >= 2);
    assert_all_flow(&mut world);
}

#[test]
fn test_distributed_revocation_blocks_peer() {
    let mut world = plant();
    let announcement = world.broker.last_on(&keys_topic("press"));
    let unseen = intercept(&mut world, TOPIC, "late");
    world.revoke(&["press"]);

    // No key exchange completes with the revoked keys: not here, not after a restart, not at a newcomer.
    assert_refused(&mut world, &keys_topic("press"), &announcement, RefusalReason::Revoked);
    world.restart("gateway");
    world.settle();
    assert_refused(&mut world, &keys_topic("press"), &announcement, RefusalReason::Revoked);
    world.enrol("drill", &everything());
    world.subscribe("drill", "plant/#");
    world.settle();
    world.node("drill").add_peer("press");
    world.settle();
    assert!(!world.node("drill").was_ready("press"));
    assert_eq!(world.node("drill").refused(RefusalReason::Revoked), 1);

    // And nothing it sends is accepted.
    assert_refused(&mut world, TOPIC, &unseen, RefusalReason::Revoked);
    assert!(world.node("gateway").inbox().is_empty());
    assert_flows(&mut world, "lathe", "gateway");

    // The device returns with new keys under a new certificate.
    world.enrol_with(NodeOptions::new("press", &everything()));
    world.subscribe("press", "plant/#");
    world.introduce("press", "gateway");
    assert_flows(&mut world, "press", "gateway");
    assert_refused(&mut world, &keys_topic("press"), &announcement, RefusalReason::Rollback);
}
