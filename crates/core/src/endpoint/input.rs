//! What goes into an endpoint.

use alloc::string::String;
use alloc::vec::Vec;

use crate::envelope::Content;
use crate::ids::{PeerId, StreamId};
use crate::provider::{ProviderFailure, ProviderResponse};
use crate::store::Row;
use crate::topic::{Topic, TopicFilter};

/// Names one delivery of the broker's, to be acknowledged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// Names one operation handed to the provider or the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// Names one message of the application's on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names one message in the inbox, to be consumed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId(pub u64);

/// Names one message in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxId(pub u64);

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
    /// The transport lost its connection.
    Disconnected,
    /// The transport will never take this message: it is too large for the broker.
    Undeliverable(OutboxId),
    /// The transport takes this many more messages; without it there is no bound.
    Room(usize),
    /// The application wants something.
    Command(Command),
    /// The time announced by [`Output::Timeout`](super::Output::Timeout) has come.
    Timeout,
    /// Everything up to this [`Output::Persist`](super::Output::Persist) is durable.
    Persisted(u64),
    /// The provider answered.
    Provided(OperationId, Result<ProviderResponse, ProviderFailure>),
    /// The store answered an [`Output::Load`](super::Output::Load): those of the rows that exist.
    Loaded(OperationId, Vec<Row>),
}

/// What the application wants.
#[non_exhaustive]
pub enum Command {
    /// Get to know a peer: fetch and follow its announcement and prekeys.
    AddPeer(PeerId),
    /// Seal and publish a message.
    Publish(Publish),
    /// Have a topic group for a filter, one row and one key for all its members; answered by
    /// [`Event::GroupChanged`](super::Event::GroupChanged). One that is there already stays as it is.
    CreateGroup {
        /// Echoed in the outcome.
        ticket: Ticket,
        /// Which topics it is for; our certificate's publish grants must cover it.
        filter: TopicFilter,
    },
    /// Make a peer a member of a group: it is handed the key in its session, from the next block on. Durable; the membership
    /// rests while the peer's certificate does not allow it. Answered as [`Command::CreateGroup`].
    AddSubscriber {
        /// Echoed in the outcome.
        ticket: Ticket,
        /// The group's filter.
        filter: TopicFilter,
        /// Who; its certificate's subscribe grants must cover the filter.
        peer: PeerId,
    },
    /// End a membership: what is sealed from now on the peer cannot read. Answered as [`Command::CreateGroup`].
    RemoveSubscriber {
        /// Echoed in the outcome.
        ticket: Ticket,
        /// The group's filter.
        filter: TopicFilter,
        /// Who.
        peer: PeerId,
    },
    /// End a group: its members are told, and its rows are erased. What was sent is sealed; for some minutes members that lost
    /// seals may still ask. Answered as [`Command::CreateGroup`].
    EndGroup {
        /// Echoed in the outcome.
        ticket: Ticket,
        /// The group's filter.
        filter: TopicFilter,
    },
    /// Seal telemetry once for all members of the group whose filter matches the topic. It is sent at QoS 1 and not kept:
    /// no receipt tells who has it, and without a link it fails. Answered by
    /// [`Event::Accepted`](super::Event::Accepted).
    PublishTopic {
        /// Echoed in the outcome.
        ticket: Ticket,
        /// Where to publish.
        topic: Topic,
        /// What.
        payload: Vec<u8>,
    },
    /// The application is done with messages.
    Consume(Consume),
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
    /// How hard to try.
    pub durability: Durability,
    /// Whether it may use the outbox's reserve.
    pub priority: Priority,
    /// Changes of the application's own rows, in the transaction that accepts it: an application that notes there what
    /// it has handed over hands everything over exactly once. Nothing changes if it is refused; volatile messages have
    /// none.
    pub effects: Vec<Effect>,
}

/// How hard a message is tried to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Kept in the outbox and sent until its receiver's receipt.
    #[default]
    Durable,
    /// Sent once at QoS 0, where freshness beats completeness; the receiver is told of gaps. Best on a stream of its own.
    Volatile,
}

/// Who may use the last of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Priority {
    /// Ordinary.
    #[default]
    Normal = 0,
    /// May use the reserve, and is never dropped for newer messages.
    High = 1,
}

impl Priority {
    pub(crate) fn from_id(id: u8) -> Option<Self> {
        [Self::Normal, Self::High].into_iter().find(|priority| *priority as u8 == id)
    }
}

/// Messages that the application is done with, and what it wants to keep of them in the same transaction: together they
/// give it every message exactly once.
pub struct Consume {
    /// Echoed once it is durable.
    pub ticket: Ticket,
    /// Which messages; unknown ones were consumed before.
    pub messages: Vec<InboxId>,
    /// Changes of the application's own rows.
    pub effects: Vec<Effect>,
}

/// The longest key of an application's row, in bytes.
pub const MAX_APPLICATION_KEY: usize = 200;
/// The longest application's row, in bytes.
pub const MAX_APPLICATION_VALUE: usize = 64 * 1024;

/// A change of one of the application's own rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// A key or value over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an application's row has a key of at most 200 bytes and a value of at most 64 KiB")]
pub struct EffectTooLarge;

impl Effect {
    /// Inserts or replaces a row.
    ///
    /// # Errors
    ///
    /// Over [`MAX_APPLICATION_KEY`] or [`MAX_APPLICATION_VALUE`].
    pub fn put(key: &[u8], value: &[u8]) -> Result<Self, EffectTooLarge> {
        if key.len() > MAX_APPLICATION_KEY || value.len() > MAX_APPLICATION_VALUE {
            return Err(EffectTooLarge);
        }
        Ok(Self { key: key.into(), value: Some(value.into()) })
    }

    /// Removes a row, if it is there.
    pub fn delete(key: &[u8]) -> Self {
        Self { key: key.into(), value: None }
    }
}
