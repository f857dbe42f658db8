//! Role reflection: what one side sent never serves as what the other side sends.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, keys_topic, plant, prekeys_topic};

#[test]
fn a_message_of_the_gateways_is_no_message_of_the_presss() {
    let mut world = plant();
    world.node("gateway").publish("press", TOPIC, "to the press");
    world.settle();
    let sent = world.broker.last_on(TOPIC);
    let (signed, signature) = sent.split_at(sent.len() - 3373);
    let blob = &signed[1 + "gateway".len()..];

    // Relabelled as the press's; then also re-addressed to the gateway, with its own prekey's name.
    let mut relabelled = [b"\x05press", blob, signature].concat();
    assert_refused(&mut world, TOPIC, &relabelled, RefusalReason::WrongRecipient);
    let recipient = world.seal_spec("gateway", TOPIC, "").recipient;
    relabelled[8..24].copy_from_slice(recipient.as_bytes());
    assert_refused(&mut world, TOPIC, &relabelled, RefusalReason::BadSignature);
    assert_all_flow(&mut world);
}

#[test]
fn an_announcement_or_bundle_of_one_peer_is_none_of_anothers() {
    let mut world = plant();
    let announcement = world.broker.last_on(&keys_topic("gateway"));
    world.node("gateway").add_peer("saw");
    world.settle();
    assert_refused(&mut world, &keys_topic("saw"), &announcement, RefusalReason::IdentityMismatch);
    let lathe = world.broker.last_on(&keys_topic("lathe"));
    assert_refused(&mut world, &keys_topic("press"), &lathe, RefusalReason::Collision);
    let bundle = world.broker.last_on(&prekeys_topic("lathe"));
    assert_refused(&mut world, &prekeys_topic("press"), &bundle, RefusalReason::BadPrekey);
    assert_all_flow(&mut world);
}
