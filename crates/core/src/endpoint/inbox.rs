//! The durable inbox: what arrived, each message once, until the application has consumed it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::config::DeliveryLimits;
use super::heard::Heard;
use super::input::InboxId;
use super::output::{Message, Protection};
use crate::budget::{Bucket, Rate};
use crate::codec::{DecodeError, Reader, Writer};
use crate::delivery::Origin;
use crate::envelope::{Body, Content, MESSAGE_OVERHEAD, Tracking, write_message};
use crate::ids::{MAX_PEER_ID, PeerId, StreamId};
use crate::store::{Change, RecordKind, Row};
use crate::time::Monotonic;
use crate::topic::MAX_TOPIC;

/// How many messages of a peer's make a receipt due at once. With rarer ones a sender whose window is 100 messages waits
/// for whole batches of them.
pub const RECEIPT_EVERY: u32 = 16;
/// How long a receipt may wait for more to confirm.
pub const RECEIPT_AFTER: Duration = Duration::from_secs(1);
/// Receipts that unauthenticated repetitions may cause: anyone can replay a packet.
const UNASKED: Rate = Rate { burst: 64, per_second: 16 };

pub(super) struct Inbox {
    limits: DeliveryLimits,
    last: u64,
    unconsumed: BTreeMap<InboxId, usize>,
    bytes: usize,
    pub(super) heard: Heard,
    volatile: BTreeMap<(PeerId, StreamId), Origin>,
    due: BTreeMap<PeerId, Due>,
    queue: BTreeSet<(Monotonic, PeerId)>,
    unasked: Bucket,
}

struct Due {
    at: Monotonic,
    messages: u32,
    /// A receipt is being signed: the next waits for it.
    sealing: bool,
}

/// A summary of the inbox for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct InboxStatus {
    /// Messages that the application has not consumed.
    pub messages: usize,
    /// Their bytes, of the configured bound.
    pub bytes: usize,
}

impl Inbox {
    pub(super) fn new(limits: DeliveryLimits) -> Self {
        Self {
            limits,
            last: 0,
            unconsumed: BTreeMap::new(),
            bytes: 0,
            heard: Heard::default(),
            volatile: BTreeMap::new(),
            due: BTreeMap::new(),
            queue: BTreeSet::new(),
            unasked: Bucket::new(UNASKED),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.unconsumed.len() >= self.limits.inbox_messages || self.bytes >= self.limits.inbox_bytes
    }

    pub(super) fn status(&self) -> InboxStatus {
        InboxStatus { messages: self.unconsumed.len(), bytes: self.bytes }
    }

    /// A new message's row.
    pub(super) fn add(&mut self, message: &mut Message) -> Change {
        self.last += 1;
        let id = InboxId(self.last);
        message.id = Some(id);
        let size = super::outbox::size_of(&message.topic, &message.content);
        self.unconsumed.insert(id, size);
        self.bytes += size;
        let tracking = message.origin.map_or(Tracking::None, Tracking::Durable);
        let names = message.topic.len() + message.peer.as_str().len();
        let mut writer = Writer::with_capacity(message.content.payload.len() + MESSAGE_OVERHEAD + names + 32);
        writer.array(6).text(message.peer.as_str()).uint(message.stream.value().into());
        writer.uint(message.sequence).text(&message.topic);
        writer.bytes_of(|body| write_message(body, &message.content, tracking));
        writer.optional_uint(match message.protection {
            Protection::Envelope => None,
            Protection::Session { epoch } => Some(epoch.into()),
        });
        Change::Put { kind: RecordKind::Inbox, key: key_of(id), value: writer.finish() }
    }

    /// A message of an earlier start that was not consumed.
    pub(super) fn restore(&mut self, row: &Row) -> Result<Message, DecodeError> {
        let number = u64::from_be_bytes(row.key.as_slice().try_into().map_err(|_| DecodeError::Value)?);
        let mut reader = Reader::new(&row.value)?;
        let items = reader.array()?;
        let peer = PeerId::new(&reader.text(MAX_PEER_ID)?).map_err(|_| DecodeError::Value)?;
        let stream = StreamId::new(reader.uint8()?).ok_or(DecodeError::Value)?;
        let sequence = reader.uint()?;
        let topic = reader.text(MAX_TOPIC)?;
        let (content, origin) = content_of(Body::decode(reader.bytes()?)?)?;
        // Rows of before there were sessions end here.
        let epoch = if items == 6 { reader.optional_uint()? } else { None };
        let protection = match epoch {
            None => Protection::Envelope,
            Some(epoch) => {
                Protection::Session { epoch: u16::try_from(epoch).map_err(|_| DecodeError::Value)? }
            }
        };
        reader.finish()?;
        let id = InboxId(number);
        self.last = self.last.max(number);
        let size = super::outbox::size_of(&topic, &content);
        self.unconsumed.insert(id, size);
        self.bytes += size;
        Ok(Message {
            peer,
            topic,
            stream,
            sequence,
            origin,
            id: Some(id),
            redelivered: true,
            protection,
            content,
        })
    }

    /// Removes a message's row, if it was not consumed before.
    pub(super) fn consume(&mut self, id: InboxId) -> Option<Change> {
        let size = self.unconsumed.remove(&id)?;
        self.bytes -= size;
        Some(Change::Delete { kind: RecordKind::Inbox, key: key_of(id) })
    }

    /// How many volatile messages are missing before this one; 0 for the first that this start hears, and for late ones.
    pub(super) fn volatile_gap(&mut self, peer: &PeerId, stream: StreamId, origin: Origin) -> u64 {
        let last = self.volatile.insert((peer.clone(), stream), origin);
        let Some(last) = last else { return 0 };
        if last.boot != origin.boot {
            return origin.msg_seq - 1;
        }
        if origin.msg_seq <= last.msg_seq {
            self.volatile.insert((peer.clone(), stream), last);
            return 0;
        }
        origin.msg_seq - last.msg_seq - 1
    }

    /// A message of `peer`'s is to be confirmed.
    pub(super) fn receipt_due(&mut self, peer: &PeerId, now: Monotonic) {
        let latest = now.plus(RECEIPT_AFTER);
        let due = self.due.entry(peer.clone()).or_insert_with(|| {
            self.queue.insert((latest, peer.clone()));
            Due { at: latest, messages: 0, sealing: false }
        });
        due.messages += 1;
        if due.messages >= RECEIPT_EVERY && !due.sealing && due.at > now {
            self.queue.remove(&(due.at, peer.clone()));
            due.at = now;
            self.queue.insert((now, peer.clone()));
        }
    }

    /// A packet that repeats one of `peer`'s came, perhaps because a receipt was lost, perhaps from anyone.
    pub(super) fn receipt_asked(&mut self, peer: &PeerId, now: Monotonic) {
        if !self.due.contains_key(peer) && self.unasked.take(now) {
            self.receipt_due(peer, now);
        }
    }

    /// Peers whose receipt is to be made now.
    pub(super) fn due_receipts(&mut self, now: Monotonic) -> Vec<PeerId> {
        let mut peers = Vec::new();
        while let Some((at, _)) = self.queue.first()
            && *at <= now
            && let Some((_, peer)) = self.queue.pop_first()
        {
            if let Some(due) = self.due.get_mut(&peer) {
                due.messages = 0;
                due.sealing = true;
            }
            peers.push(peer);
        }
        peers
    }

    /// Nothing waits for more to confirm any longer.
    pub(super) fn all_receipts_due(&mut self, now: Monotonic) {
        for (peer, due) in self.due.iter_mut().filter(|(_, due)| !due.sealing && due.messages > 0) {
            self.queue.remove(&(due.at, peer.clone()));
            due.at = now;
            self.queue.insert((now, peer.clone()));
        }
    }

    /// The receipt is on its way, or could not be made; the latter is tried again at `retry`.
    pub(super) fn receipt_made(&mut self, peer: &PeerId, now: Monotonic, retry: Option<Monotonic>) {
        let Some(due) = self.due.remove(peer) else { return };
        let at = match retry {
            Some(at) => at,
            None if due.messages == 0 => return,
            None if due.messages >= RECEIPT_EVERY => now,
            None => now.plus(RECEIPT_AFTER),
        };
        self.due.insert(peer.clone(), Due { at, messages: due.messages, sealing: false });
        self.queue.insert((at, peer.clone()));
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.queue.first().map(|(at, _)| *at)
    }
}

fn content_of(body: Body) -> Result<(Content, Option<Origin>), DecodeError> {
    match body {
        Body::Message { content, tracking: Tracking::None } => Ok((content, None)),
        Body::Message { content, tracking: Tracking::Durable(origin) } => Ok((content, Some(origin))),
        _ => Err(DecodeError::Value),
    }
}

fn key_of(id: InboxId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}
