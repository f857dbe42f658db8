//! The publisher's signature over a batch of records.
//!
//! ```text
//! 0xD1 · flags u8 (bit 0: last of the epoch) · gid 7 · group epoch u16 · first u32 · count u16 · root h · previous h · signature
//! ```
//! The commitment is signed and does not travel: whoever holds the key has it.

use alloc::vec::Vec;

use super::header::TYPE_SEAL;
use super::{BLOCK_LEN, MAX_BATCH, MAX_BLOCKS, Source};
use crate::codec::Writer;
use crate::codec::signed::{ContextItem, SigStructure};
use crate::crypto::kdf::{HashOutput, hash};
use crate::crypto::labels;
use crate::crypto::suite::{HashAlgorithm, SignatureSet};
use crate::ids::{Fingerprint, GroupId};
use crate::topic::TopicFilter;

const FIXED: usize = 17;

/// What a seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The group.
    pub gid: GroupId,
    /// Its epoch.
    pub epoch: u16,
    /// The first record's counter.
    pub first: u32,
    /// How many records follow on each other, at most [`MAX_BATCH`].
    pub count: u16,
    /// The root over their leaves.
    pub root: HashOutput,
    /// The hash of the seal before; zeros in the first.
    pub previous: HashOutput,
    /// No record of the epoch follows.
    pub last: bool,
}

/// A seal with its signature, not verified yet.
pub struct SealPacket<'a> {
    fixed: &'a [u8; FIXED],
    rest: &'a [u8],
}

impl<'a> SealPacket<'a> {
    /// Reads the clear part. `None` if it is none of ours.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = packet.split_first_chunk::<FIXED>()?;
        (fixed[0] == TYPE_SEAL && fixed[1] <= 1).then_some(Self { fixed, rest })
    }

    /// The group.
    pub fn gid(&self) -> GroupId {
        let &[_, _, a, b, c, d, e, f, g, ..] = self.fixed;
        GroupId([a, b, c, d, e, f, g])
    }

    /// The first record's counter.
    pub fn first(&self) -> u32 {
        let &[.., f0, f1, f2, f3, _, _] = self.fixed;
        u32::from_be_bytes([f0, f1, f2, f3])
    }

    /// Its epoch.
    pub fn epoch(&self) -> u16 {
        u16::from_be_bytes([self.fixed[9], self.fixed[10]])
    }

    /// What it says, with the hash of the group's suite, and its signature. `None` if it says what none can.
    pub fn read(&self, algorithm: HashAlgorithm) -> Option<(Seal, &'a [u8])> {
        let &[_, flags, .., f0, f1, f2, f3, c0, c1] = self.fixed;
        let (root, rest) = self.rest.split_at_checked(algorithm.output_len())?;
        let (previous, signature) = rest.split_at_checked(algorithm.output_len())?;
        let seal = Seal {
            gid: self.gid(),
            epoch: self.epoch(),
            first: u32::from_be_bytes([f0, f1, f2, f3]),
            count: u16::from_be_bytes([c0, c1]),
            root: HashOutput::from_slice(algorithm, root)?,
            previous: HashOutput::from_slice(algorithm, previous)?,
            last: flags == 1,
        };
        let count = usize::from(seal.count);
        let fits = seal.first.checked_add(seal.count.into())? <= MAX_BLOCKS * BLOCK_LEN;
        (fits && count <= MAX_BATCH && (count > 0 || seal.last)).then_some((seal, signature))
    }
}

impl Seal {
    /// The counter after the last record.
    pub fn end(&self) -> u32 {
        self.first + u32::from(self.count)
    }

    fn payload(&self, commitment: &HashOutput) -> Vec<u8> {
        let mut writer = Writer::with_capacity(192);
        writer.array(6).bytes(commitment.as_slice()).uint(self.first.into()).uint(self.count.into());
        writer.bytes(self.root.as_slice()).bytes(self.previous.as_slice()).bool(self.last);
        writer.finish()
    }

    /// What the publisher signs.
    pub(super) fn structure(
        &self,
        set: SignatureSet,
        signer: Fingerprint,
        source: &Source,
        filter: &TopicFilter,
        commitment: &HashOutput,
    ) -> SigStructure {
        let epoch = self.epoch.to_be_bytes();
        let context = [
            ContextItem::Text(source.id.as_str()),
            ContextItem::Text(filter.as_str()),
            ContextItem::Bytes(self.gid.as_bytes()),
            ContextItem::Bytes(&epoch),
        ];
        SigStructure::new(set, signer, labels::GROUP_SEAL, &context, self.payload(commitment))
    }

    /// What the next seal names it by: `H(CBOR["gs", gid, epoch, payload])`, without the signature.
    pub(super) fn hash(&self, algorithm: HashAlgorithm, commitment: &HashOutput) -> HashOutput {
        let mut writer = Writer::with_capacity(224);
        writer.array(4).text("gs").bytes(self.gid.as_bytes()).uint(self.epoch.into());
        writer.bytes(&self.payload(commitment));
        hash(algorithm, &[&writer.finish()])
    }

    /// The packet.
    pub(super) fn packet(&self, signature: &[u8]) -> Vec<u8> {
        let len = FIXED + 2 * self.root.as_slice().len() + signature.len();
        let mut packet = Vec::with_capacity(len);
        packet.extend_from_slice(&[TYPE_SEAL, u8::from(self.last)]);
        packet.extend_from_slice(self.gid.as_bytes());
        packet.extend_from_slice(&self.epoch.to_be_bytes());
        packet.extend_from_slice(&self.first.to_be_bytes());
        packet.extend_from_slice(&self.count.to_be_bytes());
        packet.extend_from_slice(self.root.as_slice());
        packet.extend_from_slice(self.previous.as_slice());
        packet.extend_from_slice(signature);
        packet
    }
}
