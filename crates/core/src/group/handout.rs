//! What a member is handed over its pairwise session.
//!
//! ```text
//! version u8 = 1 · suite u8 · gid 7 · group epoch u16 · start block u16 · commitment h · last seal's hash h · secret · filter
//! ```
//! h is 32, or 48 with suite 2. The secret is the seed (32 bytes) from block 0, and from a later block that block's chain
//! key (h). 109 bytes and the filter with a 32-byte hash.

use alloc::vec::Vec;

use super::MAX_BLOCKS;
use crate::codec::DecodeError;
use crate::crypto::kdf::HashOutput;
use crate::crypto::secret::SecretBytes;
use crate::crypto::suite::SessionSuite;
use crate::ids::GroupId;
use crate::topic::{MAX_TOPIC, TopicFilter};

const VERSION: u8 = 1;
/// Length of a seed in bytes.
pub(super) const SEED: usize = 32;
const MAX_ENCODED: usize = 13 + 3 * 48 + MAX_TOPIC;

/// The key of a group epoch from one block on. It has no `Debug`.
#[derive(Clone)]
pub struct GroupKey {
    /// The suite.
    pub suite: SessionSuite,
    /// The group.
    pub gid: GroupId,
    /// Its epoch.
    pub epoch: u16,
    /// The first block that the key opens.
    pub start: u32,
    /// The commitment to the epoch's seed.
    pub commitment: HashOutput,
    /// The hash of the last seal before `start`; zeros before the first.
    pub last_seal: HashOutput,
    /// Which topics the group is for.
    pub filter: TopicFilter,
    pub(super) secret: SecretBytes,
}

impl GroupKey {
    /// For the pairwise session.
    pub fn encode(&self) -> SecretBytes {
        let mut bytes = Vec::with_capacity(MAX_ENCODED);
        bytes.extend_from_slice(&[VERSION, self.suite.id()]);
        bytes.extend_from_slice(self.gid.as_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        // Below MAX_BLOCKS, so it fits.
        bytes.extend_from_slice(&u16::try_from(self.start).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(self.commitment.as_slice());
        bytes.extend_from_slice(self.last_seal.as_slice());
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(self.filter.as_str().as_bytes());
        SecretBytes::new(bytes)
    }

    /// Reads what [`GroupKey::encode`] wrote.
    ///
    /// # Errors
    ///
    /// It is of another version, too long or short, or a value is outside its domain.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_ENCODED {
            return Err(DecodeError::TooLarge);
        }
        let &[version, suite, ref ids @ ..] = bytes else { return Err(DecodeError::Shape) };
        if version != VERSION {
            return Err(DecodeError::Version);
        }
        let suite = SessionSuite::from_id(suite).ok_or(DecodeError::Value)?;
        let (head, rest) = ids.split_first_chunk::<11>().ok_or(DecodeError::Shape)?;
        let &[ref gid @ .., e0, e1, s0, s1] = head;
        let gid = GroupId::from_slice(gid).ok_or(DecodeError::Shape)?;
        let start = u32::from(u16::from_be_bytes([s0, s1]));
        if start >= MAX_BLOCKS {
            return Err(DecodeError::Value);
        }
        let len = suite.hash().output_len();
        let digest = |bytes| HashOutput::from_slice(suite.hash(), bytes).ok_or(DecodeError::Shape);
        let (commitment, rest) = rest.split_at_checked(len).ok_or(DecodeError::Shape)?;
        let (last_seal, rest) = rest.split_at_checked(len).ok_or(DecodeError::Shape)?;
        let (commitment, last_seal) = (digest(commitment)?, digest(last_seal)?);
        let secret_len = if start == 0 { SEED } else { len };
        let (secret, filter) = rest.split_at_checked(secret_len).ok_or(DecodeError::Shape)?;
        let filter = core::str::from_utf8(filter).ok().and_then(|text| TopicFilter::new(text).ok());
        Ok(Self {
            suite,
            gid,
            epoch: u16::from_be_bytes([e0, e1]),
            start,
            commitment,
            last_seal,
            filter: filter.ok_or(DecodeError::Value)?,
            secret: SecretBytes::new(secret.to_vec()),
        })
    }
}
