//! The receiving half of one class: tentative derivation, bounded jumps, and a bitmap for each block that is kept.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use thiserror::Error;

use super::chain::{BlockSeed, ChainKey};
use super::header::{Class, Header};
use super::opening::{OpenedAs, Opening};
use super::packed::{decode_time, encode_time};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::AeadKey;
use crate::ids::BootId;
use crate::time::Monotonic;

/// How far a record may be ahead of the newest block heard, in blocks.
pub const MAX_JUMP: u32 = 1024;
/// Blocks between two remembered keys of the way ahead: what a forged jump costs at most, in steps.
pub const CHECKPOINT_EVERY: u32 = 32;
/// Blocks behind the newest that are kept for their missing records.
pub const MAX_SKIPPED: usize = 8;
/// Boots of the sender that are remembered.
pub const MAX_BOOTS: usize = 4;
/// How long skipped blocks are kept.
pub const SKIPPED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Why a record did not open. From outside all look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Seen before.
    #[error("the record was received before")]
    Replay,
    /// Its block's key was erased: too old, or complete.
    #[error("the record's block is over")]
    TooOld,
    /// Too far ahead.
    #[error("the record is too far ahead")]
    TooFar,
    /// No such epoch is live.
    #[error("the record's epoch is not live")]
    Epoch,
    /// It does not authenticate.
    #[error("the record does not authenticate")]
    Forged,
}

/// What an opened record changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// A block was opened or ended: the durable record must change with what the record brings.
    pub blocks_changed: bool,
    /// The block was restored after a crash, so a record of it may have been received before.
    pub restored: bool,
    /// The start of its sender that the record belongs to.
    pub boot: BootId,
}

/// A class's receiving chain.
pub(super) struct ReceiveChain {
    class: Class,
    /// The first block that nothing was received of, and the chain's key there.
    next: (u32, ChainKey),
    /// Keys of the way ahead, ascending, [`CHECKPOINT_EVERY`] apart.
    checkpoints: Vec<(u32, ChainKey)>,
    /// Blocks with missing records, ascending.
    blocks: Blocks,
    /// The sender's boots, each with the first block it was heard in, ascending.
    boots: Vec<(u32, BootId)>,
}

/// Each in its own place, which is erased with it: a vector that grows or closes a gap leaves copies behind.
#[allow(clippy::vec_box, reason = "secrets are not to be moved about")]
pub(super) type Blocks = Vec<Box<Block>>;

pub(super) struct Block {
    pub(super) index: u32,
    pub(super) seed: BlockSeed,
    /// The boot of its sender, once a record of it was received.
    pub(super) boot: Option<BootId>,
    /// Bit `i` stands for the block's record `i`.
    seen: u64,
    since: Monotonic,
    restored: bool,
    key: Option<Box<dyn AeadKey>>,
}

impl ReceiveChain {
    /// A chain whose sender is known to be in `boot`.
    pub(super) fn new(class: Class, key: ChainKey, boot: BootId) -> Self {
        Self::restore(class, (0, key), Vec::new(), alloc::vec![(0, boot)])
    }

    pub(super) fn restore(
        class: Class,
        next: (u32, ChainKey),
        blocks: Blocks,
        boots: Vec<(u32, BootId)>,
    ) -> Self {
        Self { class, next, checkpoints: Vec::new(), blocks, boots }
    }

    pub(super) fn boots(&self) -> &[(u32, BootId)] {
        &self.boots
    }

    /// The sender's newest boot that was heard.
    pub(super) fn newest_boot(&self) -> Option<BootId> {
        self.boots.last().map(|(_, boot)| *boot)
    }

    /// The boot in which the sender filled a block, if its records do not tell.
    fn boot_of(&self, block: u32) -> Result<BootId, OpenError> {
        let known = self.boots.iter().rev().find(|(start, _)| *start <= block);
        known.map(|(_, boot)| *boot).ok_or(OpenError::TooOld)
    }

    /// The sender was heard in `boot` in an epoch before: in this one it was in no earlier boot.
    pub(super) fn inherit(&mut self, boot: BootId) {
        if self.next.0 == 0 {
            self.boots = alloc::vec![(0, boot)];
        }
    }

    fn adopt(&mut self, block: u32, boot: BootId) {
        if self.newest_boot() != Some(boot) {
            self.boots.push((block, boot));
            let excess = self.boots.len().saturating_sub(MAX_BOOTS);
            self.boots.drain(..excess);
        }
    }

    pub(super) fn next(&self) -> (u32, &ChainKey) {
        (self.next.0, &self.next.1)
    }

    pub(super) fn blocks(&self) -> &[Box<Block>] {
        &self.blocks
    }

    #[cfg(test)]
    pub(super) fn checkpoints(&self) -> &[(u32, ChainKey)] {
        &self.checkpoints
    }

    /// The refusals that cost nothing.
    pub(super) fn precheck(&self, header: &Header) -> Result<(), OpenError> {
        let block = header.block();
        if let Some(kept) = self.blocks.iter().find(|kept| kept.index == block) {
            return if kept.seen >> header.place() & 1 == 1 { Err(OpenError::Replay) } else { Ok(()) };
        }
        match block.checked_sub(self.next.0) {
            None => Err(OpenError::TooOld),
            Some(ahead) if ahead >= MAX_JUMP => Err(OpenError::TooFar),
            Some(_) => Ok(()),
        }
    }

    /// The steps to a block from the nearest key that is remembered.
    pub(super) fn steps_to(&self, block: u32) -> u32 {
        if self.blocks.iter().any(|kept| kept.index == block) {
            return 0;
        }
        let keys = self.checkpoints.iter().map(|(at, _)| *at).chain([self.next.0]);
        keys.filter_map(|at| block.checked_sub(at)).min().unwrap_or(0)
    }

    /// Opens `record` from `start` on, in place. Nothing changes unless it authenticates.
    pub(super) fn open(
        &mut self,
        opening: &Opening<'_>,
        header: &Header,
        record: &mut Vec<u8>,
        start: usize,
    ) -> Result<OpenedAs, OpenError> {
        self.precheck(header)?;
        let index = header.block();
        let bit = 1 << header.place();
        match self.blocks.iter().position(|kept| kept.index == index) {
            Some(at) => self.open_kept(at, bit, opening, header, record, start),
            None => self.open_ahead(index, bit, opening, header, record, start),
        }
    }

    fn open_kept(
        &mut self,
        at: usize,
        bit: u64,
        opening: &Opening<'_>,
        header: &Header,
        record: &mut Vec<u8>,
        start: usize,
    ) -> Result<OpenedAs, OpenError> {
        let assumed = self.boot_of(header.block());
        let block = self.blocks.get_mut(at).ok_or(OpenError::TooOld)?;
        let boot = match (block.boot, header.salt) {
            (Some(known), Some(told)) if known != told => return Err(OpenError::Forged),
            (Some(known), _) => known,
            (None, Some(told)) => told,
            (None, None) => assumed?,
        };
        let key = match block.key.take() {
            Some(key) => key,
            None => opening.key(&block.seed, boot)?,
        };
        let opened = opening.open(&*key, boot, header, record, start);
        if opened.is_ok() || block.boot.is_some() {
            block.key = Some(key);
        }
        let number = opened?;
        block.boot = Some(boot);
        block.seen |= bit;
        let restored = block.restored;
        let complete = block.seen == full(self.class);
        if complete {
            self.blocks.remove(at);
        }
        Ok((Admitted { blocks_changed: complete, restored, boot }, number))
    }

    fn open_ahead(
        &mut self,
        index: u32,
        bit: u64,
        opening: &Opening<'_>,
        header: &Header,
        record: &mut Vec<u8>,
        start: usize,
    ) -> Result<OpenedAs, OpenError> {
        let (seed, after) = self.derive(index).ok_or(OpenError::Forged)?;
        let boot = match header.salt {
            Some(told) => told,
            None => self.boot_of(index)?,
        };
        let key = opening.key(&seed, boot)?;
        let number = opening.open(&*key, boot, header, record, start)?;
        self.keep_skipped(index, opening.now);
        self.next = (index + 1, after);
        self.adopt(index, boot);
        self.checkpoints.retain(|(at, _)| *at > index);
        let block = Block {
            index,
            seed,
            boot: Some(boot),
            seen: bit,
            since: opening.now,
            restored: false,
            key: Some(key),
        };
        if bit != full(self.class) {
            self.blocks.push(Box::new(block));
        }
        self.expire(opening.now);
        Ok((Admitted { blocks_changed: true, restored: false, boot }, number))
    }

    /// The seed of a block ahead and the chain's key after it, from the nearest remembered key.
    fn derive(&mut self, index: u32) -> Option<(BlockSeed, ChainKey)> {
        let last = self.checkpoints.last().map_or(&self.next, |last| last);
        let (mut at, mut key) = (last.0, last.1.clone());
        if at <= index {
            while index - at >= CHECKPOINT_EVERY {
                key = key.advance(CHECKPOINT_EVERY)?;
                at += CHECKPOINT_EVERY;
                self.checkpoints.push((at, key.clone()));
            }
        } else {
            let nearest = self.checkpoints.iter().rev().find(|(at, _)| *at <= index).unwrap_or(&self.next);
            (at, key) = (nearest.0, nearest.1.clone());
        }
        key.advance(index.checked_sub(at)?)?.step()
    }

    /// Keeps the newest of the blocks that a jump to `index` leaves out.
    fn keep_skipped(&mut self, index: u32, now: Monotonic) {
        let first = index.saturating_sub(MAX_SKIPPED as u32).max(self.next.0);
        for skipped in first..index {
            let Some((seed, _)) = self.derive(skipped) else { return };
            let (boot, seen, since) = (None, 0, now);
            let block = Block { index: skipped, seed, boot, seen, since, restored: false, key: None };
            self.blocks.push(Box::new(block));
        }
    }

    /// When the first block is to be erased that is kept for late records only.
    pub(super) fn skipped_until(&self) -> Option<Monotonic> {
        let newest = self.next.0.saturating_sub(1);
        let skipped = self.blocks.iter().filter(|block| block.index != newest);
        skipped.map(|block| block.since.plus(SKIPPED_FOR)).min()
    }

    /// Erases what was kept too long, and the oldest of what is too much.
    pub(super) fn expire(&mut self, now: Monotonic) {
        let newest = self.next.0.saturating_sub(1);
        self.blocks.retain(|block| block.index == newest || now.since(block.since) < SKIPPED_FOR);
        let excess = self.blocks.len().saturating_sub(MAX_SKIPPED + 1);
        self.blocks.drain(..excess);
    }

    /// What a restart does without, of a chain that was shrunk.
    pub(super) fn encode_rest(&self, writer: &mut Writer) {
        writer.array(self.blocks.len());
        for block in &self.blocks {
            writer.array(3).uint(block.seen);
            encode_time(writer, block.since);
            writer.bool(block.restored);
        }
    }

    /// Takes that up again.
    pub(super) fn decode_rest(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        reader.array_of(self.blocks.len() as u64)?;
        for block in &mut self.blocks {
            reader.array_of(3)?;
            (block.seen, block.since, block.restored) =
                (reader.uint()?, decode_time(reader)?, reader.bool()?);
        }
        Ok(())
    }

    /// Lets go of what can be derived again, and of room for more.
    pub(super) fn shrink(&mut self) {
        self.blocks.iter_mut().for_each(|block| block.key = None);
        self.blocks.shrink_to_fit();
        self.checkpoints = Vec::new();
        self.boots.shrink_to_fit();
    }
}

impl Block {
    /// As restored: what of it was received is known only by what the records brought.
    pub(super) fn restored(index: u32, seed: BlockSeed, boot: Option<BootId>, now: Monotonic) -> Self {
        Self { index, seed, boot, seen: 0, since: now, restored: true, key: None }
    }
}

/// The bitmap of a block that is received in full.
fn full(class: Class) -> u64 {
    u64::MAX >> (64 - class.block_len())
}
