//! A broker that goes away while messages queue up: publishing says so in bounded time, and so does the shutdown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::Broker;
use common::plant::{Plant, peer};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_mqtt::client::PublishError;
use pqc_iiot_mqtt::transport::{self, ProtocolVersion};

#[tokio::test]
async fn a_full_queue_refuses_and_still_shuts_down() {
    let mut broker = Broker::mosquitto(&[]);
    let plant = Plant::new();
    let (gateway, press) = plant.pair(&broker, ProtocolVersion::V5).await;
    broker.kill();
    let topic = plant.topic("press/stalled");
    let mut queued = Vec::new();
    let refusal = loop {
        assert!(queued.len() < 2_000, "the broker is gone and the queue has no end");
        let content = Content::telemetry("late");
        match press.client.queue_encrypted(&topic, &peer("gateway"), StreamId::default(), content).await {
            Ok(delivery) => queued.push(delivery),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal, PublishError::Transport(transport::PublishError::QueueFull));
    assert!(press.client.status().await.is_some(), "a full queue still answers");
    let started = Instant::now();
    press.client.shutdown().await;
    gateway.client.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}
