//! A full list: a signed manifest and the chunks it names by hash.

use alloc::vec::Vec;

use super::chain::ChainHead;
use super::entry::{RevocationEntry, write_entries};
use super::set::{MAX_ENTRIES, RevocationSet};
use crate::codec::signed::{ContextItem, SignedObject};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::kdf::sha256;
use crate::crypto::labels;
use crate::ids::Digest;
use crate::time::UnixTime;

/// Entries of every chunk but the last, which has the rest.
pub const CHECKPOINT_CHUNK_ENTRIES: usize = 3_233;

/// The largest chunk, in bytes: below 60 KiB.
pub const MAX_CHUNK_LEN: usize = CHECKPOINT_CHUNK_ENTRIES * RevocationEntry::LEN;

/// The most chunks of one checkpoint.
pub const MAX_CHECKPOINT_CHUNKS: usize = MAX_ENTRIES.div_ceil(CHECKPOINT_CHUNK_ENTRIES);

/// The manifest of a checkpoint at `head`, signed by role `control` and bound to its topic.
///
/// Payload: `{1: seq, 2: digest, 3: issued_at, 4: dropped_before, 5: count, 6: chunk hashes}`; the hashes are one byte
/// string, 32 bytes (SHA-256 of the chunk) each. Chunks are raw entries, ids strictly ascending within and across
/// chunks, [`CHECKPOINT_CHUNK_ENTRIES`] in each but the last: `count` fixes how many there are and how long each is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationCheckpoint {
    head: ChainHead,
    issued_at: UnixTime,
    dropped_before: UnixTime,
    count: usize,
    chunk_hashes: Vec<Digest>,
}

impl RevocationCheckpoint {
    /// The position it stands for.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// When the authority issued it, by the authority's clock.
    pub fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// Entries whose certificates had expired before this may be missing; never after [`Self::issued_at`].
    pub fn dropped_before(&self) -> UnixTime {
        self.dropped_before
    }

    /// How many entries its chunks hold, at most [`MAX_ENTRIES`].
    pub fn entry_count(&self) -> usize {
        self.count
    }

    /// How many chunks it has.
    pub fn chunk_count(&self) -> usize {
        self.chunk_hashes.len()
    }

    /// The exact length of a chunk in bytes.
    pub fn chunk_len(&self, index: usize) -> Option<usize> {
        let rest = self.count.checked_sub(index.checked_mul(CHECKPOINT_CHUNK_ENTRIES)?)?;
        (rest > 0).then(|| rest.min(CHECKPOINT_CHUNK_ENTRIES) * RevocationEntry::LEN)
    }

    /// The SHA-256 of a chunk.
    pub fn chunk_hash(&self, index: usize) -> Option<Digest> {
        self.chunk_hashes.get(index).copied()
    }
}

impl SignedObject for RevocationCheckpoint {
    const TAG: &'static str = labels::REVOCATION_CHECKPOINT;
    /// The topic it was received on.
    type Context<'a> = &'a str;

    fn context<'a>(topic: &'a Self::Context<'_>) -> Vec<ContextItem<'a>> {
        alloc::vec![ContextItem::Text(topic)]
    }

    fn encode(&self, writer: &mut Writer) {
        let hashes: Vec<u8> = self.chunk_hashes.iter().flat_map(|hash| hash.0).collect();
        writer.map(6).int(1).uint(self.head.seq).int(2).bytes(self.head.digest.as_bytes());
        writer.int(3).uint(self.issued_at.0).int(4).uint(self.dropped_before.0);
        writer.int(5).uint(self.count as u64).int(6).bytes(&hashes);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(6)?;
        reader.key(1)?;
        let seq = reader.uint()?;
        reader.key(2)?;
        let digest = Digest(reader.bytes_of()?);
        reader.key(3)?;
        let issued_at = UnixTime(reader.uint()?);
        reader.key(4)?;
        let dropped_before = UnixTime(reader.uint()?);
        reader.key(5)?;
        let count = usize::try_from(reader.uint()?).map_err(|_| DecodeError::TooLarge)?;
        reader.key(6)?;
        let hashes = reader.bytes()?;
        if count > MAX_ENTRIES {
            return Err(DecodeError::TooLarge);
        }
        let expected = count.div_ceil(CHECKPOINT_CHUNK_ENTRIES) * Digest::LEN;
        if hashes.len() != expected || dropped_before > issued_at {
            return Err(DecodeError::Value);
        }
        let chunk_hashes = hashes.chunks_exact(Digest::LEN).filter_map(Digest::from_slice).collect();
        Ok(Self { head: ChainHead { seq, digest }, issued_at, dropped_before, count, chunk_hashes })
    }
}

/// A checkpoint ready to be signed and published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// To be signed.
    pub manifest: RevocationCheckpoint,
    /// The chunks, in the order of their indices, at most [`MAX_CHUNK_LEN`] bytes each.
    pub chunks: Vec<Vec<u8>>,
}

impl Checkpoint {
    /// Everything in `set`, which is the history's content at `head`.
    pub(super) fn new(
        head: ChainHead,
        set: &RevocationSet,
        issued_at: UnixTime,
        dropped_before: UnixTime,
    ) -> Self {
        let entries: Vec<_> = set.iter().collect();
        let chunks: Vec<_> = entries
            .chunks(CHECKPOINT_CHUNK_ENTRIES)
            .map(|chunk| write_entries(chunk.iter().copied()))
            .collect();
        let manifest = RevocationCheckpoint {
            head,
            issued_at,
            dropped_before: dropped_before.min(issued_at),
            count: entries.len(),
            chunk_hashes: chunks.iter().map(|chunk| Digest(sha256(&[chunk]))).collect(),
        };
        Self { manifest, chunks }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::entry::tests::entry;
    use super::*;

    /// A checkpoint of `entries` that no authority need have issued.
    pub(in super::super) fn checkpoint(
        head: ChainHead,
        entries: &[RevocationEntry],
        time: UnixTime,
    ) -> Checkpoint {
        let mut set = RevocationSet::new();
        set.merge(entries).unwrap();
        Checkpoint::new(head, &set, time, time)
    }

    fn payload(manifest: &RevocationCheckpoint) -> Vec<u8> {
        let mut writer = Writer::new();
        manifest.encode(&mut writer);
        writer.finish()
    }

    fn decode(payload: &[u8]) -> Result<RevocationCheckpoint, DecodeError> {
        let mut reader = Reader::new(payload)?;
        let manifest = RevocationCheckpoint::decode(&mut reader)?;
        reader.finish()?;
        Ok(manifest)
    }

    #[test]
    fn chunks_stay_below_60_kib_and_a_manifest_of_the_most_below_64() {
        const { assert!(MAX_CHUNK_LEN <= 60 * 1024) };
        assert_eq!(MAX_CHECKPOINT_CHUNKS, 62);
        let entries: Vec<_> = (0..MAX_ENTRIES as u64).map(|n| entry(n, 9)).collect();
        let full = checkpoint(ChainHead::GENESIS, &entries, UnixTime(5));
        assert_eq!(full.chunks.len(), MAX_CHECKPOINT_CHUNKS);
        assert!(full.chunks.iter().all(|chunk| chunk.len() <= MAX_CHUNK_LEN));
        assert!(payload(&full.manifest).len() < 4096);
        assert_eq!(decode(&payload(&full.manifest)).unwrap(), full.manifest);
    }

    #[test]
    fn the_count_fixes_every_length() {
        for count in [0, 1, CHECKPOINT_CHUNK_ENTRIES, CHECKPOINT_CHUNK_ENTRIES + 1, 10_000] {
            let entries: Vec<_> = (0..count as u64).map(|n| entry(n, 9)).collect();
            let made = checkpoint(ChainHead::GENESIS, &entries, UnixTime(5));
            assert_eq!(made.manifest.chunk_count(), count.div_ceil(CHECKPOINT_CHUNK_ENTRIES));
            for (index, chunk) in made.chunks.iter().enumerate() {
                assert_eq!(made.manifest.chunk_len(index), Some(chunk.len()));
            }
            assert_eq!(made.manifest.chunk_len(made.chunks.len()), None);
            assert_eq!(made.manifest.chunk_len(usize::MAX), None);
        }
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let raw = |issued: u64, dropped: u64, count: u64, hashes: usize| {
            let mut writer = Writer::new();
            writer.map(6).int(1).uint(1).int(2).bytes(&[0; 32]).int(3).uint(issued).int(4).uint(dropped);
            writer.int(5).uint(count).int(6).bytes(&alloc::vec![0; hashes]);
            decode(&writer.finish()).map(|_| ())
        };
        assert_eq!(raw(5, 5, 1, 32), Ok(()));
        assert_eq!(raw(5, 6, 1, 32), Err(DecodeError::Value), "drops what has not expired yet");
        assert_eq!(raw(5, 5, 1, 64), Err(DecodeError::Value));
        assert_eq!(raw(5, 5, 1, 31), Err(DecodeError::Value));
        assert_eq!(raw(5, 5, 0, 32), Err(DecodeError::Value));
        assert_eq!(raw(5, 5, MAX_ENTRIES as u64 + 1, 62 * 32), Err(DecodeError::TooLarge));
        assert_eq!(raw(5, 5, u64::MAX, 0), Err(DecodeError::TooLarge));
    }

    proptest! {
        #[test]
        fn decoding_is_canonical(flip in 0usize..200, value: u8) {
            let made = checkpoint(ChainHead::GENESIS, &[entry(1, 1), entry(2, 2)], UnixTime(500));
            let mut bytes = payload(&made.manifest);
            let at = flip % bytes.len();
            bytes[at] = value;
            if let Ok(decoded) = decode(&bytes) {
                prop_assert_eq!(payload(&decoded), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _ = decode(&bytes);
        }
    }
}
