//! The revoked identities in memory: sorted blocks, looked up by radix and interpolation.

use alloc::boxed::Box;
use alloc::vec::Vec;

use thiserror::Error;

use super::entry::{RevocationEntry, RevocationEntryId};

/// The most entries a set holds unless told less: 4 MB of memory.
pub const MAX_ENTRIES: usize = 200_000;

/// Ids are truncated hashes, uniformly distributed, so their top bits spread them evenly over the blocks: about 100
/// entries (1.9 kB as a row) each when 100,000 are revoked.
const BLOCK_BITS: u32 = 10;
pub(super) const BLOCKS: usize = 1 << BLOCK_BITS;

/// The set would grow beyond its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("more revoked identities than this receiver can hold")]
pub struct SetFull;

/// A bounded set of revoked identities. Entries are added, never taken back; only those whose certificates expired may
/// be dropped, by [`RevocationState`](super::RevocationState) and [`RevocationIssuer`](super::RevocationIssuer).
///
/// Lookup indexes one of 1,024 blocks by the id's top bits and interpolates in it: O(log n) whatever the ids.
#[derive(Clone)]
pub struct RevocationSet {
    // Empty until the first entry: most fleets' receivers start with nothing revoked.
    blocks: Vec<Vec<RevocationEntry>>,
    len: usize,
    limit: usize,
    dirty: Option<Box<[bool; BLOCKS]>>,
}

impl Default for RevocationSet {
    fn default() -> Self {
        Self::new()
    }
}

impl RevocationSet {
    /// An empty set of at most [`MAX_ENTRIES`].
    pub fn new() -> Self {
        Self::with_limit(MAX_ENTRIES)
    }

    /// An empty set of at most `limit` entries, itself at most [`MAX_ENTRIES`].
    pub fn with_limit(limit: usize) -> Self {
        Self { blocks: Vec::new(), len: 0, limit: limit.min(MAX_ENTRIES), dirty: None }
    }

    /// Whether this identity is revoked.
    pub fn contains(&self, id: &RevocationEntryId) -> bool {
        self.find(id).is_some()
    }

    /// The entry of this identity, if it is revoked.
    pub fn find(&self, id: &RevocationEntryId) -> Option<&RevocationEntry> {
        let block = self.blocks.get(block_of(id))?;
        block.get(position(block, id).ok()?)
    }

    /// How many identities are revoked.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, ids ascending.
    pub fn iter(&self) -> impl Iterator<Item = &RevocationEntry> {
        self.blocks.iter().flatten()
    }

    /// Adds every entry or, if that would pass the limit, none. An id already held keeps its reason and the later of
    /// both expiry days, so no merge can hasten an entry's end. Gives the entries that were not there before.
    pub fn merge(&mut self, entries: &[RevocationEntry]) -> Result<Vec<RevocationEntry>, SetFull> {
        if self.len + entries.len() > self.limit {
            let new = entries.iter().filter(|entry| !self.contains(&entry.id)).count();
            if self.len + new > self.limit {
                return Err(SetFull);
            }
        }
        Ok(entries.iter().filter(|entry| self.insert(**entry)).copied().collect())
    }

    fn insert(&mut self, entry: RevocationEntry) -> bool {
        if self.blocks.is_empty() {
            self.blocks.resize_with(BLOCKS, Vec::new);
        }
        let index = block_of(&entry.id);
        let Some(block) = self.blocks.get_mut(index) else { return false };
        let added = match position(block, &entry.id) {
            Ok(at) => {
                let Some(held) = block.get_mut(at) else { return false };
                if held.expires >= entry.expires {
                    return false;
                }
                held.expires = entry.expires;
                false
            }
            Err(at) => {
                block.insert(at, entry);
                self.len += 1;
                true
            }
        };
        self.mark(index);
        added
    }

    /// Drops what `expired` says; gives how many.
    pub(super) fn drop_expired(&mut self, expired: impl Fn(&RevocationEntry) -> bool) -> usize {
        let before = self.len;
        for index in 0..self.blocks.len() {
            let Some(block) = self.blocks.get_mut(index) else { break };
            let held = block.len();
            block.retain(|entry| !expired(entry));
            let dropped = held - block.len();
            if dropped > 0 {
                self.len -= dropped;
                self.mark(index);
            }
        }
        before - self.len
    }

    /// The same set with another limit, which what it holds may already exceed: nothing is dropped for room.
    pub(super) fn limited_to(self, limit: usize) -> Self {
        Self { limit: limit.min(MAX_ENTRIES), ..self }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The blocks changed since the last call, with their numbers; an empty one is to be deleted.
    pub(super) fn take_dirty(&mut self) -> impl Iterator<Item = (u16, &[RevocationEntry])> {
        let dirty = self.dirty.take();
        (0u16..).zip(&self.blocks).filter_map(move |(number, block)| {
            let changed = dirty.as_ref().is_some_and(|dirty| dirty.get(usize::from(number)) == Some(&true));
            changed.then_some((number, block.as_slice()))
        })
    }

    /// Puts back a stored block; false if it is not one: out of range, filled already, with a foreign id, or too much.
    /// `entries` are sorted.
    pub(super) fn restore_block(&mut self, number: u16, entries: Vec<RevocationEntry>) -> bool {
        if self.blocks.is_empty() {
            self.blocks.resize_with(BLOCKS, Vec::new);
        }
        let index = usize::from(number);
        if self.len + entries.len() > self.limit || entries.iter().any(|entry| block_of(&entry.id) != index) {
            return false;
        }
        let Some(block) = self.blocks.get_mut(index).filter(|block| block.is_empty()) else { return false };
        self.len += entries.len();
        *block = entries;
        true
    }

    fn mark(&mut self, index: usize) {
        let dirty = self.dirty.get_or_insert_with(|| Box::new([false; BLOCKS]));
        if let Some(flag) = dirty.get_mut(index) {
            *flag = true;
        }
    }
}

fn block_of(id: &RevocationEntryId) -> usize {
    let [high, low, ..] = *id.as_bytes();
    usize::from(u16::from_be_bytes([high, low]) >> (16 - BLOCK_BITS))
}

/// Where `id` is, or where it belongs. Starts where a uniformly distributed id would be and looks at its neighbours,
/// which share a cache line or two; bisects the rest if it is not among them.
fn position(block: &[RevocationEntry], id: &RevocationEntryId) -> Result<usize, usize> {
    const NEIGHBOURS: usize = 8;
    let wanted = key(id);
    let fraction = (wanted << BLOCK_BITS) >> 96;
    // Below the block's length, as the fraction is below 2^32.
    let guess = ((fraction * block.len() as u128) >> 32) as usize;
    let (low, high) = (guess.saturating_sub(NEIGHBOURS), (guess + NEIGHBOURS).min(block.len()));
    let starts = low == 0 || block.get(low).is_some_and(|entry| key(&entry.id) <= wanted);
    let ends = high == block.len() || block.get(high).is_some_and(|entry| key(&entry.id) > wanted);
    let (low, high) = match (starts, ends) {
        (true, true) => (low, high),
        (false, _) => (0, low),
        (true, false) => (high, block.len()),
    };
    let range = block.get(low..high).unwrap_or_default();
    match range.binary_search_by(|entry| key(&entry.id).cmp(&wanted)) {
        Ok(at) => Ok(low + at),
        Err(at) => Err(low + at),
    }
}

fn key(id: &RevocationEntryId) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::entry::tests::entry;
    use super::super::entry::{ExpiryDay, RevocationReason};
    use super::*;

    #[test]
    fn holds_100_000_and_finds_each_and_no_other() {
        let mut set = RevocationSet::new();
        let entries: Vec<_> = (0..100_000).map(|n| entry(n, 1)).collect();
        assert_eq!(set.merge(&entries).unwrap().len(), 100_000);
        assert_eq!(set.len(), 100_000);
        assert!(entries.iter().all(|entry| set.find(&entry.id) == Some(entry)));
        assert!((100_000..200_000).all(|n| !set.contains(&entry(n, 1).id)));
        assert!(set.iter().is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(set.iter().count(), 100_000);
        let largest = set.blocks.iter().map(Vec::len).max().unwrap();
        assert!(largest * RevocationEntry::LEN < 4096, "a row of {largest} entries is not small");
    }

    #[test]
    fn is_bounded_and_merges_all_or_nothing() {
        let mut set = RevocationSet::with_limit(10);
        let entries: Vec<_> = (0..12).map(|n| entry(n, 1)).collect();
        assert_eq!(set.merge(&entries[..8]).unwrap().len(), 8);
        assert_eq!(set.merge(&entries[6..]), Err(SetFull));
        assert_eq!(set.len(), 8);
        // Repeats take no room.
        assert_eq!(set.merge(&entries[..10]).unwrap(), entries[8..10]);
        assert_eq!(set.merge(&entries[..10]).unwrap(), []);
        assert_eq!(RevocationSet::with_limit(usize::MAX).limit(), MAX_ENTRIES);
    }

    #[test]
    fn a_repeat_never_hastens_the_end_of_an_entry() {
        let mut set = RevocationSet::new();
        set.merge(&[entry(1, 10)]).unwrap();
        set.merge(&[entry(1, 5)]).unwrap();
        assert_eq!(set.find(&entry(1, 0).id).unwrap().expires.days(), 10);
        set.merge(&[entry(1, 20)]).unwrap();
        assert_eq!(set.find(&entry(1, 0).id).unwrap().expires.days(), 20);
    }

    #[test]
    fn only_changed_blocks_are_dirty() {
        let mut set = RevocationSet::new();
        set.merge(&(0..5000).map(|n| entry(n, 1)).collect::<Vec<_>>()).unwrap();
        assert!(set.take_dirty().count() > 1000);
        assert_eq!(set.take_dirty().count(), 0);
        set.merge(&[entry(1, 1)]).unwrap();
        assert_eq!(set.take_dirty().count(), 0, "a repeat changes nothing");
        set.merge(&[entry(5001, 1)]).unwrap();
        let dirty: Vec<_> = set.take_dirty().map(|(number, block)| (number, block.len())).collect();
        assert_eq!(dirty.len(), 1);
        assert_eq!(usize::from(dirty[0].0), block_of(&entry(5001, 1).id));
    }

    #[test]
    fn a_foreign_or_repeated_block_is_not_restored() {
        let one = entry(1, 1);
        let number = block_of(&one.id) as u16;
        let mut set = RevocationSet::new();
        assert!(!set.restore_block(number ^ 1, alloc::vec![one]));
        assert!(!set.restore_block(BLOCKS as u16, alloc::vec![]));
        assert!(set.restore_block(number, alloc::vec![one]));
        assert!(!set.restore_block(number, alloc::vec![one]));
        assert!(set.contains(&one.id));
        assert_eq!(set.len(), 1);
    }

    /// Few distinct leading bytes, so that ids collide, crowd one block and straddle block borders.
    fn crowded_entry() -> impl Strategy<Value = RevocationEntry> {
        let id =
            (prop_oneof![Just(0u8), Just(1), Just(255)], prop_oneof![Just(0u8), Just(63), Just(64)], 0u8..8);
        (id, 0u16..4).prop_map(|((a, b, c), day)| {
            let mut id = [0; 16];
            (id[0], id[1], id[15]) = (a, b, c);
            RevocationEntry {
                id: RevocationEntryId::from_bytes(id),
                reason: RevocationReason::UNSPECIFIED,
                expires: ExpiryDay::from_days(day),
            }
        })
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(batches in proptest::collection::vec(
            (proptest::collection::vec(crowded_entry(), 0..20), proptest::option::of(0u16..4)), 0..10)) {
            let mut set = RevocationSet::new();
            let mut model = BTreeMap::new();
            for (batch, drop) in batches {
                let merged = set.merge(&batch).unwrap();
                let mut added = BTreeSet::new();
                for entry in &batch {
                    let day = model.entry(entry.id).or_insert_with(|| { added.insert(entry.id); entry.expires });
                    *day = (*day).max(entry.expires);
                }
                prop_assert_eq!(merged.iter().map(|entry| entry.id).collect::<BTreeSet<_>>(), added);
                if let Some(day) = drop {
                    let before = model.len();
                    model.retain(|_, expires| expires.days() != day);
                    prop_assert_eq!(set.drop_expired(|entry| entry.expires.days() == day), before - model.len());
                }
                prop_assert_eq!(set.len(), model.len());
                let held: Vec<_> = set.iter().map(|entry| (entry.id, entry.expires)).collect();
                prop_assert_eq!(held, model.clone().into_iter().collect::<Vec<_>>());
                for n in 0..8 {
                    let mut id = [0; 16];
                    id[15] = n;
                    let id = RevocationEntryId::from_bytes(id);
                    prop_assert_eq!(set.contains(&id), model.contains_key(&id));
                }
            }
        }
    }
}
