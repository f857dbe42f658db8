//! One pass that accepts deterministic CBOR and nothing else, in constant memory.

use thiserror::Error;

/// Deepest nesting of arrays and maps.
pub const MAX_DEPTH: usize = 8;

/// Why bytes are not one deterministic CBOR item of the subset used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotDeterministic {
    /// The item ends before its length says.
    #[error("truncated CBOR")]
    Truncated,
    /// Bytes follow the item.
    #[error("bytes after the CBOR item")]
    Trailing,
    /// A head that a shorter one could express.
    #[error("non-minimal CBOR head")]
    NonMinimal,
    /// An indefinite length, a tag, a float, `undefined` or an unassigned simple value.
    #[error("CBOR feature outside the subset used here")]
    Forbidden,
    /// Nesting beyond [`MAX_DEPTH`].
    #[error("CBOR nested too deeply")]
    TooDeep,
    /// Map keys that are not integers, not sorted, or not unique.
    #[error("CBOR map keys not sorted unique integers")]
    Keys,
    /// Text that is not UTF-8.
    #[error("CBOR text is not UTF-8")]
    Text,
}

/// Accepts exactly one item: minimal heads, definite lengths, sorted unique integer map keys, no tags, no floats,
/// depth at most [`MAX_DEPTH`], nothing after it (RFC 8949 §4.2.1).
pub fn validate(bytes: &[u8]) -> Result<(), NotDeterministic> {
    let mut stack = Stack::default();
    let mut at = 0;
    loop {
        let start = at;
        let head = Head::read(bytes, &mut at)?;
        stack.check_key(bytes, start, at, head.major)?;
        match head.major {
            0 | 1 => {}
            2 | 3 => {
                let length = usize::try_from(head.argument).map_err(|_| NotDeterministic::Truncated)?;
                let end = at.checked_add(length).ok_or(NotDeterministic::Truncated)?;
                let content = bytes.get(at..end).ok_or(NotDeterministic::Truncated)?;
                if head.major == 3 && core::str::from_utf8(content).is_err() {
                    return Err(NotDeterministic::Text);
                }
                at = end;
            }
            4 => stack.push(head.argument, false)?,
            5 => stack.push(head.argument.checked_mul(2).ok_or(NotDeterministic::Truncated)?, true)?,
            // false, true, null
            7 if matches!(head.argument, 20..=22) => {}
            _ => return Err(NotDeterministic::Forbidden),
        }
        if stack.finish_item() {
            return if at == bytes.len() { Ok(()) } else { Err(NotDeterministic::Trailing) };
        }
    }
}

struct Head {
    major: u8,
    argument: u64,
}

impl Head {
    fn read(bytes: &[u8], at: &mut usize) -> Result<Self, NotDeterministic> {
        let first = *bytes.get(*at).ok_or(NotDeterministic::Truncated)?;
        *at += 1;
        let (major, low) = (first >> 5, first & 0x1f);
        let width = match low {
            0..=23 => return Ok(Self { major, argument: low.into() }),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(NotDeterministic::Forbidden),
        };
        if major == 7 {
            return Err(NotDeterministic::Forbidden);
        }
        let raw = bytes.get(*at..*at + width).ok_or(NotDeterministic::Truncated)?;
        *at += width;
        let argument = raw.iter().fold(0u64, |value, &byte| (value << 8) | u64::from(byte));
        let minimal = match width {
            1 => argument >= 24,
            2 => argument > u8::MAX.into(),
            4 => argument > u16::MAX.into(),
            _ => argument > u32::MAX.into(),
        };
        if minimal { Ok(Self { major, argument }) } else { Err(NotDeterministic::NonMinimal) }
    }
}

#[derive(Default, Clone, Copy)]
struct Frame {
    remaining: u64,
    map: bool,
    previous_key: Option<(usize, usize)>,
}

#[derive(Default)]
struct Stack {
    frames: [Frame; MAX_DEPTH],
    depth: usize,
}

impl Stack {
    fn top(&mut self) -> Option<&mut Frame> {
        self.depth.checked_sub(1).and_then(|index| self.frames.get_mut(index))
    }

    fn push(&mut self, remaining: u64, map: bool) -> Result<(), NotDeterministic> {
        let frame = self.frames.get_mut(self.depth).ok_or(NotDeterministic::TooDeep)?;
        // The container itself is finished when its last item is: count it as one more.
        *frame = Frame { remaining: remaining.saturating_add(1), map, previous_key: None };
        self.depth += 1;
        Ok(())
    }

    /// In key position (an even number of items left in a map), the item must be an integer above the last key.
    fn check_key(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        major: u8,
    ) -> Result<(), NotDeterministic> {
        let Some(frame) = self.top() else { return Ok(()) };
        if !frame.map || frame.remaining % 2 != 0 {
            return Ok(());
        }
        if major > 1 {
            return Err(NotDeterministic::Keys);
        }
        if let Some((from, to)) = frame.previous_key
            && bytes.get(from..to) >= bytes.get(start..end)
        {
            return Err(NotDeterministic::Keys);
        }
        frame.previous_key = Some((start, end));
        Ok(())
    }

    /// Counts the item just read; true when the outermost item is complete.
    fn finish_item(&mut self) -> bool {
        while let Some(frame) = self.top() {
            frame.remaining -= 1;
            if frame.remaining > 0 {
                return false;
            }
            self.depth -= 1;
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_deterministic_items() {
        for item in [
            &[0x00][..],
            &[0x18, 24],
            &[0x80],
            &[0xa0],
            &[0x82, 0x01, 0x40],
            &[0xa2, 0x01, 0x02, 0x20, 0x80],
            &[0x83, 0xf4, 0xf5, 0xf6],
            &[0xa1, 0x01, 0xa1, 0x02, 0x81, 0x00],
        ] {
            assert_eq!(validate(item), Ok(()), "{item:02x?}");
        }
    }

    #[test]
    fn refuses_every_other_form() {
        use NotDeterministic::*;
        for (item, why) in [
            (&[][..], Truncated),
            (&[0x18, 23], NonMinimal),
            (&[0x19, 0x00, 0xff], NonMinimal),
            (&[0x58, 0x01, 0x00], NonMinimal),
            (&[0x9f, 0xff], Forbidden),
            (&[0x5f, 0xff], Forbidden),
            (&[0xc0, 0x00], Forbidden),
            (&[0xf9, 0x00, 0x00], Forbidden),
            (&[0xf7], Forbidden),
            (&[0xf8, 0x20], Forbidden),
            (&[0x00, 0x00], Trailing),
            (&[0x82, 0x00], Truncated),
            (&[0x41], Truncated),
            (&[0x61, 0xff], Text),
            (&[0xa2, 0x02, 0x00, 0x01, 0x00], Keys),
            (&[0xa2, 0x01, 0x00, 0x01, 0x00], Keys),
            (&[0xa1, 0x61, 0x61, 0x00], Keys),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00], Truncated),
            (&[0x81; 9], TooDeep),
        ] {
            assert_eq!(validate(item), Err(why), "{item:02x?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_refuses_every_extension(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if validate(&bytes).is_ok() {
                let mut longer: Vec<u8> = bytes.clone();
                longer.push(0);
                prop_assert!(validate(&longer).is_err());
                prop_assert!(validate(&bytes[..bytes.len() - 1]).is_err());
            }
        }
    }
}
