//! Persist before transmit: outputs wait here for the records they depend on.

use alloc::collections::VecDeque;
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
}

#[derive(Default)]
pub(super) struct Barrier {
    requested: u64,
    durable: u64,
    ready: VecDeque<Output>,
    waiting: VecDeque<(Durable, Output)>,
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
            self.waiting.push_back((after, output));
        }
    }

    /// Everything up to `seq` is durable. A sequence that was never requested changes nothing.
    pub(super) fn persisted(&mut self, seq: u64) {
        if seq > self.requested {
            return;
        }
        self.durable = self.durable.max(seq);
        let waiting = core::mem::take(&mut self.waiting);
        for (after, output) in waiting {
            self.emit(after, output);
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
    }

    pub(super) fn next(&mut self) -> Option<Output> {
        self.ready.pop_front()
    }

    /// How many outputs wait for the store.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
