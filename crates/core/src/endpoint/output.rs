//! What comes out of an endpoint.

use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

use super::input::{DeliveryId, OperationId, Ticket};
use super::refusal::RefusalReason;
use crate::audit::AuditEvent;
use crate::envelope::Content;
use crate::ids::{PeerId, StreamId};
use crate::provider::ProviderRequest;
use crate::store::Change;
use crate::time::Monotonic;

/// Something to do. What depends on a `Persist` comes out only after its `Persisted`.
#[non_exhaustive]
pub enum Output {
    /// Make `audit` durable, then `changes` in one transaction; answer [`Input::Persisted`](super::Input::Persisted).
    Persist {
        /// Rises by one with each.
        seq: u64,
        /// Rows to change together.
        changes: Vec<Change>,
        /// Entries for the audit log, written before the changes.
        audit: Vec<AuditEvent>,
    },
    /// Run a provider operation; answer [`Input::Provided`](super::Input::Provided).
    Provider(OperationId, ProviderRequest),
    /// Publish at QoS 1.
    Transmit(Transmit),
    /// Subscribe, and resubscribe whenever the broker forgot us.
    Subscribe(String),
    /// Have the broker send the retained messages of a subscribed filter again.
    Refetch(String),
    /// Acknowledge a delivery to the broker.
    Acknowledge(DeliveryId),
    /// Tell the application.
    Event(Event),
    /// Call with [`Input::Timeout`](super::Input::Timeout) at this time; replaces the earlier one.
    Timeout(Monotonic),
}

/// A publish.
pub struct Transmit {
    /// The application's message it carries, if any.
    pub ticket: Option<Ticket>,
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
}

/// Something the application may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message arrived: authentic, fresh, permitted.
    Message(Message),
    /// A peer can be sent to and heard.
    PeerReady {
        /// Which.
        peer: PeerId,
        /// Whether messages to it use a prekey; without one they are not forward secret.
        forward_secret: bool,
    },
    /// A peer's trust ended at once.
    PeerLost {
        /// Which.
        peer: PeerId,
        /// Why.
        reason: PeerLoss,
    },
    /// Something was refused.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// The peer it claims to come from, if we know it.
        peer: Option<PeerId>,
    },
    /// A message of the application's was not sealed.
    SendFailed {
        /// Which.
        ticket: Ticket,
        /// Why.
        reason: SendFailure,
    },
    /// Revocations up to `seq` are in force.
    Revocations {
        /// The chain position.
        seq: u64,
        /// How many are revoked.
        entries: usize,
    },
    /// Revocations are missing; high-risk operations hold until they are fetched.
    RevocationsBehind,
    /// Our own keys were revoked.
    SelfRevoked,
    /// New trust anchors are in force.
    Anchors {
        /// Their version.
        version: u64,
    },
    /// The operating system's clock is behind the durable floor; validity is judged at the floor.
    ClockBehindFloor,
    /// Everything pending is written; the answer to [`Command::Shutdown`](super::Command::Shutdown).
    Closed,
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The verified sender.
    pub peer: PeerId,
    /// The topic it was sealed for.
    pub topic: String,
    /// Its stream.
    pub stream: StreamId,
    /// Its sequence on that stream: with `peer` and `stream` a stable name.
    pub sequence: u64,
    /// What it says.
    pub content: Content,
}

/// Why a peer's trust ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerLoss {
    /// Its keys were revoked.
    Revoked,
    /// Its issuer is no longer appointed.
    IssuerDropped,
}

/// Why a message was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// Nobody asked for this peer.
    #[error("unknown peer: add it first")]
    UnknownPeer,
    /// Its announcement has not arrived or was refused.
    #[error("the peer has no accepted certificate yet")]
    NotReady,
    /// It requires a prekey, and offers no valid one.
    #[error("the peer requires a prekey and no valid one is known")]
    NoPrekey,
    /// It was revoked.
    #[error("the peer is revoked")]
    Revoked,
    /// Its certificate, or ours, is outside its validity.
    #[error("a certificate is outside its validity")]
    Expired,
    /// Our certificate does not let us publish there, or the peer's does not let it read there.
    #[error("no grant: this topic is outside our publish grants or the peer's subscribe grants")]
    NoGrant,
    /// The topic is one of the protocol's own.
    #[error("this topic belongs to the protocol")]
    ControlTopic,
    /// No suite is allowed by both sides.
    #[error("no suite is allowed by both sides")]
    Suite,
    /// Over the message limit.
    #[error("the message is over the size limit")]
    TooLarge,
    /// Commands need a session.
    #[error("commands are never sent in envelopes")]
    Command,
    /// The provider or the cipher failed.
    #[error("sealing failed")]
    Sealing,
    /// Our own identity was revoked, or we are shutting down.
    #[error("this endpoint no longer sends")]
    Closed,
}
