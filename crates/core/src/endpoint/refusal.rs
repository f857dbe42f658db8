//! Refusals: counted by reason, audited at a bounded rate.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::audit::{AuditEvent, AuditKind};
use crate::ids::PeerId;
use crate::time::Monotonic;

/// At most one audit entry per reason and peer in this time; the rest is counted and summed up.
pub const AUDIT_INTERVAL: Duration = Duration::from_secs(10);

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident;)*) => {
        /// Why an input was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum RefusalReason { $($(#[$doc])* $variant,)* }

        impl RefusalReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A short stable name for counters and reports.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn audit_kind(self) -> AuditKind {
                match self { $(Self::$variant => AuditKind::$kind,)* }
            }
        }
    };
}

reasons! {
    /// Over the limit of its kind; dropped unread.
    Oversized = "oversized", OversizedRefused;
    /// Does not decode.
    Malformed = "malformed", MalformedRefused;
    /// The first byte names no known kind of payload.
    UnknownKind = "unknown-kind", MalformedRefused;
    /// A version that is not spoken here.
    UnknownVersion = "unknown-version", MalformedRefused;
    /// A suite outside the registry.
    UnknownSuite = "unknown-suite", MalformedRefused;
    /// A peer id outside invariant I0.
    InvalidPeerId = "invalid-peer-id", MalformedRefused;
    /// A topic that is not one, or one of ours that means nothing.
    InvalidTopic = "invalid-topic", MalformedRefused;
    /// Our own message came back.
    Reflected = "reflected", ReplayRefused;
    /// Nobody asked for this peer.
    UnknownPeer = "unknown-peer", MessageRefused;
    /// The peer's keys are revoked.
    Revoked = "revoked", MessageRefused;
    /// The peer's certificate is outside its validity.
    Expired = "expired", MessageRefused;
    /// Sealed to other keys than ours.
    WrongRecipient = "wrong-recipient", MessageRefused;
    /// Sealed to a prekey that we do not have (any more).
    UnknownPrekey = "unknown-prekey", MessageRefused;
    /// Sealed to the static key although a prekey is required.
    StaticKey = "static-key", MessageRefused;
    /// A registered suite that our certificate or policy does not accept.
    SuiteNotAllowed = "suite-not-allowed", MessageRefused;
    /// Seen before.
    Replayed = "replayed", ReplayRefused;
    /// A message that arrived before, which its sender sealed again: it never heard that it had. No copy of a packet counts as
    /// one, for only its sender can make it, and it is not audited.
    Repeated = "repeated", Suppressed;
    /// Older than the replay window.
    TooOld = "too-old", ReplayRefused;
    /// No budget left for work before authentication.
    OverBudget = "over-budget", Suppressed;
    /// A signature does not verify.
    BadSignature = "bad-signature", ForgeryRefused;
    /// A ciphertext does not authenticate.
    BadCiphertext = "bad-ciphertext", ForgeryRefused;
    /// No grant for this topic.
    NoGrant = "no-grant", GrantRefused;
    /// A command outside a session.
    CommandOutsideSession = "command-outside-session", GrantRefused;
    /// An authentic handshake with an attempt that was used before: its sender's state is an older copy.
    StaleHandshake = "stale-handshake", KeyExchangeRefused;
    /// A step of the KEM ratchet that is not due.
    OutOfTurn = "out-of-turn", MessageRefused;
    /// A message on the protocol's own stream or at its topic, or a receipt or report elsewhere.
    WrongStream = "wrong-stream", MalformedRefused;
    /// Of a topic group whose key was not handed to us, or beyond its window; it waited in vain.
    UnknownGroup = "unknown-group", MessageRefused;
    /// A group record for a counter that has enough others.
    GroupCrowded = "group-crowded", MessageRefused;
    /// A member of a group made a record in the publisher's name.
    GroupForgery = "group-forgery", ForgeryRefused;
    /// A group key, leaves or seals that contradict what their publisher committed to.
    BadGroup = "bad-group", ForgeryRefused;
    /// Too far from what was heard before; its sender sends what is missing first.
    TooManyGaps = "too-many-gaps", MessageRefused;
    /// The application takes no messages, and no more can be held.
    InboxFull = "inbox-full", Suppressed;
    /// The sender's own expiry passed.
    MessageExpired = "message-expired", MessageRefused;
    /// A certificate that no pinned issuer signed, or that is invalid.
    BadCertificate = "bad-certificate", KeyExchangeRefused;
    /// The certificate names another peer, or the announcement other keys.
    IdentityMismatch = "identity-mismatch", KeyExchangeRefused;
    /// An older key epoch, certificate or bundle than the pinned one.
    Rollback = "rollback", KeyExchangeRefused;
    /// The same epoch or sequence with other content.
    Collision = "collision", KeyExchangeRefused;
    /// A prekey bundle that does not verify or does not fit its identity.
    BadPrekey = "bad-prekey", PrekeyRefused;
    /// A revocation object that role `control` did not sign, or that breaks its rules.
    BadRevocation = "bad-revocation", RevocationRefused;
    /// An older revocation object than the one in force.
    RevocationRollback = "revocation-rollback", RevocationRefused;
    /// Two different revocation objects with one sequence.
    RevocationEquivocation = "revocation-equivocation", RevocationRefused;
    /// Trust anchors that are not the next version under enough roots.
    BadAnchors = "bad-anchors", AnchorsRefused;
}

/// Refusals audited one by one in an [`AUDIT_INTERVAL`], each reason and peer apart. The log is signed and on disk, so a
/// stranger who names every peer there is must not decide how fast it grows: beyond this, only the count per reason.
pub const MAX_NAMED_REFUSALS: usize = 32;

/// Counts refusals and decides which reach the audit log now.
#[derive(Default)]
pub(super) struct RefusalLog {
    totals: BTreeMap<RefusalReason, u64>,
    /// Since the last audit entry, per reason and known peer: at most [`MAX_NAMED_REFUSALS`] and one per reason.
    unwritten: BTreeMap<(RefusalReason, Option<PeerId>), u64>,
    flush_at: Option<Monotonic>,
}

impl RefusalLog {
    /// Counts one refusal; the first of its kind in an interval is audited at once.
    pub(super) fn count(
        &mut self,
        now: Monotonic,
        reason: RefusalReason,
        peer: Option<&PeerId>,
    ) -> Option<AuditEvent> {
        *self.totals.entry(reason).or_default() += 1;
        if reason == RefusalReason::Repeated {
            return None;
        }
        self.flush_at.get_or_insert(now.plus(AUDIT_INTERVAL));
        if let Some(count) = self.unwritten.get_mut(&(reason, peer.cloned())) {
            *count += 1;
            return None;
        }
        if self.unwritten.len() >= MAX_NAMED_REFUSALS {
            *self.unwritten.entry((reason, None)).or_default() += 1;
            return None;
        }
        self.unwritten.insert((reason, peer.cloned()), 0);
        Some(AuditEvent::new(reason.audit_kind(), peer.cloned(), reason.name()))
    }

    /// When [`RefusalLog::flush`] has something to do.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.flush_at
    }

    /// What was counted but not yet written, once the interval is over or `force`.
    pub(super) fn flush(&mut self, now: Monotonic, force: bool) -> Vec<AuditEvent> {
        if !force && self.flush_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.flush_at = None;
        core::mem::take(&mut self.unwritten)
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|((reason, peer), count)| {
                AuditEvent::new(reason.audit_kind(), peer, reason.name()).with_count(count)
            })
            .collect()
    }

    /// All refusals so far, by reason.
    pub(super) fn totals(&self) -> &BTreeMap<RefusalReason, u64> {
        &self.totals
    }
}
