//! What goes into an endpoint.

use alloc::string::String;
use alloc::vec::Vec;

use crate::envelope::Content;
use crate::ids::{PeerId, StreamId};
use crate::provider::{ProviderFailure, ProviderResponse};
use crate::topic::Topic;

/// Names one delivery of the broker's, to be acknowledged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// Names one operation handed to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// Names one message of the application's on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something happened.
#[non_exhaustive]
pub enum Input {
    /// The broker delivered a publish.
    Receive {
        /// To acknowledge it by.
        delivery: DeliveryId,
        /// Its topic name, unchecked.
        topic: String,
        /// Its payload, unchecked.
        payload: Vec<u8>,
    },
    /// The transport discarded a publish that was over its packet limit.
    Oversized {
        /// To acknowledge it by.
        delivery: DeliveryId,
        /// Its topic name, possibly cut.
        topic: String,
    },
    /// The transport is connected; `session_present` as in CONNACK.
    Connected {
        /// Whether the broker kept our subscriptions.
        session_present: bool,
    },
    /// The application wants something.
    Command(Command),
    /// The time announced by [`Output::Timeout`](super::Output::Timeout) has come.
    Timeout,
    /// Everything up to this [`Output::Persist`](super::Output::Persist) is durable.
    Persisted(u64),
    /// The provider answered.
    Provided(OperationId, Result<ProviderResponse, ProviderFailure>),
}

/// What the application wants.
#[non_exhaustive]
pub enum Command {
    /// Get to know a peer: fetch and follow its announcement and prekeys.
    AddPeer(PeerId),
    /// Seal and publish a message.
    Publish(Publish),
    /// Write down what is pending; answered by [`Event::Closed`](super::Event::Closed).
    Shutdown,
}

/// A message to seal and publish.
pub struct Publish {
    /// Echoed in the outcome.
    pub ticket: Ticket,
    /// The recipient.
    pub peer: PeerId,
    /// Where to publish.
    pub topic: Topic,
    /// On which stream.
    pub stream: StreamId,
    /// What.
    pub content: Content,
}
