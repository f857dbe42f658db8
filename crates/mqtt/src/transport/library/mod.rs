//! The two versions of the MQTT library behind one face.

mod v311;
mod v5;

use std::pin::Pin;
use std::sync::Arc;

use super::dial::Dialer;
use super::filter::{Filter, Marker};
use super::gate::Gate;
use super::message::{Outbound, Properties, PublishError, SubscribeError};
use super::options::{ProtocolVersion, Qos, TransportOptions};
use super::stream::FilteredStream;
use super::{ConnectionError, TlsInfo};
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};

/// How many waiting packets go to the socket in one write: the library's own default is a system call for each.
const REQUEST_BATCH: usize = 64;

/// A boxed future of the library's answer.
pub(super) type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What every connection attempt needs.
pub(super) struct Connector {
    pub(super) dialer: Dialer,
    pub(super) gate: Arc<Gate>,
    pub(super) marker: Marker,
    pub(super) version: ProtocolVersion,
    pub(super) limit: usize,
    /// What the latest TLS handshake agreed on.
    pub(super) tls: Mutex<Option<TlsInfo>>,
}

impl Connector {
    async fn connect(&self) -> std::io::Result<FilteredStream> {
        let (socket, tls) = self.dialer.dial().await?;
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = tls;
        let filter = Filter::new(self.version, self.limit, self.marker);
        Ok(FilteredStream::new(socket, filter, Arc::clone(&self.gate)))
    }
}

/// Requests to the library.
#[derive(Clone)]
pub(super) enum Client {
    V5(v5::Client),
    V311(v311::Client),
}

/// Drives the library.
#[expect(clippy::large_enum_variant, reason = "one per transport")]
pub(super) enum EventLoop {
    V5(v5::EventLoop),
    V311(v311::EventLoop),
}

/// What the library reports.
#[expect(clippy::large_enum_variant, reason = "moved once, and most often a message")]
pub(super) enum Polled {
    Connected {
        session_present: bool,
        /// The broker's Maximum Packet Size.
        limit: Option<u32>,
    },
    Received(Received),
    Other,
}

/// A received PUBLISH.
pub(super) struct Received {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) duplicate: bool,
    pub(super) properties: Properties,
    pub(super) packet_id: u16,
    pub(super) ack: Option<Ack>,
}

/// An acknowledgement to send; `None` in [`Received`] for QoS 0.
pub(super) enum Ack {
    V5(rumqttc_v5::ManualAck),
    V311(rumqttc_v4::ManualAck),
}

/// Why polling ended.
pub(super) enum Failure {
    /// Closed on our own request.
    Closed,
    /// The connection was lost, or an attempt failed; polling again reconnects.
    Connection(ConnectionError),
    /// As `Connection`: another client has this one's identifier, says the broker.
    TakenOver,
    /// As `Connection`, and the library's session state would make every further attempt fail the same way.
    Session(ConnectionError),
}

/// The library's request queue is full or gone.
pub(super) struct NotQueued<T>(pub(super) Option<T>);

pub(super) fn build(options: &TransportOptions, connector: Arc<Connector>) -> (Client, EventLoop) {
    match options.version {
        ProtocolVersion::V5 => {
            let (client, event_loop) = v5::build(options, connector);
            (Client::V5(client), EventLoop::V5(event_loop))
        }
        ProtocolVersion::V311 => {
            let (client, event_loop) = v311::build(options, connector);
            (Client::V311(client), EventLoop::V311(event_loop))
        }
    }
}

/// Requests that the library queues at most: publishes, and apart from them acknowledgements and subscriptions.
fn request_capacity(options: &TransportOptions) -> usize {
    options.publish_queue.max(256)
}

/// Largest packet the library itself accepts. The filter keeps out every larger PUBLISH, so only a broker that
/// breaks the protocol reaches it.
fn library_limit(options: &TransportOptions) -> u32 {
    options.max_packet
}

/// Size of the PUBLISH packet for `message`, bytes.
pub(super) fn packet_size(version: ProtocolVersion, message: &Outbound) -> usize {
    match version {
        ProtocolVersion::V5 => v5::packet_size(message),
        ProtocolVersion::V311 => v311::packet_size(message),
    }
}

/// What the system or TLS said.
fn io_failure(error: &std::io::Error) -> Failure {
    let reason = error.to_string();
    Failure::Connection(match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ConnectionError::NotListening { reason },
        _ => ConnectionError::Io { reason },
    })
}

impl Client {
    /// Queues a publish; the answer comes when the broker acknowledged it (QoS 1) or it was written (QoS 0).
    pub(super) fn publish(
        &self,
        message: Outbound,
    ) -> Result<Answer<Result<(), PublishError>>, NotQueued<()>> {
        match self {
            Self::V5(client) => client.publish(message),
            Self::V311(client) => client.publish(message),
        }
    }

    pub(super) fn acknowledge(&self, ack: Ack) -> Result<(), NotQueued<Ack>> {
        match (self, ack) {
            (Self::V5(client), Ack::V5(ack)) => client.acknowledge(ack),
            (Self::V311(client), Ack::V311(ack)) => client.acknowledge(ack),
            // A token from another transport.
            _ => Ok(()),
        }
    }

    /// `None` when the session ended first.
    pub(super) async fn subscribe(&self, filter: String, qos: Qos) -> Option<Result<Qos, SubscribeError>> {
        match self {
            Self::V5(client) => client.subscribe(filter, qos).await,
            Self::V311(client) => client.subscribe(filter, qos).await,
        }
    }

    /// `None` when the session ended first.
    pub(super) async fn unsubscribe(&self, filter: String) -> Option<()> {
        match self {
            Self::V5(client) => client.unsubscribe(filter).await,
            Self::V311(client) => client.unsubscribe(filter).await,
        }
    }

    /// Asks for DISCONNECT once everything outgoing is acknowledged, or after `timeout`.
    pub(super) async fn disconnect(&self, timeout: std::time::Duration) {
        match self {
            Self::V5(client) => client.disconnect(timeout).await,
            Self::V311(client) => client.disconnect(timeout).await,
        }
    }
}

impl EventLoop {
    pub(super) async fn poll(&mut self) -> Result<Polled, Failure> {
        match self {
            Self::V5(event_loop) => event_loop.poll().await,
            Self::V311(event_loop) => event_loop.poll().await,
        }
    }

    /// Drops queued acknowledgements of the lost connection; keeps publishes for the next one.
    pub(super) fn clean(&mut self) {
        match self {
            Self::V5(event_loop) => event_loop.clean(),
            Self::V311(event_loop) => event_loop.clean(),
        }
    }
}
