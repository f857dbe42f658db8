//! I0: peer identifiers are bounded and sanitised. I1: strict mode eliminates trust on first use.

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::codec::signed::Unverified;
use pqc_iiot_core::endpoint::{RefusalReason, StartError, TrustMode};
use pqc_iiot_core::identity::announcement::{KeyAnnouncement, PublishedBy, assemble_announcement};
use pqc_iiot_core::identity::certificate::OperationalCertificate;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_sim::{EPOCH, NodeOptions, World};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_flows, assert_refused, everything, flipped, id, intercept, keys_topic,
    plant, thief_of,
};

use crate::{assert_not_trusted, self_issued, waiting_for};

#[test]
fn i0_ids_outside_the_alphabet_are_dropped_at_every_door() {
    let mut world = plant();
    let calls = world.node("gateway").provider_calls();
    let packet = intercept(&mut world, TOPIC, "x");
    for bad in ["pre/ss", "pre ss", "press\n", "pr\u{e9}ss", "press\0", "press+", "#", "press:1"] {
        assert!(PeerId::new(bad).is_err(), "{bad:?}");
        for kind in ["keys", "prekeys"] {
            let topic = format!("pqc/{kind}/{bad}");
            assert_refused(&mut world, &topic, b"\x84", RefusalReason::InvalidPeerId);
        }
        let length = u8::try_from(bad.len()).unwrap();
        let forged = [&[length], bad.as_bytes(), &packet[6..]].concat();
        assert_refused(&mut world, TOPIC, &forged, RefusalReason::InvalidPeerId);
    }
    assert_eq!(world.node("gateway").provider_calls(), calls);
    assert_all_flow(&mut world);
}

#[test]
fn i0_ids_are_at_most_128_bytes() {
    let mut world = plant();
    assert!(PeerId::new(&"a".repeat(128)).is_ok());
    assert!(PeerId::new(&"a".repeat(129)).is_err());
    assert!(PeerId::new("").is_err());
    let long = "a".repeat(129);
    assert_refused(&mut world, &keys_topic(&long), b"\x84", RefusalReason::InvalidPeerId);
    assert_refused(&mut world, "pqc/keys/", b"\x84", RefusalReason::InvalidPeerId);
    // On the wire the length byte has no room for more: 129 is no envelope at all.
    let packet = [&[129][..], long.as_bytes(), &[1; 200]].concat();
    assert_refused(&mut world, TOPIC, &packet, RefusalReason::UnknownKind);
    // And an identity of the full length works.
    let longest = "a".repeat(128);
    world.enrol(&longest, &everything());
    world.introduce("gateway", &longest);
    assert_flows(&mut world, &longest, "gateway");
}

#[test]
fn i0_a_certificate_cannot_name_an_invalid_id() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let at = press.certificate.windows(5).position(|window| window == b"press").unwrap();
    for byte in [b'/', 0, 0xff, b'\n'] {
        let mut certificate = press.certificate.clone();
        certificate[at] = byte;
        assert!(Unverified::<OperationalCertificate>::decode(&certificate, 1 << 20).is_err());
    }
}

#[test]
fn i0_unknown_ids_insert_no_state() {
    let mut world = plant();
    let announcement = world.broker.last_on(&keys_topic("press"));
    let peers = world.node("gateway").status().peers;
    for n in 0..100 {
        let topic = keys_topic(&format!("unasked-{n}"));
        assert_refused(&mut world, &topic, &announcement, RefusalReason::UnknownPeer);
    }
    assert_eq!(world.node("gateway").status().peers, peers);
    assert_all_flow(&mut world);
}

#[test]
fn i1_strict_is_the_default() {
    assert_eq!(TrustMode::default(), TrustMode::Strict);
    let mut world = plant();
    assert_eq!(world.node("gateway").audited(AuditKind::DangerousMode), 0);
}

#[test]
fn i1_a_self_signed_certificate_gives_no_trust() {
    let mut world = waiting_for("rogue");
    let rogue = world.stranger("rogue");
    let certificate = self_issued(&rogue);
    assert_not_trusted(&mut world, &rogue, &certificate, RefusalReason::BadCertificate);
    assert_all_flow(&mut world);
}

#[test]
fn i1_only_a_mode_that_says_it_is_dangerous_trusts_on_first_use_and_it_is_audited() {
    let mut world = World::default();
    let careless = NodeOptions::new("gateway", &everything())
        .configure(|config| config.trust = TrustMode::DangerousTrustOnFirstUse);
    world.enrol_with(careless);
    world.node("gateway").add_peer("rogue");
    let rogue = world.stranger("rogue");
    let topic = keys_topic("rogue");
    let announcement = rogue.announcement(&self_issued(&rogue), 1, &rogue.peer, &topic);
    world.broker.deliver_to("gateway", &topic, &announcement);
    world.settle();
    assert_eq!(world.node("gateway").status().ready, 1);
    assert_eq!(world.node("gateway").audited(AuditKind::DangerousMode), 1);
    // First use only: another key under the same name is a collision even here.
    let second = world.stranger("rogue");
    let announcement = second.announcement(&self_issued(&second), 1, &second.peer, &topic);
    assert_refused(&mut world, &topic, &announcement, RefusalReason::Collision);
}

#[test]
fn i1_the_certificate_must_verify_under_the_pinned_ca_in_every_byte() {
    let mut world = waiting_for("rogue");
    let rogue = world.certify(&NodeOptions::new("rogue", &everything()));
    let length = rogue.certificate.len();
    for at in [length - 1, length - 3_000, length - 3_360] {
        let certificate = flipped(&rogue.certificate, at);
        assert_not_trusted(&mut world, &rogue, &certificate, RefusalReason::BadCertificate);
    }
    // A grant that nobody gave.
    let at = rogue.certificate.windows(7).position(|window| window == b"plant/#").unwrap();
    let certificate = flipped(&rogue.certificate, at);
    assert_not_trusted(&mut world, &rogue, &certificate, RefusalReason::BadCertificate);
    assert_all_flow(&mut world);
}

#[test]
fn i1_the_subject_must_be_the_topics_peer() {
    let mut world = waiting_for("rogue");
    // A certified member announces itself under another name.
    let lathe = thief_of(&mut world, "lathe");
    let certificate = lathe.certificate.clone();
    assert_not_trusted(&mut world, &lathe, &certificate, RefusalReason::IdentityMismatch);
    assert_all_flow(&mut world);
}

#[test]
fn i1_the_announced_keys_must_be_the_certified_ones() {
    let mut world = waiting_for("rogue");
    let certified = world.certify(&NodeOptions::new("rogue", &everything()));
    let topic = keys_topic("rogue");
    let thief = world.stranger("rogue");
    // Another's certificate with one's own key id, and with the certified one.
    assert_not_trusted(&mut world, &thief, &certified.certificate, RefusalReason::IdentityMismatch);
    let peer = id("rogue");
    let certificate = &certified.certificate;
    let announcement = KeyAnnouncement::new(certificate, 1, certified.public().key_id());
    let signed = thief.sign(&announcement, &PublishedBy { peer: &peer, topic: &topic });
    let forged = assemble_announcement(certificate, &signed);
    assert_refused(&mut world, &topic, &forged, RefusalReason::BadSignature);
    assert_all_flow(&mut world);
}

#[test]
fn i1_an_expired_or_future_certificate_gives_no_trust() {
    let mut world = waiting_for("rogue");
    let day = std::time::Duration::from_secs(86_400);
    world.advance(day);
    let expired = world.certify(&NodeOptions::new("rogue", &everything()).valid_until(EPOCH.plus(day)));
    assert_not_trusted(&mut world, &expired, &expired.certificate, RefusalReason::Expired);
    let mut options = NodeOptions::new("rogue", &everything());
    options.not_before = EPOCH.plus(2 * day);
    let future = world.certify(&options);
    assert_not_trusted(&mut world, &future, &future.certificate, RefusalReason::Expired);
    assert_all_flow(&mut world);
}

#[test]
fn i1_an_endpoint_does_not_start_with_another_peers_certificate() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let mut stranger = world.stranger("press");
    stranger.certificate = press.certificate;
    let result = world.start(stranger, NodeOptions::new("press", &everything()));
    assert_eq!(result.err(), Some(StartError::NotOurs));
}
