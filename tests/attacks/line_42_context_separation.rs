//! Context separation: a signature of each object type fails as every other type, even under the same key.

use pqc_iiot_core::audit::entry::AuditEntry;
use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::codec::signed::{ContextItem, SigStructure, SignedObject, SignerKey, Unverified};
use pqc_iiot_core::codec::{DecodeError, Reader, Writer};
use pqc_iiot_core::control::revocation::{
    ChainHead, RevocationCheckpoint, RevocationEntry, RevocationIssuer, RevocationReason, RevocationUpdate,
};
use pqc_iiot_core::crypto::labels;
use pqc_iiot_core::identity::announcement::{KeyAnnouncement, PublishedBy};
use pqc_iiot_core::identity::certificate::OperationalCertificate;
use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_core::identity::request::CertificateRequest;
use pqc_iiot_core::identity::trust::TrustAnchors;
use pqc_iiot_core::ids::Digest;
use pqc_iiot_sim::EPOCH;
use pqc_iiot_tests::{assert_all_flow, id, keys_topic, plant, retained_bundle, thief_of};

/// Every tag that a signature is made under.
const TAGS: [&str; 9] = [
    labels::ANCHORS,
    labels::OPERATIONAL_CERTIFICATE,
    labels::KEY_ANNOUNCEMENT,
    labels::PREKEY_BUNDLE,
    labels::REVOCATION,
    labels::REVOCATION_CHECKPOINT,
    labels::CERTIFICATE_REQUEST,
    labels::AUDIT,
    labels::ENVELOPE,
];

#[test]
fn a_signature_under_one_tag_fails_under_every_other() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let keys = press.public();
    let signer = SignerKey::parse(world.backend(), keys.set, &keys.signing_key).unwrap();
    let structure = |tag| {
        let context = [ContextItem::Text("press"), ContextItem::Text("plant/x")];
        SigStructure::new(keys.set, press.signer(), tag, &context, b"the same payload".to_vec())
    };
    for made in TAGS {
        let signature = press.sign_structure(&structure(made));
        for checked in TAGS {
            let verifies = signer.verify(&structure(checked), &signature).is_ok();
            assert_eq!(verifies, made == checked, "{made} as {checked}");
        }
    }
    assert_all_flow(&mut world);
}

/// Two types that differ in nothing but their tag.
struct Twin<const TYPE: bool>;

impl<const TYPE: bool> SignedObject for Twin<TYPE> {
    const TAG: &'static str = if TYPE { labels::PREKEY_BUNDLE } else { labels::KEY_ANNOUNCEMENT };
    type Context<'a> = ();

    fn context<'a>(_: &'a ()) -> Vec<ContextItem<'a>> {
        Vec::new()
    }

    fn encode(&self, writer: &mut Writer) {
        writer.uint(7);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.uint().map(|_| Self)
    }
}

#[test]
fn the_tag_alone_tells_types_of_one_shape_apart() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let keys = press.public();
    let signer = SignerKey::parse(world.backend(), keys.set, &keys.signing_key).unwrap();
    let signed = press.sign(&Twin::<true>, &());
    assert!(verifies::<Twin<true>>(&signed, &signer, &()), "negative control");
    assert!(!verifies::<Twin<false>>(&signed, &signer, &()));
    assert_all_flow(&mut world);
}

/// Whether `bytes` verify as a `T` of this signer in this context.
fn verifies<T: SignedObject>(bytes: &[u8], signer: &SignerKey, context: &T::Context<'_>) -> bool {
    Unverified::<T>::decode(bytes, usize::MAX).is_ok_and(|object| object.verify(signer, context).is_ok())
}

#[test]
fn a_genuine_object_of_each_type_is_none_of_any_other() {
    let mut world = plant();
    // One key signs everything: only the objects themselves can tell them apart.
    let press = thief_of(&mut world, "press");
    let (keys, me) = (press.public(), press.peer.clone());
    let signer = SignerKey::parse(world.backend(), keys.set, &keys.signing_key).unwrap();
    let topic = keys_topic("press");
    let place = topic.as_str();
    let context = PublishedBy { peer: &me, topic: place };

    let anchors =
        pqc_iiot_core::identity::trust::PinnedAnchors::pin(world.backend(), world.authority.anchors())
            .unwrap()
            .anchors()
            .clone();
    let certificate = Unverified::<OperationalCertificate>::decode(&press.certificate, 1 << 20).unwrap();
    let key_id = keys.key_id();
    let announcement = KeyAnnouncement::new(&press.certificate, 1, key_id);
    let bundle = retained_bundle(&world.broker, "press");
    let entry = RevocationEntry::new(&id("saw"), &key_id, RevocationReason::LOST, EPOCH);
    let update = RevocationUpdate::new(ChainHead::GENESIS, 1, EPOCH, vec![entry]).unwrap();
    let mut issuer = RevocationIssuer::new();
    issuer.revoke(&[entry], EPOCH).unwrap();
    let checkpoint = issuer.checkpoint(EPOCH).manifest;
    let request = CertificateRequest { subject: me.clone(), keys: keys.clone() };
    let audit = AuditEntry {
        log_id: me.clone(),
        seq: 1,
        previous: Digest([0; 32]),
        time: EPOCH,
        event: AuditEvent::new(AuditKind::ClientStarted, None, ""),
    };
    let objects = [
        press.sign::<TrustAnchors>(&anchors, &()),
        press.sign(certificate.unverified(), &()),
        press.sign(&announcement, &context),
        press.sign(&bundle, &context),
        press.sign::<RevocationUpdate>(&update, &place),
        press.sign::<RevocationCheckpoint>(&checkpoint, &place),
        press.sign(&request, &()),
        press.sign::<AuditEntry>(&audit, &&me),
    ];
    for (index, bytes) in objects.iter().enumerate() {
        let accepted = [
            verifies::<TrustAnchors>(bytes, &signer, &()),
            verifies::<OperationalCertificate>(bytes, &signer, &()),
            verifies::<KeyAnnouncement>(bytes, &signer, &context),
            verifies::<PrekeyBundle>(bytes, &signer, &context),
            verifies::<RevocationUpdate>(bytes, &signer, &place),
            verifies::<RevocationCheckpoint>(bytes, &signer, &place),
            verifies::<CertificateRequest>(bytes, &signer, &()),
            verifies::<AuditEntry>(bytes, &signer, &&me),
        ];
        for (other, accepted) in accepted.into_iter().enumerate() {
            assert_eq!(accepted, index == other, "object {index} as type {other}");
        }
    }
    assert_all_flow(&mut world);
}
