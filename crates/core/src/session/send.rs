//! The sending half of one class: a chain that is reserved ahead, so that a crash skips blocks and never repeats one.

use alloc::boxed::Box;
use core::time::Duration;

use super::chain::{Ahead, BlockSeed, ChainKey};
use super::header::Class;
use super::packed::{decode_chain, decode_time, encode_time};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::{AeadKey, Backend};
use crate::crypto::secret::Secret;
use crate::crypto::suite::{Aead, HashAlgorithm};
use crate::ids::BootId;
use crate::time::Monotonic;

/// Blocks reserved per durable write.
pub const RESERVED_BLOCKS: u32 = 16;
/// How long a block's key is used.
pub const BLOCK_AGE: Duration = Duration::from_secs(3600);
/// No counter beyond: a new handshake instead. Counters have 20 bits in the header.
pub const MAX_COUNTER: u32 = super::header::COUNTERS;

/// A class's sending chain.
pub(super) struct SendChain {
    class: Class,
    /// The first block that was never opened.
    next: u32,
    way: Way,
    open: Option<OpenBlock>,
    /// The first block that is not reserved, and the chain's key there: all that the durable record holds.
    ceiling: (u32, ChainKey),
    /// What the newest reservation's record is known by.
    reserved: u64,
    /// The ceiling before it, and what that one is known by.
    before: (u32, u64),
}

/// What leads from the first block that was never opened to the ceiling, and to nothing before.
enum Way {
    /// The chain's key at that block: for blocks of many records a second step after the reservation's is nothing, and an
    /// idle session keeps no more.
    Key(ChainKey),
    /// All its blocks, where each record has one.
    Blocks(Ahead),
}

struct OpenBlock {
    index: u32,
    used: u32,
    since: Monotonic,
    /// What `expanded` is made of again, unless the block is full with its first record.
    key: Option<Secret<32>>,
    /// `None` while the session is idle.
    expanded: Option<Box<dyn AeadKey>>,
}

/// A counter to seal under.
pub(super) struct Taken<'a> {
    pub(super) counter: u32,
    /// The durable record that the counter depends on.
    pub(super) after: u64,
    pub(super) key: &'a dyn AeadKey,
}

/// What stops a record from being sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The next block is not reserved: [`Session::reserve`](super::Session::reserve) first.
    #[error("no block is reserved")]
    Reserve,
    /// The counter is used up, or too many messages went without an epoch change.
    #[error("the session is used up and needs a new handshake")]
    Exhausted,
    /// The cipher failed.
    #[error("the cipher failed")]
    Cipher,
}

impl SendChain {
    pub(super) fn new(class: Class, key: ChainKey) -> Self {
        Self::restore(class, 0, key)
    }

    /// As restored: whatever was reserved may have been used.
    pub(super) fn restore(class: Class, ceiling: u32, key: ChainKey) -> Self {
        let way = Way::Key(key.clone());
        Self { class, next: ceiling, way, open: None, ceiling: (ceiling, key), reserved: 0, before: (0, 0) }
    }

    /// The first block that is not reserved, with its chain key.
    pub(super) fn ceiling(&self) -> (u32, &ChainKey) {
        (self.ceiling.0, &self.ceiling.1)
    }

    /// How many blocks were begun.
    pub(super) fn begun(&self) -> u32 {
        self.next
    }

    /// Whether little of the reservation is left.
    pub(super) fn wants_reservation(&self) -> bool {
        self.ceiling.0 - self.next <= RESERVED_BLOCKS / 4 && self.ceiling.0 < self.last_block()
    }

    /// Moves the ceiling on. The durable record must be written before a record of the new blocks leaves:
    /// [`SendChain::written`] says when that is.
    pub(super) fn reserve(&mut self) -> Option<()> {
        let blocks = RESERVED_BLOCKS.min(self.last_block().saturating_sub(self.ceiling.0));
        let key = if self.class.block_len() == 1 {
            let ahead = match &self.way {
                Way::Blocks(ahead) => ahead.extended(blocks)?,
                // What was left when the session went idle is derived again.
                Way::Key(key) => Ahead::from(key).extended(self.ceiling.0 - self.next + blocks)?,
            };
            let end = ahead.end()?;
            self.way = Way::Blocks(ahead);
            end
        } else {
            self.ceiling.1.advance(blocks)?
        };
        self.before = (self.ceiling.0, self.reserved);
        self.reserved = u64::MAX;
        self.ceiling = (self.ceiling.0 + blocks, key);
        Some(())
    }

    /// The durable record is on its way, known by `position`.
    pub(super) fn written(&mut self, position: u64) {
        if self.reserved == u64::MAX {
            self.reserved = position;
        }
    }

    fn last_block(&self) -> u32 {
        MAX_COUNTER / self.class.block_len()
    }

    /// Takes a counter, opening the next block if the open one is full or old.
    pub(super) fn advance(
        &mut self,
        backend: Backend,
        aead: Aead,
        boot: BootId,
        now: Monotonic,
    ) -> Result<Taken<'_>, SealError> {
        let len = self.class.block_len();
        let usable = |open: &OpenBlock| open.used < len && now.since(open.since) < BLOCK_AGE;
        if !self.open.as_ref().is_some_and(usable) {
            if self.next >= self.last_block() {
                return Err(SealError::Exhausted);
            }
            if self.next >= self.ceiling.0 {
                return Err(SealError::Reserve);
            }
            let (index, seed) = (self.next, self.way.step().ok_or(SealError::Cipher)?);
            self.next += 1;
            let key = seed.key(boot).ok_or(SealError::Cipher)?;
            let expanded = Some(backend.aead_key(aead, &key));
            let key = (len > 1).then_some(key);
            self.open = Some(OpenBlock { index, used: 0, since: now, key, expanded });
        }
        let open = self.open.as_mut().ok_or(SealError::Cipher)?;
        if open.expanded.is_none() {
            open.expanded = open.key.as_ref().map(|key| backend.aead_key(aead, key));
        }
        let counter = open.index * len + open.used;
        open.used += 1;
        let after = if open.index < self.before.0 { self.before.1 } else { self.reserved };
        Ok(Taken { counter, after, key: open.expanded.as_deref().ok_or(SealError::Cipher)? })
    }

    /// Gives up the open block and its key; the next record opens another.
    pub(super) fn close_block(&mut self) {
        self.open = None;
    }

    /// What a restart does without, of a chain that was shrunk.
    pub(super) fn encode_rest(&self, writer: &mut Writer) {
        writer.array(6).uint(self.next.into());
        match &self.way {
            Way::Key(key) if self.next < self.ceiling.0 => writer.bytes(key.expose()),
            // The ceiling's key.
            _ => writer.null(),
        };
        match &self.open {
            Some(OpenBlock { index, used, since, key: Some(key), .. }) => {
                writer.array(4).uint((*index).into()).uint((*used).into());
                encode_time(writer, *since);
                writer.bytes(key.expose());
            }
            _ => {
                writer.null();
            }
        }
        writer.uint(self.reserved).uint(self.before.0.into()).uint(self.before.1);
    }

    /// Takes that up again.
    pub(super) fn decode_rest(
        &mut self,
        reader: &mut Reader<'_>,
        hash: HashAlgorithm,
    ) -> Result<(), DecodeError> {
        reader.array_of(6)?;
        self.next = reader.uint32()?;
        if !reader.absent()? {
            self.way = Way::Key(decode_chain(reader, hash)?);
        }
        if !reader.absent()? {
            reader.array_of(4)?;
            let (index, used, since) = (reader.uint32()?, reader.uint32()?, decode_time(reader)?);
            let key = Some(Secret::new(reader.bytes_of()?));
            self.open = Some(OpenBlock { index, used, since, key, expanded: None });
        }
        self.reserved = reader.uint()?;
        self.before = (reader.uint32()?, reader.uint()?);
        Ok(())
    }

    /// Lets go of what can be derived again.
    pub(super) fn shrink(&mut self) {
        let len = self.class.block_len();
        self.open.take_if(|open| open.used >= len);
        if let Some(open) = &mut self.open {
            open.expanded = None;
        }
        if let Way::Blocks(ahead) = &self.way
            && let Some(key) = ahead.key()
        {
            self.way = Way::Key(key);
        }
    }
}

impl Way {
    /// The next block's seed; nothing leads back to it.
    fn step(&mut self) -> Option<BlockSeed> {
        match self {
            Self::Key(key) => {
                let (seed, next) = key.step()?;
                *key = next;
                Some(seed)
            }
            Self::Blocks(ahead) => ahead.take(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::crypto::default_backend;

    /// Counters of blocks reserved before depend on that reservation's record, those of new blocks on the new one's, and on
    /// none that is not written yet: a record that left on the strength of the wrong one would be sealed again after a crash.
    #[test]
    fn a_counter_depends_on_the_record_that_reserved_its_block() {
        for class in Class::ALL {
            let hash = HashAlgorithm::Sha256;
            let mut chain = SendChain::new(class, ChainKey::from_slice(hash, &[7; 32]).unwrap());
            let now = Monotonic(Duration::from_secs(1));
            let take = |chain: &mut SendChain| {
                let taken = chain.advance(default_backend(), Aead::Aes256Gcm, BootId([1; 8]), now).unwrap();
                let place = (taken.counter / class.block_len(), taken.after);
                // One record in each block is enough.
                chain.close_block();
                place
            };
            assert!(chain.wants_reservation());
            chain.reserve().unwrap();
            assert_eq!(take(&mut chain), (0, u64::MAX), "{class:?}: not before it is written");
            chain.written(5);
            for block in 1..RESERVED_BLOCKS - 2 {
                assert_eq!(take(&mut chain), (block, 5), "{class:?}");
            }
            assert!(chain.wants_reservation());
            chain.reserve().unwrap();
            assert_eq!(take(&mut chain), (RESERVED_BLOCKS - 2, 5), "{class:?}: reserved before");
            chain.written(8);
            // Later records of the session reserve nothing.
            chain.written(9);
            assert_eq!(take(&mut chain), (RESERVED_BLOCKS - 1, 5), "{class:?}: and still");
            assert_eq!(take(&mut chain), (RESERVED_BLOCKS, 8), "{class:?}: of the new ones");
            assert_eq!(chain.ceiling().0, 2 * RESERVED_BLOCKS, "{class:?}");
        }
    }
}
