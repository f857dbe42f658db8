//! What a client tells its application.

use tokio::sync::mpsc;

use pqc_iiot_core::endpoint::Event;

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
    /// State or audit log could not be written. The client has stopped: nothing is sent or accepted that is not on disk.
    StoreFailed {
        /// Why.
        reason: String,
    },
}

/// The events of one client, in order. Take them steadily: once 1,024 wait, no more deliveries are taken from the broker.
pub struct Events(pub(super) mpsc::Receiver<ClientEvent>);

/// Events that wait for the application before deliveries stop.
pub(super) const EVENT_QUEUE: usize = 1024;

impl Events {
    /// The next event; `None` once the client has closed. Cancel safe.
    pub async fn recv(&mut self) -> Option<ClientEvent> {
        self.0.recv().await
    }
}
