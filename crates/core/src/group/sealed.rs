//! What a subscriber knows of its records: candidates before their seal, and batches after it.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::leaves::Which;
use super::outcome::SealError;
use super::seal::Seal;
use super::subscriber::MAX_CANDIDATES;
use super::tree;
use crate::crypto::kdf::HashOutput;
use crate::crypto::suite::HashAlgorithm;

/// Leaves of records that no verified batch decides about yet, at most [`MAX_CANDIDATES`] per counter.
#[derive(Default)]
pub(super) struct Candidates(BTreeMap<u32, [Option<HashOutput>; MAX_CANDIDATES]>);

/// Whether a counter has room for a leaf.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    Known,
    Full,
}

impl Candidates {
    pub(super) fn of(&self, counter: u32) -> impl Iterator<Item = &HashOutput> {
        self.0.get(&counter).into_iter().flatten().flatten()
    }

    pub(super) fn room(&self, counter: u32, leaf: &HashOutput) -> Room {
        if self.of(counter).any(|known| known == leaf) {
            return Room::Known;
        }
        if self.of(counter).count() < MAX_CANDIDATES { Room::Free } else { Room::Full }
    }

    pub(super) fn insert(&mut self, counter: u32, leaf: HashOutput) {
        let places = self.0.entry(counter).or_default();
        if let Some(place) = places.iter_mut().find(|place| place.is_none()) {
            *place = Some(leaf);
        }
    }

    /// The only candidate, if there is exactly one.
    fn single(&self, counter: u32) -> Option<HashOutput> {
        let mut all = self.of(counter);
        all.next().copied().filter(|_| all.next().is_none())
    }

    pub(super) fn remove(&mut self, counter: u32) -> impl Iterator<Item = HashOutput> + use<> {
        self.0.remove(&counter).into_iter().flatten().flatten()
    }

    pub(super) fn forget_before(&mut self, counter: u32) {
        self.0 = self.0.split_off(&counter);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.values().flatten().flatten().count()
    }
}

/// A batch whose seal is verified.
pub(super) struct SealedBatch {
    pub(super) seal: Seal,
    pub(super) hash: HashOutput,
    pub(super) state: State,
}

pub(super) enum State {
    /// Leaves are missing. All are asked for once some did not help: a candidate is none of the publisher's.
    Waiting { ask_all: bool },
    /// All leaves are known, and so is which of the records were delivered, and which forgeries were told of.
    Complete { leaves: Vec<HashOutput>, delivered: Which, forged: Which },
    /// Completed before a restart; its leaves are gone.
    Told,
}

/// What the leaves at hand make of a batch.
pub(super) enum Decided {
    Leaves(Vec<HashOutput>),
    /// These are needed besides the candidates.
    Missing(Which),
    /// Whatever the root is over, it is not what was put together.
    Mismatch,
}

impl SealedBatch {
    pub(super) fn contains(&self, counter: u32) -> bool {
        (self.seal.first..self.seal.end()).contains(&counter)
    }

    pub(super) fn place(&self, counter: u32) -> usize {
        (counter - self.seal.first) as usize
    }

    /// Puts the leaves together: the given ones first, then the candidates.
    pub(super) fn decide(
        &self,
        algorithm: HashAlgorithm,
        candidates: &Candidates,
        given: impl Fn(usize) -> Option<HashOutput>,
    ) -> Decided {
        let all = matches!(self.state, State::Waiting { ask_all: true });
        let (mut leaves, mut missing, mut complete) = (Vec::new(), Which::default(), true);
        for (place, counter) in (self.seal.first..self.seal.end()).enumerate() {
            let candidate = candidates.single(counter).filter(|_| !all);
            if candidate.is_none() {
                missing.insert(place);
            }
            match given(place).or(candidate) {
                Some(leaf) => leaves.push(leaf),
                None => complete = false,
            }
        }
        if !complete {
            Decided::Missing(missing)
        } else if tree::root(algorithm, &leaves) == self.seal.root {
            Decided::Leaves(leaves)
        } else {
            Decided::Mismatch
        }
    }

    /// All its places.
    pub(super) fn all(&self) -> Which {
        let mut all = Which::default();
        (0..usize::from(self.seal.count)).for_each(|place| all.insert(place));
        all
    }
}

/// The verified batches that are kept, ascending, and the end of the newest that is not.
pub(super) struct Batches {
    pub(super) kept: VecDeque<SealedBatch>,
    /// Where the newest forgotten batch ends, and its seal's hash.
    pub(super) anchor: (u32, HashOutput),
}

impl Batches {
    pub(super) fn knows(&self, hash: &HashOutput) -> bool {
        self.kept.iter().any(|batch| batch.hash == *hash)
    }

    pub(super) fn find(&mut self, counter: u32) -> Option<&mut SealedBatch> {
        self.kept.iter_mut().rev().find(|batch| batch.contains(counter))
    }

    /// Where a genuine seal belongs, unless it contradicts one before: two seals over one record, or one that names
    /// another predecessor than its own.
    pub(super) fn place_for(&self, seal: &Seal, hash: &HashOutput) -> Result<usize, SealError> {
        let at = self.kept.iter().take_while(|batch| batch.seal.first < seal.first).count();
        let before = at.checked_sub(1).and_then(|before| self.kept.get(before));
        let (end, named) = before.map_or(self.anchor, |before| (before.seal.end(), before.hash));
        let follows_last = before.is_some_and(|before| before.seal.last);
        if end > seal.first || follows_last || (end == seal.first && named != seal.previous) {
            return Err(SealError::Equivocation);
        }
        if let Some(after) = self.kept.get(at) {
            let touches = after.seal.first == seal.end();
            if seal.end() > after.seal.first || seal.last || (touches && after.seal.previous != *hash) {
                return Err(SealError::Equivocation);
            }
        }
        Ok(at)
    }
}
