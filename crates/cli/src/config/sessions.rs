//! `[sessions]`: how often keys turn over.

use std::time::Duration;

use pqc_iiot_core::endpoint::SessionPolicy;
use serde::{Deserialize, Serialize};

use crate::time::Span;

/// The policy of sessions; what is left out keeps its default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Sessions {
    pub(crate) enabled: Option<bool>,
    pub(crate) rekey_records: Option<u64>,
    pub(crate) rekey_after: Option<Span>,
    pub(crate) renew_after: Option<Span>,
    pub(crate) drain: Option<Span>,
    pub(crate) silence: Option<Span>,
    pub(crate) max_packet: Option<usize>,
}

impl Sessions {
    /// The policy with everything that is set.
    pub(crate) fn policy(&self) -> Result<SessionPolicy, String> {
        let mut policy = SessionPolicy::default();
        let set = |to: &mut Duration, name: &str, span: &Option<Span>, longest: Duration| {
            let Some(span) = span else { return Ok(()) };
            let within = |time: &Duration| (Duration::from_secs(10)..=longest).contains(time);
            *to = span.duration().filter(within).ok_or_else(|| {
                let longest = humantime::format_duration(longest);
                format!("`{name}` is not a duration from 10s to {longest}, like \"12h\", or seconds")
            })?;
            Ok::<(), String>(())
        };
        const DAY: u64 = 24 * 60 * 60;
        let days = |days| Duration::from_secs(days * DAY);
        set(&mut policy.rekey_after, "rekey-after", &self.rekey_after, days(7))?;
        set(&mut policy.renew_after, "renew-after", &self.renew_after, days(30))?;
        set(&mut policy.drain, "drain", &self.drain, days(30))?;
        set(&mut policy.silence, "silence", &self.silence, days(1))?;
        if let Some(records) = self.rekey_records {
            if !(1..=1_000_000).contains(&records) {
                return Err("`rekey-records` is not from 1 to 1000000".into());
            }
            policy.rekey_records = records;
        }
        if let Some(max_packet) = self.max_packet {
            if max_packet < 128 {
                return Err("`max-packet` is below 128 bytes".into());
            }
            policy.max_packet = max_packet;
        }
        policy.enabled = self.enabled.unwrap_or(policy.enabled);
        Ok(policy)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<SessionPolicy, String> {
        toml::from_str::<Sessions>(text).unwrap().policy()
    }

    #[test]
    fn what_is_set_replaces_the_default_and_nothing_else() {
        assert_eq!(policy("").unwrap(), SessionPolicy::default());
        let all = "enabled = false\nrekey-records = 5\nrekey-after = 3600\nrenew-after = '2days'\ndrain = '10800'\nsilence = '1m'\nmax-packet = 256";
        let expected = SessionPolicy {
            enabled: false,
            rekey_records: 5,
            rekey_after: Duration::from_secs(3600),
            renew_after: Duration::from_secs(2 * 86_400),
            drain: Duration::from_secs(3 * 3600),
            silence: Duration::from_secs(60),
            max_packet: 256,
            ..SessionPolicy::default()
        };
        assert_eq!(policy(all).unwrap(), expected);
    }

    #[test]
    fn what_would_weaken_or_stop_sessions_is_refused() {
        for (text, expected) in [
            ("rekey-records = 0", "rekey-records"),
            ("rekey-after = '8days'", "rekey-after"),
            ("renew-after = '31days'", "renew-after"),
            ("drain = 'soon'", "drain"),
            ("silence = '1s'", "silence"),
            ("max-packet = 127", "max-packet"),
        ] {
            let why = policy(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
