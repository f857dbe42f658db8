//! One entry: signed by the identity that keeps the log, chained to the record before it.

use alloc::vec;
use alloc::vec::Vec;

use super::event::{AuditEvent, AuditKind, AuditText, MAX_DETAIL};
use crate::codec::signed::{ContextItem, SignedObject};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::kdf::sha256;
use crate::crypto::labels;
use crate::ids::{Digest, MAX_PEER_ID, PeerId};
use crate::time::UnixTime;

/// The largest encoded entry, in bytes: payload, framing and the largest signature set.
pub const MAX_ENTRY: usize = 8 * 1024;

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The log: the peer that keeps it. Also bound by the signature's context.
    pub log_id: PeerId,
    /// Its number: 1 for the log's first entry, then without gaps.
    pub seq: u64,
    /// [`record_hash`] of the record before it: an entry, or the header of its segment.
    pub previous: Digest,
    /// When, by the writer's clock.
    pub time: UnixTime,
    /// What.
    pub event: AuditEvent,
}

/// Where a log ends: what a tail must reach, and what can be published elsewhere to notice a truncated one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of the last entry, 0 if there is none.
    pub seq: u64,
    /// [`record_hash`] of the last record.
    pub hash: Digest,
}

/// What the next record chains to: a hash over the signed payload. Signature bytes never serve as names.
pub fn record_hash(payload: &[u8]) -> Digest {
    let mut writer = Writer::new();
    writer.array(2).text(labels::AUDIT).bytes(payload);
    Digest(sha256(&[&writer.finish()]))
}

impl SignedObject for AuditEntry {
    const TAG: &'static str = labels::AUDIT;
    /// The log id.
    type Context<'a> = &'a PeerId;

    fn context<'a>(log_id: &'a &PeerId) -> Vec<ContextItem<'a>> {
        vec![ContextItem::Text(log_id.as_str())]
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(8);
        writer.int(1).text(self.log_id.as_str());
        writer.int(2).uint(self.seq);
        writer.int(3).bytes(self.previous.as_bytes());
        writer.int(4).uint(self.time.0);
        writer.int(5).uint(self.event.kind.code().into());
        writer.int(6).array(self.event.peer.iter().len());
        if let Some(peer) = &self.event.peer {
            writer.text(peer.as_str());
        }
        writer.int(7).text(self.event.detail.as_str());
        writer.int(8).uint(self.event.count);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(8)?;
        reader.key(1)?;
        let log_id = read_peer(reader)?;
        reader.key(2)?;
        let seq = reader.uint()?;
        reader.key(3)?;
        let previous = Digest(reader.bytes_of()?);
        reader.key(4)?;
        let time = UnixTime(reader.uint()?);
        reader.key(5)?;
        let kind = AuditKind::from_code(reader.uint()?).ok_or(DecodeError::Value)?;
        reader.key(6)?;
        let peer = match reader.array_up_to(1)? {
            0 => None,
            _ => Some(read_peer(reader)?),
        };
        reader.key(7)?;
        let detail = AuditText::from_escaped(reader.text(MAX_DETAIL)?).ok_or(DecodeError::Value)?;
        reader.key(8)?;
        let count = reader.uint()?;
        if count == 0 {
            return Err(DecodeError::Value);
        }
        Ok(Self { log_id, seq, previous, time, event: AuditEvent { kind, peer, detail, count } })
    }
}

pub(super) fn read_peer(reader: &mut Reader<'_>) -> Result<PeerId, DecodeError> {
    PeerId::new(&reader.text(MAX_PEER_ID)?).map_err(|_| DecodeError::Value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;

    use super::super::{SegmentHeader, SignerClass};
    use super::*;
    use crate::crypto::suite::SignatureSet;

    fn encoded<T: SignedObject>(object: &T) -> Vec<u8> {
        let mut writer = Writer::new();
        object.encode(&mut writer);
        writer.finish()
    }

    fn decoded<T: SignedObject>(bytes: &[u8]) -> Result<T, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        let object = T::decode(&mut reader)?;
        reader.finish()?;
        Ok(object)
    }

    fn sample(detail: &str, peer: Option<PeerId>, seq: u64, count: u64) -> AuditEntry {
        AuditEntry {
            log_id: PeerId::new("gateway").unwrap(),
            seq,
            previous: Digest([7; 32]),
            time: UnixTime(9),
            event: AuditEvent::new(AuditKind::GrantRefused, peer, detail).with_count(count),
        }
    }

    #[test]
    fn a_header_is_no_entry_and_an_entry_no_header() {
        let header = SegmentHeader {
            log_id: PeerId::new("gateway").unwrap(),
            segment: 1,
            first_seq: 1,
            previous: Digest([0; 32]),
            class: SignerClass::Exportable,
            set: SignatureSet::Ed25519MlDsa65,
            public_key: vec![1; 1984],
            certificate: Some(vec![2; 10]),
        };
        assert_eq!(decoded::<SegmentHeader>(&encoded(&header)), Ok(header.clone()));
        assert!(decoded::<AuditEntry>(&encoded(&header)).is_err());
        assert!(decoded::<SegmentHeader>(&encoded(&sample("x", None, 1, 1))).is_err());
        let log_id = &header.log_id;
        assert_ne!(SegmentHeader::context(&log_id).len(), AuditEntry::context(&log_id).len());
    }

    #[test]
    fn the_largest_entry_fits() {
        let peer = PeerId::from_bytes(&[b'p'; MAX_PEER_ID]).unwrap();
        let mut entry = sample(&"\n".repeat(1000), Some(peer.clone()), u64::MAX, u64::MAX);
        entry.log_id = peer;
        let signatures = SignatureSet::ALL.iter().map(|set| set.signature_len()).max().unwrap();
        assert!(encoded(&entry).len() + signatures + 256 < MAX_ENTRY);
    }

    proptest! {
        #[test]
        fn entries_round_trip(detail in any::<String>(), named: bool, seq: u64, count: u64) {
            let entry = sample(&detail, named.then(|| PeerId::new("press-7").unwrap()), seq, count);
            prop_assert_eq!(decoded::<AuditEntry>(&encoded(&entry)), Ok(entry));
        }

        #[test]
        fn a_changed_entry_never_panics(at in 0usize..200, to: u8, cut in 0usize..200) {
            let mut bytes = encoded(&sample("detail", None, 1, 1));
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = decoded::<AuditEntry>(&bytes);
            let _ = decoded::<SegmentHeader>(&bytes);
        }
    }
}
