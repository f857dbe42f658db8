//! X-Wing with a low-order X25519 share: an all-zero agreement is an error on both sides, never a weaker key.

use pqc_iiot_core::endpoint::{RefusalReason, SendFailure};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_flows, assert_refused, intercept, next_bundle, plant, prekeys_topic,
    signed_bundle, thief_of,
};

/// Points of small order (RFC 7748 §6.1 and the curve's order-8 points).
fn low_order() -> [[u8; 32]; 3] {
    let order_eight = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ];
    let mut one = [0; 32];
    one[0] = 1;
    [[0; 32], one, order_eight]
}

#[test]
fn a_low_order_share_in_a_ciphertext_does_not_open() {
    let mut world = plant();
    let press = thief_of(&mut world, "press");
    let packet = intercept(&mut world, TOPIC, "81.5");
    let blob = packet[1 + "press".len()..packet.len() - 3373].to_vec();
    let share = pqc_iiot_core::envelope::HEADER_LEN + 1088;
    for point in low_order() {
        let mut weak = blob.clone();
        weak[share..share + 32].copy_from_slice(&point);
        assert_refused(&mut world, TOPIC, &press.sign_blob(TOPIC, &weak), RefusalReason::BadCiphertext);
    }
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
    assert_all_flow(&mut world);
}

#[test]
fn nothing_is_sealed_to_a_low_order_share() {
    for point in low_order() {
        let mut world = plant();
        let press = thief_of(&mut world, "press");
        let mut key = pqc_iiot_tests::retained_bundle(&world.broker, "press").encapsulation_key;
        key[1184..].copy_from_slice(&point);
        let bundle = signed_bundle(&press, &next_bundle(&world.broker, "press", key));
        world.broker.inject(&prekeys_topic("press"), &bundle);
        world.settle();
        let sent = world.broker.captured_on(TOPIC).len();
        let ticket = world.node("gateway").publish("press", TOPIC, "secret");
        world.settle();
        assert_eq!(world.node("gateway").send_failure(ticket), Some(SendFailure::Sealing));
        assert_eq!(world.broker.captured_on(TOPIC).len(), sent);
        // The malicious member harmed nobody but itself.
        assert_flows(&mut world, "press", "gateway");
        assert_flows(&mut world, "gateway", "lathe");
    }
}
