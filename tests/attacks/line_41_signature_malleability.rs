//! Signature malleability: Ed25519 with S + L, ML-DSA with mutated hints, and, where a signature does have two forms
//! (ECDSA), the other form buys nothing.

use pqc_iiot_core::crypto::suite::SignatureSet;
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_flows, assert_refused, everything, intercept, plant};

const ML_DSA: usize = 3309;
/// ω + k of ML-DSA-65: the hint's length in bytes.
const HINT: usize = 55 + 6;

/// The order of edwards25519's base point, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn add_little_endian(value: &mut [u8], addend: &[u8; 32]) {
    let mut carry = 0u16;
    for (byte, add) in value.iter_mut().zip(addend) {
        let sum = u16::from(*byte) + u16::from(*add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
}

#[test]
fn no_other_form_of_a_hybrid_signature_verifies() {
    let mut world = plant();
    // One whose first polynomial has two hints to exchange.
    let packet = (0..50)
        .map(|_| intercept(&mut world, TOPIC, "81.5"))
        .find(|packet| packet[packet.len() - 6] >= 2)
        .unwrap();
    let ed25519 = packet.len() - ML_DSA - 64;
    let mut plus_l = packet.clone();
    add_little_endian(&mut plus_l[ed25519 + 32..ed25519 + 64], &L);
    assert_refused(&mut world, TOPIC, &plus_l, RefusalReason::BadSignature);

    let hint = packet.len() - HINT;
    let mut mutations = vec![];
    let mutate = |change: &dyn Fn(&mut [u8])| {
        let mut copy = packet.clone();
        change(&mut copy[hint..]);
        copy
    };
    // Padding that is not zero, a count one higher, positions out of order, a position twice.
    mutations.push(mutate(&|hint| hint[54] = 1));
    mutations.push(mutate(&|hint| hint[HINT - 1] += 1));
    mutations.push(mutate(&|hint| hint.swap(0, 1)));
    mutations.push(mutate(&|hint| hint[1] = hint[0]));
    for mutation in mutations {
        assert_ne!(mutation, packet);
        assert_refused(&mut world, TOPIC, &mutation, RefusalReason::BadSignature);
    }
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
    assert_all_flow(&mut world);
}

/// The order of P-256's base point, big-endian.
const N: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn negated(s: &[u8]) -> Vec<u8> {
    let mut borrow = 0i16;
    let mut out = vec![0; 32];
    for at in (0..32).rev() {
        let difference = i16::from(N[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        out[at] = difference.to_le_bytes()[0];
    }
    out
}

#[test]
fn the_other_ecdsa_form_is_never_a_second_message() {
    let mut world = World::default();
    for name in ["gateway", "press"] {
        world.enrol_with(NodeOptions::new(name, &everything()).set(SignatureSet::P256MlDsa65));
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    let packet = intercept(&mut world, TOPIC, "81.5");
    let s = packet.len() - ML_DSA - 32;
    let mut other = packet.clone();
    other[s..s + 32].copy_from_slice(&negated(&packet[s..s + 32]));
    assert_ne!(other, packet);
    for copy in [&packet, &other, &packet, &other] {
        world.broker.inject(TOPIC, copy);
    }
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"], "delivered once, in whichever form");
    assert_flows(&mut world, "press", "gateway");
}
