//! What an envelope's AEAD protects: a message with its origin, a report of lost ones, or a receipt.

use alloc::vec::Vec;

use super::content::{Content, MAX_PROPERTY, MessageClass};
use crate::codec::{DecodeError, Reader, Writer};
use crate::delivery::{Loss, Origin, Receipt};
use crate::time::UnixTime;
use crate::topic::MAX_TOPIC;

const KIND_LOST: u64 = 2;
const KIND_RECEIPT: u64 = 3;
const KEY_ORIGIN: i64 = 7;
const KEY_VOLATILE: i64 = 8;
const KEY_LOSS: i64 = 9;
const KEY_RECEIPT: i64 = 10;
/// What a message without properties takes beside its payload, at most, in bytes.
pub(crate) const MESSAGE_OVERHEAD: usize = 48;

/// The plaintext of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A message of the application's.
    Message {
        /// What it says.
        content: Content,
        /// How it is followed.
        tracking: Tracking,
    },
    /// The sender gave up messages that it had accepted; only at `control/<peer>`, on their stream.
    Lost(Loss),
    /// What arrived; only on the control stream, at `control/<peer>`.
    Receipt(Receipt),
}

/// How a message is followed end to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tracking {
    /// Not at all: neither sent again nor missed.
    #[default]
    None,
    /// Sent until a receipt names it.
    Durable(Origin),
    /// Sent once; a gap in the numbers tells what is missing.
    Volatile(Origin),
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        Self::Message { content, tracking: Tracking::None }
    }
}

impl Body {
    /// Whether every property is within its limit.
    pub(super) fn within_limits(&self) -> bool {
        match self {
            Self::Message { content, .. } => content.within_limits(),
            Self::Lost(_) | Self::Receipt(_) => true,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Message { content, tracking } => return encode_message(content, *tracking),
            Self::Lost(loss) => {
                writer.map(2).int(1).uint(KIND_LOST).int(KEY_LOSS);
                loss.encode(&mut writer);
            }
            Self::Receipt(receipt) => {
                writer.map(2).int(1).uint(KIND_RECEIPT).int(KEY_RECEIPT);
                receipt.encode(&mut writer);
            }
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        let pairs = reader.map()?;
        if pairs < 2 {
            return Err(DecodeError::Shape);
        }
        reader.key(1)?;
        let body = match (reader.uint()?, pairs) {
            (0, pairs) => decode_message(&mut reader, MessageClass::Telemetry, pairs)?,
            (1, pairs) => decode_message(&mut reader, MessageClass::Command, pairs)?,
            (KIND_LOST, 2) => {
                reader.key(KEY_LOSS)?;
                Self::Lost(Loss::decode(&mut reader)?)
            }
            (KIND_RECEIPT, 2) => {
                reader.key(KEY_RECEIPT)?;
                Self::Receipt(Receipt::decode(&mut reader)?)
            }
            (KIND_LOST | KIND_RECEIPT, _) => return Err(DecodeError::Shape),
            _ => return Err(DecodeError::Value),
        };
        reader.finish()?;
        Ok(body)
    }
}

/// A [`Body::Message`] of these, encoded.
pub(crate) fn encode_message(content: &Content, tracking: Tracking) -> Vec<u8> {
    let mut writer = Writer::with_capacity(content.payload.len() + MESSAGE_OVERHEAD);
    write_message(&mut writer, content, tracking);
    writer.finish()
}

/// The same into `writer`.
pub(crate) fn write_message(writer: &mut Writer, content: &Content, tracking: Tracking) {
    let optional = [
        content.content_type.is_some(),
        content.response_topic.is_some(),
        content.correlation_data.is_some(),
        content.expires.is_some(),
        tracking != Tracking::None,
    ];
    writer.map(2 + optional.into_iter().filter(|present| *present).count());
    writer.int(1).uint(content.class as u64);
    writer.int(2).bytes(&content.payload);
    if let Some(text) = &content.content_type {
        writer.int(3).text(text);
    }
    if let Some(text) = &content.response_topic {
        writer.int(4).text(text);
    }
    if let Some(data) = &content.correlation_data {
        writer.int(5).bytes(data);
    }
    if let Some(time) = content.expires {
        writer.int(6).uint(time.0);
    }
    match tracking {
        Tracking::None => {}
        Tracking::Durable(origin) => origin.encode(writer.int(KEY_ORIGIN)),
        Tracking::Volatile(origin) => origin.encode(writer.int(KEY_VOLATILE)),
    }
}

fn decode_message(reader: &mut Reader<'_>, class: MessageClass, pairs: u64) -> Result<Body, DecodeError> {
    if pairs > 7 {
        return Err(DecodeError::Shape);
    }
    reader.key(2)?;
    let mut content = Content { class, payload: reader.bytes()?.to_vec(), ..Content::default() };
    let mut tracking = Tracking::None;
    for _ in 2..pairs {
        // The validator has made sure that keys ascend and never repeat.
        match reader.int()? {
            3 => content.content_type = Some(reader.text(MAX_PROPERTY)?),
            4 => content.response_topic = Some(reader.text(MAX_TOPIC)?),
            5 => content.correlation_data = Some(reader.bytes()?.to_vec()),
            6 => content.expires = Some(UnixTime(reader.uint()?)),
            KEY_ORIGIN => tracking = Tracking::Durable(Origin::decode(reader)?),
            KEY_VOLATILE if tracking == Tracking::None => {
                tracking = Tracking::Volatile(Origin::decode(reader)?);
            }
            _ => return Err(DecodeError::Shape),
        }
    }
    if content.within_limits() { Ok(Body::Message { content, tracking }) } else { Err(DecodeError::Value) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::{LossReason, ReceiptOf, ReceivedSet, StreamReceipt, Verdict};
    use crate::ids::{BootId, StreamId};

    fn origin() -> Origin {
        Origin { boot: BootId([7; 8]), msg_seq: 300 }
    }

    #[test]
    fn every_kind_survives_its_encoding() {
        let content = Content {
            response_topic: Some("answers".into()),
            expires: Some(UnixTime(9)),
            ..Content::telemetry("73.9")
        };
        let mut received = ReceivedSet::default();
        for number in [1, 2, 5, 9] {
            received.insert(number).unwrap();
        }
        let verdicts = alloc::vec![Verdict { first: 3, last: 9, lost: 4, unknown: 1 }];
        let stream = StreamId::default();
        let boots = alloc::vec![ReceiptOf { boot: BootId([1; 8]), received, verdicts }];
        let receipt = Receipt { streams: alloc::vec![StreamReceipt { stream, last_sequence: 12, boots }] };
        for body in [
            Body::from(content.clone()),
            Body::Message { content: content.clone(), tracking: Tracking::Durable(origin()) },
            Body::Message { content, tracking: Tracking::Volatile(origin()) },
            Body::Lost(Loss { boot: BootId([7; 8]), first: 3, last: 6, reason: LossReason::Aged }),
            Body::Receipt(receipt),
        ] {
            assert_eq!(Body::decode(&body.encode()), Ok(body));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic_and_only_canonically(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(body) = Body::decode(&bytes) {
                prop_assert_eq!(body.encode(), bytes);
            }
        }
    }
}
