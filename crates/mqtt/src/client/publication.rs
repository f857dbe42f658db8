//! A message on its way in, and what becomes of it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

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
pub struct Delivery(Arc<Mutex<Told>>);

/// The driver's end of a [`Delivery`].
pub(super) struct Sender(Arc<Mutex<Told>>);

/// One place for both outcomes: every message has one.
#[derive(Default)]
struct Told {
    accepted: Option<Outcome>,
    confirmed: Option<Outcome>,
    waiting: Option<Waiting>,
}

struct Waiting {
    /// For the acceptance, and not for the receipt.
    acceptance: bool,
    waker: Waker,
}

pub(super) fn delivery() -> (Sender, Delivery) {
    let told = Arc::new(Mutex::default());
    (Sender(Arc::clone(&told)), Delivery(told))
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    pub(super) fn accept(&mut self) {
        let mut told = lock(&self.0);
        told.accepted.get_or_insert(Ok(()));
        let waiting = told.waiting.take_if(|waiting| waiting.acceptance);
        drop(told);
        if let Some(Waiting { waker, .. }) = waiting {
            waker.wake();
        }
    }

    pub(super) fn finish(self, outcome: Outcome) {
        self.tell(outcome);
    }

    /// The first outcome stands.
    fn tell(&self, outcome: Outcome) {
        let mut told = lock(&self.0);
        if told.confirmed.is_some() {
            return;
        }
        told.accepted.get_or_insert_with(|| outcome.clone());
        told.confirmed = Some(outcome);
        let waiting = told.waiting.take();
        drop(told);
        if let Some(Waiting { waker, .. }) = waiting {
            waker.wake();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.tell(Err(PublishError::Closed));
    }
}

impl Told {
    fn poll(&mut self, acceptance: bool, context: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = if acceptance { &self.accepted } else { &self.confirmed };
        if let Some(outcome) = outcome {
            return Poll::Ready(outcome.clone());
        }
        self.waiting = Some(Waiting { acceptance, waker: context.waker().clone() });
        Poll::Pending
    }
}

impl Delivery {
    /// Resolves once the message is in the outbox, on disk. Later calls return at once. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why it was not accepted.
    pub async fn accepted(&mut self) -> Outcome {
        std::future::poll_fn(|context| lock(&self.0).poll(true, context)).await
    }
}

impl Future for Delivery {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        lock(&self.0).poll(false, context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_is_woken_by_what_it_waits_for_alone() {
        let (mut sender, mut delivery) = delivery();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let woken = || count.0.load(Ordering::SeqCst);
        assert!(Pin::new(&mut delivery).poll(&mut context).is_pending());
        sender.accept();
        assert_eq!(woken(), 0, "it waits for the receipt");
        assert_eq!(std::pin::pin!(delivery.accepted()).poll(&mut context), Poll::Ready(Ok(())));
        sender.finish(Ok(()));
        assert_eq!(woken(), 1);
        assert_eq!(Pin::new(&mut delivery).poll(&mut context), Poll::Ready(Ok(())));
    }

    #[test]
    fn what_nobody_will_finish_is_closed_and_what_was_accepted_stays_so() {
        let closed = Poll::Ready(Err(PublishError::Closed));
        let mut context = Context::from_waker(Waker::noop());
        let (sender, mut unheard) = delivery();
        drop(sender);
        assert_eq!(std::pin::pin!(unheard.accepted()).poll(&mut context), closed);
        assert_eq!(Pin::new(&mut unheard).poll(&mut context), closed);
        let (mut sender, mut accepted) = delivery();
        sender.accept();
        drop(sender);
        assert_eq!(std::pin::pin!(accepted.accepted()).poll(&mut context), Poll::Ready(Ok(())));
        assert_eq!(Pin::new(&mut accepted).poll(&mut context), closed);
    }
}
