//! An incremental update, signed by role `control` and bound to its topic.

use alloc::vec::Vec;

use super::chain::ChainHead;
use super::entry::{RevocationEntry, read_entries, write_entries};
use crate::codec::signed::{ContextItem, SignedObject};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::labels;
use crate::time::UnixTime;

/// The largest encoded update, signatures included, in bytes.
pub const MAX_UPDATE_LEN: usize = 64 * 1024;

/// The most entries of one update: 57 kB, which leaves room for the largest signature below [`MAX_UPDATE_LEN`].
pub const MAX_UPDATE_ENTRIES: usize = 3_000;

/// Entries revoked since `prev`.
///
/// Payload: `{1: seq, 2: prev_seq, 3: prev_digest, 4: issued_at, 5: entries}`; the entries are one byte string of 19
/// bytes each, ids strictly ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationUpdate {
    seq: u64,
    prev: ChainHead,
    issued_at: UnixTime,
    entries: Vec<RevocationEntry>,
}

impl RevocationUpdate {
    /// The update at `seq` that follows `prev`. Entries are sorted; of repeated ids the first stays. `None` unless
    /// `seq` is above `prev` and there are 1 to [`MAX_UPDATE_ENTRIES`] entries.
    pub fn new(
        prev: ChainHead,
        seq: u64,
        issued_at: UnixTime,
        mut entries: Vec<RevocationEntry>,
    ) -> Option<Self> {
        entries.sort_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        (seq > prev.seq && (1..=MAX_UPDATE_ENTRIES).contains(&entries.len())).then_some(Self {
            seq,
            prev,
            issued_at,
            entries,
        })
    }

    /// Its sequence.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What it follows.
    pub fn prev(&self) -> ChainHead {
        self.prev
    }

    /// When the authority issued it, by the authority's clock.
    pub fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// The revoked identities, ids ascending.
    pub fn entries(&self) -> &[RevocationEntry] {
        &self.entries
    }

    /// The chain's head once this update is applied.
    pub fn head(&self) -> ChainHead {
        let mut payload = Writer::new();
        self.encode(&mut payload);
        self.prev.extended(self.seq, &payload.finish())
    }
}

impl SignedObject for RevocationUpdate {
    const TAG: &'static str = labels::REVOCATION;
    /// The topic it was received on.
    type Context<'a> = &'a str;

    fn context<'a>(topic: &'a Self::Context<'_>) -> Vec<ContextItem<'a>> {
        alloc::vec![ContextItem::Text(topic)]
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(5).int(1).uint(self.seq).int(2).uint(self.prev.seq);
        writer.int(3).bytes(self.prev.digest.as_bytes()).int(4).uint(self.issued_at.0);
        writer.int(5).bytes(&write_entries(&self.entries));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(5)?;
        reader.key(1)?;
        let seq = reader.uint()?;
        reader.key(2)?;
        let prev_seq = reader.uint()?;
        reader.key(3)?;
        let prev = ChainHead { seq: prev_seq, digest: crate::ids::Digest(reader.bytes_of()?) };
        reader.key(4)?;
        let issued_at = UnixTime(reader.uint()?);
        reader.key(5)?;
        let bytes = reader.bytes()?;
        if bytes.len() > MAX_UPDATE_ENTRIES * RevocationEntry::LEN {
            return Err(DecodeError::TooLarge);
        }
        let entries = read_entries(bytes)?;
        if entries.is_empty() || seq <= prev.seq {
            return Err(DecodeError::Value);
        }
        Ok(Self { seq, prev, issued_at, entries })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::entry::tests::entry;
    use super::*;
    use crate::ids::Digest;

    fn payload(update: &RevocationUpdate) -> Vec<u8> {
        let mut writer = Writer::new();
        update.encode(&mut writer);
        writer.finish()
    }

    fn decode(payload: &[u8]) -> Result<RevocationUpdate, DecodeError> {
        let mut reader = Reader::new(payload)?;
        let update = RevocationUpdate::decode(&mut reader)?;
        reader.finish()?;
        Ok(update)
    }

    #[test]
    fn round_trips_at_every_size_and_stays_below_the_limit() {
        for count in [1, 2, 100, MAX_UPDATE_ENTRIES as u64] {
            let entries = (0..count).map(|n| entry(n, 9)).collect();
            let update = RevocationUpdate::new(ChainHead::GENESIS, 1, UnixTime(7), entries).unwrap();
            let payload = payload(&update);
            assert_eq!(decode(&payload).unwrap(), update);
            // The largest signature set is 4,627 bytes; headers take less than 256.
            assert!(payload.len() + 4_627 + 256 <= MAX_UPDATE_LEN);
            assert!(payload.len() <= 20 * update.entries().len() + 64);
        }
    }

    #[test]
    fn an_update_that_says_nothing_or_goes_back_cannot_exist() {
        let new = |seq, prev, count| {
            let prev = ChainHead { seq: prev, ..ChainHead::GENESIS };
            RevocationUpdate::new(prev, seq, UnixTime(0), (0..count).map(|n| entry(n, 1)).collect())
        };
        assert!(new(2, 1, 1).is_some());
        assert!(new(1, 1, 1).is_none());
        assert!(new(0, 1, 1).is_none());
        assert!(new(2, 1, 0).is_none());
        assert!(new(2, 1, MAX_UPDATE_ENTRIES as u64 + 1).is_none());
    }

    #[test]
    fn the_decoder_refuses_what_the_constructor_refuses() {
        let raw = |seq: u64, prev: u64, entries: &[u8]| {
            let mut writer = Writer::new();
            writer.map(5).int(1).uint(seq).int(2).uint(prev).int(3).bytes(&[0; 32]).int(4).uint(0);
            writer.int(5).bytes(entries);
            decode(&writer.finish())
        };
        let one = write_entries(&[entry(1, 1)]);
        assert!(raw(2, 1, &one).is_ok());
        assert_eq!(raw(1, 1, &one), Err(DecodeError::Value));
        assert_eq!(raw(2, 1, &[]), Err(DecodeError::Value));
        assert_eq!(raw(2, 1, &[one.clone(), one.clone()].concat()), Err(DecodeError::Value));
        let much = alloc::vec![0; (MAX_UPDATE_ENTRIES + 1) * RevocationEntry::LEN];
        assert_eq!(raw(2, 1, &much), Err(DecodeError::TooLarge));
    }

    #[test]
    fn every_field_changes_the_head() {
        let make =
            |prev, seq, time, n| RevocationUpdate::new(prev, seq, UnixTime(time), alloc::vec![entry(n, 1)]);
        let base = make(ChainHead::GENESIS, 2, 0, 1).unwrap().head();
        let other = ChainHead { seq: 1, ..ChainHead::GENESIS };
        let forked = ChainHead { digest: Digest([1; 32]), ..ChainHead::GENESIS };
        for changed in [
            make(other, 2, 0, 1),
            make(forked, 2, 0, 1),
            make(ChainHead::GENESIS, 3, 0, 1),
            make(ChainHead::GENESIS, 2, 1, 1),
            make(ChainHead::GENESIS, 2, 0, 2),
        ] {
            assert_ne!(changed.unwrap().head().digest, base.digest);
        }
    }

    proptest! {
        // What a receiver hashes from a decoded value is the payload that was signed.
        #[test]
        fn decoding_is_canonical(flip in 0usize..200, value: u8, count in 1u64..5) {
            let entries = (0..count).map(|n| entry(n, 9)).collect();
            let update = RevocationUpdate::new(ChainHead::GENESIS, 1, UnixTime(7), entries).unwrap();
            let mut bytes = payload(&update);
            let at = flip % bytes.len();
            bytes[at] = value;
            if let Ok(decoded) = decode(&bytes) {
                prop_assert_eq!(payload(&decoded), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = decode(&bytes);
        }
    }
}
