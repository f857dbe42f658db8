//! Epoch exhaustion and wrap: epochs follow each other one by one, whatever a member proposes, and never come back.

use std::time::Duration;

use pqc_iiot_core::endpoint::{Protection, RefusalReason};
use pqc_iiot_core::session::{Accept, Control, Offer};
use pqc_iiot_tests::sessions::{
    Insider, assert_all_in_sessions, assert_in_session, session_plant, session_plant_with,
};
use pqc_iiot_tests::{TOPIC, retained_bundle};

#[test]
fn a_member_proposes_no_epoch_but_the_next() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    press.assert_heard(&mut world);
    // A valid key of the suite's mechanism.
    let encapsulation_key = retained_bundle(&world.broker, "lathe").encapsulation_key;
    let sessions = |world: &mut pqc_iiot_sim::World| world.node("gateway").status().sessions;
    let before = (sessions(&mut world), world.node("gateway").refused(RefusalReason::OutOfTurn));
    let epochs = [0, 2, 3, 0xfeff, 0xff00, 0xff01, u16::MAX];
    for epoch in epochs {
        press.say(&mut world, &Control::Offer(Offer { epoch, encapsulation_key: encapsulation_key.clone() }));
        press.say(&mut world, &Control::Accept(Accept { epoch, ciphertext: vec![7; 1120] }));
    }
    for (length, epoch) in [(0, 1), (1215, 1), (1217, 1), (60_000, 1)] {
        press.say(&mut world, &Control::Offer(Offer { epoch, encapsulation_key: vec![0; length] }));
    }
    let refused = world.node("gateway").refused(RefusalReason::OutOfTurn) - before.1;
    assert_eq!(refused, 2 * epochs.len() + 4);
    assert_eq!(sessions(&mut world), before.0);
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}

#[test]
fn a_members_offers_in_a_loop_cost_one_encapsulation() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    press.assert_heard(&mut world);
    let keys = ["lathe", "gateway"].map(|name| retained_bundle(&world.broker, name).encapsulation_key);
    let refused = world.node("gateway").refused(RefusalReason::OutOfTurn);
    for round in 0..50 {
        let encapsulation_key = keys[round % 2].clone();
        press.say(&mut world, &Control::Offer(Offer { epoch: 1, encapsulation_key }));
        press.say(&mut world, &Control::YourTurn);
    }
    assert_eq!(
        world.node("gateway").refused(RefusalReason::OutOfTurn) - refused,
        25,
        "another key is refused"
    );
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}

#[test]
fn records_of_an_epoch_that_is_over_do_not_come_back() {
    let mut world = session_plant_with(40);
    let (mut old, mut last) = (Vec::new(), 0);
    for round in 0..800 {
        world.node("press").publish("gateway", TOPIC, format!("{round}"));
        world.settle();
        old.push(world.broker.last_on(TOPIC));
        if round % 20 == 0 {
            world.advance(Duration::from_secs(35));
        }
        match world.node("gateway").inbox().last().map(|message| message.protection) {
            Some(Protection::Session { epoch }) => {
                assert!(epoch == last || epoch == last + 1, "{last} was followed by {epoch}");
                last = epoch;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(last >= 8, "only {last} epochs");
    world.advance(Duration::from_secs(60));
    let inbox = world.node("gateway").inbox().len();
    for record in old {
        world.broker.deliver_to("gateway", TOPIC, &record);
    }
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), inbox);
    assert_all_in_sessions(&mut world);
}
