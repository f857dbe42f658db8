//! What must be refused, and why: edits of genuine objects, and objects that only an insider can make.

use pqc_iiot_core::control::revocation::RevocationIssuer;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::delivery::{Loss, LossReason};
use pqc_iiot_core::envelope::{Body, Content, MessageClass, Tracking};
use pqc_iiot_core::time::UnixTime;

use super::generate::{
    CHECKPOINT_TOPIC, CONTROL_TOPIC, Collector, MESSAGE_TOPIC, UPDATES_TOPIC, origin, receipt, revoked,
};
use super::json::{Json, hex_text, number, object, text};
use super::sealing::{Order, sign_again};
use super::world::{NOT_AFTER, NOT_BEFORE, NOW, PRESS_7, Peer, Plan, Prekey, World, sign};

/// Replaces `remove` bytes at `at`.
struct Edit {
    at: usize,
    remove: usize,
    insert: Vec<u8>,
}

struct Case {
    name: &'static str,
    receiver: &'static str,
    time: u64,
    before: &'static [&'static str],
    object: &'static str,
    topic: Option<&'static str>,
    edit: Option<Edit>,
    append_zeros: usize,
    refused: &'static str,
}

/// A delivery to `gateway-1`, which trusts `press-7`.
const MESSAGE: Case = Case {
    name: "",
    receiver: "gateway-1",
    time: NOW,
    before: &["announcement/press-7"],
    object: "envelope/suite-1",
    topic: None,
    edit: None,
    append_zeros: 0,
    refused: "",
};
const FIRST: Case = Case { before: &[], ..MESSAGE };
const ANNOUNCEMENT: Case = Case { object: "announcement/press-7", ..FIRST };
/// A delivery to `press-7`, which trusts `gateway-1`.
const BUNDLE: Case = Case {
    receiver: "press-7",
    before: &["announcement/gateway-1"],
    object: "prekeys/gateway-1/2",
    ..MESSAGE
};
const UPDATE: Case = Case { object: "revocation/update-1", ..FIRST };

pub(crate) fn generate(world: &World, prekey: &Prekey, collector: &mut Collector) -> Json {
    let objects = hostile_objects(world, prekey, collector);
    let cases = cases(world, collector).iter().map(Case::json).collect();
    object([
        (
            "about",
            text(
                "Deliveries that a receiver must refuse for the given reason. Each starts from a fresh receiver that \
                 follows every peer of identities.json, pinned anchors/1, and holds the prekey of prekeys/gateway-1/2 if \
                 it is gateway-1; `before` is delivered first and accepted; then `object`, on its own topic unless \
                 `topic` is given, after `edit` (at byte `at`, replace `remove` bytes by `insert`) and `append_zeros`. \
                 docs/protocol.md §14.",
            ),
        ),
        ("objects", Json::Array(objects)),
        ("cases", Json::Array(cases)),
    ])
}

/// Other keys of `press-7`: those of its next epoch, and a second set under the same epoch.
pub(crate) fn other_identities(world: &World) -> [Peer; 2] {
    let successor = Plan { label: "press-7 epoch 2", epoch: 2, ..PRESS_7 };
    let rival = Plan { label: "press-7 rival", ..PRESS_7 };
    [successor, rival].map(|plan| Peer::new(&world.ca, &plan))
}

/// Objects that are well made and must be refused all the same.
fn hostile_objects(world: &World, prekey: &Prekey, collector: &mut Collector) -> Vec<Json> {
    let mut objects = Vec::new();
    let honest = Order {
        name: "",
        from: &world.press_7,
        to: &world.gateway_1,
        prekey: Some(prekey),
        suite: SessionSuite::Hybrid,
        topic: MESSAGE_TOPIC,
        stream: 0,
        sequence: 2,
        body: Content::default().into(),
    };
    let mut command = Content::telemetry(*b"open the valve");
    command.class = MessageClass::Command;
    let mut late = Content::telemetry(*b"23.5");
    late.expires = Some(UnixTime(NOW));
    let telemetry = Content::telemetry(*b"23.5");
    let mut twice = receipt();
    twice.streams.extend(receipt().streams);
    for order in [
        Order { name: "envelope/command", body: command.into(), ..honest.clone() },
        Order { name: "envelope/expired", body: late.into(), ..honest.clone() },
        Order {
            name: "envelope/outside-grant",
            topic: "plant/9/temperature",
            body: telemetry.clone().into(),
            ..honest.clone()
        },
        Order { name: "envelope/message-on-stream-7", stream: 7, ..honest.clone() },
        Order { name: "envelope/message-at-control", topic: CONTROL_TOPIC, ..honest.clone() },
        Order {
            name: "envelope/receipt-on-stream-0",
            topic: CONTROL_TOPIC,
            body: Body::Receipt(receipt()),
            ..honest.clone()
        },
        Order {
            name: "envelope/report-on-stream-7",
            topic: CONTROL_TOPIC,
            stream: 7,
            body: report(1, 1),
            ..honest.clone()
        },
        Order { name: "envelope/report-among-messages", body: report(1, 1), ..honest.clone() },
        Order {
            name: "envelope/number-0",
            body: Body::Message { content: telemetry, tracking: Tracking::Durable(origin(0)) },
            ..honest.clone()
        },
        Order { name: "envelope/no-loss", topic: CONTROL_TOPIC, body: report(2, 1), ..honest.clone() },
        Order {
            name: "envelope/loss-of-number-0",
            topic: CONTROL_TOPIC,
            body: report(0, 1),
            ..honest.clone()
        },
        Order {
            name: "envelope/receipt-of-one-stream-twice",
            topic: CONTROL_TOPIC,
            stream: 7,
            body: Body::Receipt(twice),
            ..honest
        },
    ] {
        let sealed = collector.envelope(&order);
        objects.push(object([
            ("name", text(order.name)),
            ("topic", text(order.topic)),
            ("packet", text(&hex_text(&sealed.packet))),
        ]));
    }
    // The blob of press-7's genuine message under the signature of another member.
    let genuine = &collector.objects["envelope/suite-1"].1;
    let blob = &genuine[1 + "press-7".len()..genuine.len() - world.press_7.set.signature_len()];
    let stolen = sign_again(&world.tpm_1, blob, MESSAGE_TOPIC);
    objects.push(collector.raw("envelope/stolen-blob", MESSAGE_TOPIC, &stolen));

    let [successor, rival] = other_identities(world);
    for (name, peer) in [("announcement/epoch-2", &successor), ("announcement/other-keys", &rival)] {
        objects.push(collector.signed(name, &peer.keys_topic(), &peer.announcement(name)));
    }

    let (issuer, control) = (world.ca.authority.issuer(), world.ca.authority.control());
    let revoke = |history: &mut RevocationIssuer, peer: &Peer| {
        history.revoke(&[revoked(peer)], UnixTime(NOW)).unwrap()
    };
    let other = revoke(&mut RevocationIssuer::new(), &world.vault);
    let name = "revocation/wrong-role";
    objects.push(collector.signed(name, UPDATES_TOPIC, &sign(issuer, name, &other, &UPDATES_TOPIC)));
    let name = "revocation/fork";
    objects.push(collector.signed(name, UPDATES_TOPIC, &sign(control, name, &other, &UPDATES_TOPIC)));
    // A history of its own, further along, that never revoked press-7.
    let mut history = RevocationIssuer::new();
    for peer in [&world.vault, &world.press_9, &world.tpm_1] {
        let _ = revoke(&mut history, peer);
    }
    let omitting = history.checkpoint(UnixTime(NOW));
    let name = "revocation/omitting-checkpoint";
    let made = sign(control, name, &omitting.manifest, &CHECKPOINT_TOPIC);
    objects.push(collector.signed(name, CHECKPOINT_TOPIC, &made));
    let topic = format!("{CHECKPOINT_TOPIC}/0");
    objects.push(collector.raw("revocation/omitting-chunk", &topic, &omitting.chunks[0]));
    objects
}

fn report(first: u64, last: u64) -> Body {
    Body::Lost(Loss { boot: origin(1).boot, first, last, reason: LossReason::Aged })
}

fn cases(world: &World, collector: &Collector) -> Vec<Case> {
    let mut cases = messages(world, collector);
    cases.extend(announcements(world, collector));
    cases.extend(bundles(world, collector));
    cases.extend(control(collector));
    cases
}

fn messages(world: &World, collector: &Collector) -> Vec<Case> {
    let packet = &collector.objects["envelope/suite-1"].1;
    let id = "press-7".len();
    // Offsets of the fields of docs/protocol.md §7.
    let (version, suite, recipient, prekey, stream, sequence) = (1, 2, 3, 19, 23, 24);
    let header = |field: usize, insert: &[u8]| {
        Some(Edit { at: id + field, remove: insert.len(), insert: insert.to_vec() })
    };
    let sender = |id: &[u8]| Some(Edit { at: 0, remove: 8, insert: [&[id.len() as u8], id].concat() });
    let signature = packet.len() - world.press_7.set.signature_len();
    let flip = |at: usize| Some(Edit { at, remove: 1, insert: vec![packet[at] ^ 1] });
    let message = |name, refused, edit| Case { name, refused, edit, ..MESSAGE };
    let body = |name, refused, object| Case { name, refused, object, ..MESSAGE };
    vec![
        message("empty", "malformed", Some(Edit { at: 0, remove: packet.len(), insert: Vec::new() })),
        message("first byte 0x00", "unknown-kind", Some(Edit { at: 0, remove: 1, insert: vec![0] })),
        message(
            "first byte of a session record",
            "unknown-kind",
            Some(Edit { at: 0, remove: 1, insert: vec![0xc1] }),
        ),
        message("sender id with a slash", "invalid-peer-id", sender(b"press/7")),
        message("our own id", "reflected", sender(b"gateway-1")),
        message("a sender nobody asked for", "unknown-peer", sender(b"stranger")),
        message("version 2", "unknown-version", header(version, &[2])),
        message("suite 9", "unknown-suite", header(suite, &[9])),
        message("a suite we do not accept", "suite-not-allowed", header(suite, &[2])),
        message("another recipient", "wrong-recipient", header(recipient, &[0; 16])),
        message("an unknown prekey", "unknown-prekey", header(prekey, &[0, 0, 0, 7])),
        message("the static key although prekeys are required", "static-key", header(prekey, &[0; 4])),
        message("stream 8", "malformed", header(stream, &[8])),
        message("sequence 0", "too-old", header(sequence, &[0; 8])),
        message("another sequence", "bad-signature", header(sequence, &2u64.to_be_bytes())),
        message("another stream", "bad-signature", header(stream, &[1])),
        message("KEM ciphertext changed", "bad-signature", flip(id + 40)),
        message("AEAD tag changed", "bad-signature", flip(signature - 1)),
        message("Ed25519 half changed", "bad-signature", flip(signature)),
        message("ML-DSA half changed", "bad-signature", flip(packet.len() - 1)),
        message(
            "Ed25519 half zeroed",
            "bad-signature",
            Some(Edit { at: signature, remove: 64, insert: vec![0; 64] }),
        ),
        message(
            "ML-DSA half dropped",
            "malformed",
            Some(Edit { at: signature + 64, remove: 3309, insert: Vec::new() }),
        ),
        message(
            "Ed25519 half doubled, ML-DSA half cut to fit",
            "bad-signature",
            Some(Edit { at: signature + 64, remove: 64, insert: packet[signature..signature + 64].to_vec() }),
        ),
        message(
            "last byte missing",
            "bad-signature",
            Some(Edit { at: packet.len() - 1, remove: 1, insert: Vec::new() }),
        ),
        Case { name: "a byte after it", refused: "bad-signature", append_zeros: 1, ..MESSAGE },
        Case { name: "over the message limit", refused: "oversized", append_zeros: 256 * 1024, ..MESSAGE },
        Case {
            name: "on another topic",
            refused: "bad-signature",
            topic: Some("plant/7/pressure"),
            ..MESSAGE
        },
        Case {
            name: "a second time",
            refused: "replayed",
            before: &["announcement/press-7", "envelope/suite-1"],
            ..MESSAGE
        },
        Case {
            name: "after its sender's revocation",
            refused: "revoked",
            before: &["announcement/press-7", "revocation/update-1"],
            ..MESSAGE
        },
        Case { name: "a command", refused: "command-outside-session", object: "envelope/command", ..MESSAGE },
        body("a message on stream 7", "wrong-stream", "envelope/message-on-stream-7"),
        body("a message at a control topic", "wrong-stream", "envelope/message-at-control"),
        body("a receipt on stream 0", "wrong-stream", "envelope/receipt-on-stream-0"),
        body("a loss report on stream 7", "wrong-stream", "envelope/report-on-stream-7"),
        body("a loss report among messages", "wrong-stream", "envelope/report-among-messages"),
        Case {
            topic: Some("pqc/control/press-7"),
            ..body("another's control topic", "invalid-topic", "envelope/receipt")
        },
        body("message number 0", "malformed", "envelope/number-0"),
        body("a loss of nothing", "malformed", "envelope/no-loss"),
        body("a loss of number 0", "malformed", "envelope/loss-of-number-0"),
        body("one stream twice in a receipt", "malformed", "envelope/receipt-of-one-stream-twice"),
        Case { name: "expired content", refused: "message-expired", object: "envelope/expired", ..MESSAGE },
        Case { name: "outside the grant", refused: "no-grant", object: "envelope/outside-grant", ..MESSAGE },
        Case {
            name: "another's blob under one's own signature",
            refused: "bad-ciphertext",
            object: "envelope/stolen-blob",
            before: &["announcement/press-7", "announcement/tpm-1"],
            ..MESSAGE
        },
    ]
}

/// Offset of the unprotected map in a signed object: after the array's head, the byte string's head and the protected
/// header.
const UNPROTECTED: usize = 1 + 2 + 58;

fn announcements(world: &World, collector: &Collector) -> Vec<Case> {
    let encoded = &collector.objects["announcement/press-7"].1;
    let certificate = &world.press_7.certificate.encoded;
    let inner = find(encoded, certificate);
    // The signed object, after the head of its byte string; its payload: {1: digest, 2: epoch, …}.
    let object = inner + certificate.len() + 3;
    let digest = object + UNPROTECTED + 1 + 2 + 1 + 1 + 2;
    let epoch = digest + 32 + 1;
    let flip = |at: usize| Some(Edit { at, remove: 1, insert: vec![encoded[at] ^ 1] });
    let insert = |at, remove, bytes: &[u8]| Some(Edit { at, remove, insert: bytes.to_vec() });
    let case = |name, refused, edit| Case { name, refused, edit, ..ANNOUNCEMENT };
    // {1: alg} for the empty map, and the byte string around the object longer by two.
    let length = u16::try_from(encoded.len() - object + 2).unwrap().to_be_bytes();
    let protected = &encoded[object..object + UNPROTECTED];
    let unprotected = Edit {
        at: object - 3,
        remove: 3 + UNPROTECTED + 1,
        insert: [&[0x59], &length[..], protected, &[0xa1, 0x01, 0x32]].concat(),
    };
    let issuer = find(certificate, world.ca.authority.issuer().fingerprint().as_bytes());
    vec![
        Case {
            name: "on another peer's topic",
            refused: "identity-mismatch",
            topic: Some("pqc/keys/tpm-1"),
            ..ANNOUNCEMENT
        },
        Case {
            name: "topic of a peer nobody asked for",
            refused: "unknown-peer",
            topic: Some("pqc/keys/x"),
            ..ANNOUNCEMENT
        },
        Case {
            name: "topic with a malformed peer id",
            refused: "invalid-peer-id",
            topic: Some("pqc/keys/a b"),
            ..ANNOUNCEMENT
        },
        case("non-minimal array head", "malformed", Some(Edit { at: 0, remove: 1, insert: vec![0x98, 2] })),
        case("without the signed object", "malformed", insert(0, 1, &[0x81])),
        Case { name: "a byte after the item", refused: "malformed", append_zeros: 1, ..ANNOUNCEMENT },
        Case {
            name: "over the announcement limit",
            refused: "oversized",
            append_zeros: 64 * 1024,
            ..ANNOUNCEMENT
        },
        case("tagged", "malformed", Some(Edit { at: 0, remove: 0, insert: vec![0xd8, 0x62] })),
        case("alg in the unprotected header", "malformed", Some(unprotected)),
        case("a critical label that nobody knows", "malformed", flip(object + 12)),
        case("another signer named", "bad-signature", flip(object + UNPROTECTED - 1)),
        case("a signature over another certificate", "bad-signature", flip(digest)),
        case(
            "the key epoch raised outside the certificate",
            "identity-mismatch",
            Some(Edit { at: epoch, remove: 1, insert: vec![2] }),
        ),
        case("its signature changed", "bad-signature", flip(encoded.len() - 1)),
        case("the certificate's signature changed", "bad-certificate", flip(inner + certificate.len() - 1)),
        case("an issuer that nobody appointed", "bad-certificate", flip(inner + issuer)),
        Case { name: "an expired certificate", refused: "expired", time: NOT_AFTER, ..ANNOUNCEMENT },
        Case {
            name: "a certificate of the future",
            refused: "expired",
            time: NOT_BEFORE - 1,
            ..ANNOUNCEMENT
        },
        Case {
            name: "an older key epoch",
            refused: "rollback",
            before: &["announcement/epoch-2"],
            ..ANNOUNCEMENT
        },
        Case {
            name: "the same key epoch with other keys",
            refused: "collision",
            before: &["announcement/press-7"],
            object: "announcement/other-keys",
            ..ANNOUNCEMENT
        },
        Case {
            name: "keys revoked before they were announced",
            refused: "revoked",
            before: &["revocation/update-1"],
            ..ANNOUNCEMENT
        },
    ]
}

fn bundles(world: &World, collector: &Collector) -> Vec<Case> {
    let encoded = &collector.objects["prekeys/gateway-1/2"].1;
    let identity = find(encoded, world.gateway_1.identity.fingerprint().as_bytes());
    let flip = |at: usize| Some(Edit { at, remove: 1, insert: vec![encoded[at] ^ 1] });
    let case = |name, refused, edit| Case { name, refused, edit, ..BUNDLE };
    vec![
        case("of another identity", "bad-prekey", flip(identity)),
        case("its encapsulation key changed", "bad-prekey", flip(identity + 100)),
        case("its signature changed", "bad-prekey", flip(encoded.len() - 1)),
        Case {
            name: "the same sequence with another key",
            refused: "collision",
            before: &["announcement/gateway-1", "prekeys/gateway-1/2"],
            edit: flip(identity + 100),
            ..BUNDLE
        },
        Case {
            name: "an older bundle",
            refused: "rollback",
            before: &["announcement/gateway-1", "prekeys/gateway-1/2"],
            object: "prekeys/gateway-1/1",
            ..BUNDLE
        },
        Case { name: "a bundle past its end", refused: "expired", time: NOW + 28 * 86_400, ..BUNDLE },
    ]
}

fn control(collector: &Collector) -> Vec<Case> {
    let update = &collector.objects["revocation/update-1"].1;
    let anchors = &collector.objects["anchors/2"].1;
    let last = |bytes: &[u8]| {
        let at = bytes.len() - 1;
        Some(Edit { at, remove: 1, insert: vec![bytes[at] ^ 1] })
    };
    vec![
        Case {
            name: "an update's signature changed",
            refused: "bad-revocation",
            edit: last(update),
            ..UPDATE
        },
        Case {
            name: "an update signed by the issuer",
            refused: "bad-revocation",
            object: "revocation/wrong-role",
            ..UPDATE
        },
        Case {
            name: "an update on the checkpoint's topic",
            refused: "malformed",
            topic: Some(CHECKPOINT_TOPIC),
            ..UPDATE
        },
        Case {
            name: "an update below the head",
            refused: "revocation-rollback",
            before: &["revocation/update-1", "revocation/update-2"],
            ..UPDATE
        },
        Case {
            name: "two updates of one sequence",
            refused: "revocation-equivocation",
            before: &["revocation/update-1"],
            object: "revocation/fork",
            ..UPDATE
        },
        Case {
            name: "a checkpoint that omits a held entry",
            refused: "bad-revocation",
            before: &["revocation/update-1", "revocation/omitting-checkpoint"],
            object: "revocation/omitting-chunk",
            ..UPDATE
        },
        Case {
            name: "anchors with one signature changed",
            refused: "bad-anchors",
            object: "anchors/2",
            edit: last(anchors),
            ..FIRST
        },
        Case {
            name: "anchors of an older version",
            refused: "bad-anchors",
            before: &["anchors/2"],
            object: "anchors/1",
            ..FIRST
        },
        Case {
            name: "a topic of ours that means nothing",
            refused: "invalid-topic",
            topic: Some("pqc/else"),
            edit: Some(Edit { at: 0, remove: update.len(), insert: Vec::new() }),
            ..UPDATE
        },
    ]
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("a part of it")
}

impl Case {
    fn json(&self) -> Json {
        let mut members = vec![
            ("name", text(self.name)),
            ("receiver", text(self.receiver)),
            ("time", number(self.time)),
            ("before", Json::Array(self.before.iter().map(|name| text(name)).collect())),
            ("object", text(self.object)),
        ];
        if let Some(topic) = self.topic {
            members.push(("topic", text(topic)));
        }
        if let Some(Edit { at, remove, insert }) = &self.edit {
            let edit = [
                ("at", number(*at as i64)),
                ("remove", number(*remove as i64)),
                ("insert", text(&hex_text(insert))),
            ];
            members.push(("edit", object(edit)));
        }
        if self.append_zeros > 0 {
            members.push(("append_zeros", number(self.append_zeros as i64)));
        }
        members.push(("refused", text(self.refused)));
        Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}
