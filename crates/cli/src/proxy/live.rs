//! What a running proxy tells of itself: one message to whoever subscribes to [`STATUS`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Proxy;
use super::limits::MAX_CLIENTS;
use crate::commands::status_details::Details;

/// Where it is asked for. Not a topic of anybody's: nothing that begins with `$` comes from a peer.
pub(crate) const STATUS: &str = "$pqc-iiot/status";

/// The present state, as JSON on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Live {
    /// What runs.
    pub(crate) running: String,
    pub(crate) peer: String,
    pub(crate) broker: String,
    pub(crate) connected: bool,
    /// Why nothing becomes durable at present.
    pub(crate) store_waits: Option<String>,
    /// Accepted, and without a receipt.
    pub(crate) outbox: Outbox,
    /// Received, and not taken by a local client.
    pub(crate) inbox: Inbox,
    /// Local clients, without the one that asks.
    pub(crate) clients: usize,
    /// Peers followed, and those with a certificate in force.
    pub(crate) followed: usize,
    pub(crate) ready: usize,
    pub(crate) anchors_version: u64,
    pub(crate) revocation_seq: u64,
    pub(crate) revoked: usize,
    pub(crate) revocations_behind: bool,
    /// Peers with a session in use.
    #[serde(default)]
    pub(crate) sessions: usize,
    #[serde(flatten)]
    pub(crate) details: Details,
    /// How often each thing happened since the start.
    pub(crate) counts: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outbox {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// Transmitted, and waiting for the receipt.
    pub(crate) in_flight: usize,
    pub(crate) oldest_seconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inbox {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Proxy {
    /// Encoded; `None` once the client has ended.
    pub(super) async fn live(&self) -> Option<Vec<u8>> {
        let status = self.client.status().await?;
        let endpoint = status.endpoint;
        let details = Details::running(
            self.client.sessions(None).await?,
            self.client.groups().await?,
            self.client.followed_groups().await?,
        );
        let (outbox, inbox) = (endpoint.outbox, endpoint.inbox);
        let live = Live {
            running: "proxy".to_owned(),
            peer: self.client.peer_id().as_str().to_owned(),
            broker: self.broker.clone(),
            connected: status.connected,
            store_waits: status.store_waits,
            outbox: Outbox {
                messages: outbox.messages,
                bytes: outbox.bytes,
                in_flight: outbox.in_flight,
                oldest_seconds: outbox.oldest.as_secs(),
            },
            inbox: Inbox { messages: inbox.messages, bytes: inbox.bytes },
            clients: MAX_CLIENTS.saturating_sub(self.places.available_permits()).saturating_sub(1),
            followed: endpoint.peers,
            ready: endpoint.ready,
            anchors_version: endpoint.anchors_version,
            revocation_seq: endpoint.revocation_seq,
            revoked: endpoint.revoked,
            revocations_behind: endpoint.revocations_behind,
            sessions: endpoint.sessions,
            details,
            counts: self.journal.counts(),
        };
        serde_json::to_vec(&live).ok()
    }
}
