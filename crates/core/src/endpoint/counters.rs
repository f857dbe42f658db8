//! Sender counters: reserved durably in blocks, so that a crash skips numbers and never repeats one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::barrier::Durable;
use crate::ids::{KeyId, StreamId};
use crate::store::{Change, RecordKind};

/// Sequences reserved per durable write.
pub const RESERVATION: u64 = 1024;

/// How far a counter follows what a receiver claims to have seen: a liar costs at most this much of its own counter.
const MAX_SKIP: u64 = 1 << 32;

struct Counter {
    next: u64,
    /// Sequences below this are reserved.
    ceiling: u64,
    /// When the newest reservation is durable.
    reserved: Durable,
    /// The ceiling before that reservation, and when that one was durable.
    before: (u64, Durable),
}

/// One counter per (own key, recipient key, stream).
#[derive(Default)]
pub(super) struct SendCounters(BTreeMap<Vec<u8>, Counter>);

/// A fresh sequence and the reservation its use depends on.
pub(super) struct Sequence {
    pub(super) value: u64,
    pub(super) after: Durable,
}

pub(super) fn counter_key(own: KeyId, recipient: KeyId, stream: StreamId) -> Vec<u8> {
    [own.as_bytes(), recipient.as_bytes(), &[stream.value()]].concat()
}

impl SendCounters {
    /// Continues at the stored ceiling: everything below may have been used.
    pub(super) fn restore(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let ceiling = u64::from_be_bytes(value.try_into().ok()?);
        let counter =
            Counter { next: ceiling, ceiling, reserved: Durable::NOW, before: (ceiling, Durable::NOW) };
        self.0.insert(key.into(), counter);
        Some(())
    }

    /// What [`SendCounters::next`] would give.
    pub(super) fn peek(&self, key: &[u8]) -> u64 {
        self.0.get(key).map_or(1, |counter| counter.next)
    }

    /// Leaves out everything up to `sequence`: another copy of this state used it. `reserve` as in
    /// [`SendCounters::next`]. False if that is further than any honest copy came.
    pub(super) fn skip_past(
        &mut self,
        key: Vec<u8>,
        sequence: u64,
        mut reserve: impl FnMut(Change) -> Durable,
    ) -> bool {
        let next = self.peek(&key);
        if sequence < next || sequence - next > MAX_SKIP {
            return false;
        }
        let value = (sequence + 1).to_be_bytes().to_vec();
        let reserved = reserve(Change::Put { kind: RecordKind::SendCeiling, key: key.clone(), value });
        let ceiling = sequence + 1;
        self.0.insert(key, Counter { next: ceiling, ceiling, reserved, before: (ceiling, reserved) });
        true
    }

    /// The next sequence; `reserve` makes a change durable and says when. `None` once 2^64 is near.
    pub(super) fn next(
        &mut self,
        key: Vec<u8>,
        mut reserve: impl FnMut(Change) -> Durable,
    ) -> Option<Sequence> {
        let first = Counter { next: 1, ceiling: 1, reserved: Durable::NOW, before: (1, Durable::NOW) };
        let counter = self.0.entry(key.clone()).or_insert(first);
        // Reserve ahead, so that sending rarely waits for the store.
        if counter.ceiling - counter.next < RESERVATION / 4 {
            counter.before = (counter.ceiling, counter.reserved);
            counter.ceiling = counter.ceiling.checked_add(RESERVATION)?;
            let value = counter.ceiling.to_be_bytes().to_vec();
            counter.reserved = reserve(Change::Put { kind: RecordKind::SendCeiling, key, value });
        }
        let value = counter.next;
        counter.next += 1;
        let after = if value < counter.before.0 { counter.before.1 } else { counter.reserved };
        Some(Sequence { value, after })
    }
}
