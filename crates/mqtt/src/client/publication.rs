//! A message on its way in, and what becomes of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use pqc_iiot_core::endpoint::{Durability, Effect, Priority, Publish, Ticket};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::topic::Topic;

use super::handle::PublishError;

/// A message and how it is to be delivered.
#[derive(Debug, Clone)]
pub struct Publication {
    topic: Topic,
    peer: PeerId,
    content: Content,
    stream: StreamId,
    durability: Durability,
    priority: Priority,
    effects: Vec<Effect>,
}

impl Publication {
    /// Durable, of normal priority, on stream 0.
    pub fn new(topic: Topic, peer: PeerId, content: Content) -> Self {
        Self {
            topic,
            peer,
            content,
            stream: StreamId::default(),
            durability: Durability::Durable,
            priority: Priority::Normal,
            effects: Vec::new(),
        }
    }

    /// On another stream, 0 to 6: each has its own order and its own window of 48 messages under way.
    #[must_use]
    pub fn stream(self, stream: StreamId) -> Self {
        Self { stream, ..self }
    }

    /// Sent once, at QoS 0, without outbox and receipt; the receiver is told of gaps. Best on a stream of its own.
    #[must_use]
    pub fn volatile(self) -> Self {
        Self { durability: Durability::Volatile, ..self }
    }

    /// May use the outbox's reserve, and is never dropped for newer messages.
    #[must_use]
    pub fn high_priority(self) -> Self {
        Self { priority: Priority::High, ..self }
    }

    /// Changes the application's own rows in the transaction that accepts the message: an application that notes there
    /// which message was its last, and reads that at its start, hands none over twice and leaves none out. Nothing
    /// changes if the message is refused, nor with a volatile one.
    #[must_use]
    pub fn effects(self, effects: Vec<Effect>) -> Self {
        Self { effects, ..self }
    }

    pub(super) fn into_publish(self, ticket: Ticket) -> Publish {
        let Self { topic, peer, content, stream, durability, priority, effects } = self;
        Publish { ticket, peer, topic, stream, content, durability, priority, effects }
    }
}

type Outcome = Result<(), PublishError>;

/// What becomes of a message: resolves once its receiver confirmed it, or once it was given up. A volatile message counts as
/// confirmed once it left. Dropping a delivery withdraws nothing.
pub struct Delivery {
    accepted: Option<oneshot::Receiver<Outcome>>,
    confirmed: oneshot::Receiver<Outcome>,
}

/// The driver's end of a [`Delivery`].
pub(super) struct Sender {
    accepted: Option<oneshot::Sender<Outcome>>,
    confirmed: oneshot::Sender<Outcome>,
}

pub(super) fn delivery() -> (Sender, Delivery) {
    let (accept, accepted) = oneshot::channel();
    let (confirm, confirmed) = oneshot::channel();
    let sender = Sender { accepted: Some(accept), confirmed: confirm };
    (sender, Delivery { accepted: Some(accepted), confirmed })
}

impl Sender {
    pub(super) fn accept(&mut self) {
        if let Some(accepted) = self.accepted.take() {
            let _ = accepted.send(Ok(()));
        }
    }

    pub(super) fn finish(mut self, outcome: Outcome) {
        if let Some(accepted) = self.accepted.take() {
            let _ = accepted.send(outcome.clone());
        }
        let _ = self.confirmed.send(outcome);
    }
}

impl Delivery {
    /// Resolves once the message is in the outbox, on disk. Later calls return at once. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why it was not accepted.
    pub async fn accepted(&mut self) -> Outcome {
        let Some(accepted) = &mut self.accepted else { return Ok(()) };
        let outcome = accepted.await.unwrap_or(Err(PublishError::Closed));
        self.accepted = None;
        outcome
    }
}

impl Future for Delivery {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.confirmed).poll(context).map(|result| result.unwrap_or(Err(PublishError::Closed)))
    }
}
