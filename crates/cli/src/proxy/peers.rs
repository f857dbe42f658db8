//! The peers that the proxy follows, and whether they can be sent to.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pqc_iiot_core::endpoint::{Event, RefusalReason};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_mqtt::client::SecureMqttClient;
use tokio::sync::watch;

use super::limits::{MAX_PEERS, PEER_PATIENCE};
use super::refusal::Refusal;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Expected,
    Ready,
    Lost,
    GivenUp,
}

/// Every peer that a route, the configuration or a local client has named.
pub(super) struct Peers {
    client: SecureMqttClient,
    known: watch::Sender<BTreeMap<PeerId, Standing>>,
    /// What was refused of them last.
    refused: Mutex<BTreeMap<PeerId, RefusalReason>>,
}

impl Peers {
    pub(super) fn new(client: SecureMqttClient) -> Self {
        Self { client, known: watch::Sender::new(BTreeMap::new()), refused: Mutex::default() }
    }

    /// Follows a peer, which lets its messages in and ours out.
    pub(super) async fn follow(&self, peer: &PeerId) -> Result<(), Refusal> {
        if peer == self.client.peer_id() {
            return Err(Refusal::Own);
        }
        let mut room = true;
        let new = self.known.send_if_modified(|known| {
            let new = !known.contains_key(peer);
            room = !new || known.len() < MAX_PEERS;
            if new && room {
                known.insert(peer.clone(), Standing::Expected);
            }
            new && room
        });
        match (room, new) {
            (false, _) => Err(Refusal::TooManyPeers),
            (true, false) => Ok(()),
            (true, true) => self.client.add_peer(peer.clone()).await.map_err(|error| {
                // The next who asks tries again.
                self.known.send_modify(|known| {
                    known.remove(peer);
                });
                Refusal::Publish(error)
            }),
        }
    }

    /// Waits until the peer can be sent to.
    pub(super) async fn ready(&self, peer: &PeerId) -> Result<(), Refusal> {
        let mut known = self.known.subscribe();
        let decided = known.wait_for(|known| known.get(peer) != Some(&Standing::Expected));
        match tokio::time::timeout(PEER_PATIENCE, decided).await {
            Ok(Ok(known)) => match known.get(peer) {
                Some(Standing::Ready) => Ok(()),
                Some(Standing::Lost) => Err(Refusal::Lost(peer.clone())),
                _ => Err(Refusal::Unready(peer.clone())),
            },
            _ => Err(Refusal::Unready(peer.clone())),
        }
    }

    /// Waits for nobody any longer.
    pub(super) fn give_up(&self) {
        self.known.send_modify(|known| {
            for standing in known.values_mut().filter(|standing| **standing == Standing::Expected) {
                *standing = Standing::GivenUp;
            }
        });
    }

    /// Why something of a peer's was refused last.
    pub(super) fn refused(&self, peer: &PeerId) -> Option<RefusalReason> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(peer).copied()
    }

    /// Learns from what the client says.
    pub(super) fn note(&self, event: &Event) {
        let (peer, standing) = match event {
            Event::PeerReady { peer, .. } => (peer, Standing::Ready),
            Event::PeerLost { peer, .. } | Event::PeerRevoked { peer } => (peer, Standing::Lost),
            // Messages are refused for that while there is no announcement.
            Event::Refused { peer: Some(peer), reason } if *reason != RefusalReason::UnknownPeer => {
                if self.known.borrow().contains_key(peer) {
                    let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                    refused.insert(peer.clone(), *reason);
                }
                return;
            }
            _ => return,
        };
        self.known.send_if_modified(|known| {
            known.get_mut(peer).is_some_and(|known| std::mem::replace(known, standing) != standing)
        });
    }
}
