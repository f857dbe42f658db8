//! A lost m1, m2 or answer never blocks a later handshake, and what waits goes in envelopes meanwhile.

use std::time::Duration;

use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::sessions::{all_grants, assert_in_session, command, enrol};
use pqc_iiot_tests::{TOPIC, assert_flows};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn whatever_of_the_handshake_is_lost_a_later_one_is_made() {
    for lost in ["pqc/session/init/#", "pqc/session/resp/#", "pqc/session/#", "pqc/control/#"] {
        for restart in [None, Some("press"), Some("gateway")] {
            let mut world = World::with_sessions();
            for name in ["gateway", "press"] {
                enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
            }
            world.introduce("gateway", "press");
            world.broker.withhold(lost);
            let texts = ["1", "2"].map(|text| {
                world.node("press").publish("gateway", TOPIC, text);
                world.advance(MINUTE);
                text
            });
            world.node("press").publish_content("gateway", TOPIC, command("stop"));
            world.settle();
            assert!(world.node("gateway").received().starts_with(&texts.map(Into::into)), "{lost}");
            if let Some(name) = restart {
                world.restart(name);
            }
            world.advance(20 * MINUTE);
            world.broker.withhold_nothing();
            world.advance(40 * MINUTE);
            assert_eq!(world.node("press").status().outbox.messages, 0, "{lost}, {restart:?}");
            let mut received = world.node("gateway").received();
            received.dedup();
            assert_eq!(received, ["1", "2", "stop"], "{lost}, {restart:?}");
            assert_flows(&mut world, "press", "gateway");
            world.advance(MINUTE);
            assert_in_session(&mut world, "press", "gateway");
            assert_in_session(&mut world, "gateway", "press");
        }
    }
}

#[test]
fn a_pair_that_has_nothing_to_say_makes_no_handshake() {
    let mut world = pqc_iiot_tests::sessions::session_plant();
    let before = pqc_iiot_tests::sessions::handshakes(&world);
    for _ in 0..4 {
        // The receipt is the last word: nobody answers it.
        assert_in_session(&mut world, "press", "gateway");
        world.advance(60 * MINUTE);
    }
    assert_eq!(pqc_iiot_tests::sessions::handshakes(&world), before);
    assert_in_session(&mut world, "gateway", "press");
}

#[test]
fn whatever_of_an_epoch_change_is_lost_the_session_goes_on() {
    for skipped in 0..6 {
        let mut world = pqc_iiot_tests::sessions::session_plant_with(30);
        let mut sent = 0;
        for round in 0..120 {
            // Every so often one side's control records are lost for a while.
            if round % 12 == skipped {
                world.broker.withhold(["pqc/control/gateway", "pqc/control/press"][round / 12 % 2]);
            }
            world.node("press").publish("gateway", TOPIC, format!("{round}"));
            world.node("gateway").publish("press", TOPIC, format!("{round}"));
            sent += 1;
            world.settle();
            world.advance(Duration::from_secs(3));
            if round % 12 == skipped + 3 {
                world.broker.withhold_nothing();
            }
        }
        world.broker.withhold_nothing();
        world.advance(10 * MINUTE);
        for (name, other) in [("gateway", "press"), ("press", "gateway")] {
            assert_eq!(world.node(name).status().outbox.messages, 0);
            let number = |message: &&pqc_iiot_core::endpoint::Message| {
                message.peer.as_str() == other && !message.content.payload.starts_with(b"honest")
            };
            let heard = world.node(name).inbox().into_iter().filter(number).count();
            assert_eq!(heard, sent, "{name} heard of {other}");
        }
        let epochs = world.node("gateway").inbox().last().map(|message| message.protection);
        assert!(
            matches!(epochs, Some(pqc_iiot_core::endpoint::Protection::Session { epoch }) if epoch >= 2),
            "epochs changed: {epochs:?}"
        );
        assert_in_session(&mut world, "press", "gateway");
    }
}
