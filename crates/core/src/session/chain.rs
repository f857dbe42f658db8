//! One chain of block keys: each step gives a block's seed and the chain's next key, and nothing leads back.

use zeroize::{Zeroize, ZeroizeOnDrop};

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
