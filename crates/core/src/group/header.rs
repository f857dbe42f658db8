//! The clear part of a group's record, 15 bytes.
//!
//! ```text
//! 0xD0 · flags u8 · gid 7 · group epoch u16 · counter u32 · ciphertext · tag 16
//! ```
//! No flag is defined yet. The publisher rotates at each of its boots, so no boot salt is needed.

use super::{BLOCK_LEN, MAX_BLOCKS};
use crate::crypto::suite::Aead;
use crate::ids::GroupId;
use crate::session::AssociatedData;

/// The first byte of a record.
pub const TYPE_RECORD: u8 = 0xd0;
/// The first byte of a seal.
pub const TYPE_SEAL: u8 = 0xd1;
/// Length of a record's header in bytes.
pub const HEADER_LEN: usize = 15;
/// What a record adds to its payload in bytes: header and tag.
pub const OVERHEAD: usize = HEADER_LEN + Aead::TAG_LEN;

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The group.
    pub gid: GroupId,
    /// Its epoch.
    pub epoch: u16,
    /// Counts the records of the epoch; below [`MAX_BLOCKS`] · [`BLOCK_LEN`].
    pub counter: u32,
}

impl Header {
    /// Reads a record's clear part. `None` if it is none of ours, or too short for a tag.
    pub fn parse(record: &[u8]) -> Option<Self> {
        if record.len() < OVERHEAD {
            return None;
        }
        let &[TYPE_RECORD, 0, ref gid @ .., e0, e1, c0, c1, c2, c3] = record.first_chunk::<HEADER_LEN>()?
        else {
            return None;
        };
        let counter = u32::from_be_bytes([c0, c1, c2, c3]);
        let gid = GroupId::from_slice(gid)?;
        let valid = counter < MAX_BLOCKS * BLOCK_LEN;
        valid.then_some(Self { gid, epoch: u16::from_be_bytes([e0, e1]), counter })
    }

    /// The block that the counter is in.
    pub fn block(&self) -> u32 {
        self.counter / BLOCK_LEN
    }

    /// Header and topic hash: what a record authenticates besides its payload.
    pub(super) fn associated_data(&self, topic_hash: &[u8]) -> AssociatedData {
        let mut data = AssociatedData::new();
        data.push(&[TYPE_RECORD, 0]);
        data.push(self.gid.as_bytes());
        data.push(&self.epoch.to_be_bytes());
        data.push(&self.counter.to_be_bytes());
        data.end_header();
        data.push(topic_hash);
        data
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic_and_only_canonically(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
            ours in any::<bool>(),
        ) {
            if ours {
                bytes.iter_mut().zip([TYPE_RECORD, 0]).for_each(|(byte, value)| *byte = value);
                if let Some(high) = bytes.get_mut(11..13) {
                    high.fill(0);
                }
            }
            let parsed = Header::parse(&bytes);
            if ours && bytes.len() >= OVERHEAD {
                prop_assert_eq!(parsed.is_some(), bytes[13] < 0x80);
            }
            if let Some(header) = parsed {
                let data = header.associated_data(&[]);
                prop_assert_eq!(data.as_slice(), &bytes[..HEADER_LEN]);
            }
        }
    }
}
