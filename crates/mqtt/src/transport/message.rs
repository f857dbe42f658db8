//! What goes in and out of a transport.

use bytes::Bytes;

use super::options::Qos;

/// MQTT 5 properties that the protocol uses. MQTT 3.1.1 has none: sent ones are dropped, received ones are empty.
/// They are not authenticated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Response Topic; a topic name of at most 65,535 bytes.
    pub response_topic: Option<String>,
    /// Correlation Data, at most 65,535 bytes.
    pub correlation_data: Option<Bytes>,
    /// Content Type, at most 65,535 bytes.
    pub content_type: Option<String>,
    /// Message Expiry Interval, seconds.
    pub message_expiry_secs: Option<u32>,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Topic name: 1 to 65,535 bytes, no wildcards, no NUL.
    pub topic: String,
    /// Opaque payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker keeps the message for later subscribers.
    pub retain: bool,
    /// MQTT 5 properties.
    pub properties: Properties,
}

impl Outbound {
    /// A QoS 1 message, not retained, without properties.
    #[must_use]
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Properties::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), PublishError> {
        let topic_name =
            |topic: &str| !topic.is_empty() && fits(topic.len()) && !topic.contains(['\0', '+', '#']);
        if !topic_name(&self.topic) {
            return Err(PublishError::Invalid("topic"));
        }
        if self.properties.response_topic.as_deref().is_some_and(|topic| !topic_name(topic)) {
            return Err(PublishError::Invalid("response topic"));
        }
        if self.properties.content_type.as_ref().is_some_and(|text| !fits(text.len()) || text.contains('\0'))
        {
            return Err(PublishError::Invalid("content type"));
        }
        if self.properties.correlation_data.as_ref().is_some_and(|data| !fits(data.len())) {
            return Err(PublishError::Invalid("correlation data"));
        }
        Ok(())
    }
}

fn fits(length: usize) -> bool {
    u16::try_from(length).is_ok()
}

/// A received message. Nothing in it is authenticated.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inbound {
    /// Topic the broker delivered it at.
    pub topic: String,
    /// Opaque payload.
    pub payload: Bytes,
    /// Quality of service of the delivery.
    pub qos: Qos,
    /// Set when the message was stored at the broker before this subscription.
    pub retain: bool,
    /// The broker may have delivered it before.
    pub duplicate: bool,
    /// MQTT 5 properties.
    pub properties: Properties,
    /// To hand to [`Transport::acknowledge`](super::Transport::acknowledge) once the message is durable.
    pub token: AckToken,
}

/// The right to acknowledge one delivery, on the connection it came by. Dropping it leaves the message
/// unacknowledged; the broker delivers it again at the next connection.
#[derive(Debug)]
#[must_use = "an unacknowledged QoS 1 message takes a place in the broker's window"]
pub struct AckToken(pub(super) Option<Pending>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) generation: u64,
    pub(super) packet_id: u16,
}

/// Why a publish did not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The packet exceeds what the transport or the broker accepts. Nothing was sent; the connection is untouched.
    #[error("packet of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Size of the MQTT packet, bytes.
        size: usize,
        /// Largest packet, bytes.
        limit: usize,
    },
    /// The broker's session ended before it acknowledged. The message may have been delivered.
    #[error("the broker's session ended before the message was acknowledged")]
    SessionLost,
    /// The broker acknowledged with an error.
    #[error("the broker refused the message: {reason}")]
    Refused {
        /// The broker's reason code.
        reason: String,
    },
    /// The message cannot be encoded.
    #[error("invalid {0}")]
    Invalid(&'static str),
    /// As many publishes as configured are waiting.
    #[error("the publish queue is full")]
    QueueFull,
    /// The transport is closed.
    #[error("the transport is closed")]
    Closed,
}

/// Why a subscription was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The broker refused it.
    #[error("the broker refused the subscription: {reason}")]
    Refused {
        /// The broker's reason code.
        reason: String,
    },
    /// Not a topic filter.
    #[error("invalid topic filter")]
    InvalidFilter,
    /// The transport is closed.
    #[error("the transport is closed")]
    Closed,
}

/// Whether `filter` is a topic filter of at most 65,535 bytes.
pub(super) fn is_topic_filter(filter: &str) -> bool {
    if filter.is_empty() || !fits(filter.len()) || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard = level.contains(['+', '#']);
        if wildcard && level.len() != 1 || level == "#" && levels.peek().is_some() {
            return false;
        }
    }
    true
}
