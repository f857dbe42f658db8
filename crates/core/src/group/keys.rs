//! The key schedule of one group epoch.
//!
//! ```text
//! commitment = H(CBOR["gc", seed, gid, epoch])
//! binding    = H(CBOR["gb", suite, publisher id, publisher fingerprint, gid, epoch, commitment])
//! chain key of block 0 = Expand(Extract(commitment, seed), "pqc-iiot1 group-chain" ‖ binding)
//! key 32 ‖ iv 12 ‖ block commitment = Expand(block seed, "pqc-iiot1 group-block" ‖ binding)
//! ```
//! A member that joins later gets a chain key and never the seed. So the iv comes from the block, and the binding goes into each
//! block: nobody can pass another's chain off as its own. The block's commitment goes into each leaf, so a seal vouches
//! for one key only, although neither AEAD commits to its key.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::Source;
use crate::codec::Writer;
use crate::crypto::backend::{AeadKey, Backend, BackendError, OpenError};
use crate::crypto::kdf::{HashOutput, PseudorandomKey, hash};
use crate::crypto::labels;
use crate::crypto::secret::Secret;
use crate::crypto::suite::{Aead, HashAlgorithm, SessionSuite};
use crate::ids::GroupId;
use crate::session::chain::{BlockSeed, ChainKey};
use crate::session::{AssociatedData, nonce};

/// The longest hash of the registry, in bytes.
const MAX_HASH: usize = 48;
const IV: usize = Aead::NONCE_LEN;

/// The commitment to an epoch's seed.
pub(super) fn commitment(suite: SessionSuite, seed: &Secret<32>, gid: GroupId, epoch: u16) -> HashOutput {
    let mut writer = Writer::with_capacity(64);
    writer.array(4).text("gc").bytes(seed.expose()).bytes(gid.as_bytes()).uint(epoch.into());
    hash(suite.hash(), &[&Zeroizing::new(writer.finish())])
}

/// What every key of an epoch is bound to.
pub(super) fn binding(
    suite: SessionSuite,
    source: &Source,
    gid: GroupId,
    epoch: u16,
    commitment: &HashOutput,
) -> HashOutput {
    let mut writer = Writer::new();
    writer.array(7).text("gb").uint(suite.id().into());
    writer.text(source.id.as_str()).bytes(source.fingerprint.as_bytes());
    writer.bytes(gid.as_bytes()).uint(epoch.into()).bytes(commitment.as_slice());
    hash(suite.hash(), &[&writer.finish()])
}

/// The chain's key at block 0. `None` only if the library fails.
pub(super) fn first_chain_key(
    suite: SessionSuite,
    seed: &Secret<32>,
    commitment: &HashOutput,
    binding: &HashOutput,
) -> Option<ChainKey> {
    let key = PseudorandomKey::extract(suite.hash(), commitment.as_slice(), seed.expose());
    let mut okm = Secret::new([0; MAX_HASH]);
    let out = okm.expose_mut().get_mut(..suite.hash().output_len())?;
    key.expand(&[labels::GROUP_CHAIN.as_bytes(), binding.as_slice()].concat(), out).ok()?;
    ChainKey::from_slice(suite.hash(), out)
}

/// What protects the records of one block, expanded.
pub(super) struct BlockKeys {
    hash: HashAlgorithm,
    key: Box<dyn AeadKey>,
    iv: [u8; IV],
    commitment: HashOutput,
}

impl BlockKeys {
    /// `None` only if the library fails.
    pub(super) fn new(
        backend: Backend,
        suite: SessionSuite,
        seed: &BlockSeed,
        binding: &HashOutput,
    ) -> Option<Self> {
        let hash = suite.hash();
        let mut okm = Secret::new([0; 32 + IV + MAX_HASH]);
        let okm = okm.expose_mut().get_mut(..32 + IV + hash.output_len())?;
        seed.expand(&[labels::GROUP_BLOCK.as_bytes(), binding.as_slice()].concat(), okm)?;
        let (key, rest) = okm.split_first_chunk::<32>()?;
        let (iv, commitment) = rest.split_first_chunk::<IV>()?;
        Some(Self {
            hash,
            key: backend.aead_key(suite.aead(), &Secret::new(*key)),
            iv: *iv,
            commitment: HashOutput::from_slice(hash, commitment)?,
        })
    }

    /// Encrypts `record` behind its header.
    pub(super) fn seal(
        &self,
        counter: u32,
        aad: &AssociatedData,
        record: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        self.key.seal_from(&nonce(&self.iv, counter), aad.as_slice(), record, aad.header().len())
    }

    /// Verifies and decrypts `record` behind its header; on error it is cleared.
    pub(super) fn open(
        &self,
        counter: u32,
        aad: &AssociatedData,
        record: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        self.key.open_from(&nonce(&self.iv, counter), aad.as_slice(), record, aad.header().len())
    }

    /// The leaf of a record: `H(0 ‖ block commitment ‖ header ‖ H(topic) ‖ ciphertext ‖ tag)`.
    pub(super) fn leaf(&self, aad: &AssociatedData, record: &[u8]) -> HashOutput {
        let sealed = record.get(aad.header().len()..).unwrap_or_default();
        hash(self.hash, &[&[0], self.commitment.as_slice(), aad.as_slice(), sealed])
    }
}
