//! Message numbers that cost nothing: they follow from the counter once the receiver has confirmed where they start.
//!
//! Until then each record carries its number (form [`Numbered`](super::Form::Numbered), 8 bytes). First transmissions of
//! telemetry go in order, so number minus counter stays the same from one of them to the next.

use alloc::vec::Vec;

use crate::ids::{BootId, StreamId};

/// Starts that a receiver remembers: records on their way may still need the one before.
pub const MAX_BASES: usize = 4;

/// From `counter` on, messages on `stream` of the sender's `boot` are numbered from `number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberBase {
    /// The counter of a numbered record.
    pub counter: u32,
    /// Its message's stream.
    pub stream: StreamId,
    /// Its sender's start.
    pub boot: BootId,
    /// Its message's number.
    pub number: u64,
}

impl NumberBase {
    /// The number of the message that the record with `counter` carries.
    pub fn number_at(&self, counter: u32) -> Option<u64> {
        self.number.checked_add(counter.checked_sub(self.counter)?.into())
    }

    /// Whether a numbered record follows from this one.
    pub(super) fn implies(&self, other: &Self) -> bool {
        self.stream == other.stream
            && self.boot == other.boot
            && self.number_at(other.counter) == Some(other.number)
    }
}

/// What a receiver knows of the numbers in one epoch.
#[derive(Default)]
pub(super) struct Numbers(Vec<NumberBase>);

impl Numbers {
    pub(super) fn restore(bases: Vec<NumberBase>) -> Self {
        Self(bases)
    }

    pub(super) fn bases(&self) -> &[NumberBase] {
        &self.0
    }

    /// The number of an implied message. `None` until a base is known that speaks of it.
    pub(super) fn imply(&self, counter: u32, stream: StreamId, boot: BootId) -> Option<u64> {
        let base = self.0.iter().rev().find(|base| base.counter <= counter)?;
        if base.stream != stream || base.boot != boot {
            return None;
        }
        base.number_at(counter)
    }

    /// Takes note of a numbered record. Whether it told something new.
    pub(super) fn note(&mut self, told: NumberBase) -> bool {
        let newest = self.0.last();
        if newest.is_some_and(|newest| newest.counter > told.counter || newest.implies(&told)) {
            return false;
        }
        self.0.push(told);
        let excess = self.0.len().saturating_sub(MAX_BASES);
        self.0.drain(..excess);
        true
    }

    /// Lets go of room for more.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// The newest base, which is what a receiver confirms.
    pub(super) fn newest(&self) -> Option<NumberBase> {
        self.0.last().copied()
    }
}
