//! Offers and answers of the KEM ratchet in parts, where the transport takes only small packets.
//!
//! A part names the message that it is of, so that the same message sent again completes what is missing of it, in whatever
//! order, and parts of two messages never mix. What was gathered is not durable: after a restart all parts are needed.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Control;
use super::header::{OVERHEAD, SALT_LEN};
use crate::crypto::kdf;

/// The most parts of one message.
pub const MAX_PARTS: u8 = 64;
/// The largest message in parts, in bytes: an offer of the largest key.
pub const MAX_WHOLE: usize = 2_048;
/// The least that a part carries, in bytes, however small packets are to be.
pub const MIN_PART: usize = 48;

/// What a part's record adds to its bytes: header, salt and tag of the record, and the part's own fields.
const ADDED: usize = OVERHEAD + SALT_LEN + 1 + 1 + 3 + 2 + 2 + 9 + 3;

/// Names a message that goes in parts: of its hash.
pub type PartsName = [u8; 8];

/// A part of an encoded [`Control::Offer`] or [`Control::Accept`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The epoch that the message is for.
    pub epoch: u16,
    /// Of which message.
    pub name: PartsName,
    /// How many parts there are.
    pub count: u8,
    /// Which of them this is, from 0.
    pub index: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The parts of one message that arrived.
pub struct Parts {
    epoch: u16,
    name: PartsName,
    parts: Vec<Option<Vec<u8>>>,
}

impl Control {
    /// The message as it goes where a record may have `max_packet` bytes: in parts if it is an offer or an answer and too
    /// long, otherwise whole. The same message is always cut the same way.
    pub fn fit(self, max_packet: usize) -> Vec<Self> {
        let epoch = match &self {
            Self::Offer(offer) => offer.epoch,
            Self::Accept(accept) => accept.epoch,
            _ => return alloc::vec![self],
        };
        let whole = self.encode();
        if whole.len() + OVERHEAD + SALT_LEN <= max_packet {
            return alloc::vec![self];
        }
        let chunks = whole.chunks(max_packet.saturating_sub(ADDED).max(MIN_PART));
        let (name, count) = (name_of(&whole), u8::try_from(chunks.len()).unwrap_or(u8::MAX));
        let part = |(index, bytes): (u8, &[u8])| {
            Self::Part(Part { epoch, name, count, index, bytes: bytes.to_vec() })
        };
        (0..count).zip(chunks).map(part).collect()
    }
}

impl Parts {
    /// Takes a part; gives the message once it is complete, and begins anew. A part of another message of the same or a
    /// later epoch drops what there was, so at most one message is gathered. What is impossible is passed over.
    pub fn gather(gathered: &mut Option<Box<Self>>, part: &Part) -> Option<Control> {
        if part.count > MAX_PARTS || part.index >= part.count || part.bytes.len() > MAX_WHOLE {
            return None;
        }
        let count = usize::from(part.count);
        let same =
            |parts: &Self| (parts.epoch, parts.name, parts.parts.len()) == (part.epoch, part.name, count);
        if gathered.as_ref().is_some_and(|parts| parts.epoch > part.epoch) {
            return None;
        }
        if !gathered.as_deref().is_some_and(same) {
            let parts = alloc::vec![None; count];
            *gathered = Some(Box::new(Self { epoch: part.epoch, name: part.name, parts }));
        }
        let parts = gathered.as_mut()?;
        let held: usize = parts.parts.iter().flatten().map(Vec::len).sum();
        let place = parts.parts.get_mut(usize::from(part.index))?;
        if place.is_none() && held + part.bytes.len() <= MAX_WHOLE {
            *place = Some(part.bytes.clone());
        }
        if parts.parts.iter().any(Option::is_none) {
            return None;
        }
        let whole: Vec<u8> = gathered.take()?.parts.into_iter().flatten().flatten().collect();
        let control = Control::decode(&whole).ok().filter(|_| name_of(&whole) == part.name)?;
        match &control {
            Control::Offer(offer) if offer.epoch == part.epoch => Some(control),
            Control::Accept(accept) if accept.epoch == part.epoch => Some(control),
            _ => None,
        }
    }
}

fn name_of(whole: &[u8]) -> PartsName {
    let mut name = PartsName::default();
    let hash = kdf::sha256(&[whole]);
    name.iter_mut().zip(hash).for_each(|(byte, hash)| *byte = hash);
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::{Accept, Offer};

    fn message(epoch: u16, len: usize, fill: u8, offers: bool) -> Control {
        let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8 ^ fill).collect();
        if offers {
            Control::Offer(Offer { epoch, encapsulation_key: bytes })
        } else {
            Control::Accept(Accept { epoch, ciphertext: bytes })
        }
    }

    fn part(control: &Control) -> &Part {
        let Control::Part(part) = control else { panic!("whole") };
        part
    }

    fn held(gathered: &Option<Box<Parts>>) -> usize {
        gathered.iter().flat_map(|parts| parts.parts.iter().flatten()).map(Vec::len).sum()
    }

    #[test]
    fn what_fits_goes_whole_and_nothing_else_is_cut() {
        let offer = message(1, 1_216, 0, true);
        assert_eq!(offer.clone().fit(usize::MAX), core::slice::from_ref(&offer));
        let exact = offer.encode().len() + OVERHEAD + SALT_LEN;
        assert_eq!(offer.clone().fit(exact), core::slice::from_ref(&offer));
        assert!(offer.fit(exact - 1).len() > 1);
        for small in [Control::Confirm, Control::YourTurn, Control::Ask] {
            assert_eq!(small.clone().fit(0), [small]);
        }
        // The largest, at the smallest size that is kept to.
        assert!(message(1, 1_568, 0, true).fit(0).len() <= MAX_PARTS.into());
    }

    #[test]
    fn a_later_message_drops_an_earlier_one_and_never_the_other_way_round() {
        let (old, new) = (message(1, 900, 0, true).fit(256), message(2, 900, 1, true).fit(256));
        let mut gathered = None;
        for part_of_old in &old[1..] {
            assert_eq!(Parts::gather(&mut gathered, part(part_of_old)), None);
        }
        assert_eq!(Parts::gather(&mut gathered, part(&new[0])), None);
        assert_eq!(Parts::gather(&mut gathered, part(&old[0])), None, "its other parts are gone");
        let mut last = None;
        for part_of_new in &new[1..] {
            last = Parts::gather(&mut gathered, part(part_of_new));
        }
        assert_eq!(last, Some(message(2, 900, 1, true)));
    }

    #[test]
    fn parts_of_something_else_than_an_offer_or_an_answer_of_their_epoch_make_nothing() {
        let lie = |whole: Vec<u8>, epoch| {
            let whole_part = Part { epoch, name: name_of(&whole), count: 1, index: 0, bytes: whole };
            Parts::gather(&mut None, &whole_part)
        };
        let offer = message(3, 40, 0, true);
        assert_eq!(lie(offer.encode(), 3), Some(offer.clone()));
        assert_eq!(lie(offer.encode(), 4), None);
        assert_eq!(lie(Control::Close.encode(), 3), None);
        let nested =
            Control::Part(Part { epoch: 3, name: [0; 8], count: 1, index: 0, bytes: offer.encode() });
        assert_eq!(lie(nested.encode(), 3), None);
        let other_name = Part { epoch: 3, name: [9; 8], count: 1, index: 0, bytes: offer.encode() };
        assert_eq!(Parts::gather(&mut None, &other_name), None, "another message's bytes");
    }

    proptest! {
        /// Lost, repeated and out of order: the message comes whole once each part has come, and only then.
        #[test]
        fn parts_make_their_message_in_whatever_order(
            len in 200..1_568_usize,
            offers in any::<bool>(),
            max_packet in 0..700_usize,
            rounds in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..12),
        ) {
            let whole = message(1, len, 0, offers);
            let parts = whole.clone().fit(max_packet);
            prop_assume!(parts.len() > 1);
            for control in &parts {
                let record = control.encode().len() + OVERHEAD + SALT_LEN;
                prop_assert!(record <= max_packet.max(ADDED + MIN_PART), "{record} of {max_packet}");
                let decoded = Control::decode(&control.encode());
                prop_assert_eq!(decoded, Ok(control.clone()));
            }
            let (mut gathered, mut have) = (None, alloc::collections::BTreeSet::new());
            for (order, lost) in rounds {
                let mut round: Vec<_> = (0..parts.len()).collect();
                round.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(order | 1));
                for index in round.into_iter().filter(|index| lost >> (index % 64) & 1 == 0) {
                    have.insert(index);
                    let done = Parts::gather(&mut gathered, part(&parts[index]));
                    prop_assert!(held(&gathered) <= MAX_WHOLE);
                    prop_assert_eq!(done.is_some(), have.len() == parts.len());
                    if let Some(done) = done {
                        prop_assert_eq!(done, whole.clone());
                        have.clear();
                    }
                }
            }
        }

        #[test]
        fn whatever_a_peer_sends_memory_is_bounded(
            lies in proptest::collection::vec((0..3_u16, 0..3_u8, any::<u8>(), any::<u8>(), 0..3_000_usize), 0..80),
        ) {
            let mut gathered = None;
            for (epoch, name, count, index, len) in lies {
                let lie = Part { epoch, name: [name; 8], count, index, bytes: alloc::vec![7; len] };
                prop_assert_eq!(Parts::gather(&mut gathered, &lie), None);
                prop_assert!(held(&gathered) <= MAX_WHOLE);
                let slots = gathered.as_ref().map_or(0, |parts| parts.parts.len());
                prop_assert!(slots <= MAX_PARTS.into());
            }
        }
    }
}
