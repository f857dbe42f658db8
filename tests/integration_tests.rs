//! Invariants I0, I1, I2, I5, I6 and I7, clause by clause, through whole endpoints. I3 and I4 are in
//! `mqtt_invariants.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use pqc_iiot_core::audit::{AuditEvent, AuditKind, SignerClass};
use pqc_iiot_core::codec::signed::Unverified;
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::endpoint::{Event, RefusalReason, SendFailure, StartError, TrustMode};
use pqc_iiot_core::identity::announcement::{KeyAnnouncement, PublishedBy, assemble_announcement};
use pqc_iiot_core::identity::certificate::OperationalCertificate;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::limits::Limits;
use pqc_iiot_provider::audit::{
    AuditOptions, ChainedAuditLogger, VerifyError, VerifyOptions, VerifyReport, verify_dir,
};
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::{SecurityProvider, SoftwareProvider};
use pqc_iiot_sim::{EPOCH, Identity, NodeOptions, SimAuthority, World};
use pqc_iiot_tests::{
    TOPIC, announcement_parts, assert_all_flow, assert_flows, assert_refused, assert_waits, everything,
    flipped, id, intercept, keys_topic, plant, thief_of,
};

const REVOCATIONS: &str = "pqc/revocations/v1";

/// A plant whose gateway follows `name` and has heard nothing from it.
fn waiting_for(name: &str) -> World {
    let mut world = plant();
    world.node("gateway").add_peer(name);
    world.settle();
    world
}

// I0 — peer identifiers are bounded and sanitised.

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

// I1 — strict mode eliminates trust on first use.

/// Announces a stranger as `rogue` under the certificate given, and requires the refusal.
fn assert_not_trusted(world: &mut World, rogue: &Identity, certificate: &[u8], reason: RefusalReason) {
    let topic = keys_topic("rogue");
    let announcement = rogue.announcement(certificate, 1, &id("rogue"), &topic);
    assert_refused(world, &topic, &announcement, reason);
    assert!(!world.node("gateway").was_ready("rogue"));
    assert_waits(world, "gateway", "rogue");
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

// I2 — key announcements are identity-bound and non-malleable.

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

fn self_issued_as(rogue: &Identity, key_epoch: u64) -> Vec<u8> {
    let encoded = self_issued(rogue);
    let mut certificate =
        Unverified::<OperationalCertificate>::decode(&encoded, 1 << 20).unwrap().unverified().clone();
    certificate.key_epoch = key_epoch;
    rogue.sign(&certificate, &())
}

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

// I5 — input size limits exist before parsing and cryptography.

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

// I6 — the audit log is signed if it claims tamper-evidence.

struct AuditFixture {
    directory: tempfile::TempDir,
    provider: Arc<SoftwareProvider>,
}

impl AuditFixture {
    fn with_entries(count: u64) -> Self {
        let random = Box::new(SeededRandom::new(7));
        let backend = pqc_iiot_core::crypto::default_backend();
        let provider =
            SoftwareProvider::ephemeral(backend, SignatureSet::Ed25519MlDsa65, Kem::XWing, random).unwrap();
        let fixture = Self { directory: tempfile::tempdir().unwrap(), provider: Arc::new(provider) };
        let mut log = ChainedAuditLogger::new_signed(
            &fixture.log(),
            fixture.provider.clone(),
            id("gateway"),
            AuditOptions::default(),
        )
        .unwrap();
        for _ in 0..count {
            log.append(EPOCH, AuditEvent::new(AuditKind::ReplayRefused, Some(id("press")), "replayed"))
                .unwrap();
        }
        log.sync().unwrap();
        fixture
    }

    fn log(&self) -> std::path::PathBuf {
        self.directory.path().join("audit")
    }

    fn segment(&self) -> std::path::PathBuf {
        let mut files = std::fs::read_dir(self.log()).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.metadata().unwrap().len() > 0).unwrap()
    }

    fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, VerifyError> {
        let own = self.provider.identity().signing_key.clone();
        verify_dir(&self.log(), |_, key| key == own, options)
    }
}

#[test]
fn i6_every_entry_is_signed_and_any_rewritten_byte_is_noticed() {
    let fixture = AuditFixture::with_entries(5);
    let report = fixture.verify(VerifyOptions::default()).unwrap();
    assert_eq!(report.entries, 5);
    let segment = fixture.segment();
    let bytes = std::fs::read(&segment).unwrap();
    for at in (0..bytes.len()).step_by(211) {
        std::fs::write(&segment, flipped(&bytes, at)).unwrap();
        let damaged = fixture.verify(VerifyOptions { head: Some(report.head), evidence: false });
        assert!(damaged.is_err(), "byte {at}");
    }
    std::fs::write(&segment, &bytes).unwrap();
    assert!(fixture.verify(VerifyOptions::default()).is_ok());
}

#[test]
fn i6_a_log_rewritten_with_another_key_is_not_this_devices() {
    let fixture = AuditFixture::with_entries(2);
    let other = vec![0; 1984];
    let result = verify_dir(&fixture.log(), |_, key| key == other, VerifyOptions::default());
    assert!(result.is_err());
}

#[test]
fn i6_an_exportable_signer_is_said_to_be_one_and_is_no_evidence() {
    let fixture = AuditFixture::with_entries(1);
    let report = fixture.verify(VerifyOptions::default()).unwrap();
    assert_eq!(report.class, SignerClass::Exportable);
    let evidence = fixture.verify(VerifyOptions { evidence: true, head: None });
    assert!(evidence.is_err(), "an exportable key gives no evidence");
}

#[test]
fn i6_every_kind_of_refusal_is_recorded() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "x");
    world.broker.inject(TOPIC, &flipped(&packet, packet.len() - 1));
    world.broker.inject(TOPIC, &packet);
    world.broker.inject(TOPIC, &packet);
    world.broker.inject(TOPIC, b"\0");
    world.broker.inject(&keys_topic("press"), &vec![0; 1 << 20]);
    world.settle();
    let gateway = world.node("gateway");
    for kind in [
        AuditKind::ClientStarted,
        AuditKind::KeyExchangeAccepted,
        AuditKind::ForgeryRefused,
        AuditKind::ReplayRefused,
        AuditKind::MalformedRefused,
        AuditKind::OversizedRefused,
    ] {
        assert!(gateway.audited(kind) >= 1, "{kind}");
    }
}

// I7 — distributed revocation updates are authenticated and monotonic.

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
