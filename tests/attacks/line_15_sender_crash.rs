//! A sender that crashes, again and again and wherever it is, never reuses a counter; what it had accepted arrives, and its
//! messages are still accepted afterwards.

use std::time::Duration;

use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_no_sequence_twice, plant, was_accepted};

#[test]
fn no_counter_twice_and_nothing_accepted_is_lost() {
    let mut world = plant();
    let mut accepted = Vec::new();
    for round in 0..12 {
        // Before anything is durable, before anything is signed, under way, and with nothing to do.
        match round % 4 {
            0 => world.node("press").hold_persists(true),
            1 => world.node("press").hold_provider(true),
            _ => {}
        }
        let texts: Vec<String> = (0..5).map(|n| format!("round {round}: {n}")).collect();
        for text in &texts {
            let ticket = world.node("press").publish("gateway", TOPIC, text.as_bytes());
            if was_accepted(&mut world, "press", ticket) {
                accepted.push(text.clone());
            }
        }
        if round % 4 == 2 {
            world.settle();
        }
        world.restart("press");
        world.node("press").hold_persists(false);
        world.node("press").hold_provider(false);
        world.advance(Duration::from_secs(5));
    }
    assert!(accepted.len() >= 45, "only {}", accepted.len());
    assert_eq!(world.node("gateway").received(), accepted, "what was accepted arrives once, in order");
    assert_eq!(world.node("press").status().outbox.messages, 0);
    assert_no_sequence_twice(&world);
    assert_all_flow(&mut world);
}
