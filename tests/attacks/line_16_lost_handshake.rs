//! A lost m1, m2 or answer never blocks a later handshake, and what waits goes in envelopes meanwhile.

use std::time::Duration;

use pqc_iiot_core::ids::BootId;
use pqc_iiot_core::session::Control;
use pqc_iiot_core::session::handshake::M1;
use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::sessions::{
    Insider, all_grants, assert_in_session, command, enrol, init_topic, session_plant,
};
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

/// A disk restored half-way, or a receive chain that went astray: what a peer sends is no sign that it reads.
#[test]
fn a_peer_that_is_heard_and_hears_nothing_gets_a_new_session() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    press.shake(&mut world, 1_000);
    let m1s_of_gateway = |world: &World| {
        let mut m1s = world.broker.captured_on(&init_topic("press"));
        m1s.retain(|m1| M1::parse(m1).is_ok_and(|m1| m1.initiator() == "gateway"));
        m1s
    };
    let made = m1s_of_gateway(&world).len();
    world.node("gateway").publish("press", TOPIC, "confirmed by nobody");
    let known = Control::Known([BootId([0; 8]); 3]);
    for (says_that_it_reads, handshakes) in [(true, 0), (false, 1)] {
        for minute in 0..25 {
            // It answers what it is asked, or not.
            if says_that_it_reads && minute % 4 == 0 {
                press.say(&mut world, &known);
            }
            press.assert_heard(&mut world);
            world.advance(MINUTE);
        }
        let mut distinct = m1s_of_gateway(&world).split_off(made);
        distinct.dedup();
        assert_eq!(distinct.len(), handshakes, "it reads: {says_that_it_reads}");
    }
    assert_in_session(&mut world, "lathe", "gateway");
}

/// Copies of an m1 are copies: whoever hears them learns nothing new, and any of them may be the one that is answered.
#[test]
fn an_m1_without_answer_comes_again_byte_for_byte() {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    world.broker.withhold("pqc/session/init/#");
    world.node("press").publish("gateway", TOPIC, "x");
    world.advance(20 * MINUTE);
    world.restart("press");
    world.advance(20 * MINUTE);
    let m1s = world.broker.captured_on(&init_topic("gateway"));
    assert!(m1s.len() >= 6, "only {}", m1s.len());
    assert!(m1s.iter().all(|m1| *m1 == m1s[0]));
    world.broker.withhold_nothing();
    // A late copy of the first serves.
    world.broker.deliver_to("gateway", &init_topic("gateway"), &m1s[0]);
    world.advance(20 * MINUTE);
    assert!(world.broker.captured_on(&init_topic("gateway")).iter().all(|m1| *m1 == m1s[0]));
    assert_in_session(&mut world, "press", "gateway");
}

/// A handshake may overtake its sender's announcement: nobody is to blame, and it comes again.
#[test]
fn an_m1_before_its_senders_announcement_is_acknowledged_without_blame() {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.settle();
    let announced = "pqc/keys/press";
    let announcement = world.broker.retained(announced).expect("announced").to_vec();
    world.broker.hide_retained(announced);
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", TOPIC, "x");
    world.settle();
    let m1s = world.broker.captured_on(&init_topic("gateway")).len();
    assert_eq!(m1s, 1);
    assert_eq!(world.broker.unacknowledged("gateway"), 0);
    assert_eq!(world.node("gateway").refusals(), []);
    assert_eq!(world.node("gateway").status().sessions, 0);
    world.broker.inject_retained(announced, &announcement);
    world.advance(Duration::from_secs(30));
    assert_in_session(&mut world, "press", "gateway");
}
