//! What becomes of messages under way: receipts end them, silence and lost links send them again, revocation stops them.

use alloc::vec::Vec;
use core::time::Duration;

use super::input::{OutboxId, Ticket};
use super::outbox::{Item, LaneKey, RowId};
use super::output::{Event, Output, SendFailure};
use super::{Durable, Endpoint, counters};
use crate::audit::{AuditEvent, AuditKind};
use crate::delivery::{LossReason, MAX_RANGES, Receipt, StreamReceipt};
use crate::ids::{KeyId, PeerId};
use crate::provider::PrekeyId;
use crate::replay::WINDOW;
use crate::time::Monotonic;

/// How often a message is sent again although later ones arrived, before it lets them pass.
const ATTEMPTS: u32 = 3;
/// How long it then pauses, at first and at last.
const PARK_FIRST: Duration = Duration::from_secs(2);
const PARK_LAST: Duration = Duration::from_secs(15 * 60);
/// After how many pauses (two hours, if there is other traffic all the time) it is given up.
const MAX_PARKED: u32 = 16;

/// How often at most a receiver's word that our state is an older copy is acted on, per stream.
const ROLLBACK_NOTICE: Duration = Duration::from_secs(10 * 60);

/// How often the ages of waiting messages are looked at.
const AGE_CHECK: Duration = Duration::from_secs(60);

impl Endpoint {
    /// The link is up: what was under way is sent again, as the broker may have forgotten it, and the rest follows.
    pub(super) fn link_up(&mut self) {
        self.online = true;
        for key in self.outbox.all_lanes() {
            self.outbox.resend_later(key);
        }
        self.pump();
    }

    pub(super) fn link_down(&mut self) {
        if core::mem::replace(&mut self.online, false) {
            self.outbox.link_down();
        }
    }

    /// A peer's keys are known, or new: what waits for them can go.
    pub(super) fn peer_can_be_sent_to(&mut self, peer: &PeerId) {
        if !self.online {
            return;
        }
        for key in self.outbox.lanes_to(peer) {
            self.outbox.resend_later(key);
        }
        self.pump();
    }

    /// Sends everything of a lane that is under way again, or has it sealed again where its keys are gone.
    pub(super) fn resend_lane(&mut self, key: &LaneKey) {
        let Some(lane) = self.outbox.lane(key) else { return };
        let rows: Vec<RowId> = lane.in_flight().collect();
        for row in rows {
            self.resend(key, row);
        }
    }

    fn resend(&mut self, key: &LaneKey, row: RowId) {
        let Some(entry) = self.outbox.entry(row) else { return };
        // While it is being sealed there is nothing to send again.
        let Some(sealed) = &entry.sealed else { return };
        let now = self.clock.effective();
        if self.peers.get(&key.peer).is_some_and(|peer| peer.must_load(now)) {
            return self.outbox.resend_later(key.clone());
        }
        let Some(trusted) = self.peers.get(&key.peer).and_then(|peer| peer.trusted.as_ref()) else { return };
        let theirs = trusted.certificate.claims();
        if !theirs.valid_at(now) || !self.own.certificate.claims().valid_at(now) || self.own.revoked {
            return;
        }
        let static_key = sealed.prekey == PrekeyId::STATIC && !theirs.prekey_required;
        let openable = trusted.certificate.key_id() == sealed.recipient
            && (static_key || sealed.usable_until.is_some_and(|until| now < until));
        if openable {
            self.transmit(self.barrier.latest(), row);
        } else {
            self.outbox.seal_again(key, row);
        }
    }

    /// Lanes whose receipt is overdue, or whose pause is over.
    pub(super) fn outbox_timeout(&mut self) {
        let now = self.clock.monotonic();
        for key in self.outbox.due(now) {
            let mut jitter = [0; 1];
            self.random.fill(&mut jitter);
            let probe = self.outbox.lane_mut(&key).and_then(|lane| {
                lane.unpark(now);
                lane.probe(now, jitter[0])
            });
            if let Some(row) = probe {
                self.probe(&key, row);
            }
            self.outbox.needs_attention(key.clone());
            self.outbox.schedule(&key);
        }
        if self.outbox.next_age_check <= now {
            self.outbox.next_age_check = now.plus(AGE_CHECK);
            for row in self.outbox.aged(now) {
                self.give_up(row, LossReason::Aged);
            }
            // Whatever waited for a certificate's validity or a grant's may go now.
            for key in self.outbox.all_lanes() {
                self.outbox.needs_attention(key);
            }
        }
        self.pump();
    }

    /// Sends the oldest again. What is never heard of must not hold up what comes after it: without later messages, no
    /// receipt can tell that it alone is missing.
    fn probe(&mut self, key: &LaneKey, row: RowId) {
        let Some(entry) = self.outbox.entry_mut(row).filter(|entry| entry.sealed.is_some()) else { return };
        entry.attempts += 1;
        let attempts = entry.attempts;
        if attempts % ATTEMPTS == 0 {
            return self.park(key, row, attempts);
        }
        if let Some(lane) = self.outbox.lane_mut(key) {
            lane.probed = Some(row);
        }
        self.resend(key, row);
    }

    fn park(&mut self, key: &LaneKey, row: RowId, attempts: u32) {
        let delay = PARK_FIRST * 2_u32.saturating_pow((attempts / ATTEMPTS).saturating_sub(1).min(16));
        let until = self.clock.monotonic().plus(delay.min(PARK_LAST));
        self.outbox.park(key, row, until);
    }

    /// A peer confirmed what it has.
    pub(super) fn receipted(&mut self, peer: &PeerId, recipient: KeyId, receipt: &Receipt) {
        for stream in &receipt.streams {
            self.receipted_stream(peer, recipient, stream);
        }
        self.pump();
    }

    fn receipted_stream(&mut self, peer: &PeerId, recipient: KeyId, of: &StreamReceipt) {
        let key = LaneKey { peer: peer.clone(), stream: of.stream };
        self.notice_rollback(&key, recipient, of.last_sequence);
        let now = self.clock.monotonic();
        let Some(lane) = self.outbox.lane_mut(&key) else { return };
        lane.receipt_came(now);
        let transmitted: Vec<RowId> = lane.transmitted().collect();
        let arrived = |row: &RowId| {
            let origin = self.outbox.entry(*row).and_then(|entry| entry.origin);
            let boot = origin.and_then(|origin| of.boots.iter().find(|boot| boot.boot == origin.boot));
            boot.zip(origin).is_some_and(|(boot, origin)| boot.received.contains(origin.msg_seq))
        };
        let (done, missing): (Vec<RowId>, Vec<RowId>) = transmitted.into_iter().partition(arrived);
        let probed = self.outbox.lane(&key).and_then(|lane| lane.probed);
        self.end(&key, &done);
        if probed.is_some_and(|probed| done.contains(&probed)) {
            // It was the link or the broker, not this one message: whatever was sent before it went the same way.
            if let Some(lane) = self.outbox.lane_mut(&key) {
                lane.probed = None;
            }
            self.outbox.resend_later(key.clone());
        }
        self.resend_missing(&key, recipient, of, &missing);
        self.outbox.needs_attention(key.clone());
        self.outbox.schedule(&key);
    }

    /// What arrived leaves the outbox.
    fn end(&mut self, key: &LaneKey, done: &[RowId]) {
        let mut changes = Vec::with_capacity(done.len());
        let (mut tickets, mut count) = (Vec::<Ticket>::new(), 0);
        for row in done {
            let Some((entry, change)) = self.outbox.remove(*row) else { continue };
            changes.push(change);
            tickets.extend(entry.ticket);
            count += usize::from(matches!(entry.item, Item::Message(_)));
        }
        if changes.is_empty() {
            return;
        }
        let after = self.barrier.persist(changes, Vec::new());
        if count > 0 {
            let LaneKey { peer, stream } = key.clone();
            let event = Event::Delivered { peer, stream, count, tickets };
            self.barrier.emit(after, Output::Event(event));
        }
    }

    /// Sends again, in order, what the receiver lacks although something later arrived; what can no longer fall into
    /// its window is sealed again.
    fn resend_missing(&mut self, key: &LaneKey, recipient: KeyId, of: &StreamReceipt, missing: &[RowId]) {
        for row in missing {
            let Some(sealed) = self.outbox.entry(*row).and_then(|entry| entry.sealed.as_ref()) else {
                continue;
            };
            // Of the keys that the receipt speaks for.
            if sealed.recipient != recipient {
                continue;
            }
            let sequence = sealed.sequence;
            if sequence >= of.last_sequence {
                continue;
            }
            let Some(entry) = self.outbox.entry_mut(*row) else { continue };
            entry.attempts += 1;
            let attempts = entry.attempts;
            if attempts % ATTEMPTS == 0 {
                // It must not hold up those after it.
                self.park(key, *row, attempts);
            } else if sequence.saturating_add(WINDOW) <= of.last_sequence {
                self.outbox.seal_again(key, *row);
            } else {
                self.resend(key, *row);
            }
        }
        self.give_up_unconfirmed(key, of);
    }

    /// Gives up what never arrives while the receiver hears so much else: its topic is not subscribed to, or the broker
    /// withholds it. Each is a gap that the receiver has to remember, so their number is bounded.
    fn give_up_unconfirmed(&mut self, key: &LaneKey, of: &StreamReceipt) {
        let gaps = of.boots.iter().map(|boot| boot.received.ranges().len()).max().unwrap_or(0);
        let tried = if gaps >= MAX_RANGES / 2 { ATTEMPTS } else { ATTEMPTS * MAX_PARKED };
        let Some(lane) = self.outbox.lane(key) else { return };
        let hopeless = |row: &RowId| {
            self.outbox
                .entry(*row)
                .is_some_and(|entry| entry.attempts >= tried && matches!(entry.item, Item::Message(_)))
        };
        let rows: Vec<RowId> = lane.parked().filter(hopeless).collect();
        for row in rows {
            self.give_up(row, LossReason::Unconfirmed);
        }
    }

    /// A receiver that saw sequences we never gave saw another copy of us: this one's disk was restored.
    fn notice_rollback(&mut self, key: &LaneKey, recipient: KeyId, last_sequence: u64) {
        let now = self.clock.monotonic();
        let recently = |at: Monotonic| now.since(at) < ROLLBACK_NOTICE;
        let lane = self.outbox.lane_or_new(key);
        // A liar could have us audit and sign without end.
        if lane.rollback_noticed.is_some_and(recently) {
            return;
        }
        let counter = counters::counter_key(self.own.certificate.key_id(), recipient, key.stream);
        let barrier = &mut self.barrier;
        let reserve = |change| barrier.persist(alloc::vec![change], Vec::new());
        if !self.counters.skip_past(counter, last_sequence, reserve) {
            return;
        }
        self.outbox.lane_or_new(key).rollback_noticed = Some(now);
        let event =
            AuditEvent::new(AuditKind::RollbackNoticed, Some(key.peer.clone()), "sequences unknown here");
        let after = self.barrier.persist(Vec::new(), alloc::vec![event]);
        let LaneKey { peer, stream } = key.clone();
        self.barrier.emit(after, Output::Event(Event::RolledBack { peer, stream }));
        // Their sequences may be used up over there.
        let rows: Vec<RowId> =
            self.outbox.lane(key).into_iter().flat_map(super::outbox::Lane::in_flight).collect();
        for row in rows {
            if self.outbox.entry(row).is_some_and(|entry| entry.sealed.is_some()) {
                self.outbox.seal_again(key, row);
            }
        }
    }

    /// The broker will never take it.
    pub(super) fn undeliverable(&mut self, id: OutboxId) {
        let row = RowId(id.0);
        match self.outbox.entry(row).map(|entry| &entry.item) {
            Some(Item::Message(_)) => self.give_up(row, LossReason::Unsendable),
            // Not even the report can pass; our application has been told before.
            Some(Item::Lost(_)) => {
                if let Some((_, change)) = self.outbox.remove(row) {
                    self.barrier.persist(alloc::vec![change], Vec::new());
                }
            }
            None => {}
        }
        self.pump();
    }

    /// Nothing may leave for this peer any more: neither what waits here nor what the transport has not sent yet.
    pub(super) fn withdraw(&mut self, peer: &PeerId) {
        self.barrier.withdraw(peer);
        self.barrier.emit(Durable::NOW, Output::Withdraw(peer.clone()));
    }

    /// A crash may have come between a revocation and what follows from it.
    pub(super) fn discard_for_revoked(&mut self) {
        for key in self.outbox.all_lanes() {
            let pins = self.peers.get(&key.peer).and_then(|peer| peer.pins.as_ref());
            if pins.is_some_and(|pins| pins.revoked) {
                self.discard_for(&key.peer);
            }
        }
    }

    /// A revoked peer's messages are given up; it hears nothing of it.
    pub(super) fn discard_for(&mut self, peer: &PeerId) {
        self.withdraw(peer);
        for key in self.outbox.lanes_to(peer) {
            let rows = self.outbox.rows_in(&key);
            let (mut changes, mut tickets, mut count) = (Vec::new(), Vec::<Ticket>::new(), 0);
            for row in rows {
                let Some((entry, change)) = self.outbox.remove(row) else { continue };
                changes.push(change);
                tickets.extend(entry.ticket);
                count += u64::from(matches!(entry.item, Item::Message(_)));
            }
            if changes.is_empty() {
                continue;
            }
            let after = self.barrier.persist(changes, Vec::new());
            if count > 0 {
                self.tell_lost(after, &key, count, LossReason::Revoked);
            }
            for ticket in tickets {
                let event = Event::SendFailed { ticket, reason: SendFailure::Revoked };
                self.barrier.emit(after, Output::Event(event));
            }
        }
    }
}
