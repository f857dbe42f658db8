//! From a finished handshake to the session in use, and out of it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Initiating, Live, Rank, Slot};
use crate::audit::{AuditEvent, AuditKind};
use crate::endpoint::output::{Event, Output, Purpose, Transmit};
use crate::endpoint::{Durable, Endpoint};
use crate::ids::{HandshakeId, PeerId};
use crate::session::handshake::{Established, Winner};
use crate::session::{Control, Session};
use crate::store::Change;
use crate::time::Monotonic;

/// How long a session is still read after its peer closed it: for records on their way.
pub(super) const AFTER_CLOSE: Duration = Duration::from_secs(30);

impl Endpoint {
    /// Our m1 was answered: the new session is current, the old one drains.
    pub(super) fn initiator_established(
        &mut self,
        peer: &PeerId,
        handshake: HandshakeId,
        established: &Established,
    ) {
        let (now, at) = (self.clock.monotonic(), self.clock.effective());
        let Some(trusted) = self.peers.get(peer).and_then(|peer| peer.trusted.as_ref()) else { return };
        let favoured = self.tie(trusted) == Some(Winner::Us);
        let theirs = trusted.certificate.claims().not_after;
        let ends = theirs.min(self.own.certificate.claims().not_after);
        let Some(session) = Session::new(self.backend, &established.start()) else { return };
        let own = self.own.certificate.fingerprint();
        let rank = Rank { attempt: established.attempt, favoured };
        let live = Live::new(session, rank, own, established.responder, handshake, at, ends, now);
        if let Some(pair) = self.sessions.pairs.get_mut(peer)
            && let Some(Initiating::Waiting { state, .. }) = pair.initiating.take()
        {
            self.sessions.waiting.remove(&state.handshake());
        }
        let Some(after) = self.begin_session(peer, live, Vec::new()) else { return };
        // The peer sends nothing in it before it has seen a record of ours.
        self.send_control(peer, &Control::Confirm);
        self.announce_session(peer, after);
    }

    /// The first record of a half-open session came: it is in use. `with` is what the record changed.
    pub(super) fn promote(&mut self, peer: &PeerId, with: Vec<Change>) -> Option<Durable> {
        let pair = self.sessions.pairs.get_mut(peer)?;
        let half_open = pair.half_open.take()?;
        let mut changes = with;
        if let Some(Initiating::Waiting { state, .. }) = pair.initiating.take() {
            // Both began, and this one was answered first or wins.
            self.sessions.waiting.remove(&state.handshake());
            self.sessions.sids.retire(state.sid());
            changes.push(pair.handshake_change(peer));
        }
        let after = self.begin_session(peer, half_open.live, changes)?;
        self.announce_session(peer, after);
        Some(after)
    }

    fn announce_session(&mut self, peer: &PeerId, after: Durable) {
        let event = AuditEvent::new(AuditKind::SessionEstablished, Some(peer.clone()), "session");
        self.barrier.persist(Vec::new(), alloc::vec![event]);
        self.barrier.emit(after, Output::Event(Event::SessionReady { peer: peer.clone() }));
        self.group_session(peer);
        self.lanes_look_again(peer);
    }

    /// Makes a session the current one, unless the one there goes before it; the other drains.
    fn begin_session(&mut self, peer: &PeerId, live: Live, with: Vec<Change>) -> Option<Durable> {
        let (now, at) = (self.clock.monotonic(), self.clock.effective());
        let drain = self.sessions.policy.drain;
        let topic = self.topics.control(peer);
        let pair = self.sessions.pairs.get_mut(peer)?;
        let mut changes = with;
        changes.push(pair.handshake_change(peer));
        let stays = pair.current.as_ref().is_some_and(|current| current.rank >= live.rank);
        let closed = if stays { None } else { self.sessions.seal_close(peer, &topic, now) };
        let pair = self.sessions.pairs.get_mut(peer)?;
        let live = Box::new(live);
        let drains = if stays { Some(live) } else { pair.current.replace(live) };
        if let Some(mut drains) = drains {
            drains.drain_for(drain, now, at);
            drains.ratchet_again = None;
            changes.push(drains.change(peer, Slot::Draining, &[]));
            if let Some(before) = pair.draining.replace(drains) {
                self.sessions.sids.retire(before.session.sid_in());
                changes.push(before.deletion());
            }
        }
        if let Some(current) = &pair.current {
            changes.push(current.change(peer, Slot::Current, &[]));
            self.sessions.sids.insert(current.session.sid_in(), peer);
        }
        let after = self.barrier.persist(changes, Vec::new());
        if let Some((sealed, reserved)) = closed {
            let purpose =
                Purpose::Session { peer: peer.clone(), epoch: sealed.epoch, counter: sealed.counter };
            let transmit = Transmit { purpose, topic, payload: sealed.record, retain: false };
            self.barrier.emit(after.max(reserved), Output::Transmit(transmit));
        }
        let pair = self.sessions.pairs.get_mut(peer)?;
        self.sessions.awake.used(peer, &mut pair.used, now);
        for live in [pair.current.as_deref_mut(), pair.draining.as_deref_mut()].into_iter().flatten() {
            live.session.written(after.position());
        }
        self.sessions.schedule(peer);
        Some(after)
    }

    /// Everything with a peer ends at once: its keys changed, or are revoked or expired.
    pub(in crate::endpoint) fn end_sessions(&mut self, peer: &PeerId) {
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let mut changes = Vec::new();
        let half_open = pair.half_open.take().map(|half_open| Box::new(half_open.live));
        for live in [pair.current.take(), pair.draining.take(), half_open].into_iter().flatten() {
            self.sessions.sids.retire(live.session.sid_in());
            changes.push(live.deletion());
        }
        if let Some(initiating) = pair.initiating.take() {
            let sid = match initiating {
                Initiating::Signing { sid, .. } => sid,
                Initiating::Waiting { state, .. } => {
                    self.sessions.waiting.remove(&state.handshake());
                    state.sid()
                }
            };
            self.sessions.sids.retire(sid);
            changes.push(pair.handshake_change(peer));
        }
        if !changes.is_empty() {
            let event =
                AuditEvent::new(AuditKind::SessionEnded, Some(peer.clone()), "keys no longer trusted");
            self.barrier.persist(changes, alloc::vec![event]);
        }
        self.sessions.schedule(peer);
    }

    /// One of a peer's sessions ends at once: its keys or certificates are not in force any more.
    pub(super) fn end_session(&mut self, peer: &PeerId, slot: Slot) {
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let ended = match slot {
            Slot::Current => pair.current.take(),
            Slot::Draining => pair.draining.take(),
            Slot::HalfOpen => pair.half_open.take().map(|half_open| Box::new(half_open.live)),
        };
        if let Some(live) = ended {
            self.sessions.sids.retire(live.session.sid_in());
            let event =
                AuditEvent::new(AuditKind::SessionEnded, Some(peer.clone()), "certificates not in force");
            self.barrier.persist(alloc::vec![live.deletion()], alloc::vec![event]);
        }
        self.sessions.schedule(peer);
    }

    /// Ends sessions whose certificates are over, heard of or not: nothing of them stays on the disk.
    pub(in crate::endpoint) fn expire_sessions(&mut self) {
        let at = self.clock.effective();
        for peer in self.sessions.expired(at) {
            for slot in Slot::ALL {
                let live = self.sessions.pairs.get(&peer).and_then(|pair| pair.live(slot));
                if live.is_some_and(|live| live.ends <= at) {
                    self.end_session(&peer, slot);
                }
            }
            self.sessions.schedule(&peer);
        }
    }

    /// Erases the session that drains.
    pub(super) fn erase_draining(&mut self, peer: &PeerId, now: Monotonic) {
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let over = |live: &mut Box<Live>| live.erase_at.is_some_and(|(at, _)| at <= now);
        if let Some(live) = pair.draining.take_if(over) {
            self.sessions.sids.retire(live.session.sid_in());
            self.barrier.persist(alloc::vec![live.deletion()], Vec::new());
        }
    }

    /// Queues to `peer` are to be looked at: there is a session, or patience for one is over.
    pub(super) fn lanes_look_again(&mut self, peer: &PeerId) {
        for key in self.outbox.lanes_to(peer) {
            self.outbox.needs_attention(key);
        }
        self.pump();
    }
}
