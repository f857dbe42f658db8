//! An honest device of the demo.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pqc_iiot_core::endpoint::Event;
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::topic::Topic;
use pqc_iiot_mqtt::client::{ClientEvent, Delivery, Events, PublishError, SecureMqttClient};

use crate::error::{CliError, ErrorKind, Result};

/// A device's client, and whether the gateway is ready to be sent to.
#[derive(Clone)]
pub(super) struct Device {
    client: SecureMqttClient,
    gateway: PeerId,
    ready: Arc<AtomicBool>,
}

impl Device {
    pub(super) async fn start(client: SecureMqttClient, mut events: Events, gateway: PeerId) -> Result<Self> {
        client.add_peer(gateway.clone()).await.map_err(publish_failed)?;
        let device = Self { client, gateway, ready: Arc::default() };
        let (ready, to) = (device.ready.clone(), device.gateway.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let ClientEvent::Protocol(Event::PeerReady { peer, .. }) = event
                    && peer == to
                {
                    ready.store(true, Ordering::Release);
                }
            }
        });
        Ok(device)
    }

    pub(super) fn id(&self) -> &PeerId {
        self.client.peer_id()
    }

    /// Its client, for what is not for the gateway.
    pub(super) fn client(&self) -> &SecureMqttClient {
        &self.client
    }

    pub(super) fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(super) async fn publish(&self, topic: &Topic, content: Content) -> Result<()> {
        let accepted = self.client.publish_encrypted(topic, &self.gateway, content).await;
        accepted.map(|_| ()).map_err(publish_failed)
    }

    pub(super) async fn queue(&self, topic: &Topic, stream: StreamId, content: Content) -> Result<Delivery> {
        self.client.queue_encrypted(topic, &self.gateway, stream, content).await.map_err(publish_failed)
    }

    pub(super) async fn close(self) {
        self.client.shutdown().await;
    }
}

pub(super) fn publish_failed(error: PublishError) -> CliError {
    CliError::new(ErrorKind::Failed, "a message was not published").because(error)
}

/// Polls `done` until it holds.
pub(super) async fn wait_until(what: &str, patience: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let until = tokio::time::Instant::now() + patience;
    while !done() {
        if tokio::time::Instant::now() >= until {
            let why = format!("waited {} s for {what}", patience.as_secs());
            return Err(CliError::new(ErrorKind::Broker, "the demo does not get on").because(why).fix(
                "check that the broker accepts connections and lets these clients publish: pqc-iiot doctor",
            ));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
