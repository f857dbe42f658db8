//! A broker that goes away while messages queue up: the outbox takes them up to its bound, and the shutdown waits for nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::Broker;
use common::plant::{Plant, peer};
use pqc_iiot_core::endpoint::SendFailure;
use pqc_iiot_core::envelope::Content;
use pqc_iiot_mqtt::client::PublishError;
use pqc_iiot_mqtt::transport::ProtocolVersion;

#[tokio::test]
async fn a_full_outbox_refuses_and_still_shuts_down() {
    let mut broker = Broker::mosquitto(&[]);
    let plant = Plant::new();
    let (gateway, press) = plant.pair(&broker, ProtocolVersion::V5).await;
    press.shutdown().await;
    let press = plant
        .open_with("press", &["gateway"], &broker, ProtocolVersion::V5, |config| {
            config.endpoint.delivery.outbox_bytes = 64 * 1024;
        })
        .await;
    broker.kill();
    let topic = plant.topic("press/stalled");
    let mut accepted = 0;
    let refusal = loop {
        assert!(accepted < 1_000, "the broker is gone and the outbox has no end");
        match press.client.publish_encrypted(&topic, &peer("gateway"), Content::telemetry("late")).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refusal, PublishError::Refused(SendFailure::OutboxShare));
    let status = press.client.status().await.expect("a full outbox still answers");
    assert_eq!(status.endpoint.outbox.messages, accepted);
    let started = Instant::now();
    press.client.shutdown().await;
    gateway.client.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}
