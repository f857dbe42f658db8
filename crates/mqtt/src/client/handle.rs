//! The application's handle.

use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use pqc_iiot_core::endpoint::{
    Command, Effect, FollowedGroup, GroupStatus, InboxId, Obstacle, SendFailure, SessionStatus, Status,
    Ticket,
};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::topic::{Topic, TopicFilter};

pub(super) use super::publication::Sender;
use super::publication::{Delivery, Publication, delivery};
use crate::transport::{self, SubscribeError, Transport};

/// A client's cloneable handle. When the last one is dropped the client goes on; [`SecureMqttClient::shutdown`] ends it.
#[derive(Clone)]
pub struct SecureMqttClient {
    pub(super) peer_id: PeerId,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) work: mpsc::Sender<Work>,
    pub(super) transport: Transport,
    pub(super) consumed: mpsc::UnboundedSender<InboxId>,
}

/// How long a message waits for room in the queue.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// What is done in order, as there is room for it.
pub(super) enum Work {
    AddPeer(PeerId),
    Publish(Publication, Sender),
    Group(GroupWork, Sender),
    Consume { messages: Vec<InboxId>, effects: Vec<Effect>, done: oneshot::Sender<()> },
}

/// What concerns topic groups.
pub(super) enum GroupWork {
    Create(TopicFilter),
    Add(TopicFilter, PeerId),
    Remove(TopicFilter, PeerId),
    End(TopicFilter),
    Publish(Topic, Vec<u8>),
}

impl GroupWork {
    pub(super) fn into_command(self, ticket: Ticket) -> Command {
        match self {
            Self::Create(filter) => Command::CreateGroup { ticket, filter },
            Self::Add(filter, peer) => Command::AddSubscriber { ticket, filter, peer },
            Self::Remove(filter, peer) => Command::RemoveSubscriber { ticket, filter, peer },
            Self::End(filter) => Command::EndGroup { ticket, filter },
            Self::Publish(topic, payload) => Command::PublishTopic { ticket, topic, payload },
        }
    }
}

/// What a handle asks of the driver at any time.
pub(super) enum Request {
    Status(oneshot::Sender<ClientStatus>),
    Groups(oneshot::Sender<Vec<GroupStatus>>),
    Followed(oneshot::Sender<Vec<FollowedGroup>>),
    Sessions(Option<PeerId>, oneshot::Sender<Vec<SessionStatus>>),
    Obstacle(PeerId, TopicFilter, oneshot::Sender<Option<Obstacle>>),
    Row(Vec<u8>, oneshot::Sender<Option<Vec<u8>>>),
    Shutdown(oneshot::Sender<()>),
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It was not accepted, or was given up later.
    #[error(transparent)]
    Refused(#[from] SendFailure),
    /// No room within 5 seconds: the disk is full, or slower than the messages come.
    #[error("no room for the message within 5 seconds")]
    Busy,
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
    /// Why nothing becomes durable at present: the disk is full.
    pub store_waits: Option<String>,
    /// Deliveries not yet acknowledged to the broker.
    pub unacknowledged: usize,
    /// Packets the broker has not acknowledged.
    pub outgoing: usize,
    /// Deliveries at QoS 0, or oversized, dropped because the application did not take its events.
    pub dropped: u64,
}

impl SecureMqttClient {
    /// Our own id.
    pub fn peer_id(&self) -> &PeerId {
        &self.peer_id
    }

    /// Gets to know a peer: follows its announcement and prekeys. Needed before sending to it or hearing from it;
    /// [`Event::PeerReady`](pqc_iiot_core::endpoint::Event::PeerReady) says when it can be sent to.
    pub async fn add_peer(&self, peer: PeerId) -> Result<(), PublishError> {
        self.work(Work::AddPeer(peer)).await
    }

    /// Accepts `content` for `peer` on `topic`: once this returns, the message is on disk, and is sealed and sent until its
    /// receiver's receipt, through lost links, restarts of either side and brokers that forget. Await the [`Delivery`]
    /// to know of the receipt; dropping it withdraws nothing.
    ///
    /// While the disk is full it waits; [`ClientEvent::StoreWaits`](super::ClientEvent::StoreWaits) says so. The message may
    /// be accepted later although nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// [`PublishError::Busy`] if there was no room in the queue within 5 seconds: it is not accepted.
    /// [`PublishError::Refused`] says which condition is missing, before anything is sent.
    pub async fn publish_encrypted(
        &self,
        topic: &Topic,
        peer: &PeerId,
        content: Content,
    ) -> Result<Delivery, PublishError> {
        let mut delivery = self.queue(Publication::new(topic.clone(), peer.clone(), content)).await?;
        delivery.accepted().await?;
        Ok(delivery)
    }

    /// As [`SecureMqttClient::publish_encrypted`] without waiting for the disk, on the stream and in the manner that the
    /// publication says. Messages queued from one task are accepted in that order.
    ///
    /// # Errors
    ///
    /// [`PublishError::Busy`] if there was no room within 5 seconds; the delivery says whether it was accepted.
    pub async fn queue(&self, publication: Publication) -> Result<Delivery, PublishError> {
        let (sender, delivery) = delivery();
        self.work(Work::Publish(publication, sender)).await?;
        Ok(delivery)
    }

    /// As [`SecureMqttClient::queue`], of a durable message of normal priority.
    ///
    /// # Errors
    ///
    /// [`PublishError::Busy`] if there was no room within 5 seconds; the delivery says whether it was accepted.
    pub async fn queue_encrypted(
        &self,
        topic: &Topic,
        peer: &PeerId,
        stream: StreamId,
        content: Content,
    ) -> Result<Delivery, PublishError> {
        self.queue(Publication::new(topic.clone(), peer.clone(), content).stream(stream)).await
    }

    /// Has a topic group for the topics of `filter`: one record reaches all its members. Returns once it is on disk; one
    /// that is there already stays as it is.
    ///
    /// # Errors
    ///
    /// [`PublishError::Refused`] if our publish grants do not cover the filter, or another group's overlaps it.
    pub async fn create_group(&self, filter: TopicFilter) -> Result<(), PublishError> {
        self.group(GroupWork::Create(filter)).await
    }

    /// Makes a peer a member of a group of ours. Returns once that is on disk; it reads what is sealed after it was handed
    /// the key in its session.
    ///
    /// # Errors
    ///
    /// [`PublishError::Refused`] if there is no such group or peer, or its subscribe grants do not cover the filter.
    pub async fn add_subscriber(&self, filter: TopicFilter, peer: PeerId) -> Result<(), PublishError> {
        self.group(GroupWork::Add(filter, peer)).await
    }

    /// Ends a membership. Returns once that is on disk; the peer reads nothing that is sealed from now on.
    ///
    /// # Errors
    ///
    /// [`PublishError::Refused`] if there is no such group.
    pub async fn remove_subscriber(&self, filter: TopicFilter, peer: PeerId) -> Result<(), PublishError> {
        self.group(GroupWork::Remove(filter, peer)).await
    }

    /// Ends a group of ours: what was sent in it is sealed, its members are told, and everything of it is erased here and, once
    /// they know, there. Returns once that is on disk here. A client that is shut down at once tells nobody; its members forget
    /// the group by themselves after two days.
    ///
    /// # Errors
    ///
    /// [`PublishError::Refused`] if there is no such group.
    pub async fn end_group(&self, filter: TopicFilter) -> Result<(), PublishError> {
        self.group(GroupWork::End(filter)).await
    }

    /// Seals telemetry once for all members of the group whose filter matches `topic`, and hands it to the transport. No
    /// receipt follows, and nothing is kept: members get it as
    /// [`Event::GroupMessage`](pqc_iiot_core::endpoint::Event::GroupMessage) if the broker delivers it.
    ///
    /// # Errors
    ///
    /// [`PublishError::Refused`] says why it was not sealed; without a link it is not.
    pub async fn publish_topic(&self, topic: &Topic, payload: Vec<u8>) -> Result<(), PublishError> {
        self.group(GroupWork::Publish(topic.clone(), payload)).await
    }

    /// Our topic groups and who in them has the key; `None` once the client has ended.
    pub async fn groups(&self) -> Option<Vec<GroupStatus>> {
        let (answer, groups) = oneshot::channel();
        self.requests.send(Request::Groups(answer)).await.ok()?;
        groups.await.ok()
    }

    /// The group epochs of others that we read; `None` once the client has ended.
    pub async fn followed_groups(&self) -> Option<Vec<FollowedGroup>> {
        let (answer, groups) = oneshot::channel();
        self.requests.send(Request::Followed(answer)).await.ok()?;
        groups.await.ok()
    }

    /// The sessions with `peer`, or all; `None` once the client has ended.
    pub async fn sessions(&self, peer: Option<&PeerId>) -> Option<Vec<SessionStatus>> {
        let (answer, sessions) = oneshot::channel();
        self.requests.send(Request::Sessions(peer.cloned(), answer)).await.ok()?;
        sessions.await.ok()
    }

    async fn group(&self, work: GroupWork) -> Result<(), PublishError> {
        let (sender, mut done) = delivery();
        self.work(Work::Group(work, sender)).await?;
        done.accepted().await
    }

    /// Consumes messages, and changes the application's own rows in the same transaction: an application that keeps all
    /// it makes of a message in such rows sees every message exactly once. Returns once that is durable.
    pub async fn consume(&self, messages: Vec<InboxId>, effects: Vec<Effect>) -> Result<(), PublishError> {
        let (done, consumed) = oneshot::channel();
        self.work(Work::Consume { messages, effects, done }).await?;
        consumed.await.map_err(|_| PublishError::Closed)
    }

    /// Consumes a message without waiting until that is durable: of a process that dies meanwhile it comes again.
    pub fn consume_later(&self, message: InboxId) {
        // A client that has ended tells it again at its next start.
        let _ = self.consumed.send(message);
    }

    /// One of the application's own rows; `None` also once the client has ended.
    pub async fn application_row(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (answer, row) = oneshot::channel();
        self.requests.send(Request::Row(key.into(), answer)).await.ok()?;
        row.await.ok()?
    }

    async fn work(&self, work: Work) -> Result<(), PublishError> {
        // A timeout begins with a look at the clock.
        let work = match self.work.try_send(work) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(work)) => work,
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(PublishError::Closed),
        };
        self.work.send_timeout(work, QUEUE_WAIT).await.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => PublishError::Busy,
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

    /// Why nothing of `peer` can arrive on any topic of `filter` as things stand; `None` if something may, or if that is not
    /// known yet: of a peer that was stored, a first call has its certificate read.
    pub async fn obstacle(&self, peer: &PeerId, filter: &TopicFilter) -> Option<Obstacle> {
        let (answer, obstacle) = oneshot::channel();
        self.requests.send(Request::Obstacle(peer.clone(), filter.clone(), answer)).await.ok()?;
        obstacle.await.ok()?
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
