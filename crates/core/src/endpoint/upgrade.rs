//! Rows of earlier store formats, as this format keeps them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::barrier::Durable;
use super::heard::row_of;
use super::input::Priority;
use super::outbox::{Entry, Item, LaneKey, RowId, Sealed};
use super::record::{BundleRecord, PeerRecord, certificate_digest, put};
use crate::codec::signed::Unverified;
use crate::codec::{DecodeError, Reader};
use crate::control::revocation::RevocationEntryId;
use crate::delivery::{Loss, LossReason, Origin, ReceivedSet};
use crate::envelope::{Body, Tracking};
use crate::identity::certificate::{MAX_CERTIFICATE, OperationalCertificate};
use crate::identity::prekey::PrekeyBundle;
use crate::ids::{BootId, Fingerprint, MAX_PEER_ID, PeerId, StreamId};
use crate::limits::Limits;
use crate::store::{Change, RecordKind, Row};
use crate::time::{Monotonic, UnixTime};
use crate::topic::MAX_TOPIC;

/// What replaces a row of store format 1; `None` if it stays as it is.
///
/// Format 1 kept certificate and bundle in the peer's row. The content is that of an authentic store, which wrote down
/// nothing unverified; it is verified again when it is loaded.
///
/// # Errors
///
/// [`DecodeError`] if the row is none of format 1.
pub fn upgrade_from_format_1(row: &Row) -> Result<Option<Vec<Change>>, DecodeError> {
    if row.kind != RecordKind::Peer {
        return Ok(None);
    }
    let peer = PeerId::from_bytes(&row.key).map_err(|_| DecodeError::Value)?;
    let mut reader = Reader::new(&row.value)?;
    reader.array_of(7)?;
    let key_epoch = reader.uint()?;
    let identity = Fingerprint(reader.bytes_of()?);
    let not_before = UnixTime(reader.uint()?);
    let certificate = reader.bytes()?;
    let bundle_seq = reader.uint()?;
    let bundle = reader.bytes()?;
    let revoked = reader.bool()?;
    reader.finish()?;

    let claims = Unverified::<OperationalCertificate>::decode(certificate, MAX_CERTIFICATE)?;
    let claims = claims.unverified();
    let pinned = match bundle {
        [] if bundle_seq == 0 => None,
        encoded => {
            let decoded = Unverified::<PrekeyBundle>::decode(encoded, Limits::default().largest())?;
            let pinned = BundleRecord::new(decoded.unverified());
            if pinned.seq != bundle_seq {
                return Err(DecodeError::Value);
            }
            Some(pinned)
        }
    };
    let record = PeerRecord {
        key_epoch,
        identity,
        not_before,
        not_after: claims.not_after,
        issuer: claims.issuer,
        certificate: certificate_digest(certificate),
        revocation: RevocationEntryId::new(&peer, &identity.key_id()),
        bundle: pinned,
        revoked,
    };
    let mut changes =
        alloc::vec![record.change(&peer), put(RecordKind::Certificate, &peer, certificate.to_vec())];
    if record.bundle.is_some() {
        changes.push(put(RecordKind::Bundle, &peer, bundle.to_vec()));
    }
    Ok(Some(changes))
}

/// Replaces the rows of store format 2, and of format 1 beside [`upgrade_from_format_1`], whose shape changed.
///
/// Format 2 named a message when it was first sealed, kept its packet in the message's own row, and reported a number of
/// lost messages without their names. What has no name yet gets one of a start of its own. And it kept what arrived of all
/// starts of a sender in one row, with up to twice as many ranges: those furthest on are left out, so that such messages,
/// if they come again, are told again.
pub struct UpgradeFromFormat2 {
    boot: BootId,
    last: BTreeMap<LaneKey, u64>,
}

impl UpgradeFromFormat2 {
    /// The kinds that it replaces rows of.
    pub const KINDS: [RecordKind; 2] = [RecordKind::Outbox, RecordKind::Received];

    /// `boot` is random, and used for nothing else.
    pub fn new(boot: BootId) -> Self {
        Self { boot, last: BTreeMap::new() }
    }

    /// What replaces a row; `None` if it stays as it is. To be called with every row of [`Self::KINDS`], in the order of
    /// their keys.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the row is none of format 2.
    pub fn row(&mut self, row: &Row) -> Result<Option<Vec<Change>>, DecodeError> {
        match row.kind {
            RecordKind::Outbox => self.outgoing(row).map(Some),
            RecordKind::Received => received(row).map(Some),
            _ => Ok(None),
        }
    }

    fn outgoing(&mut self, row: &Row) -> Result<Vec<Change>, DecodeError> {
        let id = RowId(u64::from_be_bytes(row.key.as_slice().try_into().map_err(|_| DecodeError::Value)?));
        let mut reader = Reader::new(&row.value)?;
        reader.array_of(9)?;
        let peer = PeerId::new(&reader.text(MAX_PEER_ID)?).map_err(|_| DecodeError::Value)?;
        let stream = StreamId::new(reader.uint8()?).ok_or(DecodeError::Value)?;
        let topic = reader.text(MAX_TOPIC)?;
        let content = if reader.absent()? { None } else { Some(Body::decode(reader.bytes()?)?) };
        let loss = if reader.absent()? {
            None
        } else {
            reader.array_of(2)?;
            Some((reader.uint()?, LossReason::from_id(reader.uint8()?).ok_or(DecodeError::Value)?))
        };
        let priority = Priority::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let accepted = UnixTime(reader.uint()?);
        let origin = if reader.absent()? { None } else { Some(Origin::decode(&mut reader)?) };
        let sealed = if reader.absent()? { None } else { Some(Sealed::read(&mut reader)?) };
        reader.finish()?;
        let lane = LaneKey { peer, stream };
        let (item, sealed) = match (content, loss) {
            (Some(Body::Message { content, tracking: Tracking::None }), None) => {
                let origin = origin.map_or_else(|| self.name(&lane, 1), Ok)?;
                (Item::Message(content, origin), sealed)
            }
            // Its packet says something that nobody reads any more.
            (None, Some((count @ 1.., reason))) => {
                let Origin { boot, msg_seq: first } = self.name(&lane, count)?;
                (
                    Item::Lost {
                        loss: Loss { boot, first, last: first + (count - 1), reason },
                        certain: true,
                    },
                    None,
                )
            }
            _ => return Err(DecodeError::Shape),
        };
        let entry = Entry {
            carried: None,
            durable: Durable::NOW,
            lane,
            topic: topic.into(),
            item,
            priority,
            accepted,
            age: (Duration::ZERO, Monotonic::default()),
            transmitted: sealed.is_some(),
            sealed: None,
            sealing: None,
            attempts: 0,
            ticket: None,
        };
        let packet = sealed.map(|sealed| sealed.change(id));
        Ok([entry.change(id)].into_iter().chain(packet).collect())
    }

    /// The first of `count` new names.
    fn name(&mut self, lane: &LaneKey, count: u64) -> Result<Origin, DecodeError> {
        let last = self.last.entry(lane.clone()).or_default();
        let first = *last + 1;
        *last = last.checked_add(count).filter(|last| *last < u64::MAX).ok_or(DecodeError::Value)?;
        Ok(Origin { boot: self.boot, msg_seq: first })
    }
}

fn received(row: &Row) -> Result<Vec<Change>, DecodeError> {
    let (stream, peer) = row.key.split_first().ok_or(DecodeError::Value)?;
    let stream = StreamId::new(*stream).ok_or(DecodeError::Value)?;
    let peer = PeerId::from_bytes(peer).map_err(|_| DecodeError::Value)?;
    let mut changes = alloc::vec![Change::Delete { kind: row.kind, key: row.key.clone() }];
    let mut reader = Reader::new(&row.value)?;
    let boots = reader.array_up_to(super::MAX_BOOTS as u64)?;
    for order in (0..boots).rev() {
        reader.array_of(3)?;
        let boot = BootId(reader.bytes_of()?);
        changes.push(row_of(&peer, stream, boot, order, ReceivedSet::decode_longer(&mut reader)?));
    }
    reader.finish()?;
    Ok(changes)
}
