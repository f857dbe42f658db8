//! Why nothing of a peer's can arrive, as far as an endpoint knows.

use alloc::vec::Vec;

use thiserror::Error;

use super::Endpoint;
use crate::identity::grants::{Action, Grant, may_reach};
use crate::ids::PeerId;
use crate::topic::TopicFilter;

/// Why no message of a peer's can arrive on any topic of a filter until something changes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// It is this endpoint itself, and nobody sends to itself.
    #[error("it is this identity itself")]
    Own,
    /// It was not added, or more peers than [`MAX_PEERS`](super::MAX_PEERS) were.
    #[error("it is not followed")]
    NotFollowed,
    /// No announcement of it was accepted so far: it has not been on this broker yet, or its announcement was refused.
    #[error("it has not announced itself on this broker")]
    NotAnnounced,
    /// Its keys were revoked, and no others of it are known; perhaps none were ever accepted.
    #[error("its keys are revoked")]
    Revoked,
    /// Its certificate is outside its validity.
    #[error("its certificate is outside its validity")]
    Expired,
    /// The issuer of its certificate is no longer appointed, or what was stored of it is damaged.
    #[error("its certificate no longer holds")]
    Untrusted,
    /// None of its grants lets it publish or command there. With its grants, at most 64.
    #[error("none of its grants lets it send there")]
    NoGrant(Vec<Grant>),
    /// None of our own subscribe grants is for any of these topics, so no peer seals for us there. With our grants, at most
    /// 64.
    #[error("none of this identity's own grants lets others send to it there")]
    NoOwnGrant(Vec<Grant>),
}

impl Obstacle {
    /// Its name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Own => "own-identity",
            Self::NotFollowed => "not-followed",
            Self::NotAnnounced => "not-announced",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Untrusted => "untrusted",
            Self::NoGrant(_) => "no-grant",
            Self::NoOwnGrant(_) => "no-own-grant",
        }
    }
}

impl Endpoint {
    /// Why nothing of `peer` can arrive on any topic that `filter` matches; `None` if something may. A certificate that is in
    /// the store only is loaded to judge its grants, if not too many are at once: until then there is no obstacle to tell.
    /// Follow with [`Endpoint::poll_output`] until `None`.
    pub fn obstacle(&mut self, peer: &PeerId, filter: &TopicFilter) -> Option<Obstacle> {
        if *peer == self.config.peer_id {
            return Some(Obstacle::Own);
        }
        let Some(known) = self.peers.get(peer) else { return Some(Obstacle::NotFollowed) };
        if known.announced_revoked {
            return Some(Obstacle::Revoked);
        }
        let Some(pins) = &known.pins else { return Some(Obstacle::NotAnnounced) };
        let at = self.clock.effective();
        if pins.revoked {
            return Some(Obstacle::Revoked);
        }
        if !pins.valid_at(at) {
            return Some(Obstacle::Expired);
        }
        if known.in_force().is_none() {
            return Some(Obstacle::Untrusted);
        }
        let own = &self.own.certificate.claims().grants;
        if !may_reach(own, &[Action::Subscribe], filter, at) {
            return Some(Obstacle::NoOwnGrant(own.clone()));
        }
        let Some(trusted) = &known.trusted else {
            self.load_in_turn(peer);
            return None;
        };
        let theirs = &trusted.certificate.claims().grants;
        let sends = may_reach(theirs, &[Action::Publish, Action::Command], filter, at);
        (!sends).then(|| Obstacle::NoGrant(theirs.clone()))
    }
}
