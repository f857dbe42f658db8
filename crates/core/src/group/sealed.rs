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
use crate::time::Monotonic;

/// Leaves of records that no verified batch decides about yet, at most [`MAX_CANDIDATES`] per counter.
#[derive(Default)]
pub(super) struct Candidates(BTreeMap<u32, [Option<Candidate>; MAX_CANDIDATES]>);

#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) leaf: HashOutput,
    /// When its record came.
    pub(super) since: Monotonic,
    /// Nothing is waited for any more, and that was told. It stays, so that a copy of its record is known as one.
    pub(super) given_up: bool,
}

/// Whether a counter has room for a leaf.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    Known,
    Full,
}

impl Candidates {
    pub(super) fn of(&self, counter: u32) -> impl Iterator<Item = &HashOutput> {
        self.0.get(&counter).into_iter().flatten().flatten().map(|candidate| &candidate.leaf)
    }

    /// Those that are waited for, ascending.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u32, &Candidate)> {
        let all = self.0.iter().flat_map(|(counter, all)| all.iter().flatten().map(|one| (*counter, one)));
        all.filter(|(_, one)| !one.given_up)
    }

    /// No longer waits for those that `over` is true of.
    pub(super) fn give_up(&mut self, over: impl Fn(u32, &Candidate) -> bool) -> Vec<(u32, HashOutput)> {
        let mut given_up = Vec::new();
        for (counter, all) in &mut self.0 {
            for one in all.iter_mut().flatten().filter(|one| !one.given_up) {
                if over(*counter, one) {
                    one.given_up = true;
                    given_up.push((*counter, one.leaf));
                }
            }
        }
        given_up
    }

    pub(super) fn room(&self, counter: u32, leaf: &HashOutput) -> Room {
        if self.of(counter).any(|known| known == leaf) {
            return Room::Known;
        }
        if self.of(counter).count() < MAX_CANDIDATES { Room::Free } else { Room::Full }
    }

    pub(super) fn insert(&mut self, counter: u32, leaf: HashOutput, since: Monotonic) {
        let places = self.0.entry(counter).or_default();
        if let Some(place) = places.iter_mut().find(|place| place.is_none()) {
            *place = Some(Candidate { leaf, since, given_up: false });
        }
    }

    /// The only candidate, if there is exactly one.
    fn single(&self, counter: u32) -> Option<HashOutput> {
        let mut all = self.of(counter);
        all.next().copied().filter(|_| all.next().is_none())
    }

    pub(super) fn remove(&mut self, counter: u32) -> impl Iterator<Item = HashOutput> + use<> {
        self.0.remove(&counter).into_iter().flatten().flatten().map(|candidate| candidate.leaf)
    }

    /// Forgets those before `counter`; gives those back that were waited for.
    pub(super) fn forget_before(&mut self, counter: u32) -> Vec<(u32, HashOutput)> {
        let given_up = self.give_up(|at, _| at < counter);
        self.0 = self.0.split_off(&counter);
        given_up
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

    pub(super) fn contain(&self, counter: u32) -> bool {
        self.kept.iter().any(|batch| batch.contains(counter))
    }

    /// Whether there may be a seal over `counter`, which is in no batch here. None lies between a seal and the one that it
    /// names as the one before, and none after the last.
    pub(super) fn may_cover(&self, counter: u32) -> bool {
        let after = self.kept.iter().position(|batch| batch.seal.first > counter);
        let before = match after {
            Some(after) => after.checked_sub(1),
            None => self.kept.len().checked_sub(1),
        };
        let before = before.and_then(|before| self.kept.get(before));
        match after.and_then(|after| self.kept.get(after)) {
            Some(after) => after.seal.previous != before.map_or(self.anchor.1, |before| before.hash),
            None => !before.is_some_and(|before| before.seal.last),
        }
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
