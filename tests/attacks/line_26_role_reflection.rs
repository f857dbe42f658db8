//! Role reflection: what one side sent never serves as what the other side sends.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::session::Header;
use pqc_iiot_tests::sessions::{
    assert_all_in_sessions, assert_no_effect, init_topic, resp_topic, session_plant,
};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, intercept, keys_topic, plant, prekeys_topic};

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

#[test]
fn a_session_packet_of_one_role_is_none_of_the_other() {
    let mut world = session_plant();
    // Every handshake packet there was, at every place of the gateway's where such packets go.
    let captured: Vec<_> = world.broker.captured().iter().map(|packet| packet.payload.clone()).collect();
    let handshakes = captured.iter().filter(|payload| matches!(payload.first(), Some(0xc1 | 0xc2)));
    let mut handshakes: Vec<_> = handshakes.cloned().collect();
    assert!(handshakes.len() >= 6);
    for packet in handshakes.clone() {
        // As if it were of the other kind.
        let mut relabelled = packet;
        relabelled[0] ^= 0xc1 ^ 0xc2;
        handshakes.push(relabelled);
    }
    for packet in handshakes {
        for topic in [init_topic("gateway"), resp_topic("gateway"), TOPIC.into()] {
            assert_no_effect(&mut world, &topic, &packet);
        }
    }
    // A record to the press under the session id of the way back.
    let there = Header::parse(&intercept(&mut world, TOPIC, "there")).unwrap();
    world.broker.withhold(TOPIC);
    world.node("gateway").publish("press", TOPIC, "back");
    world.settle();
    world.broker.withhold_nothing();
    let mut back = world.broker.last_on(TOPIC);
    back[2..6].copy_from_slice(there.sid.as_bytes());
    assert_no_effect(&mut world, TOPIC, &back);
    world.advance(std::time::Duration::from_secs(5));
    assert_all_in_sessions(&mut world);
}
