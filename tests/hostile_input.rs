//! Whatever arrives at whatever topic: refused by reason, counted, and nothing trusted has changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;

use pqc_iiot_core::control::revocation::RevocationEntry;
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_sim::{Snapshot, World};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, insider_spec, intercept, keys_topic, plant, prekeys_topic, thief_of,
};
use proptest::prelude::*;

/// Every topic at which something genuine may arrive, with a genuine payload.
fn genuine(world: &mut World, message: Vec<u8>) -> Genuine {
    let revoked = world.certify(&pqc_iiot_sim::NodeOptions::new("scrapped", &[]));
    let update = world.revocation(&[revoked.peer.as_str()]);
    let next_anchors = world.authority.next_anchors(|_| {});
    let mut all = vec![
        (TOPIC.to_string(), message),
        (keys_topic("press"), world.broker.last_on(&keys_topic("press"))),
        (prekeys_topic("press"), world.broker.last_on(&prekeys_topic("press"))),
        ("pqc/revocations/v1".into(), update),
        ("pqc/anchors/v1".into(), next_anchors),
    ];
    all.extend(world.checkpoint().into_iter().rev());
    all
}

/// What must not change: everything durable, and what the endpoint says of itself.
fn trusted(world: &mut World) -> (Snapshot, Vec<u64>) {
    let gateway = world.node("gateway");
    let status = gateway.status();
    let numbers = [
        status.peers as u64,
        status.ready as u64,
        status.revocation_seq,
        status.revoked as u64,
        status.anchors_version,
    ];
    (gateway.snapshot(), numbers.to_vec())
}

/// Chunks that no verified manifest awaits: retained chunks change one by one.
fn dropped_without_a_word(topic: &str, payload: &[u8]) -> bool {
    topic.contains("checkpoint/v1/") && RevocationEntry::fit(payload.len())
}

struct Case {
    what: &'static str,
    payload: Vec<u8>,
    limit: usize,
}

fn deformed(genuine: &[u8], limit: usize) -> Vec<Case> {
    let case = |what, payload| Case { what, payload, limit };
    let version = 1 + "press".len();
    let mut wrong_version = genuine.to_vec();
    wrong_version[version] = 2;
    vec![
        case("empty", vec![]),
        case("one zero", vec![0]),
        case("first byte only", genuine[..1].to_vec()),
        case("first half", genuine[..genuine.len() / 2].to_vec()),
        case("last byte missing", genuine[..genuine.len() - 1].to_vec()),
        case("first byte missing", genuine[1..].to_vec()),
        case("one byte more", [genuine, &[0]].concat()),
        case("twice", [genuine, genuine].concat()),
        case("zeros", vec![0; genuine.len()]),
        case("ones", vec![0xff; genuine.len()]),
        case("reversed", genuine.iter().rev().copied().collect()),
        case("wrong version", wrong_version),
        case("over the limit", vec![genuine[0]; limit + 1]),
        case("far over the limit", vec![genuine[0]; 2 << 20]),
        case("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        case("deep nesting", vec![0x81; 1_000]),
        case("huge length", vec![0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        case("huge array", vec![0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ]
}

#[test]
fn every_deformity_at_every_topic_is_refused_by_reason_and_counted() {
    let mut world = plant();
    let message = intercept(&mut world, TOPIC, "81.5");
    let originals = genuine(&mut world, message);
    let before = trusted(&mut world);
    let mut sent = 0;
    for (topic, payload) in &originals {
        let limit = if topic == TOPIC { 256 << 10 } else { 64 << 10 };
        for Case { what, payload, limit } in deformed(payload, limit) {
            let refusals = world.node("gateway").refusals().len();
            world.broker.deliver_to("gateway", topic, &payload);
            world.settle();
            let reasons = world.node("gateway").refusals()[refusals..].to_vec();
            if payload.len() > limit || !dropped_without_a_word(topic, &payload) {
                assert_eq!(reasons.len(), 1, "{what} at {topic}");
                assert_eq!(
                    reasons[0] == RefusalReason::Oversized,
                    payload.len() > limit,
                    "{what} at {topic}"
                );
                sent += 1;
            }
            assert_eq!(trusted(&mut world), before, "{what} at {topic}");
            assert_eq!(world.broker.unacknowledged("gateway"), 0, "{what} at {topic}");
        }
    }
    let counted: u64 = world.node("gateway").status().refused.iter().map(|(_, count)| count).sum();
    assert_eq!(counted, sent);
    assert!(sent > 100);
    assert_all_flow(&mut world);
}

#[test]
fn every_genuine_payload_is_refused_at_every_other_topic() {
    let mut world = plant();
    let message = intercept(&mut world, TOPIC, "81.5");
    let originals = genuine(&mut world, message);
    let before = trusted(&mut world);
    let topics: Vec<_> = originals.iter().map(|(topic, _)| topic.clone()).collect();
    for topic in &topics {
        for (home, payload) in originals.iter().filter(|(home, _)| home != topic) {
            let refusals = world.node("gateway").refusals().len();
            world.broker.deliver_to("gateway", topic, payload);
            world.settle();
            let refused = world.node("gateway").refusals().len() - refusals;
            let silent = dropped_without_a_word(topic, payload);
            assert_eq!(refused, usize::from(!silent), "{home} at {topic}");
            assert_eq!(trusted(&mut world), before, "{home} at {topic}");
        }
    }
    // Each at its own topic still works: nothing was burnt.
    for (topic, payload) in &originals {
        world.broker.inject(topic, payload);
        world.settle();
    }
    let gateway = world.node("gateway");
    assert_eq!(gateway.received(), ["81.5"]);
    assert_eq!((gateway.status().revoked, gateway.status().anchors_version), (1, 2));
    assert_all_flow(&mut world);
}

type Genuine = Vec<(String, Vec<u8>)>;

thread_local! {
    /// Enrolling costs more than hundreds of refusals, so all cases of a property share one world.
    static WORLD: RefCell<(World, Genuine)> = RefCell::new({
        let mut world = plant();
        // Receipts have been exchanged, and nothing is under way.
        assert_all_flow(&mut world);
        world.advance(std::time::Duration::from_secs(5));
        // Of a sequence that the press itself does not come to.
        let spec = insider_spec(&mut world, TOPIC, "81.5", 1_000);
        let message = thief_of(&mut world, "press").seal(&spec);
        let originals = genuine(&mut world, message);
        (world, originals)
    });
}

fn topics() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        TOPIC,
        "pqc/keys/press",
        "pqc/prekeys/press",
        "pqc/keys/nobody",
        "pqc/anchors/v1",
        "pqc/revocations/v1",
        "pqc/revocations/checkpoint/v1",
        "pqc/revocations/checkpoint/v1/0",
        "pqc/revocations/checkpoint/v1/4294967295",
        "pqc",
        "pqc/",
        "",
    ]);
    prop_oneof![8 => known.prop_map(String::from), 1 => "(pqc/)?[a-z/+#$]{0,12}", 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn arbitrary_bytes_at_arbitrary_topics_change_nothing(
        topic in topics(),
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            // Past the frame of an envelope, into the checks behind it.
            prop::collection::vec(any::<u8>(), 0..6_000).prop_map(|tail| [b"\x05press\x01\x01", &tail[..]].concat()),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|tail| [&[0x84, 0x58], &tail[..]].concat()),
        ],
    ) {
        WORLD.with_borrow_mut(|(world, _)| {
            let before = trusted(world);
            let inbox = world.node("gateway").inbox().len();
            world.broker.deliver_to("gateway", &topic, &payload);
            world.settle();
            prop_assert_eq!(trusted(world), before);
            prop_assert_eq!(world.node("gateway").inbox().len(), inbox);
            prop_assert_eq!(world.broker.unacknowledged("gateway"), 0);
            Ok(())
        })?;
    }

    #[test]
    fn a_changed_copy_of_anything_genuine_changes_nothing(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        WORLD.with_borrow_mut(|(world, originals)| {
            let (topic, payload) = which.get(originals);
            let mut changed = payload.clone();
            let at = at.index(changed.len());
            changed[at] = value;
            if let Some(cut) = cut {
                changed.truncate(cut.index(payload.len()));
            }
            prop_assume!(changed != *payload);
            let before = trusted(world);
            world.broker.deliver_to("gateway", topic, &changed);
            // Time for the budgets to refill: every copy is to be judged.
            world.advance(std::time::Duration::from_millis(100));
            prop_assert_eq!(trusted(world), before);
            prop_assert_eq!(world.broker.unacknowledged("gateway"), 0);
            Ok(())
        })?;
    }

    #[test]
    fn a_peer_id_is_what_invariant_0_says(text in prop_oneof![any::<String>(), "[A-Za-z0-9_.-]{0,140}"]) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let expected = !text.is_empty() && text.len() <= 128 && text.chars().all(allowed);
        prop_assert_eq!(PeerId::new(&text).is_ok(), expected);
    }
}
