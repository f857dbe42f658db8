//! Messages of the outbox in sessions. Nothing but the accepted message is on disk: a retransmission seals it again under a
//! fresh counter, and its receiver knows it by its origin.

use core::time::Duration;

use crate::delivery::Origin;
use crate::endpoint::Endpoint;
use crate::endpoint::input::{OutboxId, Ticket};
use crate::endpoint::outbox::{Item, LaneKey, RowId};
use crate::endpoint::outgoing::{NotNow, action_of};
use crate::endpoint::output::{Event, Output, Purpose, SendFailure, Transmit};
use crate::envelope::{Body, Content, MessageClass, Tracking};
use crate::ids::{PeerId, StreamId};
use crate::session::{Class, Text};

/// How long a record is on its way before it is sent again because later ones were confirmed.
pub(in crate::endpoint) const RESEND_PAUSE: Duration = Duration::from_millis(500);

impl Endpoint {
    /// Sends an entry in the current session, the first time or again.
    pub(in crate::endpoint) fn carry(&mut self, row: RowId) -> Result<(), NotNow> {
        let entry = self.outbox.entry(row).ok_or(NotNow::Wait)?;
        let (key, topic, action) = (entry.lane.clone(), self.topic_of(entry), action_of(entry.class()));
        let again = entry.carried.is_some();
        if !again && !self.outbox.lane(&key).is_some_and(|lane| lane.has_room_in_session()) {
            return Err(NotNow::Wait);
        }
        self.permitted(&key.peer, &topic, action)?;
        let entry = self.outbox.entry(row).ok_or(NotNow::Wait)?;
        let boot = self.sessions.boot;
        let body;
        // Only first transmissions go without their whole name.
        let (class, text) = match &entry.item {
            Item::Message(content, origin) if !again && origin.boot == boot && content.is_plain() => {
                let confirmed = self.outbox.lane(&key).map(|lane| lane.confirmed).unwrap_or_default();
                let number = origin.msg_seq;
                (Class::Telemetry, Text::Telemetry { number, confirmed, payload: &content.payload })
            }
            item => {
                body = entry.encoded_body();
                let command =
                    matches!(item, Item::Message(content, _) if content.class == MessageClass::Command);
                (if command && !again { Class::Command } else { Class::Control }, Text::Body(&body))
            }
        };
        let now = self.clock.monotonic();
        let (accepted, peer) = (entry.durable, &key.peer);
        let sealed = self
            .sessions
            .seal_record(&mut self.barrier, peer, class, key.stream, &topic, text, now)
            .map_err(|_| NotNow::Wait);
        let (sealed, reserved) = match sealed {
            Ok(sealed) => sealed,
            Err(wait) => {
                self.begin_handshake(&key.peer);
                return Err(wait);
            }
        };
        self.sessions.expects_reading(&key.peer, now);
        self.outbox.carry(&key, row, now);
        let purpose = Purpose::Message { peer: key.peer.clone(), id: OutboxId(row.0) };
        let transmit = Transmit { purpose, topic: (*topic).into(), payload: sealed.record, retain: false };
        self.barrier.emit(reserved.max(accepted), Output::Transmit(transmit));
        self.room = self.room.saturating_sub(1);
        if let Some(lane) = self.outbox.lane_mut(&key) {
            lane.expect_receipt(now);
        }
        self.outbox.schedule(&key);
        self.turn_ratchet(&key.peer);
        Ok(())
    }

    /// Sends a volatile message in the current session.
    pub(in crate::endpoint) fn carry_volatile(
        &mut self,
        ticket: Ticket,
        peer: &PeerId,
        topic: &str,
        stream: StreamId,
        content: Content,
    ) -> Result<(), SendFailure> {
        self.permitted(peer, topic, action_of(content.class)).map_err(|error| match error {
            NotNow::Wait => SendFailure::NotReady,
            NotNow::Never(reason) => reason,
        })?;
        let class = if content.class == MessageClass::Command { Class::Command } else { Class::Control };
        let key = LaneKey { peer: peer.clone(), stream };
        let msg_seq = self.outbox.lane_or_new(&key).next_volatile();
        let origin = Origin { boot: self.outbox.boot, msg_seq };
        let body = Body::Message { content, tracking: Tracking::Volatile(origin) }.encode();
        let now = self.clock.monotonic();
        let sealed =
            self.sessions.seal_record(&mut self.barrier, peer, class, stream, topic, Text::Body(&body), now);
        let (sealed, after) = sealed.map_err(|_| SendFailure::NotReady)?;
        self.sessions.expects_reading(peer, now);
        let purpose = Purpose::Volatile { peer: peer.clone(), ticket };
        let (topic, payload) = (topic.into(), sealed.record);
        self.barrier.emit(after, Output::Transmit(Transmit { purpose, topic, payload, retain: false }));
        self.barrier.emit(after, Output::Event(Event::Accepted { ticket, durable: false }));
        self.turn_ratchet(peer);
        Ok(())
    }

    /// Sends what is under way in a session again; without one, it is sealed again otherwise.
    pub(in crate::endpoint) fn resend_carried(&mut self, key: &LaneKey, row: RowId) {
        if !self.has_session(key.peer.as_str()) || self.carry(row).is_err() {
            self.outbox.seal_again(key, row);
        }
    }
}
