//! Forged data packets with valid headers and random bodies change no session: 20 of 20 later messages arrive in it.

use pqc_iiot_core::session::Header;
use pqc_iiot_tests::sessions::{
    assert_all_in_sessions, assert_in_session, assert_no_effect, handshakes, session_plant,
};
use pqc_iiot_tests::{TOPIC, intercept};

#[test]
fn forged_records_change_nothing() {
    let mut world = session_plant();
    let genuine = intercept(&mut world, TOPIC, "81.5");
    let header = Header::parse(&genuine).unwrap();
    let before = handshakes(&world);
    // Flags (class, salt, stream, form), epoch, counter: ahead, behind and far away; then the body.
    let mut forgeries = Vec::new();
    for flags in 0..=255u8 {
        let mut forged = genuine.clone();
        forged[1] = flags;
        forgeries.push(forged);
    }
    for epoch in [1u16, 2, 0xff00, 0xffff] {
        let mut forged = genuine.clone();
        forged[6..8].copy_from_slice(&epoch.to_be_bytes());
        forgeries.push(forged);
    }
    for ahead in [1u32, 63, 64, 65, 6_400, 64 * 1_023, 64 * 1_024, 1 << 31, u32::MAX] {
        let mut forged = genuine.clone();
        forged[8..12].copy_from_slice(&header.counter.wrapping_add(ahead).to_be_bytes());
        forgeries.push(forged);
    }
    for at in header.encoded_len()..genuine.len() {
        forgeries.push(pqc_iiot_tests::flipped(&genuine, at));
    }
    for cut in 0..genuine.len() {
        forgeries.push(genuine[..cut].to_vec());
    }
    for forged in forgeries.iter().filter(|forged| **forged != genuine) {
        assert_no_effect(&mut world, TOPIC, forged);
    }
    world.broker.deliver_to("gateway", TOPIC, &genuine);
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "81.5");
    for _ in 0..20 {
        assert_in_session(&mut world, "press", "gateway");
    }
    assert_all_in_sessions(&mut world);
    assert_eq!(handshakes(&world), before, "in the same session");
}
