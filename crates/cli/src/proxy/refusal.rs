//! Why a local client's message is not sealed.

use mqtt_protocol_core::mqtt::result_code::PubackReasonCode;
use pqc_iiot_core::endpoint::SendFailure;
use pqc_iiot_core::ids::{PeerId, PeerIdError};
use pqc_iiot_core::topic::TopicError;
use pqc_iiot_mqtt::client::PublishError;
use thiserror::Error;

/// Why, as the client is told with MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("no route of the proxy names a peer for this topic")]
    NoRoute,
    #[error("{0}")]
    Topic(TopicError),
    #[error("user property peer: {0}")]
    Peer(PeerIdError),
    #[error("user property peer: this is the proxy's own identity")]
    Own,
    #[error("user property stream: use 0 to 6")]
    Stream,
    #[error("content type, response topic or correlation data is too long")]
    Property,
    #[error("the proxy knows as many peers as it may")]
    TooManyPeers,
    #[error("no announcement and prekey of {0} came in time")]
    Unready(PeerId),
    #[error("{0} is no longer trusted")]
    Lost(PeerId),
    #[error("{0}")]
    Publish(PublishError),
}

impl Refusal {
    /// The name it is counted under.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::Topic(_) => "topic",
            Self::Peer(_) | Self::Own => "peer",
            Self::Stream | Self::Property => "property",
            Self::TooManyPeers => "too-many-peers",
            Self::Unready(_) => "peer-unknown",
            Self::Lost(_) => "peer-lost",
            Self::Publish(PublishError::Refused(SendFailure::TooLarge)) => "too-large",
            Self::Publish(PublishError::Refused(SendFailure::NoGrant)) => "no-grant",
            Self::Publish(PublishError::Refused(SendFailure::ControlTopic)) => "control-topic",
            Self::Publish(PublishError::Refused(_)) => "not-sealed",
            Self::Publish(_) => "broker",
        }
    }

    /// The reason code that says it best. PUBREC knows the same ones.
    pub(super) fn code(&self) -> PubackReasonCode {
        match self {
            Self::NoRoute | Self::Lost(_) | Self::Own => PubackReasonCode::NotAuthorized,
            Self::Topic(_) => PubackReasonCode::TopicNameInvalid,
            Self::TooManyPeers => PubackReasonCode::QuotaExceeded,
            Self::Publish(PublishError::Refused(failure)) => match failure {
                SendFailure::TooLarge
                | SendFailure::OutboxFull
                | SendFailure::OutboxShare
                | SendFailure::Lost(_) => PubackReasonCode::QuotaExceeded,
                SendFailure::ControlTopic => PubackReasonCode::TopicNameInvalid,
                SendFailure::NoGrant | SendFailure::Revoked | SendFailure::Expired => {
                    PubackReasonCode::NotAuthorized
                }
                _ => PubackReasonCode::ImplementationSpecificError,
            },
            Self::Publish(PublishError::Busy) => PubackReasonCode::QuotaExceeded,
            Self::Peer(_) | Self::Stream | Self::Property | Self::Unready(_) | Self::Publish(_) => {
                PubackReasonCode::ImplementationSpecificError
            }
        }
    }
}
