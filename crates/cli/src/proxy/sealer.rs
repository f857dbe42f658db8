//! From a local publish to sealed messages that are accepted.

use std::sync::Arc;

use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::topic::Topic;
use pqc_iiot_mqtt::client::{Delivery, SecureMqttClient};

use super::peers::Peers;
use super::refusal::Refusal;
use super::routes::Routes;

/// What a local client published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) topic: String,
    /// User property `peer`: overrides the routes.
    pub(super) peer: Option<String>,
    /// User property `stream`.
    pub(super) stream: Option<String>,
    pub(super) content: Content,
}

/// Seals what local clients publish.
pub(super) struct Sealer {
    client: SecureMqttClient,
    peers: Arc<Peers>,
    routes: Routes,
}

/// Sealed for each of its peers, and not yet known to be accepted.
pub(super) struct Handed(Vec<Delivery>);

impl Sealer {
    pub(super) fn new(client: SecureMqttClient, peers: Arc<Peers>, routes: Routes) -> Self {
        Self { client, peers, routes }
    }

    /// Hands the message over to the outbox, which keeps it until its peers can be reached. Messages handed over one after the other leave in that order.
    pub(super) async fn hand_over(&self, publication: Publication) -> Result<Handed, Refusal> {
        let Publication { topic, peer, stream, content } = publication;
        let topic = Topic::new(&topic).map_err(Refusal::Topic)?;
        let stream = stream_id(stream.as_deref())?;
        if !content.within_limits() {
            return Err(Refusal::Property);
        }
        let named;
        let peers = match peer {
            Some(peer) => {
                named = [PeerId::new(&peer).map_err(Refusal::Peer)?];
                named.as_slice()
            }
            None => self.routes.peers(topic.as_str()).ok_or(Refusal::NoRoute)?,
        };
        for peer in peers {
            self.peers.follow(peer).await?;
            // Once it was known, it need not be there: but a misspelt name must not fill the outbox.
            self.peers.ready(peer).await?;
        }
        let mut handed = Vec::with_capacity(peers.len());
        for peer in peers {
            let queued = self.client.queue_encrypted(&topic, peer, stream, content.clone()).await;
            handed.push(queued.map_err(Refusal::Publish)?);
        }
        Ok(Handed(handed))
    }
}

impl Handed {
    /// Waits until every peer's copy is accepted: only then may the local client forget the message.
    pub(super) async fn accepted(self) -> Result<(), Refusal> {
        for mut delivery in self.0 {
            // On disk, and sent until the peer's receipt.
            delivery.accepted().await.map_err(Refusal::Publish)?;
        }
        Ok(())
    }
}

fn stream_id(text: Option<&str>) -> Result<StreamId, Refusal> {
    match text {
        None => Ok(StreamId::default()),
        Some(text) => text.parse().ok().and_then(StreamId::new).ok_or(Refusal::Stream),
    }
}
