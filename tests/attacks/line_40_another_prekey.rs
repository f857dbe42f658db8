//! An m1 re-addressed to another prekey, or another peer, opens nothing.

use pqc_iiot_tests::sessions::{
    Insider, assert_all_in_sessions, assert_no_effect, init_topic, session_plant,
};
use pqc_iiot_tests::{retained_bundle, thief_of};

#[test]
fn an_m1_for_one_prekey_is_none_for_another() {
    let mut world = session_plant();
    // Made for the lathe by the press; the lathe's holder sends it on to the gateway.
    let mut press = Insider::instead_of(&mut world, "press", "lathe");
    let m1 = press.m1(&world, 1_000);
    world.connect("press", true);
    let gateway = thief_of(&mut world, "gateway").public().fingerprint();
    let bundle = retained_bundle(&world.broker, "gateway");
    assert_no_effect(&mut world, &init_topic("gateway"), m1.m1());
    let recipient = 1 + 1 + 1 + "press".len() + 32;
    let mut readdressed = m1.m1().to_vec();
    readdressed[recipient..recipient + 32].copy_from_slice(gateway.as_bytes());
    assert_no_effect(&mut world, &init_topic("gateway"), &readdressed);
    let prekey = recipient + 32;
    for id in [bundle.prekey_id.0, bundle.prekey_id.0 + 1, 0, u32::MAX] {
        readdressed[prekey..prekey + 4].copy_from_slice(&id.to_be_bytes());
        assert_no_effect(&mut world, &init_topic("gateway"), &readdressed);
    }
    assert_all_in_sessions(&mut world);
}
