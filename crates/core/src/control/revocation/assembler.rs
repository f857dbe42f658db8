//! Puts a checkpoint's chunks together, in whatever order a broker delivers them.

use alloc::vec::Vec;

use thiserror::Error;

use super::checkpoint::RevocationCheckpoint;
use super::entry::{RevocationEntry, read_entries};
use crate::codec::signed::Signed;
use crate::crypto::kdf::sha256;

/// A checkpoint of which every chunk arrived and matched: only [`CheckpointAssembler`] makes one.
pub struct CompleteCheckpoint {
    manifest: RevocationCheckpoint,
    chunks: Vec<Vec<RevocationEntry>>,
}

impl CompleteCheckpoint {
    /// The verified manifest.
    pub fn manifest(&self) -> &RevocationCheckpoint {
        &self.manifest
    }

    /// All entries, ids ascending.
    pub fn entries(&self) -> impl Iterator<Item = &RevocationEntry> {
        self.chunks.iter().flatten()
    }

    pub(super) fn chunks(&self) -> &[Vec<RevocationEntry>] {
        &self.chunks
    }
}

/// What a verified manifest led to.
pub enum ManifestOutcome {
    /// Its chunks are wanted now; an older assembly was given up.
    Started,
    /// It is being assembled already.
    Unchanged,
    /// A newer one is being assembled.
    Older,
    /// It has no entries, so it is complete.
    Complete(CompleteCheckpoint),
}

/// What a chunk led to.
pub enum ChunkOutcome {
    /// Kept; so many are still missing.
    Kept {
        /// Chunks still missing.
        missing: usize,
    },
    /// It was there already.
    Unchanged,
    /// It was the last one.
    Complete(CompleteCheckpoint),
}

/// Why a chunk was refused. Only [`ChunkError::Entries`] changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// No manifest was verified yet; ask for the chunk again afterwards.
    #[error("a checkpoint chunk without a verified manifest")]
    NoManifest,
    /// The manifest has no such chunk.
    #[error("the checkpoint has no chunk of this number")]
    Index,
    /// Not the length that the manifest fixes.
    #[error("a checkpoint chunk of another length than its manifest says")]
    Length,
    /// Not the content that the manifest names, perhaps an older checkpoint's.
    #[error("a checkpoint chunk of another hash than its manifest says")]
    Hash,
    /// The authority signed entries that are not sorted and unique; the assembly was given up.
    #[error("a checkpoint whose entries are not sorted and unique")]
    Entries,
}

/// Assembles at most one checkpoint at a time, in at most 4 MB: nothing is kept that a verified manifest does not name.
#[derive(Default)]
pub struct CheckpointAssembler {
    current: Option<Assembly>,
}

struct Assembly {
    manifest: RevocationCheckpoint,
    chunks: Vec<Option<Vec<RevocationEntry>>>,
    missing: usize,
}

impl CheckpointAssembler {
    /// Nothing to assemble yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a verified manifest that [`RevocationState::note_checkpoint`](super::RevocationState::note_checkpoint)
    /// found worth assembling. A higher sequence, or the same one issued later, replaces what is being assembled.
    pub fn manifest(&mut self, manifest: Signed<RevocationCheckpoint>) -> ManifestOutcome {
        self.begin(manifest.into_value())
    }

    fn begin(&mut self, manifest: RevocationCheckpoint) -> ManifestOutcome {
        if let Some(current) = &self.current {
            if current.manifest == manifest {
                return ManifestOutcome::Unchanged;
            }
            let age = |manifest: &RevocationCheckpoint| (manifest.head().seq, manifest.issued_at());
            if age(&manifest) <= age(&current.manifest) {
                return ManifestOutcome::Older;
            }
        }
        let missing = manifest.chunk_count();
        if missing == 0 {
            self.current = None;
            return ManifestOutcome::Complete(CompleteCheckpoint { manifest, chunks: Vec::new() });
        }
        let mut chunks = Vec::new();
        chunks.resize_with(missing, || None);
        self.current = Some(Assembly { manifest, chunks, missing });
        ManifestOutcome::Started
    }

    /// Takes the chunk published at `index`. Length and hash are checked before anything is parsed or kept.
    pub fn chunk(&mut self, index: usize, bytes: &[u8]) -> Result<ChunkOutcome, ChunkError> {
        let current = self.current.as_mut().ok_or(ChunkError::NoManifest)?;
        let slot = current.chunks.get_mut(index).ok_or(ChunkError::Index)?;
        if current.manifest.chunk_len(index) != Some(bytes.len()) {
            return Err(ChunkError::Length);
        }
        if slot.is_some() {
            return Ok(ChunkOutcome::Unchanged);
        }
        if current.manifest.chunk_hash(index).is_none_or(|hash| hash.0 != sha256(&[bytes])) {
            return Err(ChunkError::Hash);
        }
        let Ok(entries) = read_entries(bytes) else {
            self.current = None;
            return Err(ChunkError::Entries);
        };
        *slot = Some(entries);
        current.missing -= 1;
        if current.missing > 0 {
            return Ok(ChunkOutcome::Kept { missing: current.missing });
        }
        self.complete().map(ChunkOutcome::Complete)
    }

    /// The chunks still missing, ascending: what to ask for.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        let chunks = self.current.iter().flat_map(|current| current.chunks.iter().enumerate());
        chunks.filter(|(_, chunk)| chunk.is_none()).map(|(index, _)| index)
    }

    /// Gives up what is being assembled.
    pub fn clear(&mut self) {
        self.current = None;
    }

    fn complete(&mut self) -> Result<CompleteCheckpoint, ChunkError> {
        let Assembly { manifest, chunks, .. } = self.current.take().ok_or(ChunkError::NoManifest)?;
        let complete = CompleteCheckpoint { manifest, chunks: chunks.into_iter().flatten().collect() };
        // Each chunk is sorted by itself; the borders between them are left to check.
        if complete.entries().is_sorted_by(|a, b| a.id < b.id) {
            Ok(complete)
        } else {
            Err(ChunkError::Entries)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::chain::ChainHead;
    use super::super::checkpoint::tests::checkpoint;
    use super::super::checkpoint::{CHECKPOINT_CHUNK_ENTRIES, Checkpoint};
    use super::super::entry::tests::entry;
    use super::super::entry::write_entries;
    use super::*;
    use crate::codec::signed::SignedObject;
    use crate::codec::{Reader, Writer};
    use crate::ids::Digest;
    use crate::time::UnixTime;

    /// Assembles without a signature.
    pub(in super::super) fn assemble(checkpoint: &Checkpoint) -> CompleteCheckpoint {
        let mut assembler = CheckpointAssembler::new();
        if let ManifestOutcome::Complete(complete) = assembler.begin(checkpoint.manifest.clone()) {
            return complete;
        }
        for (index, chunk) in checkpoint.chunks.iter().enumerate() {
            if let ChunkOutcome::Complete(complete) = assembler.chunk(index, chunk).unwrap() {
                return complete;
            }
        }
        panic!("chunks are missing");
    }

    fn at(seq: u64) -> ChainHead {
        ChainHead { seq, digest: Digest([seq as u8; 32]) }
    }

    fn three_chunks(seq: u64) -> Checkpoint {
        let entries: Vec<_> = (0..2 * CHECKPOINT_CHUNK_ENTRIES as u64 + 5).map(|n| entry(n, 9)).collect();
        checkpoint(at(seq), &entries, UnixTime(5))
    }

    /// A manifest whose hashes match chunks that break the rules, as only the authority itself could sign.
    fn manifest_of(chunks: &[Vec<u8>], count: usize) -> RevocationCheckpoint {
        let hashes: Vec<u8> = chunks.iter().flat_map(|chunk| sha256(&[chunk])).collect();
        let mut writer = Writer::new();
        writer.map(6).int(1).uint(1).int(2).bytes(&[0; 32]).int(3).uint(5).int(4).uint(5);
        writer.int(5).uint(count as u64).int(6).bytes(&hashes);
        RevocationCheckpoint::decode(&mut Reader::new(&writer.finish()).unwrap()).unwrap()
    }

    #[test]
    fn a_chunk_before_its_manifest_is_not_kept() {
        let made = three_chunks(1);
        let mut assembler = CheckpointAssembler::new();
        assert!(matches!(assembler.chunk(0, &made.chunks[0]), Err(ChunkError::NoManifest)));
        assert!(matches!(assembler.begin(made.manifest.clone()), ManifestOutcome::Started));
        assert_eq!(assembler.missing().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(matches!(assembler.chunk(2, &made.chunks[2]), Ok(ChunkOutcome::Kept { missing: 2 })));
        assert!(matches!(assembler.chunk(2, &made.chunks[2]), Ok(ChunkOutcome::Unchanged)));
        assert_eq!(assembler.missing().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn wrong_chunks_are_refused_and_change_nothing() {
        let made = three_chunks(1);
        let mut assembler = CheckpointAssembler::new();
        let _ = assembler.begin(made.manifest.clone());
        let mut flipped = made.chunks[0].clone();
        flipped[100] ^= 1;
        assert!(matches!(assembler.chunk(0, &flipped), Err(ChunkError::Hash)));
        assert!(matches!(assembler.chunk(1, &made.chunks[0]), Err(ChunkError::Hash)));
        assert!(matches!(assembler.chunk(2, &made.chunks[0]), Err(ChunkError::Length)));
        assert!(matches!(assembler.chunk(0, &made.chunks[0][1..]), Err(ChunkError::Length)));
        assert!(matches!(assembler.chunk(0, &[]), Err(ChunkError::Length)));
        assert!(matches!(assembler.chunk(3, &made.chunks[0]), Err(ChunkError::Index)));
        assert!(matches!(assembler.chunk(usize::MAX, &[]), Err(ChunkError::Index)));
        for index in [1, 0] {
            assert!(matches!(assembler.chunk(index, &made.chunks[index]), Ok(ChunkOutcome::Kept { .. })));
        }
        let Ok(ChunkOutcome::Complete(complete)) = assembler.chunk(2, &made.chunks[2]) else {
            panic!("the honest chunks complete it");
        };
        assert_eq!(complete.entries().count(), made.manifest.entry_count());
        assert_eq!(assembler.missing().count(), 0);
    }

    #[test]
    fn a_newer_manifest_replaces_an_older_one_never_the_reverse() {
        let (old, new) = (three_chunks(1), three_chunks(2));
        let mut assembler = CheckpointAssembler::new();
        let _ = assembler.begin(old.manifest.clone());
        let _ = assembler.chunk(0, &old.chunks[0]);
        assert!(matches!(assembler.begin(new.manifest.clone()), ManifestOutcome::Started));
        assert_eq!(assembler.missing().count(), 3);
        assert!(matches!(assembler.begin(old.manifest), ManifestOutcome::Older));
        let _ = assembler.chunk(0, &new.chunks[0]);
        assert!(matches!(assembler.begin(new.manifest), ManifestOutcome::Unchanged));
        assert_eq!(assembler.missing().count(), 2);
    }

    #[test]
    fn unsorted_or_repeated_entries_are_refused_within_and_across_chunks() {
        let mut entries: Vec<_> = (0..CHECKPOINT_CHUNK_ENTRIES as u64 + 1).map(|n| entry(n, 9)).collect();
        entries.sort();
        let (first, last) = entries.split_at(CHECKPOINT_CHUNK_ENTRIES);
        let cases = [
            // The second chunk repeats an entry of the first, or sorts before it.
            [write_entries(first), write_entries(&first[7..8])],
            [write_entries(&[&first[1..], last].concat()), write_entries(&first[..1])],
            // The first chunk is unsorted by itself.
            [write_entries(first.iter().rev()), write_entries(last)],
        ];
        for chunks in cases {
            let mut assembler = CheckpointAssembler::new();
            let _ = assembler.begin(manifest_of(&chunks, entries.len()));
            let results = [1, 0].map(|index| assembler.chunk(index, &chunks[index]).map(|_| ()));
            assert_eq!(results, [Ok(()), Err(ChunkError::Entries)]);
            assert!(matches!(assembler.chunk(0, &chunks[0]), Err(ChunkError::NoManifest)));
        }
    }

    #[test]
    fn a_checkpoint_without_entries_is_complete_at_once() {
        let empty = checkpoint(at(1), &[], UnixTime(5));
        let outcome = CheckpointAssembler::new().begin(empty.manifest);
        assert!(matches!(outcome, ManifestOutcome::Complete(complete) if complete.entries().count() == 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_order_and_any_repeats_give_the_same(deliveries in proptest::collection::vec((0usize..4, 0usize..4), 0..20)) {
            let made = three_chunks(1);
            let mut assembler = CheckpointAssembler::new();
            let _ = assembler.begin(made.manifest.clone());
            let honest = (0..3).map(|index| (index, index));
            for (index, content) in deliveries.into_iter().chain(honest) {
                let junk = Vec::new();
                match assembler.chunk(index, made.chunks.get(content).unwrap_or(&junk)) {
                    Ok(ChunkOutcome::Complete(complete)) => {
                        let flat = write_entries(complete.entries());
                        prop_assert_eq!(flat, made.chunks.concat());
                        return Ok(());
                    }
                    Ok(ChunkOutcome::Kept { .. }) => prop_assert_eq!(index, content),
                    Ok(ChunkOutcome::Unchanged) => {}
                    Err(_) => prop_assert!(index != content || index == 3),
                }
            }
            prop_assert!(false, "never completed");
        }
    }
}
