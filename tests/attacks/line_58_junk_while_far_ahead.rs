//! Junk on a live session id while the peer jumps 60,000 records ahead: the jump is followed all the same.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::session::Class;
use pqc_iiot_sim::{World, publish, subscribe};
use pqc_iiot_tests::TOPIC;
use pqc_iiot_tests::sessions::{Insider, assert_in_session, session_plant};

#[test]
fn junk_does_not_hide_a_jump() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    press.assert_heard(&mut world);
    let lost = press.telemetry(TOPIC, 2, "lost");
    for number in 3..60_000 {
        press.telemetry(TOPIC, number, "");
    }
    let far = press.telemetry(TOPIC, 60_000, "far ahead");
    let inbox = world.node("gateway").inbox().len();
    for number in 0..5_000u32 {
        let mut junk = far.clone();
        let counter = number.wrapping_mul(0x9e37_79b1) % 70_000;
        junk[8..12].copy_from_slice(&counter.to_be_bytes());
        let last = junk.len() - 1;
        junk[last] ^= 1;
        world.broker.deliver_to("gateway", TOPIC, &junk);
    }
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), inbox);
    world.broker.deliver_to("gateway", TOPIC, &far);
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "far ahead");
    // What was skipped too far back is over, and stays so.
    world.broker.deliver_to("gateway", TOPIC, &lost);
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), inbox + 1);
    let again = press.untracked(Class::Control, TOPIC, pqc_iiot_core::envelope::Content::telemetry("again"));
    world.broker.deliver_to("gateway", TOPIC, &again);
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "again");
    assert_in_session(&mut world, "lathe", "gateway");
}

/// Whoever has seen one record of each of many sessions makes their keeper derive far ahead in every class of each, once. What
/// that costs is bounded for all of them together, and keeps nobody else out.
#[test]
fn forged_jumps_cost_no_more_than_their_budget() {
    const SESSIONS: usize = 90;
    let mut world = World::with_sessions();
    world.enrol("gateway", &[subscribe("plant/#"), publish("plant/#")]);
    world.subscribe("gateway", "plant/#");
    let mut heard = Vec::new();
    for device in 0..SESSIONS {
        let name = format!("press-{device}");
        world.enrol(&name, &[publish("plant/#"), subscribe("plant/#")]);
        world.introduce("gateway", &name);
        world.node(&name).publish("gateway", "plant/a", b"genuine");
        world.advance(std::time::Duration::from_secs(3));
        heard.push(world.broker.last_on("plant/a"));
    }
    assert_eq!(world.node("gateway").status().sessions, SESSIONS);
    let (forged, over) = (RefusalReason::BadCiphertext, RefusalReason::OverBudget);
    let before = (world.node("gateway").refused(forged), world.node("gateway").refused(over));
    for record in &heard {
        for class in [Class::Telemetry, Class::Command, Class::Control] {
            let mut far = record.clone();
            // No boot, and a form that every class has.
            far[1] = far[1] & 0b0011_1000 | class as u8;
            let block: u32 = if class == Class::Command { 1_000 } else { 64_000 };
            far[8..12].copy_from_slice(&block.to_be_bytes());
            world.broker.deliver_to("gateway", "plant/a", &far);
        }
    }
    world.settle();
    let judged = world.node("gateway").refused(forged) - before.0;
    let refused = world.node("gateway").refused(over) - before.1;
    assert_eq!((judged, refused), (256, 3 * SESSIONS - 256));
    world.node("press-7").publish("gateway", "plant/a", b"after all that");
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "after all that");
}
