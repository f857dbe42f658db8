//! Which numbers of one boot are settled, as they arrived or their sender gave them up: everything up to one, and few
//! ranges beyond.

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, Writer};

/// The most ranges beyond the first gap. A message that would need one more is not accepted; its sender, told of the
/// gaps, sends what is missing first.
pub const MAX_RANGES: usize = 128;

/// Numbers from 1 of which nothing more is awaited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReceivedSet {
    cumulative: u64,
    /// Inclusive, ascending, neither touching each other nor `cumulative`.
    ranges: Vec<(u64, u64)>,
}

/// What inserting a number found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is new.
    New,
    /// It arrived before.
    Before,
}

/// The set has no room for a number this far from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl ReceivedSet {
    /// Everything up to this number is in it.
    pub fn cumulative(&self) -> u64 {
        self.cumulative
    }

    /// What is in it beyond the first gap: inclusive ranges, ascending.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// The highest number in it, 0 if none.
    pub fn highest(&self) -> u64 {
        self.ranges.last().map_or(self.cumulative, |(_, last)| *last)
    }

    /// The same without all but the first `ranges` beyond the first gap.
    #[must_use]
    pub fn first(&self, ranges: usize) -> Self {
        let kept = self.ranges.iter().take(ranges).copied().collect();
        Self { cumulative: self.cumulative, ranges: kept }
    }

    /// Whether `number` is in it.
    pub fn contains(&self, number: u64) -> bool {
        self.contains_all(number, number)
    }

    /// Whether every number from `first` to `last` is in it.
    pub fn contains_all(&self, first: u64, last: u64) -> bool {
        last <= self.cumulative || self.ranges.iter().any(|(from, to)| *from <= first && last <= *to)
    }

    /// Adds a number, which is not 0.
    ///
    /// # Errors
    ///
    /// [`Full`] leaves the set unchanged.
    pub fn insert(&mut self, number: u64) -> Result<Received, Full> {
        let new = self.insert_all(number, number)?;
        Ok(if new == 0 { Received::Before } else { Received::New })
    }

    /// Adds every number from `first`, which is not 0, to `last`, which is not below it. Says how many were not in it.
    ///
    /// # Errors
    ///
    /// [`Full`] leaves the set unchanged.
    pub fn insert_all(&mut self, first: u64, last: u64) -> Result<u64, Full> {
        let before = self.count_between(first, last);
        let new = (last - first).saturating_add(1).saturating_sub(before);
        if new == 0 {
            return Ok(0);
        }
        let touch = |before: u64, after: u64| after <= before.saturating_add(1);
        let mut cumulative = self.cumulative;
        let mut added = Some((first, last));
        if touch(cumulative, first) {
            cumulative = cumulative.max(last);
            added = None;
        }
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        for (from, to) in self.ranges.iter().copied() {
            match added {
                None if touch(cumulative, from) => cumulative = cumulative.max(to),
                Some((first, last)) if touch(last, from) && touch(to, first) => {
                    added = Some((first.min(from), last.max(to)));
                }
                Some(range) if range.1 < from => {
                    ranges.extend([range, (from, to)]);
                    // From here on nothing touches it, nor what is all that arrived up to the first gap.
                    added = None;
                }
                _ => ranges.push((from, to)),
            }
        }
        ranges.extend(added);
        if ranges.len() > MAX_RANGES {
            return Err(Full);
        }
        (self.cumulative, self.ranges) = (cumulative, ranges);
        Ok(new)
    }

    fn count_between(&self, first: u64, last: u64) -> u64 {
        let up_to_gap = Some((1, self.cumulative)).filter(|_| self.cumulative > 0);
        let within = |(from, to): (u64, u64)| match (from.max(first), to.min(last)) {
            (from, to) if from <= to => (to - from).saturating_add(1),
            _ => 0,
        };
        up_to_gap.into_iter().chain(self.ranges.iter().copied()).map(within).sum()
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.uint(self.cumulative).array(2 * self.ranges.len());
        for (first, last) in &self.ranges {
            writer.uint(*first).uint(*last);
        }
    }

    /// As [`ReceivedSet::decode`] of what an earlier release wrote, which had twice as many ranges; keeps the first.
    pub(crate) fn decode_longer(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_up_to(reader, 2 * MAX_RANGES).map(|set| set.first(MAX_RANGES))
    }

    /// Accepts only what [`ReceivedSet::encode`] writes.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_up_to(reader, MAX_RANGES)
    }

    fn decode_up_to(reader: &mut Reader<'_>, ranges: usize) -> Result<Self, DecodeError> {
        let cumulative = reader.uint()?;
        let length = reader.array_up_to(2 * ranges as u64)?;
        if length % 2 != 0 {
            return Err(DecodeError::Shape);
        }
        let mut set = Self { cumulative, ranges: Vec::new() };
        for _ in 0..length / 2 {
            let (first, last) = (reader.uint()?, reader.uint()?);
            let apart = set.highest().checked_add(1).is_some_and(|next| next < first);
            if !apart || last < first {
                return Err(DecodeError::Value);
            }
            set.ranges.push((first, last));
        }
        Ok(set)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain set of numbers, through the store's encoding.
        #[test]
        fn holds_exactly_what_was_inserted(numbers in proptest::collection::vec(1u64..120, 0..200)) {
            let (mut set, mut model) = (ReceivedSet::default(), BTreeSet::new());
            for number in numbers {
                let outcome = set.insert(number).unwrap();
                prop_assert_eq!(outcome == Received::New, model.insert(number));
                let mut writer = Writer::new();
                writer.array(2);
                set.encode(&mut writer);
                let bytes = writer.finish();
                let mut reader = Reader::new(&bytes).unwrap();
                reader.array_of(2).unwrap();
                prop_assert_eq!(&ReceivedSet::decode(&mut reader).unwrap(), &set);
            }
            for number in 1..121 {
                prop_assert_eq!(set.contains(number), model.contains(&number));
            }
            let first_gap = (1..).find(|number| !model.contains(number)).unwrap();
            prop_assert_eq!(set.cumulative(), first_gap - 1);
            prop_assert_eq!(set.highest(), model.last().copied().unwrap_or(0));
        }
    }

    proptest! {
        /// A range is as its numbers one by one.
        #[test]
        fn ranges_are_their_numbers(ranges in proptest::collection::vec((1u64..120, 0u64..20), 0..60)) {
            let (mut set, mut model) = (ReceivedSet::default(), BTreeSet::new());
            for (first, more) in ranges {
                let new = (first..=first + more).filter(|number| model.insert(*number)).count();
                prop_assert_eq!(set.insert_all(first, first + more), Ok(new as u64));
                prop_assert!(set.contains_all(first, first + more));
            }
            let mut singly = ReceivedSet::default();
            for number in &model {
                singly.insert(*number).unwrap();
            }
            prop_assert_eq!(singly, set);
        }
    }

    #[test]
    fn the_largest_ranges_overflow_nothing() {
        let mut set = ReceivedSet::default();
        assert_eq!(set.insert_all(u64::MAX - 1, u64::MAX), Ok(2));
        assert_eq!(set.insert_all(1, u64::MAX), Ok(u64::MAX - 2));
        assert_eq!((set.cumulative(), set.ranges().len()), (u64::MAX, 0));
        assert_eq!(set.insert(u64::MAX), Ok(Received::Before));
    }

    #[test]
    fn far_numbers_cost_a_range_each_and_no_more_than_the_bound() {
        let mut set = ReceivedSet::default();
        for far in 0..MAX_RANGES as u64 {
            assert_eq!(set.insert(u64::MAX - 2 * far), Ok(Received::New));
        }
        let full = set.clone();
        assert_eq!(set.insert(10), Err(Full));
        assert_eq!(set, full);
        assert_eq!(set.insert(1), Ok(Received::New), "what closes the first gap always fits");
        assert_eq!(set.insert(u64::MAX - 1), Ok(Received::New), "so does what joins two ranges");
    }
}
