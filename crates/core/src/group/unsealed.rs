//! Records that wait for their publisher's word: whether a seal is missing, and which are waited for no longer.

use alloc::vec::Vec;

use super::MAX_BATCH;
use super::message::MessageName;
use super::subscriber::Subscriber;
use crate::time::Monotonic;

/// Records that nothing was decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecided {
    /// When the first of them came.
    pub since: Monotonic,
    /// Those among them whose seal may still come.
    pub unsealed: Option<Unsealed>,
}

/// Records whose seal may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsealed {
    /// The lowest counter.
    pub from: u32,
    /// When the first of them came.
    pub since: Monotonic,
    /// Whether it looks as if the seal over `from` was made: there is a later one, or a record too far away for its batch. An
    /// insider can make it look so.
    pub made: bool,
}

impl Subscriber {
    /// What is waited for. Its cost grows with the window, at most 4,096 records.
    pub fn undecided(&self) -> Option<Undecided> {
        let mut undecided: Option<Undecided> = None;
        let mut newest = 0;
        for (counter, candidate) in self.candidates.waiting() {
            newest = counter;
            let since = candidate.since;
            let all = undecided.get_or_insert(Undecided { since, unsealed: None });
            all.since = all.since.min(since);
            if !self.batches.contain(counter) && self.batches.may_cover(counter) {
                let made = counter < self.head;
                let unsealed = all.unsealed.get_or_insert(Unsealed { from: counter, since, made });
                unsealed.since = unsealed.since.min(since);
            }
        }
        if let Some(unsealed) = undecided.as_mut().and_then(|all| all.unsealed.as_mut()) {
            unsealed.made |= newest >= unsealed.from + MAX_BATCH as u32;
        }
        undecided
    }

    /// Whether a record of this counter shows that a batch before it must be closed.
    pub fn is_far_from_seals(&self, counter: u32) -> bool {
        counter >= self.head.saturating_add(MAX_BATCH as u32)
    }

    /// No longer waits for records that came until `then`. A seal that comes nevertheless still upgrades them.
    pub fn give_up_until(&mut self, then: Monotonic) -> Vec<MessageName> {
        let given_up = self.candidates.give_up(|_, candidate| candidate.since <= then);
        given_up.into_iter().map(|(counter, leaf)| self.name(counter, leaf)).collect()
    }

    /// No longer waits for records from counter `from` to `to` that are in no batch: the publisher has no seal over them.
    pub fn give_up_between(&mut self, from: u32, to: u32) -> Vec<MessageName> {
        let Self { candidates, batches, .. } = self;
        let over = |counter: u32| (from..to).contains(&counter) && !batches.contain(counter);
        let given_up = candidates.give_up(|counter, _| over(counter));
        given_up.into_iter().map(|(counter, leaf)| self.name(counter, leaf)).collect()
    }

    /// All that is waited for, because nothing more will come of this group epoch.
    pub fn unproved(&self) -> Vec<MessageName> {
        self.candidates.waiting().map(|(counter, candidate)| self.name(counter, candidate.leaf)).collect()
    }
}
