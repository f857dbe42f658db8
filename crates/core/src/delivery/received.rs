//! Which numbers of one boot arrived: everything up to one, and few ranges beyond.

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, Writer};

/// The most ranges beyond the first gap. A message that would need one more is not accepted; its sender, told of the
/// gaps, sends what is missing first.
pub const MAX_RANGES: usize = 256;

/// Numbers from 1 that arrived, each once.
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
    /// Everything up to this number arrived.
    pub fn cumulative(&self) -> u64 {
        self.cumulative
    }

    /// What arrived beyond the first gap: inclusive ranges, ascending.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// The highest number that arrived, 0 if none.
    pub fn highest(&self) -> u64 {
        self.ranges.last().map_or(self.cumulative, |(_, last)| *last)
    }

    /// The same without all but the first `ranges` beyond the first gap.
    #[must_use]
    pub fn first(&self, ranges: usize) -> Self {
        let kept = self.ranges.iter().take(ranges).copied().collect();
        Self { cumulative: self.cumulative, ranges: kept }
    }

    /// Whether `number` arrived.
    pub fn contains(&self, number: u64) -> bool {
        number <= self.cumulative
            || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// Adds a number, which is not 0.
    ///
    /// # Errors
    ///
    /// [`Full`] leaves the set unchanged.
    pub fn insert(&mut self, number: u64) -> Result<Received, Full> {
        if self.contains(number) {
            return Ok(Received::Before);
        }
        let at = self.ranges.partition_point(|(first, _)| *first < number);
        let touches_before = match at.checked_sub(1).and_then(|before| self.ranges.get(before)) {
            Some((_, last)) => last.checked_add(1) == Some(number),
            None => self.cumulative.checked_add(1) == Some(number),
        };
        let touches_after =
            self.ranges.get(at).is_some_and(|(first, _)| number.checked_add(1) == Some(*first));
        match (touches_before, touches_after) {
            (false, false) if self.ranges.len() >= MAX_RANGES => return Err(Full),
            (false, false) => self.ranges.insert(at, (number, number)),
            (false, true) => self.ranges[at].0 = number,
            (true, after) => {
                let end = if after { self.ranges.remove(at).1 } else { number };
                match at.checked_sub(1) {
                    Some(before) => self.ranges[before].1 = end,
                    None => self.cumulative = end,
                }
            }
        }
        Ok(Received::New)
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.uint(self.cumulative).array(2 * self.ranges.len());
        for (first, last) in &self.ranges {
            writer.uint(*first).uint(*last);
        }
    }

    /// Accepts only what [`ReceivedSet::encode`] writes.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let cumulative = reader.uint()?;
        let length = reader.array_up_to(2 * MAX_RANGES as u64)?;
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
