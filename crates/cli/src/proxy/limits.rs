//! What local clients may use, each and together.

use std::time::Duration;

use pqc_iiot_core::limits::Limits;
use pqc_iiot_core::topic::MAX_TOPIC;

/// Connections at once, those that have not said who they are included.
pub(super) const MAX_CLIENTS: usize = 64;
/// Topic filters of one client.
pub(super) const MAX_FILTERS: usize = 64;
/// Publishes of one client that are not answered yet; at the limit it is not read from.
pub(super) const MAX_UNANSWERED: u16 = 32;
/// The same in bytes, beside the one that goes over it.
pub(super) const MAX_UNANSWERED_BYTES: usize = 1024 * 1024;
/// Messages sent to one client that it has not acknowledged.
pub(super) const WINDOW: usize = 32;
/// Received messages that nobody has taken yet.
pub(super) const MAX_HELD: usize = 1024;
/// The same in bytes.
pub(super) const MAX_HELD_BYTES: usize = 32 * 1024 * 1024;
/// Peers known by name, those of the configuration included.
pub(super) const MAX_PEERS: usize = 1024;

/// How long a connection may take to say CONNECT.
pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long one write to a client may take.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may leave a message while nothing else finds room.
pub(super) const STALL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a message waits for its peer's keys.
pub(super) const PEER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a subscription waits for the broker's answer.
pub(super) const BROKER_PATIENCE: Duration = Duration::from_secs(5);
/// How long the end waits for what clients handed over.
pub(super) const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// The largest packet of a local client: a message of the largest size with its topic and properties.
pub(super) fn max_packet() -> u32 {
    u32::try_from(Limits::default().message + 2 * MAX_TOPIC + 4096).unwrap_or(u32::MAX)
}
