//! Messages out: permission and a durable place in the outbox; then, as the link allows, a sequence, the seal, the
//! signature, the exact bytes on disk, and only then the network.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::input::{Durability, OutboxId, Publish, Ticket};
use super::outbox::{Entry, Item, Lane, LaneKey, NoRoom, RowId, Sealed, Source, size_of};
use super::output::{Event, Output, Purpose, SendFailure, Transmit};
use super::pending::{Addressee, Pending, Sealing, SealingVolatile};
use super::sessions::Carrier;
use super::{Durable, Endpoint, counters};
use crate::delivery::{Loss, LossReason, Origin};
use crate::envelope::{Body, Content, MessageClass, PendingSeal, Recipient, Tracking};
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
/// How long sealing to a peer pauses after the provider failed.
const PROVIDER_PAUSE: Duration = Duration::from_secs(5);

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
    fn check(
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
            topic: topic.as_str().into(),
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
        if let Some((_, changes)) = self.outbox.remove(row) {
            self.barrier.persist(changes, Vec::new());
        }
    }

    /// Sends an entry in the session, or starts sealing it in an envelope under the next sequence.
    fn seal(&mut self, row: RowId) -> Result<(), NotNow> {
        let entry = self.outbox.entry(row).ok_or(NotNow::Wait)?;
        let key = entry.lane.clone();
        let topic = self.topic_of(entry);
        let command = entry.class() == MessageClass::Command;
        match self.carrier(&key.peer) {
            Carrier::Session => return self.carry(row),
            Carrier::Soon => return Err(NotNow::Wait),
            // Commands never go in envelopes.
            Carrier::Envelope if command => return Err(NotNow::Wait),
            Carrier::Envelope => {}
        }
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
    pub(super) fn topic_of(&self, entry: &Entry) -> String {
        match entry.item {
            Item::Message(..) => entry.topic.clone(),
            Item::Lost { .. } => self.topics.control(&entry.lane.peer),
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

    /// Takes a sequence and encrypts.
    pub(super) fn envelope(
        &mut self,
        peer: &PeerId,
        to: Addressee,
        topic: &str,
        stream: StreamId,
        body: &Body,
    ) -> Result<(u64, Durable, PendingSeal), SendFailure> {
        self.touch(peer);
        let trusted = self.peers.get(peer).and_then(|peer| peer.trusted.as_ref());
        let trusted = trusted.ok_or(SendFailure::NotReady)?;
        let (prekey, encapsulation_key) = trusted.kem_key(self.clock.effective())?;
        let suite = trusted.suite(&self.config.suites).ok_or(SendFailure::Suite)?;
        let counter = counters::counter_key(self.own.certificate.key_id(), to.recipient, stream);
        let barrier = &mut self.barrier;
        let sequence = self
            .counters
            .next(counter, |change| barrier.persist(alloc::vec![change], Vec::new()))
            .ok_or(SendFailure::Sealing)?;
        let recipient = Recipient { key_id: to.recipient, prekey, encapsulation_key, suite };
        let envelope = PendingSeal::new(
            self.backend,
            &mut *self.random,
            &self.own.sender,
            &recipient,
            topic,
            stream,
            sequence.value,
            body,
        )
        .map_err(|_| SendFailure::Sealing)?;
        Ok((sequence.value, sequence.after, envelope))
    }

    /// Whether a peer still has the keys that something was sealed to, and we may still send.
    pub(super) fn still_addressed(&self, peer: &PeerId, recipient: crate::ids::KeyId) -> bool {
        !self.own.revoked && self.peers.get(peer).is_some_and(|peer| peer.trusts(recipient))
    }

    /// The provider signed: the exact bytes go to disk, then to the network.
    pub(super) fn sealed(&mut self, sealing: Sealing, signature: &[u8]) {
        let Sealing { row, lane, sequence, to, envelope } = sealing;
        self.outbox.sealing -= 1;
        let envelope_name = Some((to.recipient, sequence));
        if self.outbox.entry(row).is_none_or(|entry| entry.sealing != envelope_name) {
            // It ended, or was given up or sealed otherwise meanwhile.
            return self.pump();
        }
        // A revocation, of our own keys or the peer's, or new keys, may have come while the provider signed.
        let packet =
            if self.still_addressed(&lane.peer, to.recipient) { envelope.finish(signature) } else { None };
        let Some(packet) = packet else {
            self.outbox.seal_again(&lane, row);
            return self.pump();
        };
        if let Some(entry) = self.outbox.entry_mut(row) {
            let Addressee { recipient, prekey, usable_until } = to;
            let sender = self.own.certificate.key_id();
            entry.sealing = None;
            let sealed = Sealed { sender, sequence, recipient, prekey, usable_until, packet };
            let change = sealed.change(row);
            entry.sealed = Some(sealed);
            entry.transmitted = true;
            let after = self.barrier.persist(alloc::vec![change], Vec::new());
            self.transmit(after, row);
        }
        self.pump();
    }

    /// Sends an entry's exact bytes, the first time or again.
    pub(super) fn transmit(&mut self, after: Durable, row: RowId) {
        let Some(entry) = self.outbox.entry(row) else { return };
        let Some(sealed) = &entry.sealed else { return };
        let transmit = Transmit {
            purpose: Purpose::Message { peer: entry.lane.peer.clone(), id: OutboxId(row.0) },
            topic: self.topic_of(entry),
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

    /// The provider did not sign: later again.
    pub(super) fn seal_failed(&mut self, sealing: Sealing) {
        self.outbox.sealing -= 1;
        let envelope = Some((sealing.to.recipient, sealing.sequence));
        if self.outbox.entry(sealing.row).is_none_or(|entry| entry.sealing != envelope) {
            return self.pump();
        }
        let resume = self.clock.monotonic().plus(PROVIDER_PAUSE);
        self.outbox.seal_again(&sealing.lane, sealing.row);
        if let Some(lane) = self.outbox.lane_mut(&sealing.lane) {
            lane.not_before = Some(resume);
        }
        self.outbox.schedule(&sealing.lane);
        self.pump();
    }

    /// Seals a volatile message at once, or not at all.
    fn seal_volatile(&mut self, publish: Publish) -> Result<(), SendFailure> {
        let Publish { ticket, peer, topic, stream, content, .. } = publish;
        self.check(&peer, topic.as_str(), stream, &content)?;
        if !self.online {
            return Err(SendFailure::Offline);
        }
        if self.carrier(&peer) == Carrier::Session {
            return self.carry_volatile(ticket, &peer, topic.as_str(), stream, content);
        }
        if content.class == MessageClass::Command {
            return Err(SendFailure::NotReady);
        }
        let trusted = self.peers.get(&peer).and_then(|peer| peer.trusted.as_ref());
        trusted.ok_or(SendFailure::NotReady)?.kem_key(self.clock.effective())?;
        let to = self.addressee(&peer, topic.as_str()).map_err(|error| match error {
            NotNow::Wait => SendFailure::NotReady,
            NotNow::Never(reason) => reason,
        })?;
        let key = LaneKey { peer: peer.clone(), stream };
        let counter = counters::counter_key(self.own.certificate.key_id(), to.recipient, stream);
        let lane = self.outbox.lane_or_new(&key);
        if !lane.has_room_for(to.recipient, self.counters.peek(&counter)) {
            return Err(SendFailure::Window);
        }
        let msg_seq = self.outbox.lane_or_new(&key).next_volatile();
        let origin = Origin { boot: self.outbox.boot, msg_seq };
        let body = Body::Message { content, tracking: Tracking::Volatile(origin) };
        let (_, after, envelope) = self.envelope(&peer, to, topic.as_str(), stream, &body)?;
        let structure = envelope.structure().clone();
        let sealing = SealingVolatile {
            ticket,
            peer,
            recipient: to.recipient,
            topic: topic.as_str().into(),
            after,
            envelope,
        };
        self.request(Pending::SealVolatile(sealing), ProviderRequest::Sign(structure));
        Ok(())
    }

    pub(super) fn volatile_sealed(&mut self, sealing: SealingVolatile, signature: Option<&[u8]>) {
        let SealingVolatile { ticket, peer, recipient, topic, after, envelope } = sealing;
        let addressed = self.still_addressed(&peer, recipient);
        let packet = signature.filter(|_| addressed).and_then(|signature| envelope.finish(signature));
        let Some(payload) = packet else { return self.send_failed(ticket, SendFailure::Sealing) };
        let purpose = Purpose::Volatile { peer, ticket };
        self.barrier.emit(after, Output::Transmit(Transmit { purpose, topic, payload, retain: false }));
        self.barrier.emit(after, Output::Event(Event::Accepted { ticket, durable: false }));
    }
}
