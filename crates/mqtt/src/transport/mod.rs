//! MQTT 5 and 3.1.1 behind one thin face.
//!
//! [`Transport::connect`] starts a background task that owns the connection, and returns a cloneable handle for
//! requests and the one [`Events`] stream. The task reconnects with jittered exponential backoff, renews every
//! subscription whenever the broker has lost the session, and acknowledges nothing by itself.
//!
//! Whoever takes [`Events`] must not wait for a publish to complete before taking the next event: with the inbound
//! queue full nothing more is read, the broker's acknowledgements included. Nothing else makes publishing and
//! receiving wait for each other.
//!
//! It authenticates nobody. Bodies above [`TransportOptions::max_packet`] never reach memory: they are discarded as
//! they arrive and reported as [`Event::Oversized`].

mod dial;
mod driver;
mod filter;
mod gate;
mod library;
mod link;
mod message;
mod options;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

pub use dial::TlsInfo;
pub use filter::DiscardReason;
pub use message::{AckToken, Inbound, Outbound, Properties, PublishError, SubscribeError};
pub use options::{
    BrokerUrl, ClientIdentity, Credentials, MAX_INFLIGHT, OptionsError, ProtocolVersion, Qos, TlsOptions,
    TransportOptions,
};

use library::Answer;
use link::Link;
use message::is_topic_filter;

/// What happens on the connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The broker accepted the connection.
    Connected {
        /// The broker still held this client's session.
        session_present: bool,
        /// The TLS handshake's result; `None` on plain TCP.
        tls: Option<TlsInfo>,
    },
    /// The connection was lost, or an attempt to connect failed. The transport tries again.
    Disconnected {
        /// Why.
        error: ConnectionError,
    },
    /// A message arrived.
    Message(Inbound),
    /// A message was discarded unread. Its acknowledgement is the caller's too, as acknowledgements leave in the order
    /// of arrival: some brokers (rumqttd) disconnect a client whose do not.
    Oversized {
        /// Its topic, cut at 1,024 bytes; what a topic name may not hold is replaced.
        topic: String,
        /// Size of the MQTT packet, bytes.
        size: u64,
        /// Why it was discarded.
        reason: DiscardReason,
        /// To acknowledge it by.
        token: AckToken,
    },
    /// The broker refused to renew a subscription after it had lost the session. The subscription is forgotten.
    SubscriptionRefused {
        /// The topic filter.
        filter: String,
        /// Why.
        error: SubscribeError,
    },
}

/// Why a connection was lost or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The broker refused the connection.
    #[error("the broker refused the connection: {reason}")]
    Refused {
        /// The broker's return code.
        reason: String,
    },
    /// Nobody listens where the URL points: TCP was refused. It may be that the broker only starts later.
    #[error("nothing listens there: {reason}")]
    NotListening {
        /// The system's words.
        reason: String,
    },
    /// Name resolution, TCP or TLS failed, or the connection was closed.
    #[error("{reason}")]
    Io {
        /// What failed.
        reason: String,
    },
    /// The broker says that another client connected under this client's identifier (MQTT 5, reason code 0x8E). Both
    /// will take each other's place for as long as both run.
    #[error(
        "another client connected with the client id `{client_id}`, so the broker ended this connection: give each a \
         client id of its own"
    )]
    TakenOver {
        /// This client's identifier.
        client_id: String,
    },
    /// The broker accepted the connection and ended it soon after, three times or more in a row. MQTT 3.1.1 has no
    /// word for why.
    #[error(
        "{reason}, soon after it was made and {times} times in a row: perhaps another client uses the client id \
         `{client_id}`, or the broker objects to something that is sent"
    )]
    Unstable {
        /// What was seen the last time.
        reason: String,
        /// How many times in a row.
        times: u32,
        /// This client's identifier.
        client_id: String,
    },
    /// The broker did not follow the protocol, or ended the connection with a reason.
    #[error("{reason}")]
    Protocol {
        /// What it did.
        reason: String,
    },
}

/// The events of one transport. Dropping it ends the transport at once, without DISCONNECT.
pub struct Events {
    events: mpsc::Receiver<Event>,
    gate: Arc<gate::Gate>,
}

impl Events {
    /// The next event; `None` once the transport is closed. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        if matches!(event, Some(Event::Message(_) | Event::Oversized { .. })) {
            self.gate.taken();
        }
        event
    }

    /// The next event, if there is one now.
    pub fn try_recv(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok();
        if matches!(event, Some(Event::Message(_) | Event::Oversized { .. })) {
            self.gate.taken();
        }
        event
    }
}

/// A handle to a connection that keeps itself alive.
#[derive(Clone)]
pub struct Transport {
    link: Arc<Link>,
}

impl Transport {
    /// Starts connecting in the background. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for options that no connection can be made with; a broker that cannot be reached is an
    /// [`Event::Disconnected`].
    pub fn connect(options: TransportOptions) -> Result<(Self, Events), OptionsError> {
        driver::start(options)
    }

    /// Publishes, after waiting for room in the publish queue.
    ///
    /// Messages published one after the other from one task are sent in that order.
    ///
    /// # Errors
    ///
    /// [`PublishError::TooLarge`], [`PublishError::Invalid`] or [`PublishError::Closed`], before anything is sent.
    pub async fn publish(&self, message: Outbound) -> Result<Completion, PublishError> {
        self.link.check(&message)?;
        let permit = self.link.publish_permit().await?;
        self.link.publish(message, permit)
    }

    /// As [`publish`](Self::publish), failing with [`PublishError::QueueFull`] instead of waiting.
    ///
    /// # Errors
    ///
    /// Any [`PublishError`] but `SessionLost` and `Refused`.
    pub fn try_publish(&self, message: Outbound) -> Result<Completion, PublishError> {
        self.link.check(&message)?;
        let permit = self.link.try_publish_permit()?;
        self.link.publish(message, permit)
    }

    /// Acknowledges a delivery. Does nothing for QoS 0 and for deliveries of an earlier connection, which the broker
    /// repeats. Never blocks.
    pub fn acknowledge(&self, token: AckToken) {
        self.link.acknowledge(std::iter::once(token));
    }

    /// Acknowledges several deliveries, in order.
    pub(crate) fn acknowledge_all(&self, tokens: impl Iterator<Item = AckToken>) {
        self.link.acknowledge(tokens);
    }

    /// Subscribes, and renews the subscription whenever the broker loses the session. Waits for the broker's answer,
    /// through reconnects if need be. Asking again for the same filter replaces the earlier subscription.
    ///
    /// Returns the QoS granted. Cancelling the future leaves the subscription in place.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Refused`] (the filter is then forgotten), [`SubscribeError::InvalidFilter`],
    /// [`SubscribeError::Closed`].
    pub async fn subscribe(&self, filter: impl Into<String>, qos: Qos) -> Result<Qos, SubscribeError> {
        let filter = filter.into();
        if !is_topic_filter(&filter) {
            return Err(SubscribeError::InvalidFilter);
        }
        Link::subscribe(&self.link, filter, qos).await
    }

    /// Ends a subscription; returns once the broker answered. Without a connection the subscription is only
    /// forgotten: a session that the broker kept goes on delivering.
    pub async fn unsubscribe(&self, filter: &str) {
        self.link.unsubscribe(filter).await;
    }

    /// Largest MQTT packet that [`publish`](Self::publish) accepts now, bytes: the configured limit or the broker's,
    /// whichever is lower.
    #[must_use]
    pub fn max_packet(&self) -> usize {
        self.link.max_packet()
    }

    /// Whether the broker has accepted the present connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Sends what is queued, waits for outstanding publishes for at most `timeout`, sends DISCONNECT and ends the
    /// transport. Acknowledgements handed in before the call are sent first.
    pub async fn close(&self, timeout: Duration) {
        self.link.close(timeout).await;
    }
}

/// The outcome of a publish: `Ok` once the broker has acknowledged it (QoS 1) or it was written (QoS 0).
///
/// Dropping it does not withdraw the message.
#[must_use = "a publish is not known to have arrived until its completion says so"]
pub struct Completion {
    answer: Option<(Answer<Result<(), PublishError>>, OwnedSemaphorePermit)>,
}

impl Future for Completion {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((answer, _)) = &mut self.answer else {
            return Poll::Ready(Err(PublishError::Closed));
        };
        let outcome = std::task::ready!(answer.as_mut().poll(cx));
        self.answer = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        // The message keeps its place in the queue until it is done with.
        if let (Some((answer, permit)), Ok(runtime)) =
            (self.answer.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                let _ = answer.await;
                drop(permit);
            });
        }
    }
}
