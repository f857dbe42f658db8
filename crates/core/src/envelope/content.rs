//! What an envelope seals: the payload and the authoritative copy of its MQTT properties.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::codec::{DecodeError, Reader, Writer};
use crate::time::UnixTime;
use crate::topic::MAX_TOPIC;

/// The longest content type or correlation data, in bytes.
pub const MAX_PROPERTY: usize = 256;

/// Whether a message informs or causes a physical effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum MessageClass {
    /// Informs.
    #[default]
    Telemetry = 0,
    /// Causes an effect; never accepted in an envelope, only in a session.
    Command = 1,
}

/// A message before sealing and after opening. MQTT properties outside the seal are hints that nobody trusts.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Telemetry or command.
    pub class: MessageClass,
    /// The application's bytes.
    pub payload: Vec<u8>,
    /// MIME type, at most [`MAX_PROPERTY`] bytes.
    pub content_type: Option<String>,
    /// Where an answer is expected.
    pub response_topic: Option<String>,
    /// Echoed in an answer, at most [`MAX_PROPERTY`] bytes.
    pub correlation_data: Option<Vec<u8>>,
    /// Not to be delivered from this time on.
    pub expires: Option<UnixTime>,
}

impl Content {
    /// Telemetry without properties.
    pub fn telemetry(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// Whether every property is within its limit.
    pub fn within_limits(&self) -> bool {
        self.content_type.as_ref().is_none_or(|text| text.len() <= MAX_PROPERTY)
            && self.response_topic.as_ref().is_none_or(|text| text.len() <= MAX_TOPIC)
            && self.correlation_data.as_ref().is_none_or(|data| data.len() <= MAX_PROPERTY)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let optional = [
            self.content_type.is_some(),
            self.response_topic.is_some(),
            self.correlation_data.is_some(),
            self.expires.is_some(),
        ];
        let mut writer = Writer::new();
        writer.map(2 + optional.into_iter().filter(|present| *present).count());
        writer.int(1).uint(self.class as u64);
        writer.int(2).bytes(&self.payload);
        if let Some(text) = &self.content_type {
            writer.int(3).text(text);
        }
        if let Some(text) = &self.response_topic {
            writer.int(4).text(text);
        }
        if let Some(data) = &self.correlation_data {
            writer.int(5).bytes(data);
        }
        if let Some(time) = self.expires {
            writer.int(6).uint(time.0);
        }
        writer.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        let pairs = reader.map()?;
        if !(2..=6).contains(&pairs) {
            return Err(DecodeError::Shape);
        }
        reader.key(1)?;
        let class = match reader.uint()? {
            0 => MessageClass::Telemetry,
            1 => MessageClass::Command,
            _ => return Err(DecodeError::Value),
        };
        reader.key(2)?;
        let mut content = Self { class, payload: reader.bytes()?.to_vec(), ..Self::default() };
        for _ in 2..pairs {
            // The validator has made sure that keys ascend and never repeat.
            match reader.int()? {
                3 => content.content_type = Some(reader.text(MAX_PROPERTY)?),
                4 => content.response_topic = Some(reader.text(MAX_TOPIC)?),
                5 => content.correlation_data = Some(reader.bytes()?.to_vec()),
                6 => content.expires = Some(UnixTime(reader.uint()?)),
                _ => return Err(DecodeError::Shape),
            }
        }
        reader.finish()?;
        if content.within_limits() { Ok(content) } else { Err(DecodeError::Value) }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({:?}, {} bytes)", self.class, self.payload.len())
    }
}
