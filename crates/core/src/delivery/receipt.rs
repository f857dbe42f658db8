//! What a receiver confirms: sealed, cumulative, and true for ever, so that a lost, late or repeated one does no harm.

use alloc::vec::Vec;

use super::ReceivedSet;
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{BootId, StreamId};

/// The boots of one stream that a receipt speaks of: those heard last. A sender has messages of fewer boots under way.
pub const MAX_BOOTS_PER_RECEIPT: usize = 32;

/// The verdicts that a receiver keeps per boot of a stream: more than a sender has reports under way.
pub const MAX_VERDICTS: usize = 64;

/// What one receiver has durably received from one sender.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// One per stream, ascending.
    pub streams: Vec<StreamReceipt>,
}

/// What arrived on one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReceipt {
    /// Which.
    pub stream: StreamId,
    /// The highest envelope sequence accepted on it: anything 64 or more below can never be accepted any more.
    pub last_sequence: u64,
    /// Per boot of the sender, the most recently heard first.
    pub boots: Vec<ReceiptOf>,
}

/// What is settled of one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptOf {
    /// Which.
    pub boot: BootId,
    /// The numbers that arrived, or that a loss report named.
    pub received: ReceivedSet,
    /// What the loss reports heard last came to, the latest last.
    pub verdicts: Vec<Verdict>,
}

/// What a receiver found when it heard a loss report. What is neither lost nor unknown had arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The report's first number.
    pub first: u64,
    /// Its last.
    pub last: u64,
    /// How many of them had not arrived, and never will: the receiver's application was told so.
    pub lost: u64,
    /// Of how many the receiver has forgotten which it was: 0 unless it heard more than [`MAX_VERDICTS`] other reports
    /// since it first heard of these.
    pub unknown: u64,
}

impl Verdict {
    /// How many had arrived.
    pub fn arrived(&self) -> u64 {
        self.count().saturating_sub(self.lost).saturating_sub(self.unknown)
    }

    pub(crate) fn count(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    pub(crate) fn encode_all(verdicts: &[Self], writer: &mut Writer) {
        writer.array(4 * verdicts.len());
        for Self { first, last, lost, unknown } in verdicts {
            writer.uint(*first).uint(*last).uint(*lost).uint(*unknown);
        }
    }

    pub(crate) fn decode_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let length = reader.array_up_to(4 * MAX_VERDICTS as u64)?;
        if length % 4 != 0 {
            return Err(DecodeError::Shape);
        }
        let mut verdicts = Vec::new();
        for _ in 0..length / 4 {
            let (first, last) = (reader.uint()?, reader.uint()?);
            let verdict = Self { first, last, lost: reader.uint()?, unknown: reader.uint()? };
            let ordered = first > 0 && first <= last;
            let told = verdict.lost.checked_add(verdict.unknown);
            if !ordered || told.is_none_or(|told| told > verdict.count()) {
                return Err(DecodeError::Value);
            }
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }
}

impl Receipt {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.array(self.streams.len());
        for stream in &self.streams {
            writer.array(3).uint(stream.stream.value().into()).uint(stream.last_sequence);
            writer.array(stream.boots.len());
            for of in &stream.boots {
                writer.array(4).bytes(of.boot.as_bytes());
                of.received.encode(writer);
                Verdict::encode_all(&of.verdicts, writer);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut receipt = Self::default();
        for _ in 0..reader.array_up_to(StreamId::COUNT.into())? {
            reader.array_of(3)?;
            let stream = StreamId::new(reader.uint8()?).ok_or(DecodeError::Value)?;
            if receipt.streams.last().is_some_and(|before| before.stream >= stream) {
                return Err(DecodeError::Value);
            }
            let last_sequence = reader.uint()?;
            let mut boots: Vec<ReceiptOf> = Vec::new();
            for _ in 0..reader.array_up_to(MAX_BOOTS_PER_RECEIPT as u64)? {
                reader.array_of(4)?;
                let boot = BootId(reader.bytes_of()?);
                if boots.iter().any(|of| of.boot == boot) {
                    return Err(DecodeError::Value);
                }
                let received = ReceivedSet::decode(reader)?;
                boots.push(ReceiptOf { boot, received, verdicts: Verdict::decode_all(reader)? });
            }
            receipt.streams.push(StreamReceipt { stream, last_sequence, boots });
        }
        Ok(receipt)
    }
}
