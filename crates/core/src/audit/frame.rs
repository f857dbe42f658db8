//! Record framing: length and its complement, then the record. A torn write at the end of a file can so be told from a
//! length that somebody changed.

use alloc::vec::Vec;

/// Bytes before each record: its length and the length's complement, both u32 big-endian.
pub const PREFIX: usize = 8;

/// Frames `record` for appending.
pub fn frame(record: &[u8], out: &mut Vec<u8>) {
    // Records are at most `MAX_HEADER` long.
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&(!length).to_be_bytes());
    out.extend_from_slice(record);
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole record that starts (with its prefix) at `offset`.
    Record {
        /// Where, in bytes from the start of the segment.
        offset: usize,
        /// The record without its prefix.
        record: &'a [u8],
    },
    /// The bytes from `offset` on are the beginning of a record that was never completed.
    Torn {
        /// Where the incomplete record starts.
        offset: usize,
    },
    /// The bytes at `offset` are no frame at all.
    Corrupt {
        /// Where.
        offset: usize,
    },
}

/// Splits a segment into records.
pub struct Frames<'a> {
    bytes: &'a [u8],
    offset: usize,
    ended: bool,
}

impl<'a> Frames<'a> {
    /// Starts at the segment's first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, ended: false }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let offset = self.offset;
        let rest = self.bytes.get(offset..).filter(|rest| !rest.is_empty())?;
        if self.ended {
            return None;
        }
        // A crash can leave a file extended but unwritten: zeros to its end.
        let Some((prefix, body)) =
            rest.split_first_chunk::<PREFIX>().filter(|_| rest.iter().any(|&b| b != 0))
        else {
            self.ended = true;
            return Some(Frame::Torn { offset });
        };
        let prefix = u64::from_be_bytes(*prefix);
        let (length, complement) = ((prefix >> 32) as u32, prefix as u32);
        if length != !complement {
            self.ended = true;
            return Some(Frame::Corrupt { offset });
        }
        let Some(record) = body.get(..length as usize) else {
            self.ended = true;
            return Some(Frame::Torn { offset });
        };
        self.offset = offset + PREFIX + record.len();
        Some(Frame::Record { offset, record })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn two() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(b"first", &mut bytes);
        frame(b"second", &mut bytes);
        bytes
    }

    #[test]
    fn every_cut_is_torn_at_the_right_record() {
        let bytes = two();
        for cut in 0..bytes.len() {
            let frames: Vec<_> = Frames::new(&bytes[..cut]).collect();
            match cut {
                0 => assert!(frames.is_empty()),
                1..=12 => assert_eq!(frames, [Frame::Torn { offset: 0 }]),
                13 => assert_eq!(frames, [Frame::Record { offset: 0, record: b"first" }]),
                _ => assert_eq!(frames[1], Frame::Torn { offset: 13 }),
            }
        }
    }

    #[test]
    fn a_changed_length_is_never_a_torn_tail() {
        for at in (0..PREFIX).chain(13..13 + PREFIX) {
            for bit in 0..8 {
                let mut bytes = two();
                bytes[at] ^= 1 << bit;
                let offset = if at < PREFIX { 0 } else { 13 };
                assert_eq!(
                    Frames::new(&bytes).last(),
                    Some(Frame::Corrupt { offset }),
                    "byte {at} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn an_unwritten_extension_is_torn() {
        let mut bytes = two();
        bytes.extend([0; 512]);
        assert_eq!(Frames::new(&bytes).last(), Some(Frame::Torn { offset: 27 }));
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Frames::new(&bytes).count() <= bytes.len());
        }
    }
}
