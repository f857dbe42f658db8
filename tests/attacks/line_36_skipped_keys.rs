//! Skipped-key exhaustion: forged gaps of every size cost bounded work and memory and change nothing; genuine ones of a
//! malicious member keep no more than the bound.

use pqc_iiot_core::session::{Class, Header, MAX_JUMP};
use pqc_iiot_tests::sessions::{
    Insider, assert_all_in_sessions, assert_in_session, assert_no_effect, handshakes, session_plant,
};
use pqc_iiot_tests::{TOPIC, intercept};

#[test]
fn forged_gaps_change_nothing() {
    let mut world = session_plant();
    let genuine = intercept(&mut world, TOPIC, "81.5");
    let at = Header::parse(&genuine).unwrap().counter;
    let before = handshakes(&world);
    let gap = |counter: u32| {
        let mut forged = genuine.clone();
        forged[8..12].copy_from_slice(&counter.to_be_bytes());
        forged
    };
    assert_no_effect(&mut world, TOPIC, &gap(u32::MAX));
    let state = world.node("gateway").snapshot();
    for number in 1..=100_000u32 {
        world.broker.deliver_to(
            "gateway",
            TOPIC,
            &gap(at.wrapping_add(number.wrapping_mul(0x9e37) % (64 * MAX_JUMP) + 64)),
        );
        if number % 1_000 == 0 {
            world.settle();
        }
    }
    world.settle();
    assert_eq!(world.node("gateway").snapshot(), state);
    world.broker.deliver_to("gateway", TOPIC, &genuine);
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "81.5");
    assert_all_in_sessions(&mut world);
    assert_eq!(handshakes(&world), before);
}

#[test]
fn a_members_gaps_keep_a_bounded_row() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    press.assert_heard(&mut world);
    let size = |world: &mut pqc_iiot_sim::World| {
        let disk = world.node("gateway").disk();
        let rows = disk.rows();
        rows.into_iter()
            .filter(|row| row.kind == pqc_iiot_core::store::RecordKind::Session)
            .map(|row| row.value.len())
            .max()
            .unwrap_or(0)
    };
    for jump in [1, 2, 10, 100, 1_000] {
        for class in Class::ALL {
            for _ in 0..jump * class.block_len() {
                press.untracked(class, TOPIC, pqc_iiot_core::envelope::Content::telemetry("lost"));
            }
            let content = if class == Class::Command {
                pqc_iiot_tests::sessions::command("x")
            } else {
                pqc_iiot_core::envelope::Content::telemetry("x")
            };
            let record = press.untracked(class, TOPIC, content);
            world.broker.deliver_to("gateway", TOPIC, &record);
        }
        world.settle();
        assert!(size(&mut world) < 4_096, "{} bytes", size(&mut world));
    }
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}
