//! How sessions live.

use core::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// When a session turns its keys over, and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionPolicy {
    /// Whether messages go in sessions at all; without, all go in envelopes, and commands not at all.
    pub enabled: bool,
    /// Records in both directions after which a new epoch begins.
    pub rekey_records: u64,
    /// Time after which a new epoch begins with the next record.
    pub rekey_after: Duration,
    /// Time after which the next record brings a full handshake: against a thief who still listens in.
    pub renew_after: Duration,
    /// How long an ended session may still be read.
    pub drain: Duration,
    /// How long a peer may fail to prove that it reads what we send before a new handshake is tried.
    pub silence: Duration,
    /// How long the peer may take to propose an epoch before a new handshake is tried.
    pub turn_patience: Duration,
    /// The largest packet that the session's upkeep may make, in bytes of payload: the larger messages of an epoch's change go
    /// in parts. At least 105 is taken whatever is set. Handshakes and the application's messages are as large as they are.
    pub max_packet: usize,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            rekey_records: 10_000,
            rekey_after: Duration::from_secs(DAY),
            renew_after: Duration::from_secs(30 * DAY),
            drain: Duration::from_secs(7 * DAY),
            silence: Duration::from_secs(10 * MINUTE),
            turn_patience: Duration::from_secs(HOUR),
            max_packet: usize::MAX,
        }
    }
}
