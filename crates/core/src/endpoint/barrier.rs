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
    waiting: VecDeque<Waiting>,
    /// The latest position since nothing waited.
    latest: Durable,
    /// How many of those that wait behind a later position wait for each.
    overtaking: BTreeMap<Durable, usize>,
}

struct Waiting {
    after: Durable,
    /// Whether it may be ready before one that is in front of it.
    overtakes: bool,
    output: Output,
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
            return self.ready.push_back(output);
        }
        if self.waiting.is_empty() {
            self.latest = after;
        }
        let overtakes = after < self.latest;
        self.latest = self.latest.max(after);
        if overtakes {
            *self.overtaking.entry(after).or_default() += 1;
        }
        self.waiting.push_back(Waiting { after, overtakes, output });
    }

    /// Everything up to `seq` is durable. A sequence that was never requested changes nothing.
    pub(super) fn persisted(&mut self, seq: u64) {
        if seq > self.requested {
            return;
        }
        self.durable = self.durable.max(seq);
        // Nearly always those that are ready are in front, and all others stay.
        while self.waiting.front().is_some_and(|waiting| waiting.after.0 <= self.durable)
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.let_out(waiting);
        }
        if self.overtaking.keys().next().is_some_and(|first| first.0 <= self.durable) {
            for _ in 0..self.waiting.len() {
                match self.waiting.pop_front() {
                    Some(waiting) if waiting.after.0 <= self.durable => self.let_out(waiting),
                    waiting => self.waiting.extend(waiting),
                }
            }
        }
    }

    fn let_out(&mut self, waiting: Waiting) {
        if waiting.overtakes
            && let Some(count) = self.overtaking.get_mut(&waiting.after)
        {
            *count -= 1;
            if *count == 0 {
                self.overtaking.remove(&waiting.after);
            }
        }
        self.ready.push_back(waiting.output);
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
        self.waiting.retain(|waiting| stays(&waiting.output));
        self.overtaking.clear();
        for waiting in self.waiting.iter().filter(|waiting| waiting.overtakes) {
            *self.overtaking.entry(waiting.after).or_default() += 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::input::DeliveryId;

    fn out(barrier: &mut Barrier) -> Vec<u64> {
        let mut out = Vec::new();
        while let Some(output) = barrier.next() {
            if let Output::Acknowledge(DeliveryId(id)) = output {
                out.push(id);
            }
        }
        out
    }

    #[test]
    fn each_comes_out_once_its_position_is_durable_in_order_among_those_that_do() {
        let mut barrier = Barrier::default();
        for _ in 0..9 {
            barrier.persist(Vec::new(), Vec::new());
        }
        for (id, after) in [(0, 3), (1, 5), (2, 2), (3, 5), (4, 4), (5, 0), (6, 9), (7, 2)] {
            barrier.emit(Durable::at(after), Output::Acknowledge(DeliveryId(id)));
        }
        assert_eq!(out(&mut barrier), [5], "it depends on nothing");
        for (durable, expected) in
            [(1, &[][..]), (2, &[2, 7]), (3, &[0]), (10, &[]), (5, &[1, 3, 4]), (4, &[]), (9, &[6])]
        {
            barrier.persisted(durable);
            assert_eq!(out(&mut barrier), expected, "{durable}");
        }
        assert!(barrier.overtaking.is_empty() && barrier.waiting() == 0);
    }
}
