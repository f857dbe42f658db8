//! ACCEPT lost, or the first record of the next epoch overtaking it: both sides switch all the same, and no message is lost.

use std::time::Duration;

use pqc_iiot_core::endpoint::{Message, Protection};
use pqc_iiot_tests::TOPIC;
use pqc_iiot_tests::sessions::{assert_in_session, handshakes, session_plant_with};

/// Sends both ways until both sides are in a later epoch; gives how many messages went each way.
fn turn(world: &mut pqc_iiot_sim::World, lost: &str, for_rounds: usize) {
    let heard = |world: &mut pqc_iiot_sim::World, name: &str, other: &str| {
        let of = |message: &&Message| message.peer.as_str() == other;
        world.node(name).inbox().into_iter().filter(of).count()
    };
    let pairs = [("gateway", "press"), ("press", "gateway")];
    let before = pairs.map(|(name, other)| heard(world, name, other));
    for round in 0..60 {
        if round == 2 {
            world.broker.withhold(lost);
        }
        if round == 2 + for_rounds {
            world.broker.withhold_nothing();
        }
        for (from, to) in pairs {
            world.node(from).publish(to, TOPIC, format!("{round} {lost}"));
        }
        world.settle();
        for (name, _) in pairs {
            world.broker.reorder(name);
        }
        world.advance(Duration::from_secs(2));
    }
    world.advance(Duration::from_secs(300));
    for ((name, other), before) in pairs.into_iter().zip(before) {
        assert_eq!(heard(world, name, other), before + 60, "{name} heard of {other} with {lost} lost");
        assert_eq!(world.node(name).status().outbox.messages, 0);
    }
}

#[test]
fn a_lost_step_of_an_epoch_change_loses_no_message() {
    for (seed_rounds, lost) in [
        (3, "pqc/control/gateway"),
        (3, "pqc/control/press"),
        (12, "pqc/control/gateway"),
        (12, "pqc/control/press"),
    ] {
        let mut world = session_plant_with(25);
        let before = handshakes(&world);
        turn(&mut world, lost, seed_rounds);
        assert_eq!(handshakes(&world), before, "the same offer got the same answer: {lost}");
        let last = world.node("gateway").inbox().last().map(|message| message.protection);
        assert!(matches!(last, Some(Protection::Session { epoch }) if epoch >= 1), "{last:?}");
        assert_in_session(&mut world, "press", "gateway");
        assert_in_session(&mut world, "gateway", "press");
    }
}

#[test]
fn records_of_the_next_epoch_may_come_first() {
    for late in ["pqc/control/gateway", "pqc/control/press"] {
        let mut world = session_plant_with(25);
        world.broker.delay(late, Duration::from_secs(7));
        turn(&mut world, "pqc/nothing", 1);
        world.broker.delay_nothing();
        world.advance(Duration::from_secs(60));
        assert_in_session(&mut world, "press", "gateway");
        assert_in_session(&mut world, "gateway", "press");
    }
}

#[test]
fn a_crash_of_either_side_at_any_write_of_an_epoch_change_loses_nothing() {
    for name in ["gateway", "press"] {
        for boundary in 0..14 {
            let mut world = session_plant_with(25);
            for round in 0..24 {
                world.node("press").publish("gateway", TOPIC, format!("{round}"));
                world.settle();
            }
            world.node(name).hold_persists(true);
            for round in 24..30 {
                world.node("press").publish("gateway", TOPIC, format!("{round}"));
                world.settle();
            }
            world.node(name).release_persists(boundary);
            world.settle();
            world.restart(name);
            world.node(name).hold_persists(false);
            world.advance(Duration::from_secs(120));
            assert_eq!(world.node("press").status().outbox.messages, 0, "{name} at {boundary}");
            world.advance(Duration::from_secs(1_200));
            assert_in_session(&mut world, "press", "gateway");
            assert_in_session(&mut world, "gateway", "press");
            pqc_iiot_tests::sessions::assert_no_counter_twice(&world);
        }
    }
}
