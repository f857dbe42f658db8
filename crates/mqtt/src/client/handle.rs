//! The application's handle.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use pqc_iiot_core::endpoint::{SendFailure, Status};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::topic::{Topic, TopicFilter};

use crate::transport::{self, SubscribeError, Transport};

/// A client's cloneable handle. When the last one is dropped the client goes on; [`SecureMqttClient::shutdown`] ends it.
#[derive(Clone)]
pub struct SecureMqttClient {
    pub(super) peer_id: PeerId,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) work: mpsc::Sender<Work>,
    pub(super) transport: Transport,
}

/// How long a message waits for room in the queue.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// What is done in order, as there is room for it.
pub(super) enum Work {
    AddPeer(PeerId),
    Publish {
        peer: PeerId,
        topic: Topic,
        stream: StreamId,
        content: Content,
        done: oneshot::Sender<Result<(), PublishError>>,
    },
}

/// What a handle asks of the driver at any time.
pub(super) enum Request {
    Status(oneshot::Sender<ClientStatus>),
    Shutdown(oneshot::Sender<()>),
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It was not sealed.
    #[error(transparent)]
    Refused(#[from] SendFailure),
    /// The transport did not take it.
    #[error(transparent)]
    Transport(#[from] transport::PublishError),
    /// The client has ended.
    #[error("the client has ended")]
    Closed,
}

/// A summary for people and metrics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientStatus {
    /// The protocol's part.
    pub endpoint: Status,
    /// Whether the broker has accepted the present connection.
    pub connected: bool,
    /// Deliveries not yet acknowledged to the broker.
    pub unacknowledged: usize,
    /// Messages sealed and not yet acknowledged by the broker.
    pub outgoing: usize,
    /// Deliveries at QoS 0, or oversized, dropped because the application did not take its events.
    pub dropped: u64,
}

/// The outcome of a queued message: `Ok` once the broker has acknowledged it. Dropping it does not withdraw the message.
#[must_use = "a message is not known to have reached the broker until its delivery says so"]
pub struct Delivery(oneshot::Receiver<Result<(), PublishError>>);

impl Future for Delivery {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|result| result.unwrap_or(Err(PublishError::Closed)))
    }
}

impl SecureMqttClient {
    /// Our own id.
    pub fn peer_id(&self) -> &PeerId {
        &self.peer_id
    }

    /// Gets to know a peer: follows its announcement and prekeys. Needed before sending to it or hearing from it;
    /// [`Event::PeerReady`](pqc_iiot_core::endpoint::Event::PeerReady) says when it can be sent to.
    pub async fn add_peer(&self, peer: PeerId) -> Result<(), PublishError> {
        self.queue(Work::AddPeer(peer)).await
    }

    /// Seals `content` to `peer`, publishes it on `topic` at QoS 1 and waits for the broker's acknowledgement.
    ///
    /// # Errors
    ///
    /// [`PublishError::Refused`] says which condition is missing, before anything is sent.
    pub async fn publish_encrypted(
        &self,
        topic: &Topic,
        peer: &PeerId,
        content: Content,
    ) -> Result<(), PublishError> {
        self.queue_encrypted(topic, peer, StreamId::default(), content).await?.await
    }

    /// As [`SecureMqttClient::publish_encrypted`], on a stream of choice and without waiting for the broker: returns
    /// once the message is queued. Messages queued from one task leave in that order.
    ///
    /// # Errors
    ///
    /// [`transport::PublishError::QueueFull`] if there was no room within 5 seconds: the broker is away, or slower than
    /// the messages come.
    pub async fn queue_encrypted(
        &self,
        topic: &Topic,
        peer: &PeerId,
        stream: StreamId,
        content: Content,
    ) -> Result<Delivery, PublishError> {
        let (done, delivery) = oneshot::channel();
        self.queue(Work::Publish { peer: peer.clone(), topic: topic.clone(), stream, content, done }).await?;
        Ok(Delivery(delivery))
    }

    async fn queue(&self, work: Work) -> Result<(), PublishError> {
        self.work.send_timeout(work, QUEUE_WAIT).await.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => transport::PublishError::QueueFull.into(),
            mpsc::error::SendTimeoutError::Closed(_) => PublishError::Closed,
        })
    }

    /// Subscribes at QoS 1; messages arrive as [`Event::Message`](pqc_iiot_core::endpoint::Event::Message), from peers
    /// that were added. Renewed whenever the broker loses the session.
    pub async fn subscribe(&self, filter: &TopicFilter) -> Result<(), SubscribeError> {
        self.transport.subscribe(filter.as_str(), transport::Qos::AtLeastOnce).await.map(|_| ())
    }

    /// Ends a subscription.
    pub async fn unsubscribe(&self, filter: &TopicFilter) {
        self.transport.unsubscribe(filter.as_str()).await;
    }

    /// A summary; `None` once the client has ended.
    pub async fn status(&self) -> Option<ClientStatus> {
        let (answer, status) = oneshot::channel();
        self.requests.send(Request::Status(answer)).await.ok()?;
        status.await.ok()
    }

    /// Writes down everything pending, waits briefly for outstanding acknowledgements, disconnects and ends the client.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.requests.send(Request::Shutdown(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}
