//! One thing to be delivered: a message, or the report that messages were given up.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::lane::EnvelopeName;
use crate::codec::{DecodeError, Reader, Writer};
use crate::delivery::{Loss, Origin, StreamReceipt};
use crate::endpoint::barrier::Durable;
use crate::endpoint::input::{Priority, Ticket};
use crate::endpoint::sessions::RESEND_PAUSE;
use crate::envelope::{
    Body, Content, MESSAGE_OVERHEAD, MessageClass, Tracking, encode_message, write_message,
};
use crate::ids::{BootId, KeyId, PeerId, StreamId};
use crate::provider::PrekeyId;
use crate::store::{Change, RecordKind};
use crate::time::{Monotonic, UnixTime};
use crate::topic::MAX_TOPIC;

/// What an entry counts for in the outbox besides its payload, in bytes.
const FRAMING: usize = 256;

/// Names an entry in this endpoint's outbox, in the order of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::endpoint) struct RowId(pub(in crate::endpoint) u64);

/// Which queue an entry is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::endpoint) struct LaneKey {
    pub(in crate::endpoint) peer: PeerId,
    pub(in crate::endpoint) stream: StreamId,
}

pub(in crate::endpoint) enum Item {
    Message(Content, Origin),
    Lost {
        loss: Loss,
        /// Whether none of it was ever transmitted.
        certain: bool,
    },
}

/// The exact bytes on the network, and what they need to be opened.
pub(in crate::endpoint) struct Sealed {
    /// Our own keys that signed it.
    pub(in crate::endpoint) sender: KeyId,
    pub(in crate::endpoint) sequence: u64,
    pub(in crate::endpoint) recipient: KeyId,
    pub(in crate::endpoint) prekey: PrekeyId,
    /// Until when the recipient offered the prekey; `None` for its static key.
    pub(in crate::endpoint) usable_until: Option<UnixTime>,
    pub(in crate::endpoint) packet: Vec<u8>,
}

pub(in crate::endpoint) struct Entry {
    pub(in crate::endpoint) lane: LaneKey,
    pub(in crate::endpoint) topic: Arc<str>,
    pub(in crate::endpoint) item: Item,
    pub(in crate::endpoint) priority: Priority,
    /// When it was accepted, by the durable time floor.
    pub(in crate::endpoint) accepted: UnixTime,
    /// Its age when it was accepted or loaded, and when that was.
    pub(in crate::endpoint) age: (Duration, Monotonic),
    /// Whether it may have left, in this start or an earlier one: then there is a row with its packet.
    pub(in crate::endpoint) transmitted: bool,
    /// When it was last sent in a session, in this start.
    pub(in crate::endpoint) carried: Option<Monotonic>,
    /// Its acceptance is durable from here on.
    pub(in crate::endpoint) durable: Durable,
    /// Boxed, as what goes in a session has none.
    pub(in crate::endpoint) sealed: Option<Box<Sealed>>,
    /// The envelope that is being sealed: an answer for another is of no use any more.
    pub(in crate::endpoint) sealing: Option<EnvelopeName>,
    /// How often it was sent again although later ones had arrived.
    pub(in crate::endpoint) attempts: u32,
    /// The application's, if it was accepted in this start.
    pub(in crate::endpoint) ticket: Option<Ticket>,
}

impl Entry {
    /// What it counts for in the outbox. Reports are free: neighbours merge, and they tell what was dropped for space.
    pub(in crate::endpoint) fn size(&self) -> usize {
        match &self.item {
            Item::Message(content, _) => size_of(&self.topic, content),
            Item::Lost { .. } => 0,
        }
    }

    pub(in crate::endpoint) fn is_message(&self) -> bool {
        matches!(self.item, Item::Message(..))
    }

    pub(in crate::endpoint) fn class(&self) -> MessageClass {
        match &self.item {
            Item::Message(content, _) => content.class,
            Item::Lost { .. } => MessageClass::Telemetry,
        }
    }

    /// The start in which it was accepted.
    pub(in crate::endpoint) fn boot(&self) -> BootId {
        match &self.item {
            Item::Message(_, origin) => origin.boot,
            Item::Lost { loss, .. } => loss.boot,
        }
    }

    /// Whether it may have reached its receiver: it was sealed, sent in a session, or accepted in an earlier start that did
    /// so perhaps.
    pub(in crate::endpoint) fn may_have_left(&self, boot: BootId) -> bool {
        self.transmitted || self.carried.is_some() || self.boot() != boot
    }

    /// Whether a receipt shows that something sent after it in the session arrived, and it has had its time.
    pub(in crate::endpoint) fn was_overtaken(&self, of: &StreamReceipt, now: Monotonic) -> bool {
        let first = match &self.item {
            Item::Message(_, origin) => origin.msg_seq,
            Item::Lost { loss, .. } => loss.first,
        };
        let boot = of.boots.iter().find(|boot| boot.boot == self.boot());
        let later = boot.is_some_and(|boot| boot.received.highest() > first);
        later && self.carried.is_some_and(|at| now.since(at) >= RESEND_PAUSE)
    }

    pub(in crate::endpoint) fn age_at(&self, now: Monotonic) -> Duration {
        let (age, at) = self.age;
        age.saturating_add(now.since(at))
    }

    /// What is sealed.
    pub(in crate::endpoint) fn body(&self) -> Body {
        match &self.item {
            Item::Message(content, origin) => {
                Body::Message { content: content.clone(), tracking: Tracking::Durable(*origin) }
            }
            Item::Lost { loss, .. } => Body::Lost(*loss),
        }
    }

    /// The same, encoded.
    pub(in crate::endpoint) fn encoded_body(&self) -> Vec<u8> {
        match &self.item {
            Item::Message(content, origin) => encode_message(content, Tracking::Durable(*origin)),
            Item::Lost { loss, .. } => Body::Lost(*loss).encode(),
        }
    }

    /// The row: all that is needed to seal it, the first time or again.
    pub(in crate::endpoint) fn change(&self, row: RowId) -> Change {
        let names = self.topic.len() + self.lane.peer.as_str().len();
        let payload = match &self.item {
            Item::Message(content, _) => content.payload.len(),
            Item::Lost { .. } => 0,
        };
        let mut writer = Writer::with_capacity(payload + MESSAGE_OVERHEAD + names + 32);
        writer.array(7);
        writer.text(self.lane.peer.as_str()).uint(self.lane.stream.value().into()).text(&self.topic);
        writer.uint(self.priority as u64).uint(self.accepted.0);
        match &self.item {
            Item::Message(content, origin) => {
                writer.bytes_of(|body| write_message(body, content, Tracking::Durable(*origin)))
            }
            Item::Lost { loss, .. } => writer.bytes(&Body::Lost(*loss).encode()),
        };
        match self.item {
            Item::Message(..) => writer.null(),
            Item::Lost { certain, .. } => writer.bool(certain),
        };
        Change::Put { kind: RecordKind::Outbox, key: row_key(row), value: writer.finish() }
    }

    /// What removes its rows.
    pub(in crate::endpoint) fn deletions(&self, row: RowId) -> impl Iterator<Item = Change> + use<> {
        let packet = self.transmitted.then(|| packet_deletion(row));
        packet.into_iter().chain([Change::Delete { kind: RecordKind::Outbox, key: row_key(row) }])
    }

    /// `floor` is the time by which ages are counted, `now` the moment of loading.
    pub(in crate::endpoint) fn decode(
        value: &[u8],
        floor: UnixTime,
        now: Monotonic,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value)?;
        reader.array_of(7)?;
        let peer = PeerId::new(&reader.text(crate::ids::MAX_PEER_ID)?).map_err(|_| DecodeError::Value)?;
        let stream = StreamId::new(reader.uint8()?).ok_or(DecodeError::Value)?;
        let topic = reader.text(MAX_TOPIC)?.into();
        let priority = Priority::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let accepted = UnixTime(reader.uint()?);
        let item = match Body::decode(reader.bytes()?)? {
            Body::Message { content, tracking: Tracking::Durable(origin) } if reader.absent()? => {
                Item::Message(content, origin)
            }
            Body::Lost(loss) => Item::Lost { loss, certain: reader.bool()? },
            _ => return Err(DecodeError::Value),
        };
        reader.finish()?;
        let age = Duration::from_secs(floor.0.saturating_sub(accepted.0));
        let lane = LaneKey { peer, stream };
        Ok(Self {
            lane,
            topic,
            item,
            priority,
            accepted,
            age: (age, now),
            transmitted: false,
            carried: None,
            durable: Durable::NOW,
            sealed: None,
            sealing: None,
            attempts: 0,
            ticket: None,
        })
    }
}

impl Sealed {
    /// The row beside the entry's own.
    pub(in crate::endpoint) fn change(&self, row: RowId) -> Change {
        let mut writer = Writer::new();
        writer.array(6).bytes(self.sender.as_bytes()).uint(self.sequence).bytes(self.recipient.as_bytes());
        writer.uint(self.prekey.0.into()).optional_uint(self.usable_until.map(|time| time.0));
        writer.bytes(&self.packet);
        Change::Put { kind: RecordKind::Packet, key: row_key(row), value: writer.finish() }
    }

    pub(in crate::endpoint) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value)?;
        let sealed = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(sealed)
    }

    pub(in crate::endpoint) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_of(6)?;
        Ok(Self {
            sender: KeyId(reader.bytes_of()?),
            sequence: reader.uint()?,
            recipient: KeyId(reader.bytes_of()?),
            prekey: PrekeyId(reader.uint32()?),
            usable_until: reader.optional_uint()?.map(UnixTime),
            packet: reader.bytes()?.to_vec(),
        })
    }
}

/// What removes the row of an entry's packet.
pub(in crate::endpoint) fn packet_deletion(row: RowId) -> Change {
    Change::Delete { kind: RecordKind::Packet, key: row_key(row) }
}

/// What a message counts for in the outbox, in bytes.
pub(in crate::endpoint) fn size_of(topic: &str, content: &Content) -> usize {
    FRAMING + topic.len() + content.payload.len()
}

pub(in crate::endpoint) fn row_key(row: RowId) -> Vec<u8> {
    row.0.to_be_bytes().to_vec()
}
