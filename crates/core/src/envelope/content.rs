//! What an envelope seals: the payload and the authoritative copy of its MQTT properties.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

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

impl fmt::Display for MessageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Telemetry => "telemetry",
            Self::Command => "command",
        })
    }
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

    /// Whether it is telemetry that has no properties.
    pub fn is_plain(&self) -> bool {
        self.class == MessageClass::Telemetry
            && self.content_type.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.expires.is_none()
    }

    /// Whether every property is within its limit.
    pub fn within_limits(&self) -> bool {
        self.content_type.as_ref().is_none_or(|text| text.len() <= MAX_PROPERTY)
            && self.response_topic.as_ref().is_none_or(|text| text.len() <= MAX_TOPIC)
            && self.correlation_data.as_ref().is_none_or(|data| data.len() <= MAX_PROPERTY)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({:?}, {} bytes)", self.class, self.payload.len())
    }
}
