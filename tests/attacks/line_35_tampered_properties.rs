//! Tampered MQTT properties: response topic, correlation data, content type and expiry count only as sealed.

use std::time::Duration;

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::envelope::Content;
use pqc_iiot_sim::World;
use pqc_iiot_tests::sessions::{assert_all_in_sessions, session_plant};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, plant};

/// Telemetry with every property, for a minute.
fn with_properties(world: &World) -> Content {
    Content {
        content_type: Some("application/cbor".into()),
        response_topic: Some("plant/answers".into()),
        correlation_data: Some(b"42".to_vec()),
        expires: Some(world.clock.wall().plus(Duration::from_secs(60))),
        ..Content::telemetry("81.5")
    }
}

fn assert_unreadable(packet: &[u8]) {
    for secret in ["application/cbor", "plant/answers", "81.5"] {
        let clear = packet.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!clear, "{secret} is readable on the wire");
    }
}

#[test]
fn properties_arrive_as_they_were_sealed() {
    let mut world = plant();
    let content = with_properties(&world);
    world.node("press").publish_content("gateway", TOPIC, content.clone());
    world.settle();
    // The broker's own properties do not reach the endpoint at all: what it has is what was sealed.
    assert_eq!(world.node("gateway").inbox()[0].content, content);
    let packet = world.broker.last_on(TOPIC);
    assert_unreadable(&packet);
    assert_all_flow(&mut world);
}

#[test]
fn the_sealed_expiry_holds_however_long_the_broker_keeps_the_message() {
    let mut world = plant();
    world.broker.withhold(TOPIC);
    let expires = Some(world.clock.wall().plus(Duration::from_secs(60)));
    world.node("press").publish_content("gateway", TOPIC, Content { expires, ..Content::telemetry("old") });
    world.node("press").publish("gateway", TOPIC, "no expiry");
    world.settle();
    let [expiring, lasting] = <[Vec<u8>; 2]>::try_from(world.broker.captured_on(TOPIC)).unwrap();
    world.advance(Duration::from_secs(61));
    world.broker.withhold_nothing();
    world.broker.inject(TOPIC, &expiring);
    world.broker.inject(TOPIC, &lasting);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["no expiry"]);
    assert_eq!(world.node("gateway").refused(RefusalReason::MessageExpired), 1);
    assert_refused(&mut world, TOPIC, &expiring, RefusalReason::Replayed);
    assert_all_flow(&mut world);
}

#[test]
fn in_a_session_too_what_was_sealed_counts() {
    let mut world = session_plant();
    let content = with_properties(&world);
    world.node("press").publish_content("gateway", TOPIC, content.clone());
    world.settle();
    assert_eq!(world.node("gateway").inbox().last().unwrap().content, content);
    let record = world.broker.last_on(TOPIC);
    assert!(record.len() < 150, "a record");
    assert_unreadable(&record);
    // The expiry holds however long the broker keeps it.
    let inbox = world.node("gateway").inbox().len();
    world.broker.withhold(TOPIC);
    world.node("press").publish_content("gateway", TOPIC, content);
    world.settle();
    let late = world.broker.last_on(TOPIC);
    world.advance(Duration::from_secs(61));
    world.broker.withhold_nothing();
    world.broker.deliver_to("gateway", TOPIC, &late);
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), inbox);
    assert_eq!(world.node("gateway").refused(RefusalReason::MessageExpired), 1);
    assert_all_in_sessions(&mut world);
}
