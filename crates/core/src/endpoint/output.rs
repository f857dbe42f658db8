//! What comes out of an endpoint.

use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

use super::input::{DeliveryId, InboxId, OperationId, OutboxId, Ticket};
use super::refusal::RefusalReason;
use crate::audit::AuditEvent;
use crate::delivery::{LossReason, Origin};
use crate::envelope::Content;
use crate::group::MessageName;
use crate::ids::{GroupId, PeerId, StreamId};
use crate::provider::ProviderRequest;
use crate::store::{Change, RecordKind, RowKey};
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
        matches!(
            self.purpose,
            Purpose::Own | Purpose::Message { .. } | Purpose::Handshake { .. } | Purpose::Group(_)
        )
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
    /// A step of a handshake: m1, or its answer.
    Handshake {
        /// With whom.
        peer: PeerId,
        /// Whether it is the answer.
        answer: bool,
    },
    /// What an end of a session tells the other.
    Session {
        /// The other end.
        peer: PeerId,
        /// The record's epoch.
        epoch: u16,
        /// The record's counter.
        counter: u32,
    },
    /// A volatile message.
    Volatile {
        /// Its receiver.
        peer: PeerId,
        /// Which.
        ticket: Ticket,
    },
    /// A record of a topic group, or a seal over some: no two have the same number in one start.
    Group(u64),
}

impl Purpose {
    /// Whom it is for, if it is for one.
    pub fn peer(&self) -> Option<&PeerId> {
        match self {
            Self::Own | Self::Group(_) => None,
            Self::Message { peer, .. }
            | Self::Receipt(peer)
            | Self::Handshake { peer, .. }
            | Self::Session { peer, .. }
            | Self::Volatile { peer, .. } => Some(peer),
        }
    }
}

/// Something the application may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message arrived: authentic, fresh, permitted.
    Message(Message),
    /// A message to a topic group of the peer's. Unless it is `verified`, it says that *some* member of the group made it:
    /// for display and logs, never for control. Told once per start; after a restart once more, if it is delivered again
    /// and no seal decided it before. There is nothing to consume.
    GroupMessage {
        /// The publisher whose group it is.
        peer: PeerId,
        /// Its topic.
        topic: String,
        /// What it says: telemetry.
        payload: Vec<u8>,
        /// Its name, for [`Event::GroupVerified`].
        name: MessageName,
        /// Whether the publisher's seal over it came before.
        verified: bool,
    },
    /// The publisher itself made this message: its signature covers it. At most once per message.
    GroupVerified {
        /// The publisher.
        peer: PeerId,
        /// Which.
        name: MessageName,
    },
    /// Nothing is waited for any more to prove this message, which was told as from some member: its publisher has no proof of
    /// it left, or did not answer for an hour. It stays unverified; only if its seal comes after all is it verified yet. At
    /// most once per message and start.
    GroupUnproved {
        /// The publisher whose group it is.
        peer: PeerId,
        /// Which.
        name: MessageName,
    },
    /// A member made a record that the publisher did not. Nobody knows which member: all have the key.
    GroupForged {
        /// The publisher whose group it is.
        peer: PeerId,
        /// The group.
        gid: GroupId,
        /// Its epoch.
        epoch: u16,
        /// The counter under which it came.
        counter: u32,
    },
    /// A change of our groups is durable.
    GroupChanged {
        /// Which.
        ticket: Ticket,
    },
    /// A peer can be sent to and heard.
    PeerReady {
        /// Which.
        peer: PeerId,
        /// Whether messages to it use a prekey; without one they are not forward secret.
        forward_secret: bool,
    },
    /// A session with a peer is in use from now on: messages to it are forward secret, and commands can be sent.
    SessionReady {
        /// Which.
        peer: PeerId,
    },
    /// A peer's trust ended at once.
    PeerLost {
        /// Which.
        peer: PeerId,
        /// Why.
        reason: PeerLoss,
    },
    /// What a peer announces are revoked keys, and it has no others: nothing reaches it or comes from it until it announces
    /// new ones. Told once per start, and not after [`Event::PeerLost`] said so.
    PeerRevoked {
        /// Which.
        peer: PeerId,
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
    /// Messages were given up, exactly this many.
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
        /// Whether they are lost for certain. If not, they were transmitted and no receipt named them: some may have
        /// arrived, and [`Event::LossConfirmed`] will say how many, unless the receiver is revoked before it can tell.
        certain: bool,
    },
    /// A receiver said what became of messages that were told as [`Event::Lost`] and not certain. In the end
    /// [`Event::Delivered`], certain losses and the counts of this event together are all that was accepted, each message
    /// once.
    LossConfirmed {
        /// The receiver.
        peer: PeerId,
        /// On which stream.
        stream: StreamId,
        /// Why they were given up.
        reason: LossReason,
        /// How many are lost; the receiver's application was told so, too.
        lost: u64,
        /// How many had arrived all the same. They are in no [`Event::Delivered`].
        arrived: u64,
        /// Of how many the receiver does not know any more: more than 64 other reports came between this one and its
        /// repetition.
        unknown: u64,
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
    /// Stored rows of a kind could not be read at the start, and what they were for is gone: sessions and handshakes begin anew
    /// by themselves, group epochs of others are handed out again, a group of our own has to be created again.
    StateDropped {
        /// What they were.
        kind: RecordKind,
        /// How many.
        count: u64,
        /// Whose, as far as they still said so.
        peers: Vec<PeerId>,
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
    /// How it was protected on its way.
    pub protection: Protection,
    /// What it says.
    pub content: Content,
}

/// How a message was protected between its sender and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// In an envelope: signed by its sender, and forward secret as far as the prekey is.
    Envelope,
    /// In a session: forward secret by block, and healed from a theft of state with each epoch.
    Session {
        /// The session's epoch.
        epoch: u16,
    },
}

impl core::fmt::Display for Protection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Envelope => f.write_str("envelope"),
            Self::Session { epoch } => write!(f, "session:{epoch}"),
        }
    }
}

impl core::str::FromStr for Protection {
    type Err = UnknownProtection;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("session:") {
            Some(epoch) => epoch.parse().map(|epoch| Self::Session { epoch }).map_err(|_| UnknownProtection),
            None if text == "envelope" => Ok(Self::Envelope),
            None => Err(UnknownProtection),
        }
    }
}

/// Text that names no [`Protection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("neither \"envelope\" nor \"session:<epoch>\"")]
pub struct UnknownProtection;

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
    /// The outbox holds as much for this peer as one peer may take of it.
    #[error("the outbox holds as much for this peer as one peer may take")]
    OutboxShare,
    /// No group's filter matches the topic, or there is no such group.
    #[error("no group: create it first")]
    NoGroup,
    /// Another group's filter may match the same topics.
    #[error("another group is for some of these topics")]
    GroupOverlap,
    /// The group, or the endpoint, has as many members, or groups, as it can.
    #[error("no more groups, or members of this group, are possible")]
    GroupFull,
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
