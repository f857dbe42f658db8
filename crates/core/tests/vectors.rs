//! The published vectors of `docs/vectors`: made from fixed seeds, compared byte for byte, and accepted or refused by
//! both backends. `PQC_IIOT_WRITE_VECTORS=1 cargo test -p pqc-iiot-core --test vectors the_files` writes them anew, which
//! is a change of the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "vectors/generate.rs"]
mod generate;
#[path = "vectors/json.rs"]
mod json;
#[path = "vectors/receiver.rs"]
mod receiver;
#[path = "vectors/refusals/mod.rs"]
mod refusals;
#[path = "vectors/sealing.rs"]
mod sealing;
#[path = "vectors/sessions.rs"]
mod sessions;
#[path = "vectors/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use coset::{CborSerializable, CoseSign, Label};
use pqc_iiot_core::audit::LogVerifier;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::portable::PORTABLE;
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::signature::VerifyingKey;
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureSet};
use pqc_iiot_core::delivery::LossReason;
use pqc_iiot_core::endpoint::Event;
use pqc_iiot_core::identity::request::CertificateRequest;
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::session::Header;
use pqc_iiot_core::time::UnixTime;
use serde_json::Value;

use json::unhex;
use receiver::Receiver;
use world::{NOW, World};

fn backends() -> Vec<Backend> {
    vec![
        &PORTABLE,
        #[cfg(feature = "aws-lc")]
        &pqc_iiot_core::crypto::aws_lc::AWS_LC,
    ]
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors").join(name)
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every object of the files that can be delivered: topic (empty for those that are not published) and bytes.
fn published() -> BTreeMap<String, (String, Vec<u8>)> {
    fn collect(value: &Value, into: &mut BTreeMap<String, (String, Vec<u8>)>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            Value::Object(members) => {
                if let (Some(name), Some(bytes)) = (
                    members.get("name").and_then(Value::as_str),
                    members.get("encoded").or_else(|| members.get("packet")).and_then(Value::as_str),
                ) {
                    let topic = members.get("topic").and_then(Value::as_str).unwrap_or_default();
                    into.insert(name.to_owned(), (topic.to_owned(), unhex(bytes)));
                }
                members.values().for_each(|member| collect(member, into));
            }
            _ => {}
        }
    }
    let mut objects = BTreeMap::new();
    for file in ["identities", "anchors", "announcements", "envelopes", "revocation", "audit", "refusals"] {
        collect(&read(&format!("{file}.json")), &mut objects);
    }
    objects
}

#[test]
fn the_files_are_what_the_seeds_give() {
    let vectors = generate::vectors();
    let write = std::env::var_os("PQC_IIOT_WRITE_VECTORS").is_some_and(|value| value == "1");
    let mut total = 0;
    for (name, text) in &vectors.files {
        total += text.len();
        if write {
            std::fs::write(path(name), text).unwrap();
        }
        let held = std::fs::read_to_string(path(name)).unwrap_or_default();
        assert!(held == *text, "docs/vectors/{name} differs from what the code gives");
    }
    assert!(total < 832 * 1024, "{total} bytes");
    let objects: Vec<_> = published().into_iter().collect();
    assert!(objects == vectors.objects.into_iter().collect::<Vec<_>>(), "an object is not in the files");
}

#[test]
fn every_backend_opens_the_records_of_sessions() {
    let file = read("sessions.json");
    for backend in backends() {
        let mut opened = 0;
        for session in file["sessions"].as_array().unwrap() {
            let suite = session["suite"].as_u64().and_then(|id| SessionSuite::from_id(id as u8)).unwrap();
            for record in session["records"].as_array().unwrap() {
                let bytes = |name| unhex(text(record, name));
                let key = Secret::new(bytes("key").try_into().unwrap());
                let sealed = bytes("record");
                let clear = Header::parse(&sealed).unwrap().encoded_len();
                let mut plain = sealed[clear..].to_vec();
                let nonce = bytes("nonce").try_into().unwrap();
                let aead = backend.aead_key(suite.aead(), &key);
                assert!(aead.open(&nonce, &bytes("aad"), &mut plain).is_ok(), "{}", backend.name());
                assert_eq!(plain, bytes("plaintext"));
                opened += 1;
            }
        }
        assert_eq!(opened, 3 * 13);
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text"))
}

/// A receiver as the files describe it.
fn receiver(backend: Backend, world: &World, anchors: &[u8], id: &str, time: u64) -> Receiver {
    let prekey = (id == "gateway-1").then(|| world.gateway_1.prekey(2, 2));
    Receiver::new(backend, world, anchors, world.peer(id), prekey.as_ref(), time)
}

fn refusals_of(events: &[Event]) -> Vec<&'static str> {
    let refused = events.iter().filter_map(|event| match event {
        Event::Refused { reason, .. } => Some(reason.name()),
        _ => None,
    });
    refused.collect()
}

#[test]
fn every_backend_accepts_what_is_genuine() {
    let (world, objects) = (World::new(), published());
    let anchors = &objects["anchors/1"].1;
    for backend in backends() {
        let name = backend.name();
        let mut gateway = receiver(backend, &world, anchors, "gateway-1", NOW);
        let mut vault = receiver(backend, &world, anchors, "vault", NOW);
        let mut press = receiver(backend, &world, anchors, "press-7", NOW);
        let accept = |receiver: &mut Receiver, object: &str| {
            let (topic, bytes) = &objects[object];
            let events = receiver.deliver(topic, bytes);
            assert!(refusals_of(&events).is_empty(), "{object} on {name}: {events:?}");
            events
        };
        let message = |events: &[Event]| match events {
            [Event::Message(message)] => message.clone(),
            _ => panic!("not one message on {name}: {events:?}"),
        };

        for id in ["press-7", "vault", "press-9", "tpm-1"] {
            accept(&mut gateway, &format!("announcement/{id}"));
        }
        let first = message(&accept(&mut gateway, "envelope/suite-1"));
        assert_eq!(first.content.payload, b"23.5");
        let third = message(&accept(&mut gateway, "envelope/suite-3"));
        assert_eq!((third.stream.value(), third.sequence), (3, 70_000));
        assert_eq!(third.content.content_type.as_deref(), Some("application/json"));
        assert_eq!(third.content.response_topic.as_deref(), Some("plant/7/answers"));
        assert_eq!(third.content.correlation_data.as_deref(), Some(&[1, 2, 3, 4][..]));
        assert_eq!(third.content.expires, Some(UnixTime(NOW + 60)));

        let tracked = message(&accept(&mut gateway, "envelope/tracked"));
        assert_eq!(tracked.origin, Some(generate::origin(42)));
        assert!(tracked.id.is_some());
        let volatile = message(&accept(&mut gateway, "envelope/volatile"));
        assert_eq!((volatile.origin, volatile.id), (None, None));
        let peer = tracked.peer;
        let lost = accept(&mut gateway, "envelope/loss-report");
        let (stream, reason) = (tracked.stream, LossReason::DroppedOldest);
        let expected =
            Event::Lost { peer: peer.clone(), stream, count: 1_000, reason, outgoing: false, certain: true };
        assert_eq!(lost, [expected], "on {name}");
        // This gateway never sent what press-7 confirms: so another copy of it did.
        let confirmed = accept(&mut gateway, "envelope/receipt");
        assert_eq!(confirmed, [Event::RolledBack { peer, stream: StreamId::default() }], "on {name}");

        accept(&mut vault, "announcement/press-9");
        assert_eq!(message(&accept(&mut vault, "envelope/suite-2")).content.payload, b"1013");

        accept(&mut press, "announcement/gateway-1");
        for seq in [1, 2] {
            let events = accept(&mut press, &format!("prekeys/gateway-1/{seq}"));
            assert!(matches!(events[..], [Event::PeerReady { forward_secret: true, .. }]), "{events:?}");
        }

        // By updates, by the checkpoint alone, and out of order.
        accept(&mut gateway, "revocation/update-1");
        let events = accept(&mut gateway, "revocation/update-2");
        assert!(events.contains(&Event::Revocations { seq: 2, entries: 2 }), "{events:?}");
        accept(&mut vault, "revocation/checkpoint");
        let events = accept(&mut vault, "revocation/chunk-0");
        assert!(events.contains(&Event::Revocations { seq: 2, entries: 2 }), "{events:?}");
        let events = accept(&mut press, "revocation/update-2");
        assert!(events.contains(&Event::RevocationsBehind), "{events:?}");
        let events = accept(&mut press, "revocation/update-1");
        assert!(events.contains(&Event::Revocations { seq: 2, entries: 2 }), "{events:?}");
        assert!(events.contains(&Event::SelfRevoked), "{events:?}");

        assert_eq!(accept(&mut gateway, "anchors/2"), [Event::Anchors { version: 2 }]);
        assert!(CertificateRequest::verify(backend, &objects["request/press-7"].1).is_ok());
    }
}

#[test]
fn every_backend_refuses_for_the_same_reason() {
    let (world, objects) = (World::new(), published());
    let anchors = &objects["anchors/1"].1;
    let file = read("refusals.json");
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 50);
    for backend in backends() {
        for case in cases {
            let what = format!("{}: {} on {}", text(case, "object"), text(case, "name"), backend.name());
            let time = case["time"].as_u64().unwrap();
            let mut receiver = receiver(backend, &world, anchors, text(case, "receiver"), time);
            for before in case["before"].as_array().unwrap() {
                let (topic, bytes) = &objects[before.as_str().unwrap()];
                let events = receiver.deliver(topic, bytes);
                assert!(refusals_of(&events).is_empty(), "{what}: {before}: {events:?}");
            }
            let (topic, bytes) = &objects[text(case, "object")];
            let topic = case["topic"].as_str().unwrap_or(topic);
            let events = receiver.deliver(topic, &edited(case, bytes));
            assert_eq!(refusals_of(&events), [text(case, "refused")], "{what}");
            assert!(!events.iter().any(|event| matches!(event, Event::Message(_))), "{what}");
        }
    }
}

fn edited(case: &Value, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(edit) = case.get("edit") {
        let at = edit["at"].as_u64().unwrap() as usize;
        let end = at + edit["remove"].as_u64().unwrap() as usize;
        bytes.splice(at..end, unhex(text(edit, "insert")));
    }
    let zeros = case.get("append_zeros").and_then(Value::as_u64).unwrap_or_default() as usize;
    bytes.resize(bytes.len() + zeros, 0);
    bytes
}

#[test]
fn the_audit_segment_verifies_offline() {
    let file = read("audit.json");
    let mut segment = Vec::new();
    for record in file["records"].as_array().unwrap() {
        segment.extend(unhex(text(record, "prefix")));
        segment.extend(unhex(text(&record["record"], "encoded")));
    }
    for backend in backends() {
        let mut verifier = LogVerifier::new(backend);
        let mut details = Vec::new();
        let summary = verifier
            .segment(&segment, &mut |_| true, &mut |_, entry, _| details.push(entry.event.detail.to_string()))
            .unwrap();
        assert_eq!((summary.entries, summary.torn_at), (2, None));
        assert_eq!(details, ["key epoch 1", "replayed\\n"]);
        let last = file["records"][2].clone();
        assert_eq!(verifier.head().hash.to_string(), text(&last, "record_hash"));
    }
}

/// COSE_Sign parsed and its Sig_structures rebuilt by another library; each half verified alone, under its own kind of
/// object and under no other kind.
#[test]
fn another_cose_library_agrees_and_no_kind_passes_as_another() {
    let (world, objects) = (World::new(), published());
    let authority = &world.ca.authority;
    let (_, second) = world::second_root();
    let others = refusals::other_identities(&world);
    let roles = [authority.root(), &second, authority.issuer(), authority.control()];
    let peers = world.peers().into_iter().chain(&others).map(|peer| &peer.signer);
    let keys: BTreeMap<_, _> =
        roles.into_iter().chain(peers).map(|signer| (signer.fingerprint(), signer.anchor_key())).collect();

    let mut signed = Vec::new();
    for (name, (topic, encoded)) in &objects {
        let Some(aad) = external_aad(name, topic) else { continue };
        if name.starts_with("anchors/") {
            let copies: coset::cbor::Value = coset::cbor::from_reader(encoded.as_slice()).unwrap();
            let copies = copies.into_array().unwrap().into_iter();
            signed.extend(copies.map(|copy| (name, aad.clone(), copy.into_bytes().unwrap())));
        } else if name.starts_with("announcement/") {
            let parts: coset::cbor::Value = coset::cbor::from_reader(encoded.as_slice()).unwrap();
            let [_, object] = parts.into_array().unwrap().try_into().unwrap();
            signed.push((name, aad, object.into_bytes().unwrap()));
        } else {
            signed.push((name, aad, encoded.clone()));
        }
    }
    assert!(signed.len() > 25, "{}", signed.len());
    let kinds: BTreeSet<&Vec<u8>> = signed.iter().map(|(_, aad, _)| aad).collect();
    for (name, own, encoded) in &signed {
        let object = CoseSign::from_slice(encoded).unwrap_or_else(|error| panic!("{name}: {error}"));
        let header = |label| {
            let rest = &object.protected.header.rest;
            rest.iter()
                .find(|(found, _)| *found == Label::Int(label))
                .map(|(_, value)| value.clone())
                .unwrap()
        };
        let set: u8 = header(-70_001).into_integer().unwrap().try_into().unwrap();
        let set = SignatureSet::from_id(set).unwrap();
        let signer = header(-70_002).into_bytes().unwrap();
        let (_, key) = keys.iter().find(|(fingerprint, _)| fingerprint.as_bytes() == signer).expect(name);
        assert_eq!(object.protected.header.crit.len(), 2, "{name}");
        assert!(object.unprotected.is_empty(), "{name}");
        assert_eq!(object.signatures.len(), set.halves().len(), "{name}");
        for backend in backends() {
            let key = VerifyingKey::parse(backend, key.set, &key.key).unwrap();
            for half in 0..object.signatures.len() {
                let verifies = |aad: &[u8]| {
                    let check = |signature: &[u8], message: &[u8]| key.verify_half(half, message, signature);
                    object.verify_signature(half, aad, check).is_ok()
                };
                assert!(verifies(own), "{name}: half {half} on {}", backend.name());
                for other in kinds.iter().filter(|aad| **aad != own) {
                    assert!(!verifies(other), "{name}: half {half} passes as another kind");
                }
            }
        }
    }
}

/// What the signature of an object binds besides it, by docs/protocol.md; nothing for what is not a COSE_Sign.
fn external_aad(name: &str, topic: &str) -> Option<Vec<u8>> {
    let (kind, which) = name.split_once('/').unwrap();
    let peer = topic.rsplit('/').next().unwrap();
    match (kind, which) {
        ("anchors", _) => Some(aad("pqc-iiot:anchors:v1", &[])),
        ("certificate", _) => Some(aad("pqc-iiot:op-cert:v1", &[])),
        ("request", _) => Some(aad("pqc-iiot:cert-request:v1", &[])),
        ("announcement", _) => Some(aad("pqc-iiot:key-announce:v3", &[peer, topic])),
        ("prekeys", _) => Some(aad("pqc-iiot:prekey:v1", &[peer, topic])),
        ("revocation", "chunk-0" | "omitting-chunk") => None,
        ("revocation", "checkpoint" | "omitting-checkpoint") => {
            Some(aad("pqc-iiot:revocation-checkpoint:v1", &[topic]))
        }
        ("revocation", _) => Some(aad("pqc-iiot:revocation:v1", &[topic])),
        ("audit", "header") => Some(aad("pqc-iiot:audit:v1", &["press-7", "segment"])),
        ("audit", _) => Some(aad("pqc-iiot:audit:v1", &["press-7"])),
        ("envelope", _) => None,
        _ => panic!("{name} is of no known kind"),
    }
}

/// `[tag, …items]`, encoded by another library.
fn aad(tag: &str, items: &[&str]) -> Vec<u8> {
    let items = [tag].iter().chain(items).map(|item| coset::cbor::Value::from(*item)).collect();
    let mut out = Vec::new();
    coset::cbor::into_writer(&coset::cbor::Value::Array(items), &mut out).unwrap();
    out
}

#[test]
fn every_certificate_verifies_under_the_anchors() {
    let (world, objects) = (World::new(), published());
    for backend in backends() {
        let pinned = PinnedAnchors::pin(backend, &objects["anchors/1"].1).unwrap();
        for peer in world.peers() {
            let encoded = &objects[&format!("certificate/{}", peer.id)].1;
            let verified = pinned.verify_certificate(encoded, UnixTime(NOW)).unwrap();
            assert!(verified.claims() == &peer.claims, "{}", peer.id);
            assert_eq!(verified.fingerprint(), peer.identity.fingerprint());
        }
    }
}
