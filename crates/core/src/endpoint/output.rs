//! What comes out of an endpoint.

use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

use super::input::{DeliveryId, InboxId, OperationId, OutboxId, Ticket};
use super::refusal::RefusalReason;
use crate::audit::AuditEvent;
use crate::delivery::{LossReason, Origin};
use crate::envelope::Content;
use crate::ids::{PeerId, StreamId};
use crate::provider::ProviderRequest;
use crate::store::{Change, RowKey};
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
    /// Read these rows; answer [`Input::Loaded`](super::Input::Loaded). Every `Persist` that came out before must be
    /// visible in the answer; a later one may be.
    Load(OperationId, Vec<RowKey>),
    /// Publish.
    Transmit(Transmit),
    /// Drop whatever to this peer has not left yet: nothing may be sent to it any more.
    Withdraw(PeerId),
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
    /// What it carries: of two with the same purpose the newer replaces the older, if that has not left yet.
    pub purpose: Purpose,
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
}

impl Transmit {
    /// Whether the broker is to acknowledge it (QoS 1). What is not acknowledged (QoS 0) is dropped while the link is down.
    pub fn acknowledged(&self) -> bool {
        matches!(self.purpose, Purpose::Own | Purpose::Message { .. })
    }
}

/// What a publish carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Our announcement or prekeys: per topic.
    Own,
    /// A message of the outbox.
    Message {
        /// Its receiver.
        peer: PeerId,
        /// Which.
        id: OutboxId,
    },
    /// A receipt.
    Receipt(PeerId),
    /// A volatile message.
    Volatile {
        /// Its receiver.
        peer: PeerId,
        /// Which.
        ticket: Ticket,
    },
}

impl Purpose {
    /// Whom it is for, if it is for one.
    pub fn peer(&self) -> Option<&PeerId> {
        match self {
            Self::Own => None,
            Self::Message { peer, .. } | Self::Receipt(peer) | Self::Volatile { peer, .. } => Some(peer),
        }
    }
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
    /// A message of the application's is in the outbox, durably; or, if it is volatile, on its way.
    Accepted {
        /// Which.
        ticket: Ticket,
        /// Whether a receipt will follow.
        durable: bool,
    },
    /// A receiver confirmed messages: it has them durably.
    Delivered {
        /// The receiver.
        peer: PeerId,
        /// On which stream.
        stream: StreamId,
        /// How many.
        count: usize,
        /// Those of them that were accepted in this start.
        tickets: Vec<Ticket>,
    },
    /// Messages are lost, exactly this many.
    Lost {
        /// The other side.
        peer: PeerId,
        /// On which stream.
        stream: StreamId,
        /// How many.
        count: u64,
        /// Why.
        reason: LossReason,
        /// Whether they were ours to the peer, or the peer's to us.
        outgoing: bool,
    },
    /// The receiver saw newer messages of ours than we know of: our state is an older copy. What waits is sealed anew,
    /// and nothing more is needed; but somebody restored a disk.
    RolledBack {
        /// Who saw them.
        peer: PeerId,
        /// On which stream.
        stream: StreamId,
    },
    /// [`Command::Consume`](super::Command::Consume) is durable.
    Consumed {
        /// Which.
        ticket: Ticket,
    },
    /// A message of the application's was not accepted, or was given up.
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
    /// Its envelope's sequence on that stream; it changes when a message is sealed again.
    pub sequence: u64,
    /// The name its sender gave it, the same through all retransmissions; `None` if it is not followed.
    pub origin: Option<Origin>,
    /// To consume it by; `None` if it is volatile, and gone once told.
    pub id: Option<InboxId>,
    /// Whether it was told in an earlier start and not consumed.
    pub redelivered: bool,
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
    /// Volatile, and its announcement has not arrived or was refused.
    #[error("the peer has no accepted certificate yet")]
    NotReady,
    /// Too many messages wait for their recipients' certificates to be loaded.
    #[error("too many messages wait for their recipients' certificates to be loaded")]
    Busy,
    /// Volatile, and it requires a prekey and offers no valid one.
    #[error("the peer requires a prekey and no valid one is known")]
    NoPrekey,
    /// Volatile, and there is no link.
    #[error("not connected to the broker")]
    Offline,
    /// Volatile, and messages before it are without receipt.
    #[error("too many messages of this stream are under way")]
    Window,
    /// The outbox is full.
    #[error("the outbox is full")]
    OutboxFull,
    /// It was accepted, and later given up.
    #[error("given up: {0}")]
    Lost(LossReason),
    /// Stream 7 is the protocol's own.
    #[error("stream 7 is the protocol's own; use 0 to 6")]
    ControlStream,
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
