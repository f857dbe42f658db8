//! Messages out: permission and a durable place in the outbox; then, as the link allows, a sequence, the seal, the
//! signature, the exact bytes on disk, and only then the network.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::input::{Durability, OutboxId, Publish, Ticket};
use super::outbox::{Entry, Item, Lane, LaneKey, NoRoom, RowId, Source, size_of};
use super::output::{Event, Output, Purpose, SendFailure, Transmit};
use super::pending::{Addressee, Pending, Sealing};
use super::sessions::Carrier;
use super::{Durable, Endpoint, counters};
use crate::delivery::{Loss, LossReason};
use crate::envelope::{Content, MessageClass};
use crate::identity::grants::Action;
use crate::ids::{PeerId, StreamId};
use crate::provider::{PrekeyId, ProviderRequest};

/// What an envelope adds at most to a payload besides KEM ciphertext and signature, in bytes.
const FRAMING: usize = 4096;
/// The longest KEM ciphertext of any suite, in bytes.
const LONGEST_KEM_CIPHERTEXT: usize = 1568;
/// Seals under way at once: what the provider is given ahead, and all that a crash makes it do again.
const MAX_SEALING: usize = 64;
/// How many of one lane before the next has its turn.
const QUANTUM: usize = 8;

/// Why an entry is not sealed now.
pub(super) enum NotNow {
    /// Something that will be told is missing: the peer's keys, the link, room in its window.
    Wait,
    /// It never can be.
    Never(SendFailure),
}

/// What a grant must allow for a message of this class.
pub(super) fn action_of(class: MessageClass) -> Action {
    match class {
        MessageClass::Telemetry => Action::Publish,
        MessageClass::Command => Action::Command,
    }
}

impl Endpoint {
    pub(super) fn publish(&mut self, publish: Publish) {
        let at = self.clock.effective();
        let must_load = self.peers.get(&publish.peer).is_some_and(|peer| peer.must_load(at));
        let sends = self.online && !self.closed && !self.own.revoked;
        if must_load && sends && publish.durability == Durability::Volatile {
            return self.publish_once_loaded(publish);
        }
        let ticket = publish.ticket;
        let result = match publish.durability {
            Durability::Durable => self.accept(publish),
            Durability::Volatile => self.seal_volatile(publish),
        };
        if let Err(reason) = result {
            self.send_failed(ticket, reason);
        }
        self.pump();
    }

    pub(super) fn send_failed(&mut self, ticket: Ticket, reason: SendFailure) {
        self.barrier.emit(Durable::NOW, Output::Event(Event::SendFailed { ticket, reason }));
    }

    /// What refuses a message at once, whatever becomes of the peer.
    pub(super) fn check(
        &self,
        peer: &PeerId,
        topic: &str,
        stream: StreamId,
        content: &Content,
    ) -> Result<(), SendFailure> {
        if self.closed || self.own.revoked {
            return Err(SendFailure::Closed);
        }
        if content.class == MessageClass::Command && !self.config.sessions.enabled {
            return Err(SendFailure::Command);
        }
        if self.topics.is_control(topic) {
            return Err(SendFailure::ControlTopic);
        }
        if stream == StreamId::CONTROL {
            return Err(SendFailure::ControlStream);
        }
        let overhead = FRAMING + LONGEST_KEM_CIPHERTEXT + self.own.sender.set.signature_len();
        let too_large = content.payload.len().saturating_add(overhead) > self.config.limits.message;
        if too_large || !content.within_limits() {
            return Err(SendFailure::TooLarge);
        }
        let peer = self.peers.get(peer).ok_or(SendFailure::UnknownPeer)?;
        if peer.pins.as_ref().is_some_and(|pins| pins.revoked) {
            return Err(SendFailure::Revoked);
        }
        let now = self.clock.effective();
        let ours = self.own.certificate.claims();
        if !ours.valid_at(now) {
            return Err(SendFailure::Expired);
        }
        if !ours.allows(action_of(content.class), topic, now) {
            return Err(SendFailure::NoGrant);
        }
        if peer.unloaded && !peer.must_load(now) {
            return Err(SendFailure::Expired);
        }
        if let Some(trusted) = &peer.trusted {
            let theirs = trusted.certificate.claims();
            if !theirs.valid_at(now) {
                return Err(SendFailure::Expired);
            }
            if !theirs.allows(Action::Subscribe, topic, now) {
                return Err(SendFailure::NoGrant);
            }
            trusted.suite(&self.config.suites).ok_or(SendFailure::Suite)?;
        }
        Ok(())
    }

    /// Puts a message into the outbox.
    fn accept(&mut self, publish: Publish) -> Result<(), SendFailure> {
        let Publish { ticket, peer, topic, stream, content, priority, effects, .. } = publish;
        self.check(&peer, topic.as_str(), stream, &content)?;
        let lane = LaneKey { peer, stream };
        let size = size_of(topic.as_str(), &content);
        let (dropped, fits) = match self.outbox.make_room(&lane, size, priority) {
            Ok(dropped) => (dropped, true),
            Err(NoRoom::Refuse(reason)) => return Err(reason),
            Err(NoRoom::DropNewest) => (Vec::new(), false),
        };
        for row in dropped {
            self.give_up(row, LossReason::DroppedOldest);
        }
        let origin = self.outbox.next_origin(&lane);
        let entry = Entry {
            lane,
            topic: topic.into_text(),
            item: Item::Message(content, origin),
            priority,
            accepted: self.clock.floor(),
            age: (Duration::ZERO, self.clock.monotonic()),
            transmitted: false,
            carried: None,
            durable: Durable::NOW,
            sealed: None,
            sealing: None,
            attempts: 0,
            ticket: Some(ticket).filter(|_| fits),
        };
        if !fits {
            let reason = LossReason::DroppedNewest;
            let key = entry.lane.clone();
            let changes = self.outbox.report(entry, Loss::of(origin, reason), !self.online);
            let after = self.barrier.persist(changes, Vec::new());
            self.tell_lost(after, &key, 1, reason, true);
            return Err(SendFailure::Lost(reason));
        }
        let (row, change) = self.outbox.push(entry, !self.online);
        let mut changes = alloc::vec![change];
        changes.extend(self.apply(effects));
        let after = self.barrier.persist(changes, Vec::new());
        if let Some(entry) = self.outbox.entry_mut(row) {
            entry.durable = after;
        }
        self.barrier.emit(after, Output::Event(Event::Accepted { ticket, durable: true }));
        Ok(())
    }

    /// Gives a message up and tells both sides: the application now, the receiver in its turn.
    pub(super) fn give_up(&mut self, row: RowId, reason: LossReason) {
        self.give_up_as(row, reason, SendFailure::Lost(reason));
    }

    fn give_up_as(&mut self, row: RowId, reason: LossReason, failure: SendFailure) {
        let boot = self.outbox.boot;
        let Some(entry) = self.outbox.entry_mut(row) else { return };
        let (key, ticket, certain) = (entry.lane.clone(), entry.ticket.take(), !entry.may_have_left(boot));
        let Some(changes) = self.outbox.give_up(row, reason) else { return };
        let after = self.barrier.persist(changes, Vec::new());
        self.tell_lost(after, &key, 1, reason, certain);
        if let Some(ticket) = ticket {
            let event = Event::SendFailed { ticket, reason: failure };
            self.barrier.emit(after, Output::Event(event));
        }
    }

    pub(super) fn tell_lost(
        &mut self,
        after: Durable,
        key: &LaneKey,
        count: u64,
        reason: LossReason,
        certain: bool,
    ) {
        let LaneKey { peer, stream } = key.clone();
        let event = Event::Lost { peer, stream, count, reason, outgoing: true, certain };
        self.barrier.emit(after, Output::Event(event));
    }

    /// Seals whatever can go now, a few of each lane in turn.
    pub(super) fn pump(&mut self) {
        if !self.online || self.closed || self.own.revoked {
            // All lanes are looked at again once the link is up.
            self.outbox.look_at_none();
            return;
        }
        while self.outbox.sealing < MAX_SEALING
            && self.room > 0
            && let Some(key) = self.outbox.next_lane()
        {
            self.pump_lane(&key);
            self.outbox.schedule(&key);
        }
    }

    fn pump_lane(&mut self, key: &LaneKey) {
        if self.waits_for_load(key) {
            return;
        }
        let now = self.clock.monotonic();
        if self.outbox.lane_mut(key).is_some_and(Lane::take_resend) {
            self.resend_lane(key);
        }
        for _ in 0..QUANTUM {
            let Some(lane) = self.outbox.lane_mut(key) else { return };
            if lane.not_before.is_some_and(|at| now < at) {
                return;
            }
            lane.not_before = None;
            let Some((mut row, mut source)) = lane.next() else { return };
            let crowded = source == Source::Backlog && self.outbox.too_many_boots(key, row);
            if crowded || (source == Source::Backlog && !self.outbox.drain.take(now)) {
                // A receipt wakes what is crowded out.
                let resume = self.outbox.drain.next_token().filter(|_| !crowded);
                let Some(lane) = self.outbox.lane_mut(key) else { return };
                let Some(next) = lane.next_fresh() else {
                    lane.not_before = resume;
                    return;
                };
                (row, source) = next;
            }
            match self.seal(row) {
                Ok(()) => {
                    if let Some(lane) = self.outbox.lane_mut(key) {
                        lane.take(source);
                    }
                }
                Err(NotNow::Wait) => {
                    if source == Source::Backlog {
                        self.outbox.drain.give_back();
                    }
                    return;
                }
                Err(NotNow::Never(reason)) => self.unsendable(row, reason),
            }
        }
        // Its turn comes again after the others'.
        self.outbox.needs_attention(key.clone());
    }

    /// It can never be sealed. Its receiver hears of one lost message; a report that cannot be sealed either is dropped,
    /// as our application was told before.
    fn unsendable(&mut self, row: RowId, reason: SendFailure) {
        if self.outbox.entry(row).is_some_and(Entry::is_message) {
            return self.give_up_as(row, LossReason::Unsendable, reason);
        }
        self.drop_entry(row);
    }

    /// Forgets an entry of which everybody was told who has to know.
    pub(super) fn drop_entry(&mut self, row: RowId) {
        let mut changes = Vec::new();
        if self.outbox.remove(row, &mut changes).is_some() {
            self.barrier.persist(changes, Vec::new());
        }
    }

    /// Sends an entry in the session, or starts sealing it in an envelope under the next sequence.
    fn seal(&mut self, row: RowId) -> Result<(), NotNow> {
        let entry = self.outbox.entry(row).ok_or(NotNow::Wait)?;
        let key = entry.lane.clone();
        let command = entry.class() == MessageClass::Command;
        match self.carrier(&key.peer) {
            Carrier::Session => return self.carry(row),
            Carrier::Soon => return Err(NotNow::Wait),
            // Commands never go in envelopes.
            Carrier::Envelope if command => return Err(NotNow::Wait),
            Carrier::Envelope => {}
        }
        let topic = self.topic_of(self.outbox.entry(row).ok_or(NotNow::Wait)?);
        let to = self.addressee(&key.peer, &topic)?;
        let counter = counters::counter_key(self.own.certificate.key_id(), to.recipient, key.stream);
        let lane = self.outbox.lane_mut(&key).ok_or(NotNow::Wait)?;
        if !lane.has_room_for(to.recipient, self.counters.peek(&counter)) {
            return Err(NotNow::Wait);
        }
        let body = self.outbox.entry(row).ok_or(NotNow::Wait)?.body();
        let (sequence, _, envelope) =
            self.envelope(&key.peer, to, &topic, key.stream, &body).map_err(NotNow::Never)?;
        self.outbox.depart(&key, (to.recipient, sequence), row);
        self.outbox.sealing += 1;
        let structure = envelope.structure().clone();
        let sealing = Sealing { row, lane: key, sequence, to, envelope };
        self.request(Pending::Seal(sealing), ProviderRequest::Sign(structure));
        Ok(())
    }

    /// Reports go to the receiver's own topic, whatever it subscribes to.
    pub(super) fn topic_of(&self, entry: &Entry) -> Arc<str> {
        match entry.item {
            Item::Message(..) => Arc::clone(&entry.topic),
            Item::Lost { .. } => self.topics.control(&entry.lane.peer).into(),
        }
    }

    /// The keys of a peer that something on `topic` may be sealed to now. If they are in the store, they are loaded.
    pub(super) fn addressee(&mut self, peer: &PeerId, topic: &str) -> Result<Addressee, NotNow> {
        self.permitted(peer, topic, Action::Publish)?;
        let now = self.clock.effective();
        let trusted = self.peers.get(peer).and_then(|peer| peer.trusted.as_ref()).ok_or(NotNow::Wait)?;
        trusted.suite(&self.config.suites).ok_or(NotNow::Never(SendFailure::Suite))?;
        let (prekey, _) = trusted.kem_key(now).map_err(|_| NotNow::Wait)?;
        let offered = trusted.prekey.as_ref().map(|prekey| prekey.not_after);
        let usable_until = offered.filter(|_| prekey != PrekeyId::STATIC);
        Ok(Addressee { recipient: trusted.certificate.key_id(), prekey, usable_until })
    }

    /// Whether something on `topic` may be sent to a peer now. If its certificate is in the store, it is loaded.
    pub(super) fn permitted(&mut self, peer: &PeerId, topic: &str, action: Action) -> Result<(), NotNow> {
        let now = self.clock.effective();
        if self.peers.get(peer).is_some_and(|peer| peer.must_load(now)) {
            self.load_in_turn(peer);
            return Err(NotNow::Wait);
        }
        let ours = self.own.certificate.claims();
        let trusted = self.peers.get(peer).and_then(|peer| peer.trusted.as_ref()).ok_or(NotNow::Wait)?;
        let theirs = trusted.certificate.claims();
        if !ours.valid_at(now) || !theirs.valid_at(now) {
            return Err(NotNow::Wait);
        }
        let control = self.topics.is_control(topic);
        let granted =
            control || (ours.allows(action, topic, now) && theirs.allows(Action::Subscribe, topic, now));
        if granted { Ok(()) } else { Err(NotNow::Never(SendFailure::NoGrant)) }
    }

    /// Sends an entry's exact bytes, the first time or again.
    pub(super) fn transmit(&mut self, after: Durable, row: RowId) {
        let Some(entry) = self.outbox.entry(row) else { return };
        let Some(sealed) = &entry.sealed else { return };
        let transmit = Transmit {
            purpose: Purpose::Message { peer: entry.lane.peer.clone(), id: OutboxId(row.0) },
            topic: (*self.topic_of(entry)).into(),
            payload: sealed.packet.clone(),
            retain: false,
        };
        let key = entry.lane.clone();
        self.barrier.emit(after, Output::Transmit(transmit));
        self.room = self.room.saturating_sub(1);
        let now = self.clock.monotonic();
        if let Some(lane) = self.outbox.lane_mut(&key) {
            lane.expect_receipt(now);
        }
        self.outbox.schedule(&key);
    }
}
