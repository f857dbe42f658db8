//! Unknown key share: a certified peer republishes another's prekey as its own. What is then sent to it, it passes on to the
//! prekey's owner, who could decrypt it, and must not take it for something that was meant for it.

use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_sim::World;
use pqc_iiot_tests::sessions::{assert_in_session, assert_no_effect, init_topic, resp_topic, session_plant};
use pqc_iiot_tests::{
    TOPIC, assert_flows, next_bundle, plant, prekeys_topic, retained_bundle, signed_bundle, thief_of,
};

/// The lathe announces the gateway's prekey, under its own name and signature.
fn republish(world: &mut World) {
    let stolen = retained_bundle(&world.broker, "gateway");
    let bundle = next_bundle(&world.broker, "lathe", stolen.encapsulation_key);
    // Under the same id, so that the gateway finds it.
    let bundle = PrekeyBundle { prekey_id: stolen.prekey_id, ..bundle };
    let lathe = thief_of(world, "lathe");
    world.broker.inject_retained(&prekeys_topic("lathe"), &signed_bundle(&lathe, &bundle));
    world.settle();
}

/// Where in an envelope or m1 of the press's the recipient's key id is, and the prekey's id behind it.
fn readdressed(world: &mut World, packet: &[u8]) -> Option<Vec<u8>> {
    let lathe = thief_of(world, "lathe").public().fingerprint();
    let gateway = thief_of(world, "gateway").public().fingerprint();
    let prekey = retained_bundle(&world.broker, "gateway").prekey_id.0;
    // Envelopes name the recipient by a part of its fingerprint.
    let len = [32, 16, 8].into_iter().find(|len| find(packet, &lathe.as_bytes()[..*len]).is_some())?;
    let at = find(packet, &lathe.as_bytes()[..len])?;
    let mut copy = packet.to_vec();
    copy[at..at + len].copy_from_slice(&gateway.as_bytes()[..len]);
    copy[at + len..at + len + 4].copy_from_slice(&prekey.to_be_bytes());
    Some(copy)
}

fn find(all: &[u8], part: &[u8]) -> Option<usize> {
    all.windows(part.len()).position(|window| window == part)
}

#[test]
fn an_envelope_for_the_lathe_is_none_for_the_owner_of_its_prekey() {
    let mut world = plant();
    republish(&mut world);
    world.node("press").publish("lathe", TOPIC, "for the lathe");
    world.settle();
    let sent = world.broker.last_on(TOPIC);
    assert!(world.node("gateway").received().is_empty(), "it hears all of the plant");
    assert!(world.node("lathe").received().is_empty(), "it has not the key that it announced");
    assert_no_effect(&mut world, TOPIC, &sent);
    let readdressed = readdressed(&mut world, &sent).expect("the recipient is in clear");
    assert_no_effect(&mut world, TOPIC, &readdressed);
    assert_flows(&mut world, "press", "gateway");
    assert_flows(&mut world, "gateway", "press");
    assert_flows(&mut world, "lathe", "gateway");
}

#[test]
fn a_handshake_with_the_lathe_is_none_with_the_owner_of_its_prekey() {
    let mut world = session_plant();
    republish(&mut world);
    // A newcomer begins with what the lathe announces.
    let stranger = pqc_iiot_sim::NodeOptions::new("drill", &pqc_iiot_tests::sessions::all_grants());
    pqc_iiot_tests::sessions::enrol(&mut world, stranger, u64::MAX);
    world.introduce("drill", "lathe");
    world.introduce("drill", "gateway");
    world.node("drill").publish("lathe", TOPIC, "for the lathe");
    world.settle();
    let m1 = world.broker.last_on(&init_topic("lathe"));
    assert_eq!(m1.get(3..8), Some(&b"drill"[..]));
    let answers = world.broker.captured_on(&resp_topic("drill")).len();
    assert_no_effect(&mut world, &init_topic("gateway"), &m1);
    let readdressed = readdressed(&mut world, &m1).expect("the recipient is in clear");
    assert_no_effect(&mut world, &init_topic("gateway"), &readdressed);
    assert_eq!(world.broker.captured_on(&resp_topic("drill")).len(), answers, "nobody answers");
    world.advance(core::time::Duration::from_secs(60));
    assert!(world.node("gateway").received().iter().all(|text| text != "for the lathe"));
    assert!(world.node("lathe").received().iter().all(|text| text != "for the lathe"));
    assert_in_session(&mut world, "drill", "gateway");
    assert_in_session(&mut world, "press", "gateway");
    assert_in_session(&mut world, "lathe", "gateway");
}
