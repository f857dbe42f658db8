//! Hybrid stripping: dropping, zeroing or duplicating one signature half never verifies.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::identity::announcement::assemble_announcement;
use pqc_iiot_tests::{
    TOPIC, announcement_parts, assert_all_flow, assert_refused, everything, intercept, keys_topic, plant,
    thief_of,
};

const ED25519: usize = 64;
const ML_DSA: usize = 3309;

#[test]
fn a_message_needs_both_halves() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    let (signed, signature) = packet.split_at(packet.len() - ED25519 - ML_DSA);
    let (classical, post_quantum) = signature.split_at(ED25519);
    let mut spread = classical.to_vec();
    spread.resize(ML_DSA, 0);
    let zeros = vec![0; ML_DSA];
    for half in [
        vec![],
        classical.to_vec(),
        post_quantum.to_vec(),
        [classical, &zeros].concat(),
        [&zeros[..ED25519], post_quantum].concat(),
        [classical, &spread].concat(),
        [&post_quantum[..ED25519], post_quantum].concat(),
        [post_quantum, classical].concat(),
        vec![0; ED25519 + ML_DSA],
    ] {
        // Too few bytes for a message with both halves, or enough of the wrong ones.
        let whole = half.len() >= signature.len();
        let reason = if whole { RefusalReason::BadSignature } else { RefusalReason::Malformed };
        assert_refused(&mut world, TOPIC, &[signed, &half].concat(), reason);
    }
    // A half from another message of the same sender.
    let other = intercept(&mut world, TOPIC, "81.6");
    let other = &other[other.len() - ED25519 - ML_DSA..];
    for mixed in [[classical, &other[ED25519..]].concat(), [&other[..ED25519], post_quantum].concat()] {
        assert_refused(&mut world, TOPIC, &[signed, &mixed].concat(), RefusalReason::BadSignature);
    }
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
    assert_all_flow(&mut world);
}

#[test]
fn a_signed_object_needs_both_halves_in_order() {
    let mut world = plant();
    // Known to the gateway by name only, so that every copy is judged anew.
    world.broker.withhold("pqc/keys/drill");
    world.enrol("drill", &everything());
    world.settle();
    world.broker.withhold_nothing();
    world.introduce("gateway", "drill");
    let topic = keys_topic("drill");
    let drill = thief_of(&mut world, "drill");
    let genuine = drill.announcement(&drill.certificate, 1, &drill.peer, &topic);

    // COSE_Signature: array head, protected {1: alg}, empty map, signature with its head.
    let (certificate, signed) = announcement_parts(&genuine);
    let (rest, post_quantum) = signed.split_at(signed.len() - (1 + 5 + 1 + 3 + ML_DSA));
    let (body, classical) = rest.split_at(rest.len() - (1 + 4 + 1 + 2 + ED25519));
    let (count, body) = body.split_last().unwrap();
    assert_eq!(*count, 0x82, "the layout this test takes apart");
    let zeroed = |half: &[u8], length: usize| {
        let mut copy = half.to_vec();
        copy[half.len() - length..].fill(0);
        copy
    };
    for (signatures, reason) in [
        ([&[0x81], classical].concat(), RefusalReason::Malformed),
        ([&[0x81], post_quantum].concat(), RefusalReason::Malformed),
        ([&[0x80][..]].concat(), RefusalReason::Malformed),
        ([&[0x82], classical, classical].concat(), RefusalReason::Malformed),
        ([&[0x82], post_quantum, post_quantum].concat(), RefusalReason::Malformed),
        ([&[0x82], post_quantum, classical].concat(), RefusalReason::Malformed),
        ([&[0x83], classical, post_quantum, classical].concat(), RefusalReason::Malformed),
        ([&[0x82], classical, &zeroed(post_quantum, ML_DSA)].concat(), RefusalReason::BadSignature),
        ([&[0x82], &zeroed(classical, ED25519)[..], post_quantum].concat(), RefusalReason::BadSignature),
    ] {
        let stripped = assemble_announcement(&certificate, &[body, &signatures].concat());
        assert_refused(&mut world, &topic, &stripped, reason);
    }
    assert!(!world.node("gateway").was_ready("drill"));
    world.broker.inject(&topic, &genuine);
    world.settle();
    assert!(world.node("gateway").was_ready("drill"), "negative control");
    assert_all_flow(&mut world);
}
