//! An opened envelope takes effect: replay window, what was heard and inbox in one transaction, then the event, then the
//! broker's acknowledgement, then the receipt.

use alloc::string::String;
use alloc::vec::Vec;

use super::incoming::{reason_of_replay, window_key};
use super::input::{Consume, Effect};
use super::output::{Event, Message, Output};
use super::refusal::RefusalReason;
use super::{Durable, Endpoint};
use crate::delivery::{Full, Loss, LossReason, Origin, Received};
use crate::envelope::{Content, MessageClass, Tracking};
use crate::ids::{KeyId, PeerId, StreamId};
use crate::store::{Change, RecordKind};

/// Whence an envelope came, all of it verified.
pub(super) struct Arrival {
    pub(super) peer: PeerId,
    pub(super) key_id: KeyId,
    pub(super) topic: String,
    pub(super) stream: StreamId,
    pub(super) sequence: u64,
}

impl Endpoint {
    /// Moves the replay window, in memory; the change makes it durable.
    pub(super) fn commit_window(&mut self, from: &Arrival) -> Result<Change, RefusalReason> {
        let window = self.windows.entry((from.key_id, from.stream)).or_default();
        window.commit(from.sequence).map_err(reason_of_replay)?;
        Ok(Change::Put {
            kind: RecordKind::ReplayWindow,
            key: window_key(from.key_id, self.own.certificate.key_id(), from.stream),
            value: window.to_bytes(),
        })
    }

    /// Notes that a message was heard. Without room for its number the window does not move either: the sender, told of
    /// the gaps by the receipt, sends what is missing and then this one again.
    fn hear(&mut self, from: &Arrival, origin: Origin) -> Result<(Received, Vec<Change>), RefusalReason> {
        let window = self.windows.get(&(from.key_id, from.stream)).copied().unwrap_or_default();
        window.check(from.sequence).map_err(reason_of_replay)?;
        let heard = self.inbox.hear(&from.peer, from.stream, origin);
        let received = match heard {
            Ok(received) => received,
            Err(Full) => {
                self.inbox.receipt_asked(&from.peer, self.clock.monotonic());
                return Err(RefusalReason::TooManyGaps);
            }
        };
        let mut changes = alloc::vec![self.commit_window(from)?];
        changes.extend(self.inbox.heard_change(&from.peer, from.stream));
        Ok((received, changes))
    }

    pub(super) fn deliver_report(
        &mut self,
        from: Arrival,
        origin: Origin,
        loss: Loss,
    ) -> Result<Durable, RefusalReason> {
        let (received, changes) = self.hear(&from, origin)?;
        let after = self.barrier.persist(changes, Vec::new());
        if received == Received::New {
            self.tell_incoming_loss(after, &from, loss);
        }
        self.receipt_due(&from.peer);
        Ok(after)
    }

    fn tell_incoming_loss(&mut self, after: Durable, from: &Arrival, loss: Loss) {
        let (peer, stream) = (from.peer.clone(), from.stream);
        let event = Event::Lost { peer, stream, count: loss.count, reason: loss.reason, outgoing: false };
        self.barrier.emit(after, Output::Event(event));
    }

    pub(super) fn deliver_message(
        &mut self,
        from: Arrival,
        content: Content,
        tracking: Tracking,
    ) -> Result<Durable, RefusalReason> {
        let (origin, received, mut changes) = match tracking {
            Tracking::Durable(origin) => {
                let (received, changes) = self.hear(&from, origin)?;
                (Some(origin), received, changes)
            }
            Tracking::Volatile(_) | Tracking::None => {
                (None, Received::New, alloc::vec![self.commit_window(&from)?])
            }
        };
        let refusal = if content.class == MessageClass::Command {
            Some(RefusalReason::CommandOutsideSession)
        } else if content.expires.is_some_and(|expires| expires <= self.clock.effective()) {
            Some(RefusalReason::MessageExpired)
        } else {
            None
        };
        let gap = match tracking {
            Tracking::Volatile(origin) => self.inbox.volatile_gap(&from.peer, from.stream, origin),
            _ => 0,
        };
        let Arrival { peer, topic, stream, sequence, .. } = &from;
        let mut message = Message {
            peer: peer.clone(),
            topic: topic.clone(),
            stream: *stream,
            sequence: *sequence,
            origin,
            id: None,
            redelivered: false,
            content,
        };
        let deliver = received == Received::New && refusal.is_none();
        if deliver && !matches!(tracking, Tracking::Volatile(_)) {
            changes.push(self.inbox.add(&mut message));
        }
        let after = self.barrier.persist(changes, Vec::new());
        if gap > 0 {
            self.tell_incoming_loss(after, &from, Loss { count: gap, reason: LossReason::Volatile });
        }
        if deliver {
            self.barrier.emit(after, Output::Event(Event::Message(message)));
        } else if let Some(reason) = refusal.filter(|_| received == Received::New) {
            self.refuse(reason, Some(&from.peer));
        }
        if origin.is_some() {
            self.receipt_due(&from.peer);
        }
        Ok(after)
    }

    /// The application is done with messages: they and what it made of them change in one transaction.
    pub(super) fn consume(&mut self, consume: Consume) {
        let Consume { ticket, messages, effects } = consume;
        let mut changes: Vec<Change> = messages.into_iter().filter_map(|id| self.inbox.consume(id)).collect();
        changes.extend(self.apply(effects));
        let after = if changes.is_empty() {
            self.barrier.latest()
        } else {
            self.barrier.persist(changes, Vec::new())
        };
        self.barrier.emit(after, Output::Event(Event::Consumed { ticket }));
        if !self.inbox.is_full() && self.hold.waits_for_room() {
            self.retry_held();
        }
    }

    /// Changes the application's own rows; gives what makes that durable.
    pub(super) fn apply(&mut self, effects: Vec<Effect>) -> Vec<Change> {
        let kind = RecordKind::Application;
        let apply = |Effect { key, value }| match value {
            Some(value) => {
                self.application.insert(key.clone(), value.clone());
                Change::Put { kind, key, value }
            }
            None => {
                self.application.remove(&key);
                Change::Delete { kind, key }
            }
        };
        effects.into_iter().map(apply).collect()
    }
}
