//! Message numbers that cost nothing: a record has the lowest 12 bits of its message's number in the header, and its receiver
//! works out the others from what is settled already. This is what QUIC does with packet numbers (RFC 9000, A.3).
//!
//! Both sides know of it: the receiver by its durable record of what arrived, the sender by receipts, which are never ahead of
//! that record. The sender leaves a number out only if it is less than half of what 12 bits tell apart ahead of one that was
//! confirmed. The whole number is authenticated with the record, so no message is ever misnamed: should a receiver have
//! lost its record, then the tag does not verify, and the message comes again with its whole name.

use crate::delivery::ReceivedSet;

/// Bits of an implied number in the header.
pub(super) const LOW_BITS: u32 = 12;
/// How many numbers in a row they tell apart.
const SPAN: u64 = 1 << LOW_BITS;
/// How far behind what is settled an implied number may be: such messages were overtaken by so many.
const BEHIND: u64 = SPAN / 4;
/// How far ahead of a confirmed number the sender implies one.
const AHEAD: u64 = SPAN / 2;

/// What is settled of one stream of one of its sender's starts: on the receiver's side by what arrived or was reported lost,
/// on the sender's by receipts. Numbers count from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// All up to this number.
    pub cumulative: u64,
    /// None above this number.
    pub highest: u64,
}

impl From<&ReceivedSet> for Settled {
    fn from(of: &ReceivedSet) -> Self {
        Self { cumulative: of.cumulative(), highest: of.highest() }
    }
}

impl Settled {
    /// What another receipt adds.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (cumulative, highest) = (self.cumulative.max(other.cumulative), self.highest.max(other.highest));
        Self { cumulative, highest }
    }

    /// The bits of `number` that go in the header, if its receiver, who has settled as much or more, can tell the others.
    pub(super) fn imply(self, number: u64) -> Option<u16> {
        let near =
            |confirmed: u64| number.checked_sub(confirmed).is_some_and(|ahead| 0 < ahead && ahead <= AHEAD);
        (near(self.cumulative) || near(self.highest)).then_some((number % SPAN) as u16)
    }

    /// The numbers with these low bits that a message may have: near the highest, which is the likely one, and near the end of
    /// what is complete. The second is given if it is another.
    pub(super) fn candidates(self, low: u16) -> (u64, Option<u64>) {
        let near = |settled: u64| {
            let first = settled.saturating_sub(BEHIND) + 1;
            first.saturating_add(u64::from(low).wrapping_sub(first) % SPAN)
        };
        let (first, second) = (near(self.highest), near(self.cumulative));
        (first, (first != second).then_some(second))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_numbers_of_a_start_are_implied_by_nothing() {
        for number in 1..=AHEAD {
            let low = Settled::default().imply(number).unwrap();
            assert_eq!(Settled::default().candidates(low).0, number);
        }
        assert_eq!(Settled::default().imply(AHEAD + 1), None);
    }

    #[test]
    fn one_message_that_never_arrives_does_not_make_those_after_it_dear() {
        let stuck = Settled { cumulative: 9, highest: 700_000 };
        let low = stuck.imply(700_001).unwrap();
        assert_eq!(stuck.candidates(low).0, 700_001, "the first that is tried");
        assert_eq!(stuck.imply(300_000), None, "far from both");
    }

    #[test]
    fn the_largest_numbers_overflow_nothing() {
        for confirmed in [u64::MAX, u64::MAX - 1, u64::MAX - SPAN] {
            let end = Settled { cumulative: confirmed, highest: u64::MAX };
            for low in 0..SPAN as u16 {
                let (first, second) = end.candidates(low);
                assert!(first > 0 && second != Some(0));
            }
            assert_eq!(end.imply(u64::MAX).is_some(), (u64::MAX - AHEAD..u64::MAX).contains(&confirmed));
        }
    }

    proptest! {
        /// Whatever order they arrive in, and whatever its receiver forgot since the receipt that the sender has: what is
        /// implied is among the candidates, if no more than `BEHIND` overtook it.
        #[test]
        fn an_implied_number_is_found(
            steps in proptest::collection::vec((any::<u16>(), 0..10_u8), 1..1_500),
            window in 1..900_usize,
        ) {
            let (mut arrived, mut confirmed) = (ReceivedSet::default(), Settled::default());
            let mut network: Vec<(u64, Option<u16>)> = Vec::new();
            let mut number = 0;
            for (pick, event) in steps {
                while network.len() < window {
                    number += 1;
                    network.push((number, confirmed.imply(number)));
                }
                let (number, low) = network.remove(usize::from(pick) % network.len().min(200));
                if let Some(low) = low {
                    let (first, second) = Settled::from(&arrived).candidates(low);
                    prop_assert!(first == number || second == Some(number));
                }
                let _ = arrived.insert(number);
                if event == 0 {
                    confirmed = confirmed.and(Settled::from(&arrived));
                }
            }
        }
    }
}
