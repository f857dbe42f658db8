//! What can be recorded: a closed list of kinds, an optional peer, a harmless line of text and a count.

use alloc::string::String;
use core::fmt;

use crate::ids::PeerId;

/// The longest detail, in bytes after escaping.
pub const MAX_DETAIL: usize = 256;

macro_rules! audit_kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $name:literal,)*) => {
        /// What happened. Codes and names are stable: they are never reused for another meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum AuditKind {
            $($(#[$doc])* $variant = $code,)*
        }

        impl AuditKind {
            /// Every kind, in order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind with this code.
            pub fn from_code(code: u64) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its kebab-case name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

audit_kinds! {
    /// The client started and verified its state.
    ClientStarted = 1 "client-started",
    /// The client stopped in order.
    ClientStopped = 2 "client-stopped",
    /// A peer's announced keys became trusted.
    KeyExchangeAccepted = 3 "key-exchange-accepted",
    /// An announcement was refused.
    KeyExchangeRefused = 4 "key-exchange-refused",
    /// A prekey bundle was refused.
    PrekeyRefused = 5 "prekey-refused",
    /// A message was refused for a reason without a kind of its own.
    MessageRefused = 6 "message-refused",
    /// A message that was accepted before came again, or came too late.
    ReplayRefused = 7 "replay-refused",
    /// A signature or authentication tag did not verify.
    ForgeryRefused = 8 "forgery-refused",
    /// A genuine message that its sender's grants do not cover.
    GrantRefused = 9 "grant-refused",
    /// A payload over its size limit.
    OversizedRefused = 10 "oversized-refused",
    /// A payload that is not in the form of its topic.
    MalformedRefused = 11 "malformed-refused",
    /// Revocations took effect.
    RevocationApplied = 12 "revocation-applied",
    /// A revocation update was refused.
    RevocationRefused = 13 "revocation-refused",
    /// A revocation update is missing.
    RevocationGap = 14 "revocation-gap",
    /// A revocation checkpoint took effect.
    CheckpointApplied = 15 "checkpoint-applied",
    /// Trust in a peer ended because it is revoked.
    PeerRevoked = 16 "peer-revoked",
    /// Newer trust anchors took effect.
    AnchorsApplied = 17 "anchors-applied",
    /// Trust anchors were refused.
    AnchorsRefused = 18 "anchors-refused",
    /// The clock went below the durable floor or leapt away.
    ClockAnomaly = 19 "clock-anomaly",
    /// An own prekey was replaced.
    PrekeyRotated = 20 "prekey-rotated",
    /// The provider offers less than before, or than policy asks.
    ProviderDowngrade = 21 "provider-downgrade",
    /// A mode that weakens security was switched on.
    DangerousMode = 22 "dangerous-mode",
    /// The authority issued a certificate.
    CertificateIssued = 23 "certificate-issued",
    /// The authority revoked a certificate.
    CertificateRevoked = 24 "certificate-revoked",
    /// Durable state could not be written, or had to be repaired.
    StoreError = 25 "store-error",
    /// Events of a kind were counted and not written one by one.
    Suppressed = 26 "suppressed",
    /// An operator lifted the hold that a contradiction or missing revocations caused.
    HoldReleased = 27 "hold-released",
    /// The authority's revocations jumped past everything it may have issued before it was restored.
    RevocationsRecovered = 28 "revocations-recovered",
    /// A receiver saw messages that our state does not know: an older copy of it was restored.
    RollbackNoticed = 29 "rollback-noticed",
    /// A session with a peer is in use.
    SessionEstablished = 30 "session-established",
    /// Sessions with a peer ended, because its keys are not trusted any longer.
    SessionEnded = 31 "session-ended",
}

impl AuditKind {
    /// Its number in the log.
    pub fn code(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that is safe in any log, terminal or metric: printable ASCII, at most [`MAX_DETAIL`] bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct AuditText(String);

impl AuditText {
    /// Escapes control characters, non-ASCII characters and `\` as Rust escapes, and cuts at [`MAX_DETAIL`] bytes
    /// (never inside an escape), marking the cut with `...`.
    pub fn new(text: &str) -> Self {
        const CUT: &str = "...";
        let mut escaped = String::new();
        let mut cut_at = 0;
        for character in text.chars() {
            let plain = matches!(character, ' '..='~') && character != '\\';
            if plain {
                escaped.push(character);
            } else {
                escaped.extend(character.escape_default());
            }
            if escaped.len() > MAX_DETAIL {
                escaped.truncate(cut_at);
                escaped.push_str(CUT);
                break;
            }
            if escaped.len() <= MAX_DETAIL - CUT.len() {
                cut_at = escaped.len();
            }
        }
        Self(escaped)
    }

    /// Takes text that is already in this form; `None` for any other.
    pub fn from_escaped(text: String) -> Option<Self> {
        let safe = text.len() <= MAX_DETAIL && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        safe.then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AuditText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AuditText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// One thing that happened, or `count` of the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEvent {
    /// What.
    pub kind: AuditKind,
    /// With whom, as far as that is known; unauthenticated for refusals.
    pub peer: Option<PeerId>,
    /// In a few words.
    pub detail: AuditText,
    /// How often, at least 1.
    pub count: u64,
}

impl AuditEvent {
    /// One event; `detail` may come from a stranger.
    pub fn new(kind: AuditKind, peer: Option<PeerId>, detail: &str) -> Self {
        Self { kind, peer, detail: AuditText::new(detail), count: 1 }
    }

    /// The same, standing for `count` events.
    pub fn with_count(self, count: u64) -> Self {
        Self { count: count.max(1), ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_round_trip() {
        for (index, kind) in AuditKind::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.code()), index + 1);
            assert_eq!(AuditKind::from_code(kind.code().into()), Some(*kind));
            assert!(kind.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind}");
            assert!(AuditKind::ALL.iter().filter(|other| other.name() == kind.name()).count() == 1);
        }
        assert_eq!(AuditKind::from_code(0), None);
        assert_eq!(AuditKind::from_code(AuditKind::ALL.len() as u64 + 1), None);
    }

    #[test]
    fn hostile_text_is_made_harmless() {
        assert_eq!(AuditText::new("topic a/b refused").as_str(), "topic a/b refused");
        assert_eq!(
            AuditText::new("a\nb\x1b[31m\\ü\u{202e}").as_str(),
            "a\\nb\\u{1b}[31m\\\\\\u{fc}\\u{202e}"
        );
        let long = AuditText::new(&"x".repeat(10_000));
        assert_eq!(long.as_str().len(), MAX_DETAIL);
        assert!(long.as_str().ends_with("..."));
        assert_eq!(AuditText::new(&"y".repeat(MAX_DETAIL)).as_str(), "y".repeat(MAX_DETAIL));
        assert_eq!(AuditText::from_escaped("tab\there".to_string()), None);
        assert_eq!(AuditText::from_escaped("x".repeat(MAX_DETAIL + 1)), None);
    }

    proptest! {
        #[test]
        fn every_text_becomes_short_printable_ascii(text in any::<String>()) {
            let safe = AuditText::new(&text.repeat(40));
            prop_assert_eq!(AuditText::from_escaped(safe.as_str().to_string()), Some(safe));
        }
    }
}
