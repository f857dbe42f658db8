//! Which peer receives under which session id.

use alloc::collections::{BTreeMap, VecDeque};

use crate::crypto::backend::RandomSource;
use crate::ids::{PeerId, SessionId};

/// Ids of ended sessions that are remembered.
const MAX_ENDED: usize = 1_024;

/// Our own session ids.
#[derive(Default)]
pub(super) struct Sids {
    live: BTreeMap<SessionId, PeerId>,
    /// Not given again for a while, and known by whose they were.
    ended: VecDeque<(SessionId, PeerId)>,
}

impl Sids {
    pub(super) fn get(&self, sid: SessionId) -> Option<&PeerId> {
        self.live.get(&sid)
    }

    pub(super) fn insert(&mut self, sid: SessionId, peer: &PeerId) {
        self.live.insert(sid, peer.clone());
    }

    /// A session ended: nothing is received under its id any more.
    pub(super) fn retire(&mut self, sid: SessionId) {
        let Some(peer) = self.live.remove(&sid) else { return };
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((sid, peer));
    }

    /// Whose session an ended one was.
    pub(super) fn ended_with(&self, sid: SessionId) -> Option<&PeerId> {
        self.ended.iter().find(|(ended, _)| *ended == sid).map(|(_, peer)| peer)
    }

    /// An id that none of ours has, or had lately.
    pub(super) fn draw(&self, random: &mut dyn RandomSource) -> SessionId {
        loop {
            let mut sid = SessionId([0; SessionId::LEN]);
            random.fill(&mut sid.0);
            if !self.live.contains_key(&sid) && self.ended_with(sid).is_none() {
                return sid;
            }
        }
    }
}
