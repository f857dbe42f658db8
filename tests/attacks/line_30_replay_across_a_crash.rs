//! A receiver that loses power at any of the write boundaries on a message's way in, with the packet replayed before and
//! after: the message is told once, or again only until it was consumed.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_no_sequence_twice, assert_refused, plant, told_once};

#[test]
fn a_replay_at_any_write_boundary_has_no_effect() {
    let mut world = plant();
    world.node("press").publish("gateway", TOPIC, "before");
    world.settle();
    let mut texts = vec!["before".to_owned()];
    let mut boundaries = 0;
    loop {
        let text = format!("boundary {boundaries}");
        let (start, told) = (world.broker.captured().len(), world.node("gateway").inbox().len());
        world.node("gateway").hold_persists(true);
        world.node("press").publish("gateway", TOPIC, text.as_bytes());
        world.settle();
        let sent = world.broker.captured()[start..].iter().find(|packet| packet.topic == TOPIC);
        let packet = sent.unwrap().payload.clone();
        // A copy comes while the first is not durable.
        world.broker.inject(TOPIC, &packet);
        world.settle();
        assert_eq!(world.node("gateway").inbox().len(), told, "nothing is told before it is durable");
        assert_eq!(world.broker.unacknowledged("gateway"), 2, "nor acknowledged");

        let reached = world.node("gateway").release_persists(boundaries);
        world.broker.inject(TOPIC, &packet);
        if boundaries % 2 == 1 {
            world.settle();
        }
        world.restart("gateway");
        world.broker.inject(TOPIC, &packet);
        world.node("gateway").hold_persists(false);
        world.broker.inject(TOPIC, &packet);
        world.advance(Duration::from_secs(5));
        texts.push(text.clone());

        let inbox = world.node("gateway").inbox();
        let of_this: Vec<_> =
            inbox.iter().filter(|message| message.content.payload == text.as_bytes()).collect();
        assert!(of_this.len() == 1 || (of_this.len() == 2 && of_this[1].redelivered), "{boundaries}");
        assert!(of_this.iter().all(|message| message.origin == of_this[0].origin), "{boundaries}");
        assert_refused(&mut world, TOPIC, &packet, RefusalReason::Replayed);
        assert_eq!(told_once(&mut world, "gateway"), texts, "nothing is lost");
        assert_eq!(world.node("press").status().outbox.messages, 0, "and all is confirmed");
        boundaries += 1;
        if !reached {
            break;
        }
    }
    assert!(boundaries > 3, "only {boundaries} boundaries");
    // Consumed is consumed: after one more start nothing is told again.
    let told = world.node("gateway").inbox().len();
    world.restart("gateway");
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), told);
    assert_no_sequence_twice(&world);
    assert_all_flow(&mut world);
}
