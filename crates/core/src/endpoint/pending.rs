//! Operations that the provider has been asked for.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::barrier::Durable;
use super::input::{DeliveryId, OperationId, Ticket};
use super::outbox::{LaneKey, RowId};
use super::sessions::{Answering, OpeningM1};
use crate::codec::signed::ToBeSigned;
use crate::envelope::{PendingOpen, PendingSeal};
use crate::identity::announcement::KeyAnnouncement;
use crate::identity::prekey::PrekeyBundle;
use crate::ids::{KeyId, PeerId, StreamId};
use crate::provider::PrekeyId;
use crate::session::handshake::Initiate;
use crate::time::UnixTime;

pub(super) enum Pending {
    SignAnnouncement(ToBeSigned<KeyAnnouncement>),
    GeneratePrekey {
        id: PrekeyId,
        not_after: UnixTime,
    },
    SignBundle {
        bundle: PrekeyBundle,
        framed: ToBeSigned<PrekeyBundle>,
        after: Durable,
    },
    ImportPrekey(PrekeyId),
    ErasePrekey,
    SignM1(PeerId, Box<Initiate>),
    OpenM1(Box<OpeningM1>),
    SignM2(Answering),
    Seal(Sealing),
    SealVolatile(SealingVolatile),
    SealReceipt(SealingReceipt),
    Open(Opening),
    /// The seal of the oldest closed batch of this group.
    SignGroupSeal(u64),
    /// A peer's certificate and bundle, from the store.
    Load(PeerId),
}

/// A message of the outbox.
pub(super) struct Sealing {
    pub(super) row: RowId,
    pub(super) lane: LaneKey,
    pub(super) sequence: u64,
    pub(super) to: Addressee,
    pub(super) envelope: PendingSeal,
}

/// The keys that something is sealed to.
#[derive(Clone, Copy)]
pub(super) struct Addressee {
    pub(super) recipient: KeyId,
    pub(super) prekey: PrekeyId,
    pub(super) usable_until: Option<UnixTime>,
}

pub(super) struct SealingVolatile {
    pub(super) ticket: Ticket,
    pub(super) peer: PeerId,
    pub(super) recipient: KeyId,
    pub(super) topic: String,
    pub(super) after: Durable,
    pub(super) envelope: PendingSeal,
}

pub(super) struct SealingReceipt {
    pub(super) peer: PeerId,
    pub(super) recipient: KeyId,
    /// What it confirms is durable from here on.
    pub(super) after: Durable,
    pub(super) envelope: PendingSeal,
}

pub(super) struct Opening {
    /// `None` once acknowledged.
    pub(super) delivery: Option<DeliveryId>,
    pub(super) topic: String,
    /// Whether it came at our control topic: then it is a receipt.
    pub(super) control: bool,
    pub(super) peer: PeerId,
    pub(super) key_id: KeyId,
    pub(super) stream: StreamId,
    pub(super) sequence: u64,
    pub(super) encapsulation_key: Vec<u8>,
    pub(super) envelope: PendingOpen,
}

impl Opening {
    /// What it is: whose, and which.
    pub(super) fn name(&self) -> (KeyId, StreamId, u64) {
        (self.key_id, self.stream, self.sequence)
    }
}

#[derive(Default)]
pub(super) struct PendingOperations {
    last: u64,
    operations: BTreeMap<OperationId, Pending>,
}

impl PendingOperations {
    pub(super) fn insert(&mut self, pending: Pending) -> OperationId {
        self.last += 1;
        let id = OperationId(self.last);
        self.operations.insert(id, pending);
        id
    }

    pub(super) fn take(&mut self, id: OperationId) -> Option<Pending> {
        self.operations.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.operations.len()
    }
}
