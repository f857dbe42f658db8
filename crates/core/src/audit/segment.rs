//! A segment's header: who signs it, with what kind of key, and where it continues.

use alloc::vec;
use alloc::vec::Vec;

use super::entry::read_peer;
use crate::codec::signed::{ContextItem, SignedObject};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::labels;
use crate::crypto::suite::SignatureSet;
use crate::ids::{Digest, PeerId};

/// The version of segments that this release writes and reads.
pub const FORMAT: u64 = 1;
/// The largest encoded header, in bytes: a certificate, a public key and a signature.
pub const MAX_HEADER: usize = 64 * 1024;
/// Ends the header's `external_aad`, so that no entry can be read as a header or the reverse.
const HEADER_CONTEXT: &str = "segment";

/// What kind of key signs a log: whether the log may be called evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum SignerClass {
    /// Whoever copies the key can rewrite the log: *observability, not evidence*.
    Exportable = 1,
    /// The signer says that its key cannot leave its hardware.
    NonExportable = 2,
}

impl SignerClass {
    /// The class with this number.
    pub fn from_id(id: u64) -> Option<Self> {
        [Self::Exportable, Self::NonExportable].into_iter().find(|class| u64::from(*class as u8) == id)
    }

    /// Its kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exportable => "exportable",
            Self::NonExportable => "non-exportable",
        }
    }
}

/// The first record of a segment, signed like an entry by the key it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log.
    pub log_id: PeerId,
    /// Its number: 1 for the log's first segment, then without gaps.
    pub segment: u64,
    /// The number of its first entry.
    pub first_seq: u64,
    /// The hash of the previous segment's last record, zeros in segment 1.
    pub previous: Digest,
    /// What kind of key signs.
    pub class: SignerClass,
    /// The signer's signature set.
    pub set: SignatureSet,
    /// The signer's concatenated public keys.
    pub public_key: Vec<u8>,
    /// The signer's operational certificate, opaque here; the verifier's caller judges it.
    pub certificate: Option<Vec<u8>>,
}

impl SignedObject for SegmentHeader {
    const TAG: &'static str = labels::AUDIT;
    /// The log id.
    type Context<'a> = &'a PeerId;

    fn context<'a>(log_id: &'a &PeerId) -> Vec<ContextItem<'a>> {
        vec![ContextItem::Text(log_id.as_str()), ContextItem::Text(HEADER_CONTEXT)]
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(9);
        writer.int(1).uint(FORMAT);
        writer.int(2).text(self.log_id.as_str());
        writer.int(3).uint(self.segment);
        writer.int(4).uint(self.first_seq);
        writer.int(5).bytes(self.previous.as_bytes());
        writer.int(6).uint(self.class as u64);
        writer.int(7).uint(self.set.id().into());
        writer.int(8).bytes(&self.public_key);
        writer.int(9).array(self.certificate.iter().len());
        if let Some(certificate) = &self.certificate {
            writer.bytes(certificate);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(9)?;
        reader.key(1)?;
        if reader.uint()? != FORMAT {
            return Err(DecodeError::Version);
        }
        reader.key(2)?;
        let log_id = read_peer(reader)?;
        reader.key(3)?;
        let segment = reader.uint()?;
        reader.key(4)?;
        let first_seq = reader.uint()?;
        reader.key(5)?;
        let previous = Digest(reader.bytes_of()?);
        reader.key(6)?;
        let class = SignerClass::from_id(reader.uint()?).ok_or(DecodeError::Value)?;
        reader.key(7)?;
        let set = SignatureSet::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        reader.key(8)?;
        let public_key = reader.bytes()?.to_vec();
        reader.key(9)?;
        let certificate = match reader.array_up_to(1)? {
            0 => None,
            _ => Some(reader.bytes()?.to_vec()),
        };
        Ok(Self { log_id, segment, first_seq, previous, class, set, public_key, certificate })
    }
}
