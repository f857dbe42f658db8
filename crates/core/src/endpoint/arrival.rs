//! An opened envelope takes effect: replay window, what was heard and inbox in one transaction, then the event, then the
//! broker's acknowledgement, then the receipt.

use alloc::string::String;
use alloc::vec::Vec;

use super::heard::Heard;
use super::incoming::{reason_of_replay, window_key};
use super::input::{Consume, Effect};
use super::output::{Event, Message, Output, Protection};
use super::refusal::RefusalReason;
use super::{Durable, Endpoint};
use crate::delivery::{Full, Loss, LossReason, Origin};
use crate::envelope::{Content, MessageClass, Tracking};
use crate::ids::{KeyId, PeerId, StreamId};
use crate::store::{Change, RecordKind};

/// Whence an envelope came, all of it verified.
pub(super) struct Arrival {
    pub(super) peer: PeerId,
    pub(super) key_id: KeyId,
    pub(super) topic: String,
    pub(super) stream: StreamId,
    /// The envelope's sequence, or the record's counter.
    pub(super) sequence: u64,
    pub(super) via: Via,
}

/// How it came.
pub(super) enum Via {
    Envelope,
    Session {
        epoch: u16,
        /// Its block is from before the restart, so that it may be a copy of a record that was opened then.
        restored: bool,
        /// The session's own changes, made durable with the message.
        changes: Vec<Change>,
    },
}

impl Endpoint {
    /// Moves the replay window, in memory; the changes make it durable. A session's moved when its record was opened.
    pub(super) fn commit_window(&mut self, from: &mut Arrival) -> Result<Vec<Change>, RefusalReason> {
        if let Via::Session { changes, .. } = &mut from.via {
            return Ok(core::mem::take(changes));
        }
        let window = self.windows.entry((from.key_id, from.stream)).or_default();
        window.commit(from.sequence).map_err(reason_of_replay)?;
        Ok(alloc::vec![Change::Put {
            kind: RecordKind::ReplayWindow,
            key: window_key(from.key_id, self.own.certificate.key_id(), from.stream),
            value: window.to_bytes(),
        }])
    }

    /// Notes what was heard. Without room for its numbers the window does not move either: the sender, told of the gaps by
    /// the receipt, sends what is missing and then this again.
    fn hear<T>(
        &mut self,
        from: &mut Arrival,
        note: impl FnOnce(&Arrival, &mut Heard) -> Result<(T, Vec<Change>), Full>,
    ) -> Result<(T, Vec<Change>), RefusalReason> {
        if let Via::Envelope = from.via {
            let window = self.windows.get(&(from.key_id, from.stream)).copied().unwrap_or_default();
            window.check(from.sequence).map_err(reason_of_replay)?;
        }
        let Ok((found, mut changes)) = note(from, &mut self.inbox.heard) else {
            self.inbox.receipt_asked(&from.peer, self.clock.monotonic());
            return Err(RefusalReason::TooManyGaps);
        };
        changes.extend(self.commit_window(from)?);
        Ok((found, changes))
    }

    /// The sender gave messages up. Those that arrived did; the others never will.
    pub(super) fn deliver_report(&mut self, mut from: Arrival, loss: Loss) -> Result<Durable, RefusalReason> {
        let report = |from: &Arrival, heard: &mut Heard| heard.report(&from.peer, from.stream, &loss);
        let (lost, changes) = self.hear(&mut from, report)?;
        let after = self.barrier.persist(changes, Vec::new());
        if lost > 0 {
            self.tell_incoming_loss(after, &from, lost, loss.reason);
        }
        self.receipt_due(&from.peer);
        Ok(after)
    }

    fn tell_incoming_loss(&mut self, after: Durable, from: &Arrival, count: u64, reason: LossReason) {
        let (peer, stream) = (from.peer.clone(), from.stream);
        let event = Event::Lost { peer, stream, count, reason, outgoing: false, certain: true };
        self.barrier.emit(after, Output::Event(event));
    }

    pub(super) fn deliver_message(
        &mut self,
        mut from: Arrival,
        content: Content,
        tracking: Tracking,
    ) -> Result<Durable, RefusalReason> {
        let (origin, new, mut changes) = match tracking {
            Tracking::Durable(origin) => {
                let Origin { boot, msg_seq } = origin;
                let note =
                    |from: &Arrival, heard: &mut Heard| heard.message(&from.peer, from.stream, boot, msg_seq);
                let (new, changes) = self.hear(&mut from, note)?;
                (Some(origin), new, changes)
            }
            Tracking::Volatile(_) | Tracking::None => (None, true, self.commit_window(&mut from)?),
        };
        let in_envelope = matches!(from.via, Via::Envelope);
        let refusal = if content.class == MessageClass::Command && in_envelope {
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
        let protection = match from.via {
            Via::Envelope => Protection::Envelope,
            Via::Session { epoch, .. } => Protection::Session { epoch },
        };
        let mut message = Message {
            peer: from.peer.clone(),
            topic: core::mem::take(&mut from.topic),
            stream: from.stream,
            sequence: from.sequence,
            origin,
            id: None,
            redelivered: false,
            protection,
            content,
        };
        let deliver = new && refusal.is_none();
        if deliver && !matches!(tracking, Tracking::Volatile(_)) {
            changes.push(self.inbox.add(&mut message));
        }
        // A volatile message of a block that is noted already changes nothing.
        let after = if changes.is_empty() {
            self.barrier.latest()
        } else {
            self.barrier.persist(changes, Vec::new())
        };
        if gap > 0 {
            self.tell_incoming_loss(after, &from, gap, LossReason::Volatile);
        }
        if deliver {
            self.barrier.emit(after, Output::Event(Event::Message(message)));
        } else if let Some(reason) = refusal.filter(|_| new) {
            self.refuse(reason, Some(&from.peer));
        } else if !new {
            // A record that may be a copy would have been refused by a window, had it been in an envelope.
            let copy = matches!(from.via, Via::Session { restored: true, .. });
            let reason = if copy { RefusalReason::Replayed } else { RefusalReason::Repeated };
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
