//! One chain of block keys: each step gives a block's seed and the chain's next key, and nothing leads back.

use alloc::vec::Vec;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::crypto::kdf::PseudorandomKey;
use crate::crypto::labels;
use crate::crypto::secret::Secret;
use crate::crypto::suite::HashAlgorithm;
use crate::ids::BootId;

/// Twice the longest hash of the registry.
const MAX_STEP: usize = 96;

/// The key that leads to all later blocks and to no earlier one.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct ChainKey(PseudorandomKey);

/// What the key of one block is derived from.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct BlockSeed(PseudorandomKey);

impl ChainKey {
    pub(crate) fn new(key: PseudorandomKey) -> Self {
        Self(key)
    }

    pub(crate) fn from_slice(hash: HashAlgorithm, bytes: &[u8]) -> Option<Self> {
        PseudorandomKey::from_slice(hash, bytes).map(Self)
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// This block's seed and the next block's chain key: one HKDF-Expand.
    pub(crate) fn step(&self) -> Option<(BlockSeed, Self)> {
        let hash = self.0.algorithm();
        let len = hash.output_len();
        let mut okm = Secret::new([0; MAX_STEP]);
        let out = okm.expose_mut().get_mut(..2 * len)?;
        self.0.expand(labels::SESSION_BLOCK.as_bytes(), out).ok()?;
        let (seed, next) = out.split_at(len);
        Some((
            BlockSeed(PseudorandomKey::from_slice(hash, seed)?),
            Self(PseudorandomKey::from_slice(hash, next)?),
        ))
    }

    /// The chain's key `steps` blocks later.
    pub(crate) fn advance(&self, steps: u32) -> Option<Self> {
        let mut key = self.clone();
        for _ in 0..steps {
            (_, key) = key.step()?;
        }
        Some(key)
    }
}

/// Blocks ahead, derived in one go: before each block's seed the chain's key there, and the key after the last. What was
/// taken is erased, so that nothing leads back.
pub(crate) struct Ahead {
    hash: HashAlgorithm,
    keys: Zeroizing<Vec<u8>>,
    /// Where the next block's chain key is.
    at: usize,
}

impl Ahead {
    /// What is left of `self`, and `blocks` more.
    pub(crate) fn extended(&self, blocks: u32) -> Option<Self> {
        let len = self.hash.output_len();
        let left = self.keys.get(self.at..)?;
        // One allocation: a vector that grows leaves copies behind.
        let mut keys = Zeroizing::new(Vec::with_capacity(left.len() + 2 * len * blocks as usize));
        keys.extend_from_slice(left);
        let mut key = self.end()?;
        for _ in 0..blocks {
            let (seed, next) = key.step()?;
            keys.extend_from_slice(seed.expose());
            keys.extend_from_slice(next.expose());
            key = next;
        }
        Some(Self { hash: self.hash, keys, at: 0 })
    }

    /// No blocks yet, from `key` on.
    pub(crate) fn from(key: &ChainKey) -> Self {
        let keys = Zeroizing::new(key.expose().to_vec());
        Self { hash: key.0.algorithm(), keys, at: 0 }
    }

    /// Takes the next block's seed. `None` at the end.
    pub(crate) fn take(&mut self) -> Option<BlockSeed> {
        let len = self.hash.output_len();
        let after = self.at + 2 * len;
        let taken = self.keys.get_mut(self.at..after)?;
        let seed = BlockSeed::from_slice(self.hash, taken.get(len..)?)?;
        taken.zeroize();
        self.at = after;
        Some(seed)
    }

    /// The chain's key at the next block, from which the rest can be derived again.
    pub(crate) fn key(&self) -> Option<ChainKey> {
        let key = self.keys.get(self.at..)?.get(..self.hash.output_len())?;
        ChainKey::from_slice(self.hash, key)
    }

    /// The chain's key after the last block.
    pub(crate) fn end(&self) -> Option<ChainKey> {
        let from = self.keys.len().checked_sub(self.hash.output_len())?;
        ChainKey::from_slice(self.hash, self.keys.get(from..)?)
    }
}

impl BlockSeed {
    pub(crate) fn from_slice(hash: HashAlgorithm, bytes: &[u8]) -> Option<Self> {
        PseudorandomKey::from_slice(hash, bytes).map(Self)
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Fills `out` with what `info` names of this block. `None` if the library fails.
    pub(crate) fn expand(&self, info: &[u8], out: &mut [u8]) -> Option<()> {
        self.0.expand(info, out).ok()
    }

    /// The block's AEAD key for a sender's boot: a copy of this state in another boot has other keys.
    pub(crate) fn key(&self, boot: BootId) -> Option<Secret<32>> {
        const LABEL: usize = labels::SESSION_KEY.len();
        let mut info = [0; LABEL + BootId::LEN];
        let (label, salt) = info.split_at_mut(LABEL);
        label.copy_from_slice(labels::SESSION_KEY.as_bytes());
        salt.copy_from_slice(boot.as_bytes());
        let mut key = Secret::new([0; 32]);
        self.expand(&info, key.expose_mut())?;
        Some(key)
    }
}
