//! Deliveries that wait, in bounds: for budget unacknowledged, so that the broker slows down; for their sender's
//! certificate acknowledged, as anyone can send in the name of a peer that is not there yet, and acknowledgements leave in
//! order: a stranger could stop them all.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::input::DeliveryId;
use super::refusal::RefusalReason;
use crate::budget::Bucket;
use crate::ids::PeerId;
use crate::time::Monotonic;

/// The most deliveries held back.
pub const MAX_HELD: usize = 256;
/// The most bytes held back.
pub const MAX_HELD_BYTES: usize = 4 * 1024 * 1024;
/// How long after a peer was added, or subscribed to anew, deliveries are held back for want of its certificate. Later
/// ones are refused: a stranger who names an absent peer must not hold back everybody's acknowledgements.
pub const MAX_HELD_FOR: Duration = Duration::from_secs(5);

pub(super) struct Held {
    pub(super) since: Monotonic,
    pub(super) why: Why,
    /// `None` once acknowledged.
    pub(super) delivery: Option<DeliveryId>,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// No budget for its signature.
    Budget,
    /// The application has not consumed what came before.
    Room,
    /// The sender's certificate has not arrived.
    Certificate(PeerId),
    /// The sender's certificate is being loaded from the store.
    Loading(PeerId),
    /// The key of its topic group, or the seal that opens the window for it, has not arrived.
    Group,
}

impl Held {
    pub(super) fn reason(&self) -> RefusalReason {
        match self.why {
            Why::Budget | Why::Loading(_) => RefusalReason::OverBudget,
            Why::Room => RefusalReason::InboxFull,
            Why::Certificate(_) => RefusalReason::UnknownPeer,
            Why::Group => RefusalReason::UnknownGroup,
        }
    }
}

#[derive(Default)]
pub(super) struct Hold {
    queue: VecDeque<Held>,
    bytes: usize,
}

impl Hold {
    /// Holds back, or gives the delivery back when a bound is reached.
    pub(super) fn push(&mut self, held: Held) -> Result<(), Held> {
        if held.why == Why::Group && !self.has_room_for_group(held.payload.len()) {
            return Err(held);
        }
        if self.queue.len() >= MAX_HELD || self.bytes + held.payload.len() > MAX_HELD_BYTES {
            return Err(held);
        }
        self.bytes += held.payload.len();
        self.queue.push_back(held);
        Ok(())
    }

    /// Whoever knows a topic can make up groups: they get a quarter.
    fn has_room_for_group(&self, len: usize) -> bool {
        let (mut count, mut bytes) = (0, len);
        for held in self.queue.iter().filter(|held| held.why == Why::Group) {
            count += 1;
            bytes += held.payload.len();
        }
        count < MAX_HELD / 4 && bytes <= MAX_HELD_BYTES / 4
    }

    /// Everything held, to be tried again in order.
    pub(super) fn take(&mut self) -> VecDeque<Held> {
        self.bytes = 0;
        core::mem::take(&mut self.queue)
    }

    /// What waits for the certificate of `peer` to be loaded, in order.
    pub(super) fn take_loading(&mut self, peer: &PeerId) -> VecDeque<Held> {
        self.take_where(|held| matches!(&held.why, Why::Loading(of) if of == peer))
    }

    /// What waits for a group, in order.
    pub(super) fn take_group(&mut self) -> VecDeque<Held> {
        self.take_where(|held| held.why == Why::Group)
    }

    fn take_where(&mut self, waits: impl FnMut(&Held) -> bool) -> VecDeque<Held> {
        let (ready, rest): (VecDeque<_>, VecDeque<_>) = self.take().into_iter().partition(waits);
        self.bytes = rest.iter().map(|held| held.payload.len()).sum();
        self.queue = rest;
        ready
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether more would soon be refused: something waits for budget, or much for certificates of the store.
    pub(super) fn is_congested(&self) -> bool {
        let mut loading = (0, 0);
        for held in &self.queue {
            match held.why {
                Why::Budget => return true,
                Why::Loading(_) => loading = (loading.0 + 1, loading.1 + held.payload.len()),
                Why::Certificate(_) | Why::Room | Why::Group => {}
            }
        }
        loading.0 >= MAX_HELD / 2 || loading.1 >= MAX_HELD_BYTES / 2
    }

    pub(super) fn waits_for_room(&self) -> bool {
        self.queue.iter().any(|held| held.why == Why::Room)
    }

    pub(super) fn deadline(&self, budget: &Bucket) -> Option<Monotonic> {
        let due = |held: &Held| match held.why {
            Why::Budget => budget.next_token(),
            Why::Room => None,
            // The store's answer is what it waits for.
            Why::Loading(_) => None,
            Why::Certificate(_) | Why::Group => Some(held.since.plus(MAX_HELD_FOR)),
        };
        self.queue.iter().filter_map(due).min()
    }
}
