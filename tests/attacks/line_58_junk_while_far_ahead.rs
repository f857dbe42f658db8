//! Junk on a live session id while the peer jumps 60,000 records ahead: the jump is followed all the same.

use pqc_iiot_core::session::Class;
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
