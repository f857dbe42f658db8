//! What becomes of messages under way: receipts end them, silence and lost links send them again, revocation stops them.

use alloc::vec::Vec;
use core::time::Duration;

use super::input::{OutboxId, Ticket};
use super::outbox::{Entry, Item, LaneKey, RowId};
use super::output::{Event, Output, SendFailure};
use super::{Durable, Endpoint, counters};
use crate::audit::{AuditEvent, AuditKind};
use crate::delivery::{Loss, LossReason, MAX_BOOTS_PER_RECEIPT, MAX_RANGES, Receipt, StreamReceipt, Verdict};
use crate::ids::{KeyId, PeerId};
use crate::provider::PrekeyId;
use crate::replay::WINDOW;
use crate::session::Settled;
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
        self.groups_link_up();
        self.pump();
    }

    pub(super) fn link_down(&mut self) {
        if core::mem::replace(&mut self.online, false) {
            self.outbox.link_down();
        }
    }

    /// A peer's keys are known, or new: what waits for them can go.
    pub(super) fn peer_can_be_sent_to(&mut self, peer: &PeerId) {
        self.group_peer_changed(peer);
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
        let Some(sealed) = &entry.sealed else {
            if entry.carried.is_some() {
                self.resend_carried(key, row);
            }
            return;
        };
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
        let underway = |entry: &&mut Entry| entry.sealed.is_some() || entry.carried.is_some();
        let Some(entry) = self.outbox.entry_mut(row).filter(underway) else { return };
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
    pub(super) fn receipted(&mut self, peer: &PeerId, recipient: KeyId, receipt: &Receipt) -> bool {
        let mut confirms = false;
        for stream in &receipt.streams {
            confirms |= self.receipted_stream(peer, recipient, stream);
        }
        self.pump();
        confirms
    }

    fn receipted_stream(&mut self, peer: &PeerId, recipient: KeyId, of: &StreamReceipt) -> bool {
        let key = LaneKey { peer: peer.clone(), stream: of.stream };
        self.notice_rollback(&key, recipient, of.last_sequence);
        let (now, ours) = (self.clock.monotonic(), self.outbox.boot);
        let Some(lane) = self.outbox.lane_mut(&key) else { return false };
        lane.receipt_came(now);
        if let Some(ours) = of.boots.iter().find(|of| of.boot == ours) {
            lane.confirmed = lane.confirmed.and(Settled::from(&ours.received));
        }
        let transmitted = self.outbox.confirmable(&key, of);
        let arrived = |row: &RowId| {
            let Some(entry) = self.outbox.entry(*row) else { return false };
            let Some(boot) = of.boots.iter().find(|boot| boot.boot == entry.boot()) else { return false };
            match &entry.item {
                Item::Message(_, origin) => boot.received.contains(origin.msg_seq),
                Item::Lost { loss, .. } => verdict(of, loss).is_some(),
            }
        };
        let (done, missing): (Vec<RowId>, Vec<RowId>) = transmitted.into_iter().partition(arrived);
        let probed = self.outbox.lane(&key).and_then(|lane| lane.probed);
        self.end(&key, &done, of);
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
        !done.is_empty()
    }

    /// What arrived leaves the outbox, and so do reports.
    fn end(&mut self, key: &LaneKey, done: &[RowId], of: &StreamReceipt) {
        let mut changes = Vec::with_capacity(done.len());
        let mut confirmed = Vec::new();
        let (mut tickets, mut count) = (Vec::<Ticket>::new(), 0);
        for row in done {
            let Some(entry) = self.outbox.remove(*row, &mut changes) else { continue };
            tickets.extend(entry.ticket);
            match &entry.item {
                Item::Message(..) => count += 1,
                Item::Lost { loss, certain: false } => {
                    confirmed.extend(verdict(of, loss).zip(Some(loss.reason)))
                }
                // Told in full when it was given up.
                Item::Lost { certain: true, .. } => {}
            }
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
        for (verdict, reason) in confirmed {
            let LaneKey { peer, stream } = key.clone();
            let (lost, arrived, unknown) = (verdict.lost, verdict.arrived(), verdict.unknown);
            let event = Event::LossConfirmed { peer, stream, reason, lost, arrived, unknown };
            self.barrier.emit(after, Output::Event(event));
        }
    }

    /// Sends again, in order, what the receiver lacks although something later arrived; what can no longer fall into
    /// its window is sealed again.
    fn resend_missing(&mut self, key: &LaneKey, recipient: KeyId, of: &StreamReceipt, missing: &[RowId]) {
        let now = self.clock.monotonic();
        for row in missing {
            let Some(entry) = self.outbox.entry(*row) else { continue };
            let Some(sealed) = &entry.sealed else {
                if self.outbox.lane(key).is_some_and(|lane| lane.is_carried(*row))
                    && entry.was_overtaken(of, now)
                {
                    self.try_again(key, *row);
                }
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
        self.give_up_unconfirmed(key);
    }

    /// Sends what a later one overtook in the session again, and lets others pass if that does not help.
    fn try_again(&mut self, key: &LaneKey, row: RowId) {
        let Some(entry) = self.outbox.entry_mut(row) else { return };
        entry.attempts += 1;
        let attempts = entry.attempts;
        if attempts % ATTEMPTS == 0 { self.park(key, row, attempts) } else { self.resend_carried(key, row) }
    }

    /// Gives up what never arrives while the receiver hears so much else: its topic is not subscribed to, or the broker
    /// withholds it. Each is a gap that the receiver has to remember, and each boot among them one that its receipts have
    /// to name, so their number is bounded.
    fn give_up_unconfirmed(&mut self, key: &LaneKey) {
        let Some(lane) = self.outbox.lane(key) else { return };
        let many = lane.parked().count() >= MAX_RANGES / 2
            || self.outbox.boots(lane.parked()).len() >= MAX_BOOTS_PER_RECEIPT / 2;
        let tried = if many { ATTEMPTS } else { ATTEMPTS * MAX_PARKED };
        let hopeless = |row: &RowId| {
            self.outbox.entry(*row).is_some_and(|entry| entry.attempts >= tried && entry.is_message())
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
        if self.outbox.entry(row).is_some_and(Entry::is_message) {
            self.give_up(row, LossReason::Unsendable);
        } else {
            // Not even the report can pass; our application has been told before.
            self.drop_entry(row);
        }
        self.pump();
    }

    /// Nothing may leave for this peer any more: neither what waits here nor what the transport has not sent yet.
    pub(super) fn withdraw(&mut self, peer: &PeerId) {
        self.barrier.withdraw(peer);
        self.barrier.emit(Durable::NOW, Output::Withdraw(peer.clone()));
        self.group_peer_changed(peer);
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

    /// A revoked peer's messages are given up; it hears nothing of it. What it sent is forgotten.
    pub(super) fn discard_for(&mut self, peer: &PeerId) {
        self.withdraw(peer);
        self.end_sessions(peer);
        let forgotten = self.inbox.heard.forget(peer);
        if !forgotten.is_empty() {
            self.barrier.persist(forgotten, Vec::new());
        }
        for key in self.outbox.lanes_to(peer) {
            let rows = self.outbox.rows_in(&key);
            let (mut changes, mut tickets) = (Vec::new(), Vec::<Ticket>::new());
            let (mut certain, mut uncertain) = (0, 0);
            for row in rows {
                let Some(entry) = self.outbox.remove(row, &mut changes) else { continue };
                tickets.extend(entry.ticket);
                let left = entry.may_have_left(self.outbox.boot);
                let count = if left { &mut uncertain } else { &mut certain };
                *count += u64::from(entry.is_message());
            }
            if changes.is_empty() {
                continue;
            }
            let after = self.barrier.persist(changes, Vec::new());
            for (count, certain) in [(certain, true), (uncertain, false)] {
                if count > 0 {
                    self.tell_lost(after, &key, count, LossReason::Revoked, certain);
                }
            }
            for ticket in tickets {
                let event = Event::SendFailed { ticket, reason: SendFailure::Revoked };
                self.barrier.emit(after, Output::Event(event));
            }
        }
    }
}

/// What a receipt says of a report.
fn verdict(of: &StreamReceipt, loss: &Loss) -> Option<Verdict> {
    let boot = of.boots.iter().find(|boot| boot.boot == loss.boot)?;
    boot.verdicts.iter().find(|verdict| (verdict.first, verdict.last) == (loss.first, loss.last)).copied()
}
