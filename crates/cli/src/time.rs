//! This machine's clock, and times as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pqc_iiot_core::time::UnixTime;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_text() {
        assert_eq!(rfc3339(UnixTime(1_577_836_800)), "2020-01-01T00:00:00Z");
        assert_eq!(rfc3339(UnixTime(253_402_300_799)), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(UnixTime(u64::MAX)), format!("{} s", u64::MAX));
    }
}
