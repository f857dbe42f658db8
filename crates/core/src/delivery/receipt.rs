//! What a receiver confirms: sealed, cumulative, and true for ever, so that a lost, late or repeated one does no harm.

use alloc::vec::Vec;

use super::ReceivedSet;
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{BootId, StreamId};

/// The boots of one stream that a receipt speaks of: those heard last.
pub const MAX_BOOTS_PER_RECEIPT: usize = 8;

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

/// What arrived of one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptOf {
    /// Which.
    pub boot: BootId,
    /// What.
    pub received: ReceivedSet,
}

impl Receipt {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.array(self.streams.len());
        for stream in &self.streams {
            writer.array(3).uint(stream.stream.value().into()).uint(stream.last_sequence);
            writer.array(stream.boots.len());
            for of in &stream.boots {
                writer.array(3).bytes(of.boot.as_bytes());
                of.received.encode(writer);
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
                reader.array_of(3)?;
                let boot = BootId(reader.bytes_of()?);
                if boots.iter().any(|of| of.boot == boot) {
                    return Err(DecodeError::Value);
                }
                boots.push(ReceiptOf { boot, received: ReceivedSet::decode(reader)? });
            }
            receipt.streams.push(StreamReceipt { stream, last_sequence, boots });
        }
        Ok(receipt)
    }
}
