//! What must survive a restart. A publisher's row holds no key: it starts a new group at each boot. A subscriber's holds the
//! chain from its window on, and which batches were decided, so that nothing is told as verified twice.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use thiserror::Error;

use super::blocks::Blocks;
use super::keys;
use super::members::MAX_MEMBERS;
use super::publisher::Publisher;
use super::seal::Seal;
use super::sealed::{Batches, Candidates, SealedBatch, State};
use super::subscriber::{MAX_BATCHES, MAX_BEHIND, Subscriber};
use super::{BLOCK_LEN, MAX_BATCH, MAX_BLOCKS, Source};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::{Backend, RandomSource};
use crate::crypto::kdf::HashOutput;
use crate::crypto::secret::SecretBytes;
use crate::crypto::suite::{HashAlgorithm, SessionSuite};
use crate::envelope::Sender;
use crate::ids::{Fingerprint, GroupId, MAX_PEER_ID, PeerId};
use crate::session::chain::ChainKey;
use crate::time::Monotonic;
use crate::topic::{MAX_TOPIC, TopicFilter};

const VERSION: u64 = 1;

/// A row that is not of this version and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a group's row is malformed: {0}")]
pub struct RowError(#[from] DecodeError);

impl Publisher {
    /// The durable row: suite, filter and members. To be written when one of them changes.
    pub fn to_row(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(4).uint(VERSION).uint(self.suite.id().into()).text(self.filter.as_str());
        writer.array(self.members.len());
        for peer in self.members.iter() {
            writer.bytes(peer.as_bytes());
        }
        writer.finish()
    }

    /// A new start of a row's group: a fresh id and seed, which all members wait for.
    ///
    /// # Errors
    ///
    /// The row is none of this version's.
    pub fn from_row(
        backend: Backend,
        random: &mut dyn RandomSource,
        me: Sender,
        row: &[u8],
        now: Monotonic,
    ) -> Result<Self, RowError> {
        let mut reader = Reader::new(row)?;
        reader.array_of(4)?;
        if reader.uint()? != VERSION {
            return Err(DecodeError::Version.into());
        }
        let suite = SessionSuite::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let filter = TopicFilter::new(&reader.text(MAX_TOPIC)?).map_err(|_| DecodeError::Value)?;
        let mut publisher = Self::new(backend, random, suite, me, filter, now).ok_or(DecodeError::Value)?;
        for _ in 0..reader.array_up_to(MAX_MEMBERS as u64)? {
            let peer = Fingerprint(reader.bytes_of()?);
            publisher.members.add(peer, 0).map_err(|_| DecodeError::Value)?;
        }
        reader.finish()?;
        Ok(publisher)
    }
}

impl Subscriber {
    /// The durable row. Candidates are not in it: whoever keeps their messages gives their names back
    /// ([`Subscriber::remember`]).
    pub fn to_row(&self) -> SecretBytes {
        let mut writer = Writer::with_capacity(2048);
        writer.array(14).uint(VERSION).uint(self.suite.id().into());
        writer.text(self.source.id.as_str()).bytes(self.source.fingerprint.as_bytes());
        writer.bytes(self.gid.as_bytes()).uint(self.epoch.into()).text(self.filter.as_str());
        writer.bytes(self.commitment.as_slice());
        writer.uint(self.floor.into()).uint(self.head.into());
        writer.array(2).uint(self.batches.anchor.0.into()).bytes(self.batches.anchor.1.as_slice());
        match self.blocks.oldest() {
            Some((block, key)) => writer.uint(block.into()).bytes(key.expose()),
            None => writer.null().null(),
        };
        writer.array(self.batches.kept.len());
        for batch in &self.batches.kept {
            let Seal { first, count, root, previous, last, .. } = &batch.seal;
            writer.array(6).uint((*first).into()).uint((*count).into());
            writer.bytes(root.as_slice()).bytes(previous.as_slice()).bool(*last);
            writer.bool(!matches!(batch.state, State::Waiting { .. }));
        }
        SecretBytes::new(writer.finish())
    }

    /// The group epoch of a row.
    ///
    /// # Errors
    ///
    /// The row is none of this version's.
    pub fn from_row(backend: Backend, row: &[u8]) -> Result<Self, RowError> {
        let mut reader = Reader::new(row)?;
        reader.array_of(14)?;
        if reader.uint()? != VERSION {
            return Err(DecodeError::Version.into());
        }
        let suite = SessionSuite::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let hash = suite.hash();
        let id = PeerId::new(&reader.text(MAX_PEER_ID)?).map_err(|_| DecodeError::Value)?;
        let source = Source { id, fingerprint: Fingerprint(reader.bytes_of()?) };
        let gid = GroupId(reader.bytes_of()?);
        let epoch = u16::try_from(reader.uint()?).map_err(|_| DecodeError::Value)?;
        let filter = TopicFilter::new(&reader.text(MAX_TOPIC)?).map_err(|_| DecodeError::Value)?;
        let commitment = digest(&mut reader, hash)?;
        let (floor, head) = (counter(&mut reader)?, counter(&mut reader)?);
        reader.array_of(2)?;
        let anchor = (counter(&mut reader)?, digest(&mut reader, hash)?);
        let block = reader.uint32()?;
        let key = ChainKey::from_slice(hash, reader.bytes()?).ok_or(DecodeError::Value)?;
        let in_order = block <= floor / BLOCK_LEN && floor <= head && head - floor <= MAX_BEHIND;
        if !in_order || anchor.0 > floor {
            return Err(DecodeError::Value.into());
        }
        let mut kept: VecDeque<SealedBatch> = VecDeque::new();
        for _ in 0..reader.array_up_to(MAX_BATCHES as u64)? {
            reader.array_of(6)?;
            let (first, count) = (counter(&mut reader)?, reader.uint32()?);
            let from = kept.back().map_or(floor, |before| before.seal.end());
            let count = u16::try_from(count).ok().filter(|count| usize::from(*count) <= MAX_BATCH);
            let (root, previous) = (digest(&mut reader, hash)?, digest(&mut reader, hash)?);
            let count = count.ok_or(DecodeError::Value)?;
            let seal = Seal { gid, epoch, first, count, root, previous, last: reader.bool()? };
            let state = if reader.bool()? { State::Told } else { State::Waiting { ask_all: false } };
            if first < from || seal.end() > head {
                return Err(DecodeError::Value.into());
            }
            kept.push_back(SealedBatch { seal, hash: seal.hash(hash, &commitment), state });
        }
        reader.finish()?;
        Ok(Self {
            backend,
            suite,
            binding: keys::binding(suite, &source, gid, epoch, &commitment),
            source,
            gid,
            epoch,
            filter,
            commitment,
            blocks: Blocks::new(block, key),
            floor,
            head,
            candidates: Candidates::default(),
            batches: Batches { kept, anchor },
        })
    }
}

fn counter(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let value = reader.uint32()?;
    if value <= MAX_BLOCKS * BLOCK_LEN { Ok(value) } else { Err(DecodeError::Value) }
}

fn digest(reader: &mut Reader<'_>, algorithm: HashAlgorithm) -> Result<HashOutput, DecodeError> {
    HashOutput::from_slice(algorithm, reader.bytes()?).ok_or(DecodeError::Value)
}
