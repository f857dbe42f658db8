//! KEM binding: a swapped encapsulation key or ciphertext never opens, a malformed key is never used.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_refused, insider_spec, intercept, next_bundle, plant, prekeys_topic,
    signed_bundle, thief_of,
};

const HEADER: usize = pqc_iiot_core::envelope::HEADER_LEN;
const SIGNATURE: usize = 3373;

#[test]
fn a_member_that_seals_to_another_key_than_it_names_is_not_understood() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let mut spec = insider_spec(&mut world, TOPIC, "x", 1);
    // The gateway's own static key, but under the prekey's name.
    spec.encapsulation_key = world.node("gateway").identity().public().encapsulation_key;
    assert_refused(&mut world, TOPIC, &press.seal(&spec), RefusalReason::BadCiphertext);
    assert_all_flow(&mut world);
}

#[test]
fn ciphertexts_of_two_messages_cannot_be_exchanged() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let [first, second] = ["1", "2"].map(|text| intercept(&mut world, TOPIC, text));
    let blob = |packet: &[u8]| packet[1 + "press".len()..packet.len() - SIGNATURE].to_vec();
    let mut mixed = blob(&first);
    mixed[HEADER..HEADER + 1120].copy_from_slice(&blob(&second)[HEADER..HEADER + 1120]);
    // An outsider cannot sign it; a member can, and still nothing opens.
    let outside = [b"\x05press", &mixed[..], &first[first.len() - SIGNATURE..]].concat();
    assert_refused(&mut world, TOPIC, &outside, RefusalReason::BadSignature);
    assert_refused(&mut world, TOPIC, &press.sign_blob(TOPIC, &mixed), RefusalReason::BadCiphertext);
    for (packet, text) in [(first, "1"), (second, "2")] {
        world.broker.inject(TOPIC, &packet);
        world.settle();
        assert_eq!(world.node("gateway").received().last().unwrap(), text);
    }
    assert_all_flow(&mut world);
}

#[test]
fn a_malformed_encapsulation_key_is_refused_and_the_old_one_stays() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    // Coefficients that are not below q: FIPS 203's modulus check.
    let mut key = pqc_iiot_tests::retained_bundle(&world.broker, "press").encapsulation_key;
    key[..384].fill(0xff);
    let bundle = signed_bundle(&press, &next_bundle(&world.broker, "press", key));
    assert_refused(&mut world, &prekeys_topic("press"), &bundle, RefusalReason::BadPrekey);
    assert_all_flow(&mut world);
}
