//! The replay window (invariant I4): a 64-bit bitmap relative to the highest accepted sequence.

use alloc::vec::Vec;

/// How far behind the highest accepted sequence a message may arrive, in messages.
pub const WINDOW: u64 = 64;

/// The most messages a sender has under way per stream, so that a resend still falls inside the window.
pub const MAX_IN_FLIGHT: u64 = 48;

/// What was accepted from one sender key on one stream.
///
/// [`ReplayWindow::check`] costs nothing and runs before any cryptography; only [`ReplayWindow::commit`], after
/// everything verified, changes the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayWindow {
    /// The highest accepted sequence; 0 before the first, as sequences start at 1.
    last_sequence: u64,
    /// Bit `i` stands for `last_sequence - i`.
    bitmap: u64,
}

/// Why a sequence is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Seen before.
    Duplicate,
    /// Older than the window: refused deterministically.
    TooOld,
}

impl ReplayWindow {
    /// Whether `sequence` would be accepted.
    pub fn check(&self, sequence: u64) -> Result<(), Replay> {
        if sequence == 0 {
            return Err(Replay::TooOld);
        }
        let Some(age) = self.last_sequence.checked_sub(sequence) else { return Ok(()) };
        if age >= WINDOW {
            return Err(Replay::TooOld);
        }
        if self.bitmap >> age & 1 == 1 { Err(Replay::Duplicate) } else { Ok(()) }
    }

    /// Accepts `sequence`, if [`ReplayWindow::check`] would.
    pub fn commit(&mut self, sequence: u64) -> Result<(), Replay> {
        self.check(sequence)?;
        match sequence.checked_sub(self.last_sequence) {
            Some(step) => {
                self.bitmap =
                    u32::try_from(step).ok().and_then(|by| self.bitmap.checked_shl(by)).unwrap_or(0) | 1;
                self.last_sequence = sequence;
            }
            None => self.bitmap |= 1 << (self.last_sequence - sequence),
        }
        Ok(())
    }

    /// The highest accepted sequence, 0 if none.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// For the store: 16 bytes, big-endian sequence and bitmap.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.last_sequence.to_be_bytes(), self.bitmap.to_be_bytes()].concat()
    }

    /// From the store.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sequence, bitmap) = bytes.split_at_checked(8)?;
        Some(Self {
            last_sequence: u64::from_be_bytes(sequence.try_into().ok()?),
            bitmap: u64::from_be_bytes(bitmap.try_into().ok()?),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_out_of_order_once_and_refuses_older_than_the_window() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.commit(100), Ok(()));
        assert_eq!(window.commit(37), Ok(()));
        assert_eq!(window.commit(37), Err(Replay::Duplicate));
        assert_eq!(window.commit(36), Err(Replay::TooOld));
        assert_eq!(window.commit(0), Err(Replay::TooOld));
        assert_eq!(window.commit(u64::MAX), Ok(()));
        assert_eq!(window.commit(u64::MAX), Err(Replay::Duplicate));
        assert_eq!(window.commit(u64::MAX - 63), Ok(()));
        assert_eq!(window.commit(100), Err(Replay::TooOld));
    }

    proptest! {
        /// The contract, word for word, as an oracle.
        #[test]
        fn accepts_iff_inside_the_window_and_unseen(sequences in proptest::collection::vec(1u64..300, 1..400)) {
            let (mut window, mut seen, mut last) = (ReplayWindow::default(), BTreeSet::new(), 0u64);
            for sequence in sequences {
                let inside = sequence > last || last - sequence < WINDOW;
                let expected = inside && !seen.contains(&sequence);
                prop_assert_eq!(window.check(sequence).is_ok(), expected);
                prop_assert_eq!(window.commit(sequence).is_ok(), expected);
                if expected {
                    seen.insert(sequence);
                    last = last.max(sequence);
                }
                prop_assert_eq!(ReplayWindow::from_bytes(&window.to_bytes()), Some(window));
            }
        }
    }
}
