//! One thing to be delivered: a message, or the report that messages were given up.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::lane::EnvelopeName;
use crate::codec::{DecodeError, Reader, Writer};
use crate::delivery::{Loss, Origin};
use crate::endpoint::input::{Priority, Ticket};
use crate::envelope::{Body, Content, Tracking};
use crate::ids::{KeyId, PeerId, StreamId};
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
    Message(Content),
    Lost(Loss),
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
    pub(in crate::endpoint) topic: String,
    pub(in crate::endpoint) item: Item,
    pub(in crate::endpoint) priority: Priority,
    /// When it was accepted, by the durable time floor.
    pub(in crate::endpoint) accepted: UnixTime,
    /// Its age when it was accepted or loaded, and when that was.
    pub(in crate::endpoint) age: (Duration, Monotonic),
    /// Given once, when it is first sealed.
    pub(in crate::endpoint) origin: Option<Origin>,
    pub(in crate::endpoint) sealed: Option<Sealed>,
    /// The envelope that is being sealed: an answer for another is of no use any more.
    pub(in crate::endpoint) sealing: Option<EnvelopeName>,
    /// How often it was sent again although later ones had arrived.
    pub(in crate::endpoint) attempts: u32,
    /// The application's, if it was accepted in this start.
    pub(in crate::endpoint) ticket: Option<Ticket>,
}

impl Entry {
    /// What it counts for in the outbox. Reports are free: they are few, and they tell what was dropped for space.
    pub(in crate::endpoint) fn size(&self) -> usize {
        match &self.item {
            Item::Message(content) => size_of(&self.topic, content),
            Item::Lost(_) => 0,
        }
    }

    pub(in crate::endpoint) fn age_at(&self, now: Monotonic) -> Duration {
        let (age, at) = self.age;
        age.saturating_add(now.since(at))
    }

    /// What is sealed.
    pub(in crate::endpoint) fn body(&self, origin: Origin) -> Body {
        match &self.item {
            Item::Message(content) => {
                Body::Message { content: content.clone(), tracking: Tracking::Durable(origin) }
            }
            Item::Lost(loss) => Body::Lost { origin, loss: *loss },
        }
    }

    pub(in crate::endpoint) fn change(&self, row: RowId) -> Change {
        let mut writer = Writer::new();
        writer.array(9);
        writer.text(self.lane.peer.as_str()).uint(self.lane.stream.value().into()).text(&self.topic);
        match &self.item {
            Item::Message(content) => {
                writer.bytes(&Body::from(content.clone()).encode()).null();
            }
            Item::Lost(loss) => loss.encode(writer.null()),
        }
        writer.uint(self.priority as u64).uint(self.accepted.0);
        match self.origin {
            None => {
                writer.null();
            }
            Some(origin) => origin.encode(&mut writer),
        }
        match &self.sealed {
            None => writer.null(),
            Some(sealed) => {
                writer.array(6).bytes(sealed.sender.as_bytes());
                writer.uint(sealed.sequence).bytes(sealed.recipient.as_bytes());
                writer.uint(sealed.prekey.0.into()).optional_uint(sealed.usable_until.map(|time| time.0));
                writer.bytes(&sealed.packet)
            }
        };
        Change::Put { kind: RecordKind::Outbox, key: row_key(row), value: writer.finish() }
    }

    /// `floor` is the time by which ages are counted, `now` the moment of loading.
    pub(in crate::endpoint) fn decode(
        value: &[u8],
        floor: UnixTime,
        now: Monotonic,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value)?;
        reader.array_of(9)?;
        let peer = PeerId::new(&reader.text(crate::ids::MAX_PEER_ID)?).map_err(|_| DecodeError::Value)?;
        let stream = StreamId::new(reader.uint8()?).ok_or(DecodeError::Value)?;
        let topic = reader.text(MAX_TOPIC)?;
        let content = if reader.absent()? { None } else { Some(decode_content(reader.bytes()?)?) };
        let loss = if reader.absent()? { None } else { Some(Loss::decode(&mut reader)?) };
        let item = match (content, loss) {
            (Some(content), None) => Item::Message(content),
            (None, Some(loss)) => Item::Lost(loss),
            _ => return Err(DecodeError::Shape),
        };
        let priority = Priority::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let accepted = UnixTime(reader.uint()?);
        let origin = if reader.absent()? { None } else { Some(Origin::decode(&mut reader)?) };
        let sealed = if reader.absent()? { None } else { Some(decode_sealed(&mut reader)?) };
        reader.finish()?;
        if sealed.is_some() && origin.is_none() {
            return Err(DecodeError::Value);
        }
        let age = Duration::from_secs(floor.0.saturating_sub(accepted.0));
        let lane = LaneKey { peer, stream };
        Ok(Self {
            lane,
            topic,
            item,
            priority,
            accepted,
            age: (age, now),
            origin,
            sealed,
            sealing: None,
            attempts: 0,
            ticket: None,
        })
    }
}

fn decode_content(bytes: &[u8]) -> Result<Content, DecodeError> {
    match Body::decode(bytes)? {
        Body::Message { content, tracking: Tracking::None } => Ok(content),
        _ => Err(DecodeError::Value),
    }
}

fn decode_sealed(reader: &mut Reader<'_>) -> Result<Sealed, DecodeError> {
    reader.array_of(6)?;
    Ok(Sealed {
        sender: KeyId(reader.bytes_of()?),
        sequence: reader.uint()?,
        recipient: KeyId(reader.bytes_of()?),
        prekey: PrekeyId(reader.uint32()?),
        usable_until: reader.optional_uint()?.map(UnixTime),
        packet: reader.bytes()?.to_vec(),
    })
}

/// What a message counts for in the outbox, in bytes.
pub(in crate::endpoint) fn size_of(topic: &str, content: &Content) -> usize {
    FRAMING + topic.len() + content.payload.len()
}

pub(in crate::endpoint) fn row_key(row: RowId) -> Vec<u8> {
    row.0.to_be_bytes().to_vec()
}
