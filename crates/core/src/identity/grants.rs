//! What a certificate permits: actions on topic filters, each optionally bounded in time.

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, Writer};
use crate::time::UnixTime;
use crate::topic::{MAX_TOPIC, TopicFilter};

/// The most grants in one certificate.
pub const MAX_GRANTS: usize = 64;

/// What a peer may do on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Action {
    /// Send telemetry.
    Publish = 1,
    /// Be sent telemetry.
    Subscribe = 2,
    /// Send commands.
    Command = 3,
    /// Challenge others for attestation.
    Attest = 4,
    /// Administer.
    Admin = 5,
}

impl Action {
    const ALL: [Self; 5] = [Self::Publish, Self::Subscribe, Self::Command, Self::Attest, Self::Admin];

    /// Its name in `--grant` options and configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Command => "command",
            Self::Attest => "attest",
            Self::Admin => "admin",
        }
    }

    /// The action with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it permits.
    pub action: Action,
    /// On which topics.
    pub filter: TopicFilter,
    /// From when on, if later than the certificate.
    pub not_before: Option<UnixTime>,
    /// Until when (exclusive), if earlier than the certificate.
    pub not_after: Option<UnixTime>,
}

impl core::fmt::Display for Grant {
    /// As `--grant` takes it: `publish:plant/#`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.action.name(), self.filter)
    }
}

impl Grant {
    /// A grant that holds as long as its certificate.
    pub fn new(action: Action, filter: TopicFilter) -> Self {
        Self { action, filter, not_before: None, not_after: None }
    }

    fn allows(&self, action: Action, topic: &str, at: UnixTime) -> bool {
        self.action == action
            && self.not_before.is_none_or(|from| from <= at)
            && self.not_after.is_none_or(|until| at < until)
            && self.filter.matches(topic)
    }
}

/// Whether any of `grants` allows `action` on `topic` at `at`.
pub fn allowed(grants: &[Grant], action: Action, topic: &str, at: UnixTime) -> bool {
    grants.iter().any(|grant| grant.allows(action, topic, at))
}

/// Until when some grant, if one in force at `at` covers all of `filter`, allows `action` there (exclusive).
pub(crate) fn covered_until(
    grants: &[Grant],
    action: Action,
    filter: &TopicFilter,
    at: UnixTime,
) -> Option<UnixTime> {
    let covers = |grant: &&Grant| {
        grant.action == action
            && grant.not_before.is_none_or(|from| from <= at)
            && grant.not_after.is_none_or(|until| at < until)
            && grant.filter.covers(filter)
    };
    grants.iter().filter(covers).map(|grant| grant.not_after.unwrap_or(UnixTime(u64::MAX))).max()
}

/// Whether any of `grants` allows one of `actions` on some topic that `filter` matches, at `at` or later.
pub(crate) fn may_reach(grants: &[Grant], actions: &[Action], filter: &TopicFilter, at: UnixTime) -> bool {
    grants.iter().any(|grant| {
        actions.contains(&grant.action)
            && grant.not_after.is_none_or(|until| at < until)
            && grant.filter.overlaps(filter)
    })
}

pub(crate) fn encode(grants: &[Grant], writer: &mut Writer) {
    writer.array(grants.len());
    for grant in grants {
        writer
            .array(4)
            .uint(grant.action as u64)
            .text(grant.filter.as_str())
            .optional_uint(grant.not_before.map(|time| time.0))
            .optional_uint(grant.not_after.map(|time| time.0));
    }
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Vec<Grant>, DecodeError> {
    let count = reader.array_up_to(MAX_GRANTS as u64)?;
    let mut grants = Vec::new();
    for _ in 0..count {
        reader.array_of(4)?;
        let id = reader.uint()?;
        let action = Action::ALL.into_iter().find(|action| *action as u64 == id).ok_or(DecodeError::Value)?;
        let filter = TopicFilter::new(&reader.text(MAX_TOPIC)?).map_err(|_| DecodeError::Value)?;
        let not_before = reader.optional_uint()?.map(UnixTime);
        let not_after = reader.optional_uint()?.map(UnixTime);
        grants.push(Grant { action, filter, not_before, not_after });
    }
    Ok(grants)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_reached_later_is_told_from_what_never_is() {
        let filter = |text| TopicFilter::new(text).unwrap();
        let grant = Grant {
            not_before: Some(UnixTime(20)),
            not_after: Some(UnixTime(30)),
            ..Grant::new(Action::Publish, filter("plant/+/temp"))
        };
        let reaches = |action, text, at| {
            may_reach(core::slice::from_ref(&grant), &[action], &filter(text), UnixTime(at))
        };
        assert!(reaches(Action::Publish, "plant/#", 10), "it begins later");
        assert!(!reaches(Action::Publish, "plant/#", 30), "it is over");
        assert!(!reaches(Action::Command, "plant/#", 25));
        assert!(!reaches(Action::Publish, "plant/press-7/rows", 25));
        assert_eq!(alloc::format!("{grant}"), "publish:plant/+/temp");
    }
}
