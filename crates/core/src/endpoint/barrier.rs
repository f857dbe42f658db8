//! Persist before transmit: outputs wait here for the records they depend on.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::output::Output;
use crate::audit::AuditEvent;
use crate::ids::PeerId;
use crate::store::Change;

/// A position in the sequence of persists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Durable(u64);

impl Durable {
    /// Depends on nothing.
    pub(super) const NOW: Self = Self(0);

    /// A position noted before.
    pub(super) fn at(position: u64) -> Self {
        Self(position)
    }

    /// Its number, to be noted.
    pub(super) fn position(self) -> u64 {
        self.0
    }
}

#[derive(Default)]
pub(super) struct Barrier {
    requested: u64,
    durable: u64,
    ready: VecDeque<Output>,
    waiting: VecDeque<(Durable, Output)>,
    /// How many wait for each position.
    positions: BTreeMap<Durable, usize>,
}

impl Barrier {
    /// Asks for durability; what depends on it names the returned position.
    pub(super) fn persist(&mut self, changes: Vec<Change>, audit: Vec<AuditEvent>) -> Durable {
        self.requested += 1;
        self.ready.push_back(Output::Persist { seq: self.requested, changes, audit });
        Durable(self.requested)
    }

    /// Lets `output` out once `after` is durable, in order among those that wait.
    pub(super) fn emit(&mut self, after: Durable, output: Output) {
        if after.0 <= self.durable {
            self.ready.push_back(output);
        } else {
            *self.positions.entry(after).or_default() += 1;
            self.waiting.push_back((after, output));
        }
    }

    /// Everything up to `seq` is durable. A sequence that was never requested changes nothing.
    pub(super) fn persisted(&mut self, seq: u64) {
        if seq > self.requested {
            return;
        }
        self.durable = self.durable.max(seq);
        // Nearly always those that are ready are in front, and all others stay.
        while self.waiting.front().is_some_and(|(after, _)| after.0 <= self.durable)
            && let Some((after, output)) = self.waiting.pop_front()
        {
            self.no_longer_waits(after);
            self.ready.push_back(output);
        }
        if self.positions.keys().next().is_some_and(|first| first.0 <= self.durable) {
            for (after, output) in core::mem::take(&mut self.waiting) {
                self.no_longer_waits(after);
                self.emit(after, output);
            }
        }
    }

    fn no_longer_waits(&mut self, after: Durable) {
        if let Some(count) = self.positions.get_mut(&after) {
            *count -= 1;
            if *count == 0 {
                self.positions.remove(&after);
            }
        }
    }

    /// The position of everything requested so far.
    pub(super) fn latest(&self) -> Durable {
        Durable(self.requested)
    }

    /// Drops every publish to `peer` that has not come out yet.
    pub(super) fn withdraw(&mut self, peer: &PeerId) {
        let stays = |output: &Output| match output {
            Output::Transmit(transmit) => transmit.purpose.peer() != Some(peer),
            _ => true,
        };
        self.ready.retain(stays);
        self.waiting.retain(|(_, output)| stays(output));
        self.positions.clear();
        for (after, _) in &self.waiting {
            *self.positions.entry(*after).or_default() += 1;
        }
    }

    pub(super) fn next(&mut self) -> Option<Output> {
        self.ready.pop_front()
    }

    /// How many outputs wait for the store.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
