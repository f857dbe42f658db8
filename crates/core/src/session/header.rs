//! The clear part of a record: 12 bytes, or 20 while the sender's boot salt rides along.
//!
//! ```text
//! 0xC0 · flags u8 · sid 4 · epoch u16 · low u12 · counter u20 [· salt 8] · ciphertext · tag 16
//! flags = class (bits 0–1) · salted (2) · stream (3–5) · form (6–7)
//! ```

use super::numbers::LOW_BITS;
use crate::ids::{BootId, SessionId, StreamId};

/// The first byte of a record.
pub const TYPE_RECORD: u8 = 0xc0;
/// Length of the header without salt.
pub const HEADER_LEN: usize = 12;
/// Length of a boot salt.
pub const SALT_LEN: usize = BootId::LEN;
/// What a record adds to its plaintext, salt apart: header and tag.
pub const OVERHEAD: usize = HEADER_LEN + crate::crypto::suite::Aead::TAG_LEN;

/// The most bytes of associated data: header, salt, a 48-byte topic hash and a message number.
const MAX_AAD: usize = HEADER_LEN + SALT_LEN + 48 + size_of::<u64>();
/// Bits of a counter.
const COUNTER_BITS: u32 = 32 - LOW_BITS;
/// No counter is this high.
pub(super) const COUNTERS: u32 = 1 << COUNTER_BITS;

/// Which chain of its direction a record belongs to. Each has its own keys and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// First transmissions of telemetry.
    Telemetry = 0,
    /// Commands.
    Command = 1,
    /// What is the protocol's own, and retransmissions of either.
    Control = 2,
}

impl Class {
    /// Every class, in order of its number.
    pub const ALL: [Self; 3] = [Self::Telemetry, Self::Command, Self::Control];

    /// How many records share a key.
    pub fn block_len(self) -> u32 {
        match self {
            Self::Telemetry | Self::Control => 64,
            Self::Command => 1,
        }
    }
}

/// How a record's plaintext is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    /// A [`Body`](crate::envelope::Body).
    Body = 0,
    /// Telemetry without properties after its 8-byte message number.
    Numbered = 1,
    /// Telemetry without properties. The lowest bits of its number are in the header, the others follow from what is settled.
    Implied = 2,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which chain.
    pub class: Class,
    /// How to read the plaintext.
    pub form: Form,
    /// The message's stream.
    pub stream: StreamId,
    /// The receiver's session id.
    pub sid: SessionId,
    /// The session epoch.
    pub epoch: u16,
    /// The lowest 12 bits of an implied message number; 0 in all other forms.
    pub low: u16,
    /// Counts the records of this direction, epoch and class; below 2^20.
    pub counter: u32,
    /// The sender's boot, until the receiver confirmed it.
    pub salt: Option<BootId>,
}

impl Header {
    /// Reads a record's clear part. `None` if it is none of ours.
    pub fn parse(record: &[u8]) -> Option<Self> {
        let (head, rest) = record.split_first_chunk::<HEADER_LEN>()?;
        let &[kind, flags, s0, s1, s2, s3, e0, e1, c0, c1, c2, c3] = head;
        if kind != TYPE_RECORD {
            return None;
        }
        let class = Class::ALL.into_iter().find(|class| *class as u8 == flags & 3)?;
        let form = [Form::Body, Form::Numbered, Form::Implied];
        let form = form.into_iter().find(|form| *form as u8 == flags >> 6)?;
        let counter = u32::from_be_bytes([c0, c1, c2, c3]);
        let low = (counter >> COUNTER_BITS) as u16;
        if low != 0 && form != Form::Implied {
            return None;
        }
        // Numbers are of first transmissions of telemetry.
        if form != Form::Body && class != Class::Telemetry {
            return None;
        }
        let stream = StreamId::new(flags >> 3 & 7)?;
        // No telemetry is on it: its numbers would be of one stream more than there is room for.
        if class == Class::Telemetry && stream == StreamId::CONTROL {
            return None;
        }
        let salt = if flags & 4 == 0 { None } else { Some(BootId(*rest.first_chunk()?)) };
        Some(Self {
            class,
            form,
            stream,
            sid: SessionId([s0, s1, s2, s3]),
            epoch: u16::from_be_bytes([e0, e1]),
            low,
            counter: counter % COUNTERS,
            salt,
        })
    }

    /// Its length on the wire.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + if self.salt.is_some() { SALT_LEN } else { 0 }
    }

    /// The block of its class that the counter is in.
    pub fn block(&self) -> u32 {
        self.counter / self.class.block_len()
    }

    /// Its place in the block.
    pub(super) fn place(&self) -> u32 {
        self.counter % self.class.block_len()
    }

    fn flags(&self) -> u8 {
        let salted = if self.salt.is_some() { 4 } else { 0 };
        self.class as u8 | salted | self.stream.value() << 3 | (self.form as u8) << 6
    }

    /// Header, salt and topic hash: what a record authenticates besides its plaintext and, if it is implied, its number.
    pub(super) fn associated_data(&self, topic_hash: &[u8]) -> AssociatedData {
        let mut data = AssociatedData::new();
        data.push(&[TYPE_RECORD, self.flags()]);
        data.push(self.sid.as_bytes());
        data.push(&self.epoch.to_be_bytes());
        data.push(&(u32::from(self.low) << COUNTER_BITS | self.counter).to_be_bytes());
        if let Some(salt) = &self.salt {
            data.push(salt.as_bytes());
        }
        data.end_header();
        data.push(topic_hash);
        data
    }
}

/// Associated data on the stack: header, topic hash and an implied number, at most [`MAX_AAD`] bytes.
#[derive(Clone)]
pub(crate) struct AssociatedData {
    bytes: [u8; MAX_AAD],
    len: usize,
    clear: usize,
}

impl AssociatedData {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; MAX_AAD], len: 0, clear: 0 }
    }

    /// What was pushed so far travels in front of the ciphertext.
    pub(crate) fn end_header(&mut self) {
        self.clear = self.len;
    }

    pub(crate) fn push(&mut self, part: &[u8]) {
        if let Some(space) = self.bytes.get_mut(self.len..self.len + part.len()) {
            space.copy_from_slice(part);
            self.len += part.len();
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The part that travels in front of the ciphertext.
    pub(crate) fn header(&self) -> &[u8] {
        self.bytes.get(..self.clear).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic_and_only_canonically(mut bytes in proptest::collection::vec(any::<u8>(), 0..40), ours in any::<bool>()) {
            if let (true, Some(first)) = (ours, bytes.first_mut()) {
                *first = TYPE_RECORD;
            }
            if let Some(header) = Header::parse(&bytes) {
                let encoded = header.associated_data(&[]);
                prop_assert_eq!(encoded.header(), &bytes[..header.encoded_len()]);
            }
        }
    }
}
