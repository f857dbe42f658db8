//! What the core asks a store to keep: small keyed rows, changed together.

use alloc::vec::Vec;
use core::fmt;

/// A kind of durable row. `docs/state.md` says for each why rolling it back is safe, or how it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum RecordKind {
    /// The durable time floor; one row.
    TimeFloor = 1,
    /// The pinned trust anchors; one row.
    Anchors = 2,
    /// A known peer: pinned epoch and identity, digests of its certificate and bundle. Key: peer id.
    Peer = 3,
    /// A sender counter's ceiling. Key: recipient key id ‖ stream.
    SendCeiling = 4,
    /// A receiver's replay window. Key: sender key id ‖ own key id ‖ stream.
    ReplayWindow = 5,
    /// A prekey of our own, sealed by the provider. Key: prekey id.
    Prekey = 6,
    /// Our own bundle sequence and current prekey; one row.
    PrekeyState = 7,
    /// The revocation head: sequence and digest; one row.
    RevocationHead = 8,
    /// Revoked entries in blocks. Key: block number.
    RevocationEntries = 9,
    /// The issuing authority's state; one row.
    Authority = 10,
    /// The latest certificate an authority issued to a peer. Key: peer id.
    Issued = 11,
    /// A peer's certificate, named by digest in its [`RecordKind::Peer`] row. Loaded when needed. Key: peer id.
    Certificate = 12,
    /// A peer's prekey bundle, likewise. Loaded when needed. Key: peer id.
    Bundle = 13,
    /// A message on its way out, or a report of lost ones. Key: a number that ascends with acceptance.
    Outbox = 20,
    /// What arrived of one start of a sender. Key: stream ‖ boot ‖ peer id.
    Received = 21,
    /// A message that the application has not consumed. Key: a number that ascends with arrival.
    Inbox = 22,
    /// The application's own, written with what it consumes. Key: the application's.
    Application = 23,
    /// The exact packet of a [`RecordKind::Outbox`] row, once it is sealed. Key: that row's.
    Packet = 24,
    /// A session. Key: the id that we receive under.
    Session = 30,
    /// Attempts at handshakes with a peer, and the first message that is out. Key: peer id.
    Handshake = 31,
    /// A topic group of our own. Key: SHA-256 of its filter; with a peer id behind it, that peer's membership.
    Group = 32,
    /// A group epoch of a publisher's. Key: publisher's fingerprint ‖ group ‖ epoch.
    GroupSubscription = 33,
}

impl RecordKind {
    /// Every kind, in order of its number.
    pub const ALL: [Self; 22] = [
        Self::TimeFloor,
        Self::Anchors,
        Self::Peer,
        Self::SendCeiling,
        Self::ReplayWindow,
        Self::Prekey,
        Self::PrekeyState,
        Self::RevocationHead,
        Self::RevocationEntries,
        Self::Authority,
        Self::Issued,
        Self::Certificate,
        Self::Bundle,
        Self::Outbox,
        Self::Received,
        Self::Inbox,
        Self::Application,
        Self::Packet,
        Self::Session,
        Self::Handshake,
        Self::Group,
        Self::GroupSubscription,
    ];

    /// The kind with this number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == id)
    }

    /// Whether rows of this kind stay in the store at start, and are asked for one by one. A kind is one or the other
    /// for as long as the store's format lasts.
    pub fn is_lazy(self) -> bool {
        matches!(self, Self::Certificate | Self::Bundle)
    }
}

/// One change to one row. Changes handed over together become durable together.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Insert or replace.
    Put {
        /// The table.
        kind: RecordKind,
        /// The row's key, at most 256 bytes.
        key: Vec<u8>,
        /// The row's content.
        value: Vec<u8>,
    },
    /// Remove, if present.
    Delete {
        /// The table.
        kind: RecordKind,
        /// The row's key.
        key: Vec<u8>,
    },
}

/// A row's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The table.
    pub kind: RecordKind,
    /// The row's key.
    pub key: Vec<u8>,
}

/// A row as loaded.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// The table.
    pub kind: RecordKind,
    /// The row's key.
    pub key: Vec<u8>,
    /// The row's content.
    pub value: Vec<u8>,
}

impl fmt::Debug for Row {
    /// Without the content, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({:?}, key of {} bytes, {} bytes)", self.kind, self.key.len(), self.value.len())
    }
}
