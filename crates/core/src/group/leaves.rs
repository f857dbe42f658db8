//! Asking for the leaves of records that were lost, over the pairwise session.

use alloc::vec::Vec;

use super::MAX_BATCH;
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::kdf::HashOutput;
use crate::crypto::suite::HashAlgorithm;
use crate::ids::GroupId;

const WHICH: usize = MAX_BATCH / 8;
/// The longest encoded answer in bytes: heads, names and 256 leaves of 48 bytes.
const MAX_ENCODED: usize = 64 + WHICH + MAX_BATCH * 48;

/// Some places of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Which([u8; WHICH]);

impl Which {
    /// Puts `place` in. Places outside a batch are none.
    pub fn insert(&mut self, place: usize) {
        if let Some(byte) = self.0.get_mut(place / 8) {
            *byte |= 1 << (place % 8);
        }
    }

    /// Whether `place` is in.
    pub fn contains(&self, place: usize) -> bool {
        self.0.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that are in, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..MAX_BATCH).filter(|place| self.contains(*place))
    }
}

/// Asks the publisher for leaves of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingLeaves {
    /// The group.
    pub gid: GroupId,
    /// Its epoch.
    pub epoch: u16,
    /// The batch's first counter.
    pub first: u32,
    /// Which of its records.
    pub which: Which,
}

/// The answer. It proves nothing by itself: the batch's signed root does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves {
    /// What was asked.
    pub asked: MissingLeaves,
    /// The leaves of `asked.which`, ascending.
    pub leaves: Vec<HashOutput>,
}

impl MissingLeaves {
    /// For the pairwise session: CBOR `[gid, epoch, first, which]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(4);
        self.write(&mut writer);
        writer.finish()
    }

    /// Reads what [`MissingLeaves::encode`] wrote.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_ENCODED {
            return Err(DecodeError::TooLarge);
        }
        let mut reader = Reader::new(bytes)?;
        reader.array_of(4)?;
        let asked = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(asked)
    }

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.gid.as_bytes()).uint(self.epoch.into()).uint(self.first.into());
        writer.bytes(&self.which.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let gid = GroupId(reader.bytes_of()?);
        let epoch = u16::try_from(reader.uint()?).map_err(|_| DecodeError::Value)?;
        let (first, which) = (reader.uint32()?, Which(reader.bytes_of()?));
        if which.is_empty() { Err(DecodeError::Value) } else { Ok(Self { gid, epoch, first, which }) }
    }
}

impl Leaves {
    /// For the pairwise session: CBOR `[gid, epoch, first, which, leaves joined]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(5);
        self.asked.write(&mut writer);
        let leaves: Vec<&[u8]> = self.leaves.iter().map(HashOutput::as_slice).collect();
        writer.bytes(&leaves.concat());
        writer.finish()
    }

    /// Reads what [`Leaves::encode`] wrote.
    ///
    /// # Errors
    ///
    /// It is none, or the leaves are not as many as it says.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_ENCODED {
            return Err(DecodeError::TooLarge);
        }
        let mut reader = Reader::new(bytes)?;
        reader.array_of(5)?;
        let asked = MissingLeaves::read(&mut reader)?;
        let joined = reader.bytes()?;
        reader.finish()?;
        let algorithm = [HashAlgorithm::Sha256, HashAlgorithm::Sha384]
            .into_iter()
            .find(|algorithm| algorithm.output_len() * asked.which.len() == joined.len())
            .ok_or(DecodeError::Value)?;
        let leaves = joined.chunks_exact(algorithm.output_len());
        let leaves = leaves.map(|leaf| HashOutput::from_slice(algorithm, leaf)).collect::<Option<_>>();
        Ok(Self { asked, leaves: leaves.ok_or(DecodeError::Value)? })
    }
}
