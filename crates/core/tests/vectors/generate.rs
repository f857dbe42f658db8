//! What the files hold, made from the seeds.

use std::collections::BTreeMap;

use pqc_iiot_core::audit::frame::{PREFIX, frame};
use pqc_iiot_core::audit::{
    AuditEntry, AuditEvent, AuditKind, SegmentHeader, SignerClass, entry::record_hash,
};
use pqc_iiot_core::codec::signed::{SignedObject, Unverified};
use pqc_iiot_core::control::revocation::{
    RevocationEntry, RevocationEntryId, RevocationIssuer, RevocationReason,
};
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::delivery::{
    Loss, LossReason, Origin, Receipt, ReceiptOf, ReceivedSet, StreamReceipt, Verdict,
};
use pqc_iiot_core::endpoint::ControlTopics;
use pqc_iiot_core::envelope::{Body, Content, Tracking};
use pqc_iiot_core::identity::authority::RoleSigner;
use pqc_iiot_core::identity::request::CertificateRequest;
use pqc_iiot_core::identity::trust::{TrustAnchors, assemble_anchors};
use pqc_iiot_core::ids::{BootId, Digest, StreamId};
use pqc_iiot_core::time::UnixTime;

use super::json::{Json, hex, number, object, text};
use super::sealing::{Cbor, Order, Sealed, seal};
use super::world::{Made, NOT_BEFORE, NOW, Peer, Prekey, World, second_root, sign};
use super::{refusals, sessions};

/// The files, and every object in them that can be delivered: its topic and its bytes by its name.
pub(crate) struct Vectors {
    pub(crate) files: Vec<(&'static str, String)>,
    pub(crate) objects: Objects,
}

pub(crate) type Objects = BTreeMap<String, (String, Vec<u8>)>;

const ANCHORS_TOPIC: &str = "pqc/anchors/v1";
pub(crate) const UPDATES_TOPIC: &str = "pqc/revocations/v1";
pub(crate) const CHECKPOINT_TOPIC: &str = "pqc/revocations/checkpoint/v1";
pub(crate) const MESSAGE_TOPIC: &str = "plant/7/temperature";
pub(crate) const CONTROL_TOPIC: &str = "pqc/control/gateway-1";
pub(crate) const BOOT: [u8; 8] = *b"\x0b\x00\x07boot!";
const LOCAL: &str = "";

pub(crate) struct Collector {
    pub(crate) objects: Objects,
}

impl Collector {
    /// A signed object's entry: where it is published, what was drawn to make it, what it is.
    pub(crate) fn signed(&mut self, name: &str, topic: &str, made: &Made) -> Json {
        self.objects.insert(name.to_owned(), (topic.to_owned(), made.encoded.clone()));
        let mut members = vec![("name".to_owned(), text(name))];
        if topic != LOCAL {
            members.push(("topic".to_owned(), text(topic)));
        }
        members.push(("random".to_owned(), hex(&made.random)));
        members.push(("encoded".to_owned(), hex(&made.encoded)));
        Json::Object(members)
    }

    pub(crate) fn envelope(&mut self, order: &Order<'_>) -> Sealed {
        let sealed = seal(order);
        self.objects.insert(order.name.to_owned(), (order.topic.to_owned(), sealed.packet.clone()));
        sealed
    }

    pub(crate) fn raw(&mut self, name: &str, topic: &str, bytes: &[u8]) -> Json {
        self.objects.insert(name.to_owned(), (topic.to_owned(), bytes.to_vec()));
        object([("name", text(name)), ("topic", text(topic)), ("encoded", hex(bytes))])
    }
}

/// The history that the revocation vectors tell.
pub(crate) fn revoked(peer: &Peer) -> RevocationEntry {
    let key = peer.identity.key_id();
    RevocationEntry::new(&peer.id, &key, RevocationReason::LOST, peer.claims.not_after)
}

pub(crate) fn vectors() -> Vectors {
    let world = World::new();
    let mut collector = Collector { objects: Objects::new() };
    let prekeys = [world.gateway_1.prekey(1, 1), world.gateway_1.prekey(2, 2)];
    let mut files = vec![
        ("identities.json", identities(&world, &mut collector)),
        ("anchors.json", anchors(&world, &mut collector)),
        ("announcements.json", announcements(&world, &prekeys, &mut collector)),
        ("envelopes.json", envelopes(&world, &prekeys[1], &mut collector)),
        ("revocation.json", revocation(&world, &mut collector)),
        ("audit.json", audit(&world, &mut collector)),
    ];
    files.push(("sessions.json", sessions::generate(&world, &collector.objects["anchors/1"].1)));
    files.push(("refusals.json", refusals::generate(&world, &prekeys[1], &mut collector)));
    let files = files.into_iter().map(|(name, json)| (name, json.render())).collect();
    Vectors { files, objects: collector.objects }
}

fn role(seeds: &[u8], signer: &RoleSigner) -> Json {
    let key = signer.anchor_key();
    object([
        ("set", number(key.set.id())),
        ("seeds", hex(seeds)),
        ("public_key", hex(&key.key)),
        ("fingerprint", text(&signer.fingerprint().to_string())),
    ])
}

fn identities(world: &World, collector: &mut Collector) -> Json {
    let (seeds, authority) = (&world.ca.seeds, &world.ca.authority);
    let (second_seeds, second) = second_root();
    let roles = object([
        ("root", role(seeds.root.expose(), authority.root())),
        ("second_root", role(second_seeds.expose(), &second)),
        ("issuer", role(seeds.issuer.expose(), authority.issuer())),
        ("control", role(seeds.control.expose(), authority.control())),
    ]);
    let peers = world.peers().into_iter().map(|peer| identity(peer, collector)).collect();
    let request =
        CertificateRequest { subject: world.press_7.id.clone(), keys: world.press_7.identity.clone() };
    let request = sign(&world.press_7.signer, "request", &request, &());
    object([
        (
            "about",
            text(
                "Keys from their seeds, fingerprints, certificates, one certificate request. docs/protocol.md §§1-4.",
            ),
        ),
        ("authority", roles),
        ("peers", Json::Array(peers)),
        ("request", collector.signed("request/press-7", LOCAL, &request)),
    ])
}

fn identity(peer: &Peer, collector: &mut Collector) -> Json {
    let revocation = RevocationEntryId::new(&peer.id, &peer.identity.key_id());
    let name = format!("certificate/{}", peer.id);
    object([
        ("peer_id", text(peer.id.as_str())),
        ("set", number(peer.set.id())),
        ("signing_seeds", hex(peer.signing_seeds.expose())),
        ("signing_key", hex(&peer.identity.signing_key)),
        ("signer_fingerprint", text(&peer.signer.fingerprint().to_string())),
        ("kem", number(peer.identity.kem.id())),
        ("kem_seed", hex(peer.kem_seed.expose())),
        ("encapsulation_key", hex(&peer.identity.encapsulation_key)),
        ("fingerprint", text(&peer.identity.fingerprint().to_string())),
        ("key_id", text(&peer.identity.key_id().to_string())),
        ("revocation_id", text(&revocation.to_string())),
        ("not_before", number(peer.claims.not_before.0)),
        ("not_after", number(peer.claims.not_after.0)),
        ("certificate", collector.signed(&name, LOCAL, &peer.certificate)),
    ])
}

fn anchors(world: &World, collector: &mut Collector) -> Json {
    let authority = &world.ca.authority;
    let (_, second) = second_root();
    let first = TrustAnchors {
        version: 1,
        threshold: 1,
        roots: vec![authority.root().anchor_key()],
        issuers: vec![authority.issuer().anchor_key()],
        control: vec![authority.control().anchor_key()],
        status: Vec::new(),
        firmware: Vec::new(),
        not_before: UnixTime(NOT_BEFORE),
        not_after: UnixTime(2_000_000_000),
    };
    let roots = vec![authority.root().anchor_key(), second.anchor_key()];
    let next = TrustAnchors { version: 2, threshold: 2, roots, ..first.clone() };
    let assembled = |anchors: &TrustAnchors, signers: &[&RoleSigner]| {
        let copies: Vec<Made> = (1..)
            .zip(signers)
            .map(|(n, signer)| sign(signer, &format!("anchors {n}"), anchors, &()))
            .collect();
        let encoded: Vec<Vec<u8>> = copies.iter().map(|copy| copy.encoded.clone()).collect();
        Made {
            random: copies.iter().flat_map(|copy| copy.random.clone()).collect(),
            encoded: assemble_anchors(&encoded),
        }
    };
    let v1 = assembled(&first, &[authority.root()]);
    let v2 = assembled(&next, &[authority.root(), &second]);
    object([
        ("about", text("Version 1 under one root, and its successor under two. docs/protocol.md §3.")),
        (
            "anchors",
            Json::Array(vec![
                collector.signed("anchors/1", ANCHORS_TOPIC, &v1),
                collector.signed("anchors/2", ANCHORS_TOPIC, &v2),
            ]),
        ),
    ])
}

fn announcements(world: &World, prekeys: &[Prekey], collector: &mut Collector) -> Json {
    let peers = world.peers().into_iter();
    let announced = peers.map(|peer| {
        let name = format!("announcement/{}", peer.id);
        let made = peer.announcement(&name);
        collector.signed(&name, &peer.keys_topic(), &made)
    });
    let announced = announced.collect();
    let bundles = prekeys.iter().map(|prekey| {
        let name = format!("prekeys/gateway-1/{}", prekey.seq);
        let signed = collector.signed(&name, &world.gateway_1.prekeys_topic(), &prekey.made);
        object([
            ("bundle_seq", number(prekey.seq)),
            ("prekey_id", number(prekey.id)),
            ("seed", hex(prekey.seed.expose())),
            ("encapsulation_key", hex(&prekey.encapsulation_key)),
            ("bundle", signed),
        ])
    });
    object([
        ("about", text("Announcements and prekey bundles as published, retained. docs/protocol.md §§5-6.")),
        ("announcements", Json::Array(announced)),
        ("bundles", Json::Array(bundles.collect())),
    ])
}

fn envelopes(world: &World, prekey: &Prekey, collector: &mut Collector) -> Json {
    let plain = Order {
        name: "envelope/suite-1",
        from: &world.press_7,
        to: &world.gateway_1,
        prekey: Some(prekey),
        suite: SessionSuite::Hybrid,
        topic: MESSAGE_TOPIC,
        stream: 0,
        sequence: 1,
        body: Content::telemetry(*b"23.5").into(),
    };
    let mut full = Content::telemetry(*b"{\"celsius\":23.5}");
    full.content_type = Some("application/json".into());
    full.response_topic = Some("plant/7/answers".into());
    full.correlation_data = Some(vec![1, 2, 3, 4]);
    full.expires = Some(UnixTime(NOW + 60));
    let orders = [
        Order {
            name: "envelope/suite-3",
            suite: SessionSuite::HybridChaCha,
            stream: 3,
            sequence: 70_000,
            body: full.into(),
            ..plain
        },
        Order {
            name: "envelope/suite-2",
            from: &world.press_9,
            to: &world.vault,
            prekey: None,
            suite: SessionSuite::Cnsa2,
            topic: "plant/9/pressure",
            body: Content::telemetry(*b"1013").into(),
            ..plain
        },
        plain,
    ];
    let [third, second, first] = orders.map(|order| collector.envelope(&order).json);
    let mut envelopes = vec![first, second, third];
    envelopes.extend(bodies(world, prekey, collector));
    object([
        ("about", text("Envelopes with every value on the way. docs/protocol.md §§7, 9.")),
        ("envelopes", Json::Array(envelopes)),
    ])
}

pub(crate) fn origin(msg_seq: u64) -> Origin {
    Origin { boot: BootId(BOOT), msg_seq }
}

/// What press-7 has from gateway-1: of one boot 1 to 7, 9, and 11 to 300; but of 11 to 20, which were reported as lost,
/// only two had arrived.
pub(crate) fn receipt() -> Receipt {
    let mut received = ReceivedSet::default();
    for number in (1..=7).chain([9]).chain(11..=300) {
        let _ = received.insert(number).unwrap();
    }
    let verdicts = vec![Verdict { first: 11, last: 20, lost: 8, unknown: 0 }];
    let boots = vec![ReceiptOf { boot: BootId(BOOT), received, verdicts }];
    Receipt { streams: vec![StreamReceipt { stream: StreamId::default(), last_sequence: 1_300, boots }] }
}

/// One body of each kind that delivery needs; each plaintext once more by hand.
fn bodies(world: &World, prekey: &Prekey, collector: &mut Collector) -> Vec<Json> {
    let tracked = |tracking| Body::Message { content: Content::telemetry(*b"23.5"), tracking };
    let by_hand = |keys: u64| Cbor::default().head(5, keys).uint(1);
    let named = |cbor: Cbor, msg_seq| cbor.head(4, 2).bytes(&BOOT).uint(msg_seq);
    let message = |key| named(by_hand(3).uint(0).uint(2).bytes(b"23.5").uint(key), 42).0;
    let lost =
        Body::Lost(Loss { boot: BootId(BOOT), first: 43, last: 1_042, reason: LossReason::DroppedOldest });
    let lost_by_hand = by_hand(2).uint(2).uint(9).head(4, 4).bytes(&BOOT).uint(43).uint(1_042).uint(1).0;
    let stream_by_hand = by_hand(2).uint(3).uint(10).head(4, 1).head(4, 3).uint(0).uint(1_300);
    let boot_by_hand = stream_by_hand.head(4, 1).head(4, 4).bytes(&BOOT).uint(7);
    let receipt_by_hand = boot_by_hand.head(4, 4).uint(9).uint(9).uint(11).uint(300);
    let receipt_by_hand = receipt_by_hand.head(4, 4).uint(11).uint(20).uint(8).uint(0).0;
    let bodies = [
        ("envelope/tracked", MESSAGE_TOPIC, 1, tracked(Tracking::Durable(origin(42))), message(7)),
        ("envelope/volatile", MESSAGE_TOPIC, 2, tracked(Tracking::Volatile(origin(42))), message(8)),
        ("envelope/loss-report", CONTROL_TOPIC, 1, lost, lost_by_hand),
        ("envelope/receipt", CONTROL_TOPIC, 7, Body::Receipt(receipt()), receipt_by_hand),
    ];
    let sealed = (2..).zip(bodies).map(|(sequence, (name, topic, stream, body, plaintext))| {
        let sealed = collector.envelope(&Order {
            name,
            from: &world.press_7,
            to: &world.gateway_1,
            prekey: Some(prekey),
            suite: SessionSuite::Hybrid,
            topic,
            stream,
            sequence,
            body,
        });
        assert_eq!(sealed.plaintext, plaintext, "{name}");
        sealed.json
    });
    sealed.collect()
}

fn revocation(world: &World, collector: &mut Collector) -> Json {
    let control = world.ca.authority.control();
    let mut issuer = RevocationIssuer::new();
    let mut updates = Vec::new();
    for (n, peer) in [(1, &world.press_7), (2, &world.tpm_1)] {
        let update = issuer.revoke(&[revoked(peer)], UnixTime(NOW + n)).unwrap();
        let name = format!("revocation/update-{n}");
        let made = sign(control, &name, &update, &UPDATES_TOPIC);
        updates.push(object([
            ("seq", number(update.seq())),
            ("prev_digest", hex(update.prev().digest.as_bytes())),
            ("digest", hex(update.head().digest.as_bytes())),
            ("update", collector.signed(&name, UPDATES_TOPIC, &made)),
        ]));
    }
    let checkpoint = issuer.checkpoint(UnixTime(NOW + 3));
    let manifest = sign(control, "revocation/checkpoint", &checkpoint.manifest, &CHECKPOINT_TOPIC);
    let chunks = checkpoint.chunks.iter().enumerate().map(|(index, chunk)| {
        let topic = ControlTopics::new("pqc").checkpoint_chunk(index as u32);
        collector.raw(&format!("revocation/chunk-{index}"), &topic, chunk)
    });
    let chunks = chunks.collect();
    object([
        ("about", text("Two chained updates, and the checkpoint at their head. docs/protocol.md §11.")),
        ("updates", Json::Array(updates)),
        ("checkpoint", collector.signed("revocation/checkpoint", CHECKPOINT_TOPIC, &manifest)),
        ("chunks", Json::Array(chunks)),
    ])
}

fn audit(world: &World, collector: &mut Collector) -> Json {
    let keeper = &world.press_7;
    let header = SegmentHeader {
        log_id: keeper.id.clone(),
        segment: 1,
        first_seq: 1,
        previous: Digest([0; 32]),
        class: SignerClass::Exportable,
        set: keeper.set,
        public_key: keeper.identity.signing_key.clone(),
        certificate: None,
    };
    let mut previous = Digest([0; 32]);
    let mut records = Vec::new();
    let made = sign(&keeper.signer, "audit/header", &header, &&keeper.id);
    records.push(record::<SegmentHeader>("audit/header", &made, &mut previous, collector));
    let events = [
        AuditEvent::new(AuditKind::ClientStarted, None, "key epoch 1"),
        AuditEvent::new(AuditKind::ReplayRefused, Some(world.gateway_1.id.clone()), "replayed\n")
            .with_count(20),
    ];
    for (seq, event) in (1..).zip(events) {
        let time = UnixTime(NOW + seq);
        let entry = AuditEntry { log_id: keeper.id.clone(), seq, previous, time, event };
        let name = format!("audit/entry-{seq}");
        let made = sign(&keeper.signer, &name, &entry, &&keeper.id);
        records.push(record::<AuditEntry>(&name, &made, &mut previous, collector));
    }
    object([
        (
            "about",
            text("A segment: its header and two entries, each after its frame prefix. docs/protocol.md §12."),
        ),
        ("records", Json::Array(records)),
    ])
}

fn record<T: SignedObject>(
    name: &str,
    made: &Made,
    previous: &mut Digest,
    collector: &mut Collector,
) -> Json {
    let payload = payload::<T>(&made.encoded);
    *previous = record_hash(&payload);
    let mut framed = Vec::new();
    frame(&made.encoded, &mut framed);
    object([
        ("prefix", hex(&framed[..PREFIX])),
        ("record", collector.signed(name, LOCAL, made)),
        ("record_hash", hex(previous.as_bytes())),
    ])
}

/// The payload inside the COSE_Sign, found by a second library.
fn payload<T: SignedObject>(encoded: &[u8]) -> Vec<u8> {
    use coset::CborSerializable;
    assert!(Unverified::<T>::decode(encoded, encoded.len()).is_ok());
    coset::CoseSign::from_slice(encoded).unwrap().payload.unwrap()
}
