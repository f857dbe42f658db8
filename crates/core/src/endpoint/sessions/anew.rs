//! Handshakes with peers whose sessions were lost with their rows. Such a peer goes on in a session that nobody reads, and would
//! only notice by silence.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::endpoint::Endpoint;
use crate::ids::PeerId;
use crate::time::Monotonic;

/// Handshakes begun at once, and how long after them the next are: after an upgrade it may be all peers.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_secs(1);

/// Who is to be asked for a new session.
#[derive(Default)]
pub(super) struct Anew {
    peers: VecDeque<PeerId>,
    /// While the link is up: when some of them have their turn.
    at: Option<Monotonic>,
}

impl Anew {
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.at
    }
}

impl Endpoint {
    /// A row of a session with `peer` could not be read. If none is left that sends, a new one begins once there is a link.
    pub(in crate::endpoint) fn session_row_lost(&mut self, peer: &PeerId) {
        let none = !self.has_session(peer.as_str());
        if none && self.peers.contains_key(peer) && !self.sessions.anew.peers.contains(peer) {
            self.sessions.anew.peers.push_back(peer.clone());
        }
    }

    /// The link is up.
    pub(in crate::endpoint) fn sessions_link_up(&mut self) {
        let now = self.clock.monotonic();
        self.sessions.anew.at = (!self.sessions.anew.peers.is_empty()).then_some(now);
        self.begin_anew();
    }

    /// Begins some of those handshakes.
    pub(in crate::endpoint) fn begin_anew(&mut self) {
        let (now, at) = (self.clock.monotonic(), self.clock.effective());
        if self.sessions.anew.at.is_none_or(|turn| now < turn) {
            return;
        }
        if self.online {
            for _ in 0..AT_ONCE.min(self.sessions.anew.peers.len()) {
                let Some(peer) = self.sessions.anew.peers.pop_front() else { break };
                if self.peers.get(&peer).is_some_and(|known| known.must_load(at)) {
                    self.load_in_turn(&peer);
                    self.sessions.anew.peers.push_back(peer);
                } else if !self.has_session(peer.as_str()) {
                    self.begin_handshake(&peer);
                }
            }
        }
        let more = self.online && !self.sessions.anew.peers.is_empty();
        self.sessions.anew.at = more.then(|| now.plus(PAUSE));
    }
}
