//! An honest envelope's blob, re-signed by another member as its own.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, intercept, plant, thief_of};

#[test]
fn a_member_cannot_take_anothers_words_for_its_own() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    let blob = &packet[1 + "press".len()..packet.len() - 3373];
    let lathe = thief_of(&mut world, "lathe");
    let resigned = lathe.sign_blob(TOPIC, blob);
    assert_refused(&mut world, TOPIC, &resigned, RefusalReason::BadCiphertext);
    let press = thief_of(&mut world, "press");
    assert_eq!(press.sign_blob(TOPIC, blob)[..packet.len() - 3373], packet[..packet.len() - 3373]);
    world.broker.inject(TOPIC, &press.sign_blob(TOPIC, blob));
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"], "negative control: the press itself may");
    assert_all_flow(&mut world);
}
