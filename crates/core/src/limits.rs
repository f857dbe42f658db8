//! Size limits, applied before any parsing (invariant I5). All are in bytes.

/// The largest payload accepted per object type; configurable, and each below the transport's packet limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Trust anchors.
    pub anchors: usize,
    /// Key announcements.
    pub announcement: usize,
    /// Prekey bundles.
    pub prekeys: usize,
    /// Attestation challenges and evidence.
    pub attestation: usize,
    /// Envelopes, records and every other application payload.
    pub message: usize,
    /// Revocation updates, checkpoint manifests and each checkpoint chunk.
    pub revocation: usize,
    /// Fleet policy.
    pub policy: usize,
    /// Session handshakes.
    pub session: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        Self {
            anchors: 64 * KIB,
            announcement: 64 * KIB,
            prekeys: 16 * KIB,
            attestation: 256 * KIB,
            message: 256 * KIB,
            revocation: 64 * KIB,
            policy: 64 * KIB,
            session: 64 * KIB,
        }
    }
}

impl Limits {
    /// The largest of all limits: what a transport must let through.
    pub fn largest(&self) -> usize {
        [
            self.anchors,
            self.announcement,
            self.prekeys,
            self.attestation,
            self.message,
            self.revocation,
            self.policy,
            self.session,
        ]
        .into_iter()
        .fold(0, usize::max)
    }
}
