//! A flood of m1 in an honest peer's name, or by a malicious member: live sessions, other handshakes and control messages
//! are untouched, and what it costs is bounded.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::flipped;
use pqc_iiot_tests::sessions::{
    Insider, all_grants, assert_all_in_sessions, assert_in_session, enrol, handshakes, init_topic,
    session_plant,
};

const FLOOD: usize = 1_000;

/// Different m1s that nobody can tell from the press's without work.
fn in_the_name_of_the_press(m1: &[u8], number: usize) -> Vec<u8> {
    let mut forged = flipped(m1, m1.len() - 1 - number / 8 % 16);
    // Ahead of every attempt.
    let attempt = 1 + 1 + 1 + "press".len() + 32 + 32 + 4 + 16;
    forged[attempt + 4..attempt + 8].copy_from_slice(&u32::try_from(number + 1).unwrap().to_be_bytes());
    forged
}

#[test]
fn a_flood_in_an_honest_peers_name_stops_neither_sessions_nor_handshakes_nor_control() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    let m1 = press.m1(&world, 1);
    world.connect("press", true);
    world.advance(Duration::from_secs(2));
    let calls = world.node("gateway").provider_calls();
    for number in 0..FLOOD {
        let forged = in_the_name_of_the_press(m1.m1(), number);
        world.broker.deliver_to("gateway", &init_topic("gateway"), &forged);
    }
    world.settle();
    assert!(world.node("gateway").refused(RefusalReason::OverBudget) > 0, "the flood is one");
    let calls = world.node("gateway").provider_calls() - calls;
    assert!(calls < FLOOD as u64 / 2, "{calls} decapsulations");
    let before = handshakes(&world);
    assert_all_in_sessions(&mut world);
    assert_eq!(handshakes(&world), before, "and in the sessions there were");

    // Our own handshake with somebody new: its answer is none of the flood's.
    enrol(&mut world, pqc_iiot_sim::NodeOptions::new("drill", &all_grants()), u64::MAX);
    world.introduce("gateway", "drill");
    for number in 0..FLOOD {
        let forged = in_the_name_of_the_press(m1.m1(), FLOOD + number);
        world.broker.deliver_to("gateway", &init_topic("gateway"), &forged);
    }
    world.settle();
    assert_in_session(&mut world, "gateway", "drill");
    world.revoke(&["lathe"]);
    assert_eq!(world.node("gateway").status().revoked, 1);
    assert_in_session(&mut world, "press", "gateway");
}

#[test]
fn a_members_flood_of_genuine_first_messages_is_bounded() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    world.advance(Duration::from_secs(2));
    let calls = world.node("gateway").provider_calls();
    for attempt in 1_001..1_101 {
        // Each with the gate of the session there is.
        let m1 = press.m1(&world, attempt);
        world.broker.deliver_to("gateway", &init_topic("gateway"), m1.m1());
    }
    world.settle();
    let calls = world.node("gateway").provider_calls() - calls;
    assert!(calls <= 10, "{calls} operations of the provider for one member's flood");
    assert_in_session(&mut world, "lathe", "gateway");
    world.advance(Duration::from_secs(60));
    press.shake(&mut world, 2_000);
    press.assert_heard(&mut world);
}

#[test]
fn forged_first_messages_do_not_make_us_give_up_our_own() {
    let mut world = pqc_iiot_sim::World::with_sessions();
    for name in ["gateway", "press"] {
        enrol(&mut world, pqc_iiot_sim::NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    world.connect("press", true);
    world.broker.withhold("pqc/session/resp/#");
    world.node("gateway").publish("press", pqc_iiot_tests::TOPIC, "x");
    world.advance(Duration::from_secs(60));
    let first = world.broker.captured_on(&init_topic("press"))[0].clone();
    let forged = in_the_name_of_the_press(press.m1(&world, 0).m1(), 0);
    let mut forged = flipped(&forged, forged.len() - 1);
    let attempt = 1 + 1 + 1 + "press".len() + 32 + 32 + 4 + 16;
    forged[attempt..attempt + 8].fill(0);
    world.broker.deliver_to("gateway", &init_topic("gateway"), &forged);
    world.settle();
    world.node("gateway").publish("press", pqc_iiot_tests::TOPIC, "y");
    world.advance(Duration::from_secs(3600));
    let m1s = world.broker.captured_on(&init_topic("press"));
    assert!(m1s.iter().all(|m1| *m1 == first), "the m1 on its way is still the one");
    world.broker.withhold_nothing();
    world.advance(Duration::from_secs(3600));
    assert_in_session(&mut world, "gateway", "press");
    assert_in_session(&mut world, "press", "gateway");
}
