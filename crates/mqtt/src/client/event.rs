//! What a client tells its application.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use pqc_iiot_core::endpoint::{Event, InboxId};

use crate::transport::{ConnectionError, SubscribeError, TlsInfo};

/// Something the application may want to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The protocol's own events: messages, peers, refusals, revocations.
    Protocol(Event),
    /// Connected to the broker.
    Connected {
        /// The TLS handshake's result; `None` on plain TCP.
        tls: Option<TlsInfo>,
    },
    /// Not connected; the client tries again by itself.
    Disconnected {
        /// Why.
        error: ConnectionError,
    },
    /// The broker refused a subscription.
    SubscriptionRefused {
        /// The filter.
        filter: String,
        /// Why.
        error: SubscribeError,
    },
    /// The disk is full. Until there is room, nothing is accepted, told or acknowledged; nothing is lost. The client tries
    /// again by itself.
    StoreWaits {
        /// What there is no room for.
        reason: String,
    },
    /// There is room again, and what waited is on disk.
    StoreResumed,
    /// State or audit log could not be read or written. The client has stopped: nothing is sent or accepted that is not on
    /// disk, and nothing is known of what was being written. Open it again.
    StoreFailed {
        /// Why.
        reason: String,
    },
}

impl ClientEvent {
    /// Whether it is a message that the inbox keeps until it is consumed.
    pub(super) fn is_in_inbox(&self) -> bool {
        self.inbox_id().is_some()
    }

    fn inbox_id(&self) -> Option<InboxId> {
        match self {
            Self::Protocol(Event::Message(message)) => message.id,
            _ => None,
        }
    }
}

/// When a message counts as consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsumeMode {
    /// When the application asks for the next event: it is done with the one before. What it was working on when the
    /// process died comes again, with the same name.
    #[default]
    OnNext,
    /// When the application says so, with [`SecureMqttClient::consume`](super::SecureMqttClient::consume).
    Explicit,
}

/// What the application has in hand: shared between the driver and [`Events`].
#[derive(Default)]
pub(super) struct Taken {
    /// The message taken last and not consumed; 0 if none.
    last: AtomicU64,
    closing: AtomicBool,
}

impl Taken {
    pub(super) fn is_consumed(&self) -> bool {
        self.last.load(Ordering::Acquire) == 0
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

/// The events of one client, in order. Take them steadily: once 1,024 wait, no more deliveries are taken from the broker.
pub struct Events {
    events: mpsc::Receiver<ClientEvent>,
    /// Where consumed messages are told, in [`ConsumeMode::OnNext`].
    consumed: Option<mpsc::UnboundedSender<InboxId>>,
    taken: Arc<Taken>,
}

/// Events that wait for the application before deliveries stop.
pub(super) const EVENT_QUEUE: usize = 1024;

impl Events {
    pub(super) fn new(
        events: mpsc::Receiver<ClientEvent>,
        mode: ConsumeMode,
        consumed: mpsc::UnboundedSender<InboxId>,
    ) -> (Self, Arc<Taken>) {
        let taken = Arc::new(Taken::default());
        let consumed = (mode == ConsumeMode::OnNext).then_some(consumed);
        (Self { events, consumed, taken: Arc::clone(&taken) }, taken)
    }

    /// The next event; `None` once the client has closed. In [`ConsumeMode::OnNext`] it consumes the message before.
    /// Messages that a shutdown overtakes stay in the inbox for the next start. Cancel safe.
    pub async fn recv(&mut self) -> Option<ClientEvent> {
        self.done();
        loop {
            let event = self.events.recv().await?;
            if let Some(event) = self.take(event) {
                return Some(event);
            }
        }
    }

    /// As [`Events::recv`], if an event is there already.
    pub fn try_recv(&mut self) -> Option<ClientEvent> {
        self.done();
        loop {
            let event = self.events.try_recv().ok()?;
            if let Some(event) = self.take(event) {
                return Some(event);
            }
        }
    }

    fn take(&mut self, event: ClientEvent) -> Option<ClientEvent> {
        let id = event.inbox_id();
        if id.is_some() && self.taken.closing.load(Ordering::Acquire) {
            return None;
        }
        if let (Some(id), Some(_)) = (id, &self.consumed) {
            self.taken.last.store(id.0, Ordering::Release);
        }
        Some(event)
    }

    /// In [`ConsumeMode::OnNext`], consumes the message taken last without asking for another: before a shutdown, say.
    pub fn done(&mut self) {
        let last = self.taken.last.load(Ordering::Acquire);
        if let (Some(consumed), 1..) = (&self.consumed, last) {
            // The client may have ended: then the message comes again.
            let _ = consumed.send(InboxId(last));
            self.taken.last.store(0, Ordering::Release);
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Nobody will say any more whether the last one was done with: it comes again.
        self.taken.last.store(0, Ordering::Release);
    }
}
