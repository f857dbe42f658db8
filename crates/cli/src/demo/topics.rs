//! Where things go, and what a topic carries.

use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::{Topic, TopicFilter};

use crate::error::{CliError, ErrorKind, Result};

use super::fleet::{TO_BE_REVOKED, WATCHED};

/// What a topic of the demo carries.
pub(super) enum Kind {
    /// Rows.
    Telemetry,
    /// The header of the rows.
    Meta,
    /// What the device sends that is revoked later.
    ToBeRevoked,
    /// What the device sends whose session is copied.
    Watched,
    /// Anything else.
    Other,
}

impl Kind {
    pub(super) fn of(topic: &str) -> Self {
        let mut levels = topic.split('/').skip(1);
        match (levels.next(), levels.next()) {
            (Some(TO_BE_REVOKED), _) => Self::ToBeRevoked,
            (Some(WATCHED), _) => Self::Watched,
            (_, Some("telemetry")) => Self::Telemetry,
            (_, Some("meta")) => Self::Meta,
            _ => Self::Other,
        }
    }
}

fn unusable(error: impl std::fmt::Display) -> CliError {
    CliError::new(ErrorKind::Failed, "a topic of the demo cannot be used").because(error)
}

fn topic(text: String) -> Result<Topic> {
    Topic::new(&text).map_err(unusable)
}

/// Where a device's rows go.
pub(super) fn telemetry(id: &PeerId) -> Result<Topic> {
    topic(format!("plant/{id}/telemetry"))
}

/// Where the header goes.
pub(super) fn meta(id: &PeerId) -> Result<Topic> {
    topic(format!("plant/{id}/meta"))
}

/// Where the device reports whose session is copied.
pub(super) fn shift(id: &PeerId) -> Result<Topic> {
    topic(format!("plant/{id}/shift"))
}

/// A topic that the gateway does not follow: the attacker moves what it finds there.
pub(super) fn notes(id: &PeerId) -> Result<Topic> {
    topic(format!("workshop/{id}/notes"))
}

/// What a device tells the hall, in a topic group.
pub(super) fn hall(id: &PeerId, what: &str) -> Result<Topic> {
    topic(format!("hall/{id}/{what}"))
}

/// All that a device tells the hall.
pub(super) fn hall_filter(id: &PeerId) -> Result<TopicFilter> {
    TopicFilter::new(&format!("hall/{id}/#")).map_err(unusable)
}
