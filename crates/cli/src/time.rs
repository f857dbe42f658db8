//! This machine's clock, and times as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pqc_iiot_core::time::UnixTime;
use serde::{Deserialize, Serialize};

/// Certificates and anchors are valid from this long before they are made: devices' clocks are not exact.
pub(crate) const BACKDATING: Duration = Duration::from_secs(300);

/// The operating system's time.
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// `time` less `duration`.
pub(crate) fn before(time: UnixTime, duration: Duration) -> UnixTime {
    UnixTime(time.0.saturating_sub(duration.as_secs()))
}

/// A number of days.
pub(crate) fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

/// RFC 3339 in UTC; times beyond the year 9999 as seconds.
pub(crate) fn rfc3339(time: UnixTime) -> String {
    const END_OF_9999: u64 = 253_402_300_799;
    if time.0 > END_OF_9999 {
        return format!("{} s", time.0);
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.0)).to_string()
}

/// The longest duration that is taken.
const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A duration as people write it: a number of seconds, or numbers with units. At most a century.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = || text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let read = if plain { seconds() } else { humantime::parse_duration(text).ok() };
    read.filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| "write seconds as in 5, or units as in 500ms, 2m or 1h30m".into())
}

/// A duration in a configuration file: `5`, `"5"` or `"12h"`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Span {
    Seconds(u64),
    Text(String),
}

impl Span {
    /// What it says, if it is a duration.
    pub(crate) fn duration(&self) -> Option<Duration> {
        match self {
            Self::Seconds(seconds) => duration(&seconds.to_string()),
            Self::Text(text) => duration(text),
        }
        .ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_are_seconds_and_units_stay_units() {
        let milliseconds = |text| duration(text).unwrap().as_millis();
        for (text, expected) in [
            ("5", 5_000),
            ("0", 0),
            ("0.5", 500),
            ("5s", 5_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("2 m", 120_000),
        ] {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
        for text in ["", ".", "1.2.3", "-1", "1e3", "inf", "soon", "5x", "99999999999", "1000years"] {
            assert!(duration(text).unwrap_err().contains("seconds as in 5"), "{text}");
        }
    }

    #[test]
    fn every_time_has_a_text() {
        assert_eq!(rfc3339(UnixTime(1_577_836_800)), "2020-01-01T00:00:00Z");
        assert_eq!(rfc3339(UnixTime(253_402_300_799)), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(UnixTime(u64::MAX)), format!("{} s", u64::MAX));
    }
}
