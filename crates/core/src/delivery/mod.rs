//! End-to-end delivery: what names a message for good, what a receiver remembers of it, and what it confirms.
//!
//! A broker that has acknowledged may still forget. So every message carries an [`Origin`], the receiver keeps a
//! [`ReceivedSet`] per sender, stream and boot, and says what is in it with a [`Receipt`]; only that ends a sender's
//! duty to send again.

mod receipt;
mod received;

pub use receipt::{MAX_BOOTS_PER_RECEIPT, MAX_VERDICTS, Receipt, ReceiptOf, StreamReceipt, Verdict};
pub use received::{Full, MAX_RANGES, Received, ReceivedSet};

use core::fmt;

use thiserror::Error;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::BootId;

/// A message's name for its receiver, together with sender and stream: never given twice, kept through every
/// retransmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The sender's start in which the message was accepted.
    pub boot: BootId,
    /// Its number among the messages of its stream to this receiver that were accepted in that start, from 1.
    pub msg_seq: u64,
}

impl Origin {
    pub(crate) fn encode(self, writer: &mut Writer) {
        writer.array(2).bytes(self.boot.as_bytes()).uint(self.msg_seq);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_of(2)?;
        let origin = Self { boot: BootId(reader.bytes_of()?), msg_seq: reader.uint()? };
        if origin.msg_seq == 0 { Err(DecodeError::Value) } else { Ok(origin) }
    }
}

/// `boot:number`, the boot in hexadecimal: what a program may keep to know a message again.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.boot, self.msg_seq)
    }
}

/// Text that is no [`Origin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an origin is 16 hexadecimal digits, a colon and a number from 1")]
pub struct OriginError;

impl core::str::FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let (boot, number) = text.split_once(':').ok_or(OriginError)?;
        let digits = boot.len() == 2 * BootId::LEN && boot.bytes().all(|byte| byte.is_ascii_hexdigit());
        let boot = u64::from_str_radix(boot, 16).ok().filter(|_| digits).ok_or(OriginError)?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let msg_seq = number.parse().ok().filter(|number| digits && *number > 0).ok_or(OriginError)?;
        Ok(Self { boot: BootId(boot.to_be_bytes()), msg_seq })
    }
}

/// Why messages that a sender accepted never arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum LossReason {
    /// The outbox was full and its policy drops the oldest.
    DroppedOldest = 1,
    /// The outbox was full and its policy drops the newest.
    DroppedNewest = 2,
    /// They waited longer than the outbox keeps messages.
    Aged = 3,
    /// They could not be sealed or sent: no grant any more, too large for the broker.
    Unsendable = 4,
    /// The receiver's keys were revoked.
    Revoked = 5,
    /// A volatile stream: the network lost them, and nobody sends them again.
    Volatile = 6,
    /// The receiver confirmed many later ones and never these: it does not subscribe to their topic, or the broker
    /// withholds them.
    Unconfirmed = 7,
}

impl LossReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::DroppedOldest,
        Self::DroppedNewest,
        Self::Aged,
        Self::Unsendable,
        Self::Revoked,
        Self::Volatile,
        Self::Unconfirmed,
    ];

    /// A short stable name for counters and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::DroppedOldest => "dropped-oldest",
            Self::DroppedNewest => "dropped-newest",
            Self::Aged => "aged",
            Self::Unsendable => "unsendable",
            Self::Revoked => "revoked",
            Self::Volatile => "volatile",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == id)
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Messages that their sender gave up: neighbours in its numbering, all for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The start of the sender in which they were accepted.
    pub boot: BootId,
    /// The first number, from 1.
    pub first: u64,
    /// The last number, not below the first.
    pub last: u64,
    /// Why.
    pub reason: LossReason,
}

impl Loss {
    /// One lost message.
    pub fn of(origin: Origin, reason: LossReason) -> Self {
        Self { boot: origin.boot, first: origin.msg_seq, last: origin.msg_seq, reason }
    }

    /// How many messages, at least 1.
    pub fn count(&self) -> u64 {
        // Cannot overflow, as `first` is not 0.
        (self.last - self.first).saturating_add(1)
    }

    pub(crate) fn encode(self, writer: &mut Writer) {
        writer.array(4).bytes(self.boot.as_bytes()).uint(self.first).uint(self.last).uint(self.reason as u64);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_of(4)?;
        let (boot, first, last) = (BootId(reader.bytes_of()?), reader.uint()?, reader.uint()?);
        let reason = LossReason::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        if first == 0 || last < first {
            return Err(DecodeError::Value);
        }
        Ok(Self { boot, first, last, reason })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn origins_are_read_as_they_are_written_and_nothing_else_is() {
        let origin = Origin { boot: BootId([0, 1, 2, 3, 0xa4, 0xff, 6, 7]), msg_seq: 41 };
        assert_eq!(origin.to_string(), "00010203a4ff0607:41");
        assert_eq!("00010203a4ff0607:41".parse(), Ok(origin));
        for bad in [
            "",
            ":",
            "00010203a4ff0607",
            "00010203a4ff0607:0",
            "+0010203a4ff0607:1",
            "0001:1",
            "00010203a4ff0607:-1",
        ] {
            assert_eq!(bad.parse::<Origin>(), Err(OriginError), "{bad}");
        }
    }
}
