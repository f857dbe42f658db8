//! `[delivery]`: what outbox and inbox hold.

use std::time::Duration;

use pqc_iiot_core::budget::Rate;
use pqc_iiot_core::endpoint::{DeliveryLimits, FullPolicy};
use pqc_iiot_core::limits::Limits;
use serde::{Deserialize, Serialize};

use crate::time::Span;

/// The bounds of durable delivery; what is left out keeps its default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Delivery {
    pub(crate) outbox_bytes: Option<Size>,
    pub(crate) peer_share: Option<u8>,
    pub(crate) outbox_age: Option<Span>,
    pub(crate) when_full: Option<WhenFull>,
    pub(crate) drain_per_second: Option<u32>,
    pub(crate) inbox_messages: Option<usize>,
    pub(crate) inbox_bytes: Option<Size>,
}

/// `67108864` or `"64MiB"`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Size {
    Bytes(u64),
    Text(String),
}

/// What happens to a message that finds the outbox full.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WhenFull {
    Refuse,
    DropOldest,
    DropNewest,
}

impl Size {
    fn bytes(&self) -> Option<usize> {
        let (number, unit) = match self {
            Self::Bytes(bytes) => return usize::try_from(*bytes).ok(),
            Self::Text(text) => text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())),
        };
        let unit: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        usize::try_from(number.parse::<u64>().ok()?.checked_mul(unit)?).ok()
    }
}

impl Delivery {
    /// The limits with everything that is set.
    pub(crate) fn limits(&self) -> Result<DeliveryLimits, String> {
        let mut limits = DeliveryLimits::default();
        // The largest message fits into the smallest share, beside the reserve.
        let least = 3 * Limits::default().message;
        let size = |name: &str, size: &Size| {
            let bytes = size.bytes().ok_or_else(|| {
                format!("`{name}` is neither a number of bytes nor a size like \"64MiB\" or \"512KiB\"")
            })?;
            if bytes < least {
                return Err(format!(
                    "`{name}` is below {least} bytes, so that a large message would not fit"
                ));
            }
            Ok(bytes)
        };
        if let Some(bytes) = &self.outbox_bytes {
            limits.outbox_bytes = size("outbox-bytes", bytes)?;
        }
        if let Some(share) = self.peer_share {
            if !(50..=100).contains(&share) {
                return Err("`peer-share` is not from 50 to 100 percent of what other peers leave".into());
            }
            limits.peer_share = share;
        }
        if let Some(bytes) = &self.inbox_bytes {
            limits.inbox_bytes = size("inbox-bytes", bytes)?;
        }
        if let Some(span) = &self.outbox_age {
            let age = span.duration().filter(|age| *age >= Duration::from_secs(1));
            limits.outbox_age =
                age.ok_or("`outbox-age` is not a duration of at least 1 s, like \"60days\", \"12h\" or a number of seconds")?;
        }
        let at_least_one = |name: &str, zero: bool| {
            if zero { Err(format!("`{name}` is 0, so that nothing would pass")) } else { Ok(()) }
        };
        if let Some(per_second) = self.drain_per_second {
            at_least_one("drain-per-second", per_second == 0)?;
            // As the default: half a second's worth at once.
            limits.drain = Rate { burst: per_second.div_ceil(2), per_second };
        }
        if let Some(messages) = self.inbox_messages {
            at_least_one("inbox-messages", messages == 0)?;
            limits.inbox_messages = messages;
        }
        limits.when_full = match self.when_full {
            None | Some(WhenFull::Refuse) => FullPolicy::Refuse,
            Some(WhenFull::DropOldest) => FullPolicy::DropOldest,
            Some(WhenFull::DropNewest) => FullPolicy::DropNewest,
        };
        Ok(limits)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<DeliveryLimits, String> {
        toml::from_str::<Delivery>(text).unwrap().limits()
    }

    #[test]
    fn what_is_set_replaces_the_default_and_nothing_else() {
        assert_eq!(limits("").unwrap(), DeliveryLimits::default());
        let all = "outbox-bytes = '1GiB'\npeer-share = 50\noutbox-age = '12h'\nwhen-full = 'drop-oldest'\ndrain-per-second = 5\n\
                   inbox-messages = 7\ninbox-bytes = 1048576";
        let expected = DeliveryLimits {
            outbox_bytes: 1 << 30,
            peer_share: 50,
            outbox_age: Duration::from_secs(12 * 3600),
            when_full: FullPolicy::DropOldest,
            drain: Rate { burst: 3, per_second: 5 },
            inbox_messages: 7,
            inbox_bytes: 1 << 20,
        };
        assert_eq!(limits(all).unwrap(), expected);
    }

    #[test]
    fn what_would_let_nothing_pass_is_refused() {
        for (text, expected) in [
            ("outbox-bytes = '64MB'", "outbox-bytes"),
            ("outbox-bytes = 100", "below"),
            ("inbox-bytes = '99999999999GiB'", "inbox-bytes"),
            ("outbox-age = 'soon'", "outbox-age"),
            ("outbox-age = '0s'", "outbox-age"),
            ("drain-per-second = 0", "nothing would pass"),
            ("inbox-messages = 0", "inbox-messages"),
            ("peer-share = 10", "peer-share"),
            ("peer-share = 101", "peer-share"),
        ] {
            let why = limits(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
