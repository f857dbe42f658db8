//! One group epoch as its publisher holds it: the chain, and what waiting members are to be handed.

use alloc::collections::BTreeMap;

use super::handout::SEED;
use super::keys::{self, BlockKeys};
use super::members::Members;
use super::publisher::PublishError;
use super::{BLOCK_AGE, BLOCK_LEN, MAX_BLOCKS, MAX_MESSAGES, Source};
use crate::crypto::backend::{Backend, RandomSource};
use crate::crypto::kdf::HashOutput;
use crate::crypto::secret::{Secret, SecretBytes};
use crate::crypto::suite::{HashAlgorithm, SessionSuite};
use crate::ids::GroupId;
use crate::session::chain::ChainKey;
use crate::time::Monotonic;

/// One group epoch.
pub(super) struct EpochKeys {
    pub(super) gid: GroupId,
    pub(super) epoch: u16,
    pub(super) commitment: HashOutput,
    pub(super) binding: HashOutput,
    /// The first block that was never opened, and the chain's key there.
    pub(super) next: (u32, ChainKey),
    pub(super) open: Option<OpenBlock>,
    /// What waiting members are to be handed, by the block they start at.
    pub(super) starts: BTreeMap<u32, Start>,
    pub(super) since: Monotonic,
    pub(super) sent: u32,
    pub(super) last_seal: HashOutput,
}

pub(super) struct OpenBlock {
    pub(super) index: u32,
    pub(super) used: u32,
    pub(super) since: Monotonic,
    pub(super) keys: BlockKeys,
}

pub(super) struct Start {
    pub(super) secret: SecretBytes,
    pub(super) last_seal: HashOutput,
}

impl EpochKeys {
    pub(super) fn new(
        random: &mut dyn RandomSource,
        suite: SessionSuite,
        source: &Source,
        gid: GroupId,
        epoch: u16,
        now: Monotonic,
    ) -> Option<Self> {
        let mut seed = Secret::new([0; SEED]);
        random.fill(seed.expose_mut());
        let commitment = keys::commitment(suite, &seed, gid, epoch);
        let binding = keys::binding(suite, source, gid, epoch, &commitment);
        let last_seal = no_seal(suite.hash())?;
        let start = Start { secret: SecretBytes::new(seed.expose().to_vec()), last_seal };
        Some(Self {
            gid,
            epoch,
            commitment,
            binding,
            next: (0, keys::first_chain_key(suite, &seed, &commitment, &binding)?),
            open: None,
            starts: BTreeMap::from([(0, start)]),
            since: now,
            sent: 0,
            last_seal,
        })
    }

    /// Takes a counter, opening the next block if the open one is full or old.
    pub(super) fn advance(
        &mut self,
        backend: Backend,
        suite: SessionSuite,
        now: Monotonic,
    ) -> Result<(u32, &BlockKeys), PublishError> {
        if self.sent >= MAX_MESSAGES {
            return Err(PublishError::Rotate);
        }
        let usable = |open: &OpenBlock| open.used < BLOCK_LEN && now.since(open.since) < BLOCK_AGE;
        if !self.open.as_ref().is_some_and(usable) {
            if self.next.0 >= MAX_BLOCKS {
                return Err(PublishError::Rotate);
            }
            let (seed, next) = self.next.1.step().ok_or(PublishError::Cipher)?;
            let keys = BlockKeys::new(backend, suite, &seed, &self.binding).ok_or(PublishError::Cipher)?;
            self.open = Some(OpenBlock { index: self.next.0, used: 0, since: now, keys });
            self.next = (self.next.0 + 1, next);
        }
        let open = self.open.as_mut().ok_or(PublishError::Cipher)?;
        let counter = open.index * BLOCK_LEN + open.used;
        open.used += 1;
        self.sent += 1;
        Ok((counter, &open.keys))
    }

    /// Keeps what a member needs that starts at the next block.
    pub(super) fn keep_start(&mut self) {
        let (block, key) = &self.next;
        let start = || Start { secret: SecretBytes::new(key.expose().to_vec()), last_seal: self.last_seal };
        self.starts.entry(*block).or_insert_with(start);
    }

    /// Erases what nobody waits for. The seed stays until the first record, for members that come before it.
    pub(super) fn forget_starts(&mut self, members: &Members) {
        let begun = self.sent > 0;
        self.starts.retain(|block, _| members.waits_for(*block) || (*block == 0 && !begun));
    }
}

/// What the first seal names as the one before.
pub(super) fn no_seal(algorithm: HashAlgorithm) -> Option<HashOutput> {
    let zeros = [0; 48];
    HashOutput::from_slice(algorithm, zeros.get(..algorithm.output_len())?)
}
