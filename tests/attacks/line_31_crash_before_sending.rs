//! A sender that loses power between any write and what it sends after it: no sequence, and so no key and nonce, is ever
//! used for two different packets, and what was accepted arrives.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::sessions::{assert_all_in_sessions, assert_no_counter_twice, session_plant};
use pqc_iiot_tests::{
    TOPIC, assert_all_flow, assert_no_sequence_twice, assert_refused, plant, told_once, was_accepted,
};

#[test]
fn no_sequence_is_used_for_two_packets_whatever_was_durable_at_the_crash() {
    let mut world = plant();
    let mut expected = Vec::new();
    for sent_before_the_crash in [false, true] {
        let mut boundary = 0;
        loop {
            let texts = [0, 1, 2].map(|n| format!("{sent_before_the_crash} {boundary} {n}"));
            world.node("press").hold_persists(true);
            let tickets = texts.each_ref().map(|text| {
                let press = world.node("press");
                press.publish("gateway", TOPIC, text.as_bytes())
            });
            let captured = world.broker.captured().len();
            let before = world.broker.captured_on(TOPIC).len();
            world.settle();
            assert_eq!(world.broker.captured_on(TOPIC).len(), before, "nothing is sent that is not durable");
            let reached = world.node("press").release_persists(boundary);
            if sent_before_the_crash {
                world.settle();
            }
            for (ticket, text) in tickets.into_iter().zip(texts) {
                if was_accepted(&mut world, "press", ticket) {
                    expected.push(text);
                }
            }
            world.restart("press");
            world.node("press").hold_persists(false);
            world.advance(Duration::from_secs(5));
            assert!(world.broker.captured().len() > captured);
            assert_no_sequence_twice(&world);
            assert_eq!(world.node("press").status().outbox.messages, 0);
            boundary += 1;
            if !reached {
                break;
            }
        }
        assert!(boundary > 6, "only {boundary} boundaries");
    }
    assert_eq!(world.node("gateway").received(), expected, "what was accepted arrives, once, in order");
    let last = world.broker.last_on(TOPIC);
    assert_refused(&mut world, TOPIC, &last, RefusalReason::Replayed);
    assert_all_flow(&mut world);
}

#[test]
fn no_counter_is_used_for_two_records_whatever_was_durable_at_the_crash() {
    let mut world = session_plant();
    let mut expected = told_once(&mut world, "gateway");
    for sent_before_the_crash in [false, true] {
        for boundary in 0..8 {
            let texts: Vec<_> = (0..80).map(|n| format!("{sent_before_the_crash} {boundary} {n}")).collect();
            world.node("press").hold_persists(true);
            let tickets: Vec<_> = texts
                .iter()
                .map(|text| world.node("press").publish("gateway", TOPIC, text.as_bytes()))
                .collect();
            world.settle();
            world.node("press").release_persists(boundary * 10);
            if sent_before_the_crash {
                world.settle();
            }
            for (ticket, text) in tickets.into_iter().zip(texts) {
                if was_accepted(&mut world, "press", ticket) {
                    expected.push(text);
                }
            }
            world.restart("press");
            world.node("press").hold_persists(false);
            world.advance(Duration::from_secs(5));
            assert_no_counter_twice(&world);
            assert_eq!(world.node("press").status().outbox.messages, 0);
        }
    }
    let mut received = told_once(&mut world, "gateway");
    received.sort_by_key(|text| expected.iter().position(|sent| sent == text));
    assert_eq!(received, expected, "what was accepted arrives, once");
    assert_all_in_sessions(&mut world);
}
