//! Deciding a sealed batch: from candidates alone, or with leaves that the publisher gives.

use alloc::vec::Vec;

use super::MAX_BATCH;
use super::leaves::{Leaves, MissingLeaves, Which};
use super::message::Upgrade;
use super::outcome::{LeavesError, Outcome};
use super::sealed::{Decided, SealedBatch, State};
use super::subscriber::Subscriber;
use crate::crypto::kdf::HashOutput;

impl Subscriber {
    /// Takes leaves that were asked for.
    ///
    /// # Errors
    ///
    /// Nothing waits for them, or they are not what was sealed.
    pub fn receive_leaves(&mut self, answer: &Leaves) -> Result<Outcome, LeavesError> {
        let MissingLeaves { gid, epoch, first, which } = answer.asked;
        if gid != self.gid || epoch != self.epoch || which.len() != answer.leaves.len() {
            return Err(LeavesError::Unasked);
        }
        let len = self.suite.hash().output_len();
        if answer.leaves.iter().any(|leaf| leaf.as_slice().len() != len) {
            return Err(LeavesError::Wrong);
        }
        let is_asked = |batch: &SealedBatch| batch.seal.first == first && batch.seal.count > 0;
        let at = self.batches.kept.iter().position(is_asked).ok_or(LeavesError::Unasked)?;
        let mut given: [Option<HashOutput>; MAX_BATCH] = [None; MAX_BATCH];
        for (place, leaf) in which.iter().zip(&answer.leaves) {
            if let Some(given) = given.get_mut(place) {
                *given = Some(*leaf);
            }
        }
        self.decide_batch(at, true, |place| given.get(place).copied().flatten())
    }

    /// Leaves that verified batches still wait for: to be asked for again after a while or a restart.
    pub fn missing(&self) -> Vec<MissingLeaves> {
        self.batches.kept.iter().filter_map(|batch| self.missing_of(batch)).collect()
    }

    fn missing_of(&self, batch: &SealedBatch) -> Option<MissingLeaves> {
        if !matches!(batch.state, State::Waiting { .. }) {
            return None;
        }
        let which = match batch.decide(self.suite.hash(), &self.candidates, |_| None) {
            Decided::Missing(which) => which,
            Decided::Mismatch | Decided::Leaves(_) => batch.all(),
        };
        Some(MissingLeaves { gid: self.gid, epoch: self.epoch, first: batch.seal.first, which })
    }

    pub(super) fn decide(&mut self, counter: u32) -> Outcome {
        let at = self.batches.kept.iter().position(|batch| batch.contains(counter));
        let outcome = at.and_then(|at| self.decide_batch(at, false, |_| None).ok());
        Outcome { missing: None, ..outcome.unwrap_or_default() }
    }

    /// Completes a waiting batch if its leaves are at hand, given or from candidates.
    pub(super) fn decide_batch(
        &mut self,
        at: usize,
        answered: bool,
        given: impl Fn(usize) -> Option<HashOutput>,
    ) -> Result<Outcome, LeavesError> {
        let mut outcome = Outcome::default();
        let batch = self.batches.kept.get_mut(at).ok_or(LeavesError::Unasked)?;
        let State::Waiting { ask_all } = batch.state else { return Err(LeavesError::Unasked) };
        let seal = batch.seal;
        let all_given = (0..usize::from(seal.count)).all(|place| given(place).is_some());
        let leaves = match batch.decide(self.suite.hash(), &self.candidates, given) {
            Decided::Leaves(leaves) => leaves,
            Decided::Mismatch if all_given => return Err(LeavesError::Wrong),
            decided => {
                let mismatch = matches!(decided, Decided::Mismatch);
                batch.state = State::Waiting { ask_all: ask_all || answered || mismatch };
                let batch = self.batches.kept.get(at).filter(|_| !ask_all);
                outcome.missing = batch.and_then(|batch| self.missing_of(batch));
                return Ok(outcome);
            }
        };
        let (mut delivered, mut forged) = (Which::default(), Which::default());
        for (place, (counter, genuine)) in (seal.first..seal.end()).zip(&leaves).enumerate() {
            for leaf in self.candidates.remove(counter) {
                if leaf == *genuine {
                    delivered.insert(place);
                    outcome.upgrades.push(Upgrade(self.name(counter, leaf)));
                } else if !forged.contains(place) {
                    forged.insert(place);
                    outcome.forged.push(counter);
                }
            }
        }
        if let Some(batch) = self.batches.kept.get_mut(at) {
            batch.state = State::Complete { leaves, delivered, forged };
        }
        Ok(outcome)
    }
}
