//! What sessions are like, for people: no secrets.

use alloc::vec::Vec;

use super::row::Stored;
use super::{Live, Pair, Slot};
use crate::codec::DecodeError;
use crate::crypto::backend::Backend;
use crate::crypto::suite::SessionSuite;
use crate::endpoint::Endpoint;
use crate::ids::PeerId;
use crate::session::Role;
use crate::store::Row;
use crate::time::{Monotonic, UnixTime};

/// A session with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStatus {
    /// With whom.
    pub peer: PeerId,
    /// How far it is.
    pub stage: SessionStage,
    /// Which end we are.
    pub role: Role,
    /// Its epoch: how often its keys were made anew.
    pub epoch: u16,
    /// Its mechanisms.
    pub suite: SessionSuite,
    /// When its handshake ended here.
    pub established: UnixTime,
    /// When the first of both certificates ends, and the session with it.
    pub ends: UnixTime,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SessionStage {
    /// It sends and receives.
    InUse,
    /// Another took its place: it is only read, for what is still under way.
    Draining,
    /// We answered its handshake, and nothing has come in it yet: it does not send.
    HalfOpen,
}

impl SessionStage {
    /// Its name for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::InUse => "in-use",
            Self::Draining => "draining",
            Self::HalfOpen => "half-open",
        }
    }
}

impl From<Slot> for SessionStage {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Current => Self::InUse,
            Slot::Draining => Self::Draining,
            Slot::HalfOpen => Self::HalfOpen,
        }
    }
}

impl SessionStatus {
    fn new(peer: &PeerId, slot: Slot, live: &Live) -> Self {
        Self {
            peer: peer.clone(),
            stage: slot.into(),
            role: live.session.role(),
            epoch: live.session.epoch(),
            suite: live.session.suite(),
            established: live.established,
            ends: live.ends,
        }
    }

    /// What a [`RecordKind::Session`](crate::store::RecordKind::Session) row says.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is no such row.
    pub fn from_row(backend: Backend, row: &Row) -> Result<Self, DecodeError> {
        let stored = Stored::decode(backend, &row.value, Monotonic::default())?;
        Ok(Self::new(&stored.peer, stored.slot, &stored.live))
    }
}

impl Endpoint {
    /// All sessions, by peer. Costs a copy of all these peers' names.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.sessions.pairs.iter().flat_map(|(peer, pair)| pair.statuses(peer)).collect()
    }

    /// The sessions with one peer.
    pub fn sessions_with(&self, peer: &PeerId) -> Vec<SessionStatus> {
        self.sessions.pairs.get(peer).into_iter().flat_map(|pair| pair.statuses(peer)).collect()
    }
}

impl Pair {
    fn statuses<'a>(&'a self, peer: &'a PeerId) -> impl Iterator<Item = SessionStatus> + 'a {
        let status = move |slot| Some(SessionStatus::new(peer, slot, self.live(slot)?));
        Slot::ALL.into_iter().filter_map(status)
    }
}
