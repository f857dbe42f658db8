//! The subscriber's part of the chain: from the oldest block that may still bring a record to the newest that was tried.

use alloc::collections::VecDeque;

use super::keys::BlockKeys;
use crate::crypto::backend::Backend;
use crate::crypto::kdf::HashOutput;
use crate::crypto::suite::SessionSuite;
use crate::session::chain::ChainKey;

/// Only verified seals move its beginning; so a forged record costs at most the steps to the end of the window, once.
pub(super) struct Blocks {
    first: u32,
    /// The chain's key at each block from `first` on, and what it gives once it was needed. Never empty.
    kept: VecDeque<(ChainKey, Option<BlockKeys>)>,
}

impl Blocks {
    pub(super) fn new(first: u32, key: ChainKey) -> Self {
        Self { first, kept: VecDeque::from([(key, None)]) }
    }

    /// The oldest block, with the chain's key there: all that the durable row holds.
    pub(super) fn oldest(&self) -> Option<(u32, &ChainKey)> {
        self.kept.front().map(|(key, _)| (self.first, key))
    }

    /// The keys of a block; the caller has checked that it is inside the window. `None` before the window, or if the library
    /// fails.
    pub(super) fn keys(
        &mut self,
        backend: Backend,
        suite: SessionSuite,
        binding: &HashOutput,
        block: u32,
    ) -> Option<&BlockKeys> {
        let at = self.derive(block)?;
        let (key, expanded) = self.kept.get_mut(at)?;
        if expanded.is_none() {
            let (seed, _) = key.step()?;
            *expanded = BlockKeys::new(backend, suite, &seed, binding);
        }
        expanded.as_ref()
    }

    /// Erases what is before `block`.
    pub(super) fn advance(&mut self, block: u32) -> Option<()> {
        while self.first < block {
            self.derive(self.first + 1)?;
            self.kept.pop_front();
            self.first += 1;
        }
        Some(())
    }

    /// Lets expanded keys go.
    pub(super) fn forget_expanded(&mut self) {
        self.kept.iter_mut().for_each(|(_, keys)| *keys = None);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    fn derive(&mut self, block: u32) -> Option<usize> {
        let at = usize::try_from(block.checked_sub(self.first)?).ok()?;
        while self.kept.len() <= at {
            let (_, next) = self.kept.back()?.0.step()?;
            self.kept.push_back((next, None));
        }
        Some(at)
    }
}
