//! The digest chain that orders updates and shows a forked history.

use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::kdf::sha256;
use crate::crypto::labels;
use crate::ids::Digest;

/// A position in the authority's history: its sequence and the digest over everything up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHead {
    /// The sequence; 0 before the first update.
    pub seq: u64,
    /// `digest_n = SHA-256(CBOR["pqc-iiot:revocation:v1", digest_{n-1}, payload_n])`.
    pub digest: Digest,
}

impl ChainHead {
    /// Before the first update: sequence 0, digest of zeros.
    pub const GENESIS: Self = Self { seq: 0, digest: Digest([0; Digest::LEN]) };

    /// The head at `seq` after an update with this payload.
    pub(super) fn extended(&self, seq: u64, payload: &[u8]) -> Self {
        let mut writer = Writer::new();
        writer.array(3).text(labels::REVOCATION).bytes(self.digest.as_bytes()).bytes(payload);
        Self { seq, digest: Digest(sha256(&[&writer.finish()])) }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.uint(self.seq).bytes(self.digest.as_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { seq: reader.uint()?, digest: Digest(reader.bytes_of()?) })
    }
}

/// How a later position relates to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Below ours.
    Older,
    /// Exactly ours.
    Same,
    /// The next one.
    Next,
    /// Something before it is missing.
    Ahead,
    /// It contradicts ours.
    Fork(Equivocation),
}

/// How an update from `prev` to `next` relates to a receiver at `head`.
pub(super) fn relate(head: &ChainHead, prev: &ChainHead, next: &ChainHead) -> Relation {
    if next.seq <= head.seq {
        return relate_head(head, next);
    }
    match prev.seq.cmp(&head.seq) {
        core::cmp::Ordering::Greater => Relation::Ahead,
        core::cmp::Ordering::Equal if prev.digest == head.digest => Relation::Next,
        // It follows another update than ours at our sequence, or passes over ours as if it had never been.
        _ => Relation::Fork(Equivocation { held: *head, seen: *next }),
    }
}

/// As [`relate`] for a position that does not say what it follows: never [`Relation::Next`].
pub(super) fn relate_head(head: &ChainHead, other: &ChainHead) -> Relation {
    match other.seq.cmp(&head.seq) {
        core::cmp::Ordering::Less => Relation::Older,
        core::cmp::Ordering::Equal if other.digest == head.digest => Relation::Same,
        core::cmp::Ordering::Equal => Relation::Fork(Equivocation { held: *head, seen: *other }),
        core::cmp::Ordering::Greater => Relation::Ahead,
    }
}

/// Updates between `have` and `need` are missing: ask for a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last applied sequence.
    pub have: u64,
    /// The sequence that must be reached before what was just seen can be applied.
    pub need: u64,
}

/// The authority signed two histories: evidence of a stolen control key or of a backup restored without a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Equivocation {
    /// What was held.
    pub held: ChainHead,
    /// What contradicts it.
    pub seen: ChainHead,
}
