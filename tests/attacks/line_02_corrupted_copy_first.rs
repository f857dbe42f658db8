//! A corrupted copy of a message that arrives first must not burn the genuine one.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::session::HEADER_LEN;
use pqc_iiot_tests::sessions::{assert_all_in_sessions, session_plant};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, flipped, intercept, plant};

#[test]
fn a_corrupted_copy_does_not_burn_the_genuine_message() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    let last = packet.len() - 1;
    // KEM ciphertext, AEAD ciphertext, classical signature, post-quantum signature.
    for at in [60, 1_200, last - 3_350, last] {
        assert_refused(&mut world, TOPIC, &flipped(&packet, at), RefusalReason::BadSignature);
    }
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
    assert_all_flow(&mut world);
}

#[test]
fn a_corrupted_copy_of_a_record_does_not_burn_the_genuine_one() {
    let mut world = session_plant();
    let record = intercept(&mut world, TOPIC, "81.5");
    for at in [HEADER_LEN, HEADER_LEN + 3, record.len() - 16, record.len() - 1] {
        assert_refused(&mut world, TOPIC, &flipped(&record, at), RefusalReason::BadCiphertext);
    }
    world.broker.inject(TOPIC, &record);
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "81.5");
    assert_refused(&mut world, TOPIC, &record, RefusalReason::Replayed);
    assert_all_in_sessions(&mut world);
}
