//! MQTT topic names and filters (MQTT 5.0 §4.7), bounded.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use thiserror::Error;

/// The longest topic name or filter used here, in bytes. MQTT allows 65,535.
pub const MAX_TOPIC: usize = 1024;

/// Why text is not a topic name or filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Empty.
    #[error("a topic needs at least one character")]
    Empty,
    /// Longer than [`MAX_TOPIC`].
    #[error("a topic has at most 1024 bytes here")]
    TooLong,
    /// A wildcard in a name, or one that does not stand alone in its level.
    #[error("a wildcard ('+' or '#') is out of place")]
    Wildcard,
    /// A control character.
    #[error("a topic has no control characters")]
    Control,
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC {
        return Err(TopicError::TooLong);
    }
    if text.chars().any(char::is_control) { Err(TopicError::Control) } else { Ok(()) }
}

/// A topic name: what a message is published on. The sender's topic name is the *logical topic* that is bound. A clone shares
/// its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks and copies.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        if text.contains(['+', '#']) { Err(TopicError::Wildcard) } else { Ok(Self(text.into())) }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub(crate) fn into_text(self) -> Arc<str> {
        self.0
    }
}

/// A topic filter: a topic name that may hold `+` levels and end in `#`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(String);

impl TopicFilter {
    /// Checks and copies.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let last = levels.peek().is_none();
            let well_placed = match level {
                "+" => true,
                "#" => last,
                _ => !level.contains(['+', '#']),
            };
            if !well_placed {
                return Err(TopicError::Wildcard);
            }
        }
        Ok(Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every topic that `other` matches is matched by this filter, too.
    pub fn covers(&self, other: &Self) -> bool {
        if other.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let (mut ours, mut theirs) = (self.0.split('/'), other.0.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) => return true,
                (_, Some("#")) => return false,
                (Some("+"), Some(_)) => {}
                (Some(wanted), Some(level)) if wanted == level => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    /// Whether some topic may match both filters.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.split('/'), other.0.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(a), Some(b)) if a == "+" || b == "+" || a == b => {}
                _ => return false,
            }
        }
    }

    /// Whether `topic` matches; a leading `$` is matched by no wildcard (MQTT 5.0 §4.7.2).
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        // Every message is matched a few times: byte by byte, as wildcards stand alone in their levels.
        let (mut filter, mut topic) = (self.0.as_bytes(), topic.as_bytes());
        loop {
            match (filter, topic) {
                ([b'#', ..], _) | ([], []) | (b"/#", []) => return true,
                ([b'+', rest @ ..], _) => {
                    let level = topic.iter().take_while(|byte| **byte != b'/').count();
                    (filter, topic) = (rest, topic.get(level..).unwrap_or_default());
                }
                ([wanted, rest @ ..], [byte, more @ ..]) if wanted == byte => {
                    (filter, topic) = (rest, more);
                }
                _ => return false,
            }
        }
    }
}

macro_rules! textual {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl core::str::FromStr for $name {
            type Err = TopicError;
            fn from_str(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }
    };
}
textual!(Topic);
textual!(TopicFilter);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
        ] {
            assert_eq!(TopicFilter::new(filter).unwrap().matches(topic), expected, "{filter} {topic}");
        }
    }

    proptest! {
        #[test]
        fn a_filter_matches_level_by_level(filter in "[ab+#/$]{1,8}", topic in "[ab/$]{1,8}") {
            let Ok(filter) = TopicFilter::new(&filter) else { return Ok(()) };
            let levels = |wildcards: Vec<&str>, levels: Vec<&str>| {
                let open = wildcards.last() == Some(&"#");
                let fixed = wildcards.len() - usize::from(open);
                let alike = wildcards.iter().zip(&levels).take(fixed).all(|(a, b)| *a == "+" || a == b);
                alike && (levels.len() == fixed || open && levels.len() > fixed)
            };
            let hidden = topic.starts_with('$') && filter.as_str().starts_with(['+', '#']);
            let expected = !hidden && levels(filter.as_str().split('/').collect(), topic.split('/').collect());
            prop_assert_eq!(filter.matches(&topic), expected);
        }
    }

    #[test]
    fn a_filter_covers_what_it_matches_whole_and_overlaps_what_it_may_share() {
        for (ours, theirs, covers, overlaps) in [
            ("a/#", "a/+/b", true, true),
            ("a/#", "a", true, true),
            ("a/#", "a/#", true, true),
            ("a/+", "a/b", true, true),
            ("a/b", "a/+", false, true),
            ("a/+", "a/#", false, true),
            ("a/+/c", "a/b/+", false, true),
            ("a/b", "a/c", false, false),
            ("a/b", "a/b/c", false, false),
            ("a/b/c", "a/b", false, false),
            ("#", "$SYS/x", false, true),
        ] {
            let filter = |text| TopicFilter::new(text).unwrap();
            assert_eq!(filter(ours).covers(&filter(theirs)), covers, "{ours} covers {theirs}");
            assert_eq!(filter(ours).overlaps(&filter(theirs)), overlaps, "{ours} overlaps {theirs}");
            assert_eq!(filter(theirs).overlaps(&filter(ours)), overlaps, "{theirs} overlaps {ours}");
        }
    }

    #[test]
    fn malformed_topics_are_refused() {
        assert_eq!(Topic::new("a/+"), Err(TopicError::Wildcard));
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
        assert_eq!(Topic::new("a\nb"), Err(TopicError::Control));
        assert_eq!(Topic::new(&"a".repeat(1025)), Err(TopicError::TooLong));
        assert_eq!(TopicFilter::new("a#"), Err(TopicError::Wildcard));
        assert_eq!(TopicFilter::new("#/a"), Err(TopicError::Wildcard));
        assert_eq!(TopicFilter::new("a+/b"), Err(TopicError::Wildcard));
    }
}
