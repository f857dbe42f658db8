//! What waits in a stopped identity's store.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pqc_iiot_core::codec::{DecodeError, Reader};
use pqc_iiot_core::ids::MAX_PEER_ID;
use pqc_iiot_core::store::{RecordKind, Row};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::MAX_TOPIC;
use serde::Serialize;

use crate::output::counted;

/// Messages that wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Queue {
    pub(super) messages: u64,
    /// On disk, without the store's own framing.
    pub(super) bytes: u64,
    /// Of the outbox only: what arrives is not dated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oldest_seconds: Option<u64>,
}

/// What waits for one peer, and from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Waiting {
    pub(super) peer: String,
    pub(super) outbox: Queue,
    pub(super) inbox: Queue,
}

/// What waits, in all and by peer.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) outbox: Queue,
    pub(super) inbox: Queue,
    pub(super) peers: BTreeMap<String, Waiting>,
}

impl Queue {
    fn add(&mut self, bytes: u64, age: Option<u64>) {
        self.messages += 1;
        self.bytes += bytes;
        self.oldest_seconds = self.oldest_seconds.max(age);
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, bytes, oldest_seconds } = self;
        if *messages == 0 {
            return f.write_str("empty");
        }
        write!(f, "{}, {bytes} bytes", counted(*messages, "message", "messages"))?;
        let Some(seconds) = oldest_seconds else { return Ok(()) };
        write!(f, ", the oldest {} old", humantime::format_duration(Duration::from_secs(*seconds)))
    }
}

impl Queues {
    /// Reads the rows of outbox and inbox.
    pub(super) fn read(rows: &[Row], now: UnixTime) -> Result<Self, DecodeError> {
        let mut queues = Self::default();
        let packets = rows.iter().filter(|row| row.kind == RecordKind::Packet);
        let packets: BTreeMap<&[u8], u64> =
            packets.map(|row| (row.key.as_slice(), row.value.len() as u64)).collect();
        for row in rows {
            let bytes = row.value.len() as u64;
            match row.kind {
                RecordKind::Outbox => {
                    let Some((peer, accepted)) = outgoing(row)? else { continue };
                    let age = Some(now.0.saturating_sub(accepted.0));
                    let bytes = bytes + packets.get(row.key.as_slice()).copied().unwrap_or(0);
                    queues.outbox.add(bytes, age);
                    queues.peer(peer).outbox.add(bytes, age);
                }
                RecordKind::Inbox => {
                    let mut reader = Reader::new(&row.value)?;
                    // Whatever else the row says, it begins with its sender.
                    reader.array()?;
                    let peer = reader.text(MAX_PEER_ID)?;
                    queues.inbox.add(bytes, None);
                    queues.peer(peer).inbox.add(bytes, None);
                }
                _ => {}
            }
        }
        Ok(queues)
    }

    fn peer(&mut self, peer: String) -> &mut Waiting {
        let waiting = self.peers.entry(peer.clone()).or_default();
        waiting.peer = peer;
        waiting
    }
}

/// Receiver and time of acceptance; `None` for a report of lost messages.
fn outgoing(row: &Row) -> Result<Option<(String, UnixTime)>, DecodeError> {
    let mut reader = Reader::new(&row.value)?;
    reader.array_of(7)?;
    let peer = reader.text(MAX_PEER_ID)?;
    reader.uint()?;
    reader.text(MAX_TOPIC)?;
    reader.uint()?;
    let accepted = UnixTime(reader.uint()?);
    reader.bytes()?;
    Ok(reader.absent()?.then_some((peer, accepted)))
}
