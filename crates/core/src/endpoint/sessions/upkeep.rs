//! What keeps a session healthy: confirmations of boots and numbers, epochs, and a new handshake when the peer is silent.

use alloc::vec::Vec;
use core::time::Duration;

use super::establish::AFTER_CLOSE;
use super::{Live, Slot, Unread};
use crate::endpoint::Endpoint;
use crate::endpoint::refusal::RefusalReason;
use crate::ids::PeerId;
use crate::session::{Class, Control, Parts};
use crate::time::Monotonic;

/// How long a peer may wait to hear what we know of it.
pub(super) const KNOWN_AFTER: Duration = Duration::from_millis(200);
/// When an offer or an answer without effect goes again, at first and at last.
const RATCHET_FIRST: Duration = Duration::from_secs(5);
const RATCHET_LAST: Duration = Duration::from_secs(15 * 60);

impl Endpoint {
    /// Pairs whose time has come.
    pub(in crate::endpoint) fn sessions_timeout(&mut self) {
        let now = self.clock.monotonic();
        self.expire_sessions();
        for peer in self.sessions.due(now) {
            self.initiating_timeout(&peer, now);
            self.half_open_timeout(&peer, now);
            self.erase_draining(&peer, now);
            self.current_timeout(&peer, now);
            self.sessions.schedule(&peer);
        }
        self.sessions.rest(now);
    }

    fn half_open_timeout(&mut self, peer: &PeerId, now: Monotonic) {
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let Some(half_open) = &mut pair.half_open else { return };
        if now.since(half_open.since) >= super::HALF_OPEN_FOR {
            self.sessions.sids.retire(half_open.live.session.sid_in());
            let deletion = half_open.live.deletion();
            pair.half_open = None;
            self.barrier.persist(alloc::vec![deletion], Vec::new());
        } else if half_open.patient && now.since(half_open.since) >= super::HANDSHAKE_PATIENCE {
            half_open.patient = false;
            self.lanes_look_again(peer);
        }
    }

    /// What was kept for late records is erased in its time, on disk too.
    fn erase_keys(&mut self, peer: &PeerId, now: Monotonic) {
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let current = pair.current.as_deref_mut().map(|live| (live, Slot::Current));
        let draining = pair.draining.as_deref_mut().map(|live| (live, Slot::Draining));
        for (live, slot) in [current, draining].into_iter().flatten() {
            if live.session.expires().is_some_and(|at| at <= now) && live.session.expire(now) {
                let change = live.change(peer, slot, &[]);
                self.barrier.persist(alloc::vec![change], Vec::new());
            }
        }
    }

    fn current_timeout(&mut self, peer: &PeerId, now: Monotonic) {
        let policy = self.sessions.policy;
        self.erase_keys(peer, now);
        let Some(live) = self.sessions.current_mut(peer) else { return };
        if live.known_due.is_some_and(|at| at <= now) {
            live.known_due = None;
            if let Some(known) = live.known() {
                self.send_control(peer, &known);
            }
        }
        let Some(live) = self.sessions.current_mut(peer) else { return };
        if let Some((at, delay)) = live.ratchet_again.filter(|(at, _)| *at <= now) {
            let delay = (2 * delay).min(RATCHET_LAST);
            live.ratchet_again = Some((at.max(now).plus(delay), delay));
            if live.session.has_offered() {
                self.offer(peer);
            } else {
                live.ratchet_again = None;
            }
        }
        self.ask_unread(peer, now);
        let Some(live) = self.sessions.current_mut(peer) else { return };
        let silent = live.unread.is_some_and(|unread| now.since(unread.since) >= policy.silence);
        let idle_turn = live.turn_asked.is_some_and(|since| now.since(since) >= policy.turn_patience);
        if silent || idle_turn {
            // The peer may have lost the session; if not, the new one replaces it all the same.
            if silent {
                live.unread = Some(Unread::since(now, policy.silence));
            }
            live.turn_asked = None;
            self.begin_handshake(peer);
        }
    }

    /// Asks a peer that has not proved for a while that it reads the session: it may be that it has nothing to confirm, as
    /// volatile messages or ones that it does not take ask for no receipt.
    fn ask_unread(&mut self, peer: &PeerId, now: Monotonic) {
        let (online, silence) = (self.online, self.sessions.policy.silence);
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let handshake = pair.initiating.is_some();
        let unread = pair.current.as_mut().and_then(|live| live.unread.as_mut());
        if let Some(unread) = unread.filter(|unread| unread.ask <= now) {
            unread.ask = now.plus(silence / 4);
            if online && !handshake {
                self.send_control(peer, &Control::Ask);
            }
        }
    }

    /// Starts the next epoch, or asks for it, if the current one is old or much used.
    pub(in crate::endpoint) fn turn_ratchet(&mut self, peer: &PeerId) {
        let (now, policy) = (self.clock.monotonic(), self.sessions.policy);
        let Some(live) = self.sessions.current_mut(peer) else { return };
        if !live.session.is_confirmed() || live.session.has_offered() || live.session.has_accepted() {
            return;
        }
        let (sent, received) = live.session.traffic();
        let old = now.since(live.epoch_since) >= policy.rekey_after;
        if !(sent + received >= policy.rekey_records || old || live.overdue || live.session.is_far()) {
            return;
        }
        if live.session.is_our_turn() {
            self.offer(peer);
        } else if live.turn_asked.is_none() {
            live.turn_asked = Some(now);
            self.send_control(peer, &Control::YourTurn);
            self.sessions.schedule(peer);
        }
    }

    /// Sends the offer of the next epoch, a new one or the one under way.
    fn offer(&mut self, peer: &PeerId) {
        let now = self.clock.monotonic();
        let Some(live) = self.sessions.pairs.get_mut(peer).and_then(|pair| pair.current.as_deref_mut())
        else {
            return;
        };
        let fresh = !live.session.has_offered();
        let Ok(offer) = live.session.offer(&mut *self.random) else { return };
        live.turn_asked.get_or_insert(now);
        if fresh {
            live.ratchet_again = Some((now.plus(RATCHET_FIRST), RATCHET_FIRST));
            let change = live.change(peer, Slot::Current, &[]);
            let after = self.barrier.persist(alloc::vec![change], Vec::new());
            live.session.written(after.position());
        }
        self.send_in_parts(peer, Control::Offer(offer));
        self.sessions.schedule(peer);
    }

    /// Sends an offer or an answer, in parts if packets are small.
    fn send_in_parts(&mut self, peer: &PeerId, control: Control) {
        for part in control.fit(self.sessions.policy.max_packet) {
            self.send_control(peer, &part);
        }
    }

    /// A control record of the peer's, in the session in `slot`.
    pub(in crate::endpoint) fn controlled(
        &mut self,
        peer: &PeerId,
        sid: crate::ids::SessionId,
        control: &Control,
    ) -> Result<(), RefusalReason> {
        let (now, at) = (self.clock.monotonic(), self.clock.effective());
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return Ok(()) };
        let Some((slot, live)) = pair.live_by_sid(sid) else { return Ok(()) };
        match control {
            Control::Confirm => {}
            // Only of a session that another has replaced here too: it must not leave us without one.
            Control::Close if slot == Slot::Draining => {
                live.drain_for(AFTER_CLOSE, now, at);
                let change = live.change(peer, slot, &[]);
                self.barrier.persist(alloc::vec![change], Vec::new());
            }
            Control::Close => {}
            Control::Known(boots) => {
                for (class, boot) in Class::ALL.into_iter().zip(boots) {
                    live.session.boot_confirmed(class, *boot);
                }
                self.sessions.was_read(peer, sid);
            }
            Control::Ask => {
                live.known_due.get_or_insert(now.plus(KNOWN_AFTER));
            }
            // Ratchets turn in the session that sends.
            Control::Offer(_) | Control::Accept(_) | Control::Part(_) | Control::YourTurn
                if slot != Slot::Current => {}
            // Of another epoch than the next they are late copies.
            Control::Part(part) if part.epoch != live.session.epoch().saturating_add(1) => {}
            Control::Part(part) => {
                if let Some(whole) = Parts::gather(&mut live.parts, part) {
                    return self.controlled(peer, sid, &whole);
                }
            }
            Control::Offer(offer) => {
                // The same offer again has the same answer, which is in the row already.
                let again = live.session.has_accepted();
                let accept =
                    live.session.accept(&mut *self.random, offer).map_err(|_| RefusalReason::OutOfTurn)?;
                live.turn_asked = None;
                if !again {
                    let change = live.change(peer, slot, &[]);
                    let after = self.barrier.persist(alloc::vec![change], Vec::new());
                    live.session.written(after.position());
                }
                self.send_in_parts(peer, Control::Accept(accept));
            }
            Control::Accept(accept) => {
                live.session.accepted(accept).map_err(|_| RefusalReason::OutOfTurn)?;
                live.begin_epoch(now);
                let change = live.change(peer, slot, &[]);
                let after = self.barrier.persist(alloc::vec![change], Vec::new());
                live.session.written(after.position());
                // The peer switches only on a record of the new epoch.
                self.send_control(peer, &Control::Confirm);
                self.sessions.was_read(peer, sid);
            }
            Control::GroupKey(_)
            | Control::GroupKeyKnown { .. }
            | Control::MissingLeaves(_)
            | Control::Leaves(_)
            | Control::MissingSeal { .. }
            | Control::GroupSeal { .. }
            | Control::GroupOver { .. }
            | Control::GroupGone { .. }
            | Control::WantGroupKey { .. } => return self.group_told(peer, control),
            Control::YourTurn => {
                // Now, or once the epoch before is over.
                live.overdue |= live.session.is_our_turn();
                self.turn_ratchet(peer);
            }
        }
        self.sessions.schedule(peer);
        Ok(())
    }
}

impl Live {
    pub(super) fn begin_epoch(&mut self, now: Monotonic) {
        self.epoch_since = now;
        self.ratchet_again = None;
        self.turn_asked = None;
        self.parts = None;
        self.overdue = false;
    }

    /// What the peer should hear that we know of it.
    fn known(&self) -> Option<Control> {
        let session = &self.session;
        let boots = [Class::Telemetry, Class::Command, Class::Control].map(|class| session.peer_boot(class));
        let [Some(telemetry), Some(command), Some(control)] = boots else { return None };
        Some(Control::Known([telemetry, command, control]))
    }
}
