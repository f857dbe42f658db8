//! The offline verifier: segment after segment, it follows the chain and stops at the first bad record.

use alloc::boxed::Box;

use thiserror::Error;

use super::entry::{AuditEntry, ChainHead, MAX_ENTRY, record_hash};
use super::frame::{Frame, Frames};
use super::segment::{MAX_HEADER, SegmentHeader, SignerClass};
use crate::codec::DecodeError;
use crate::codec::signed::{Signed, SignerKey, Unverified};
use crate::crypto::backend::Backend;
use crate::ids::{Digest, PeerId};

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Defect {
    /// The segment is empty: its header is missing.
    #[error("the segment has no header")]
    NoHeader,
    /// The record was never completed, in a place where more had to follow.
    #[error("the record is incomplete")]
    Torn,
    /// The framing was changed.
    #[error("the record's length was altered")]
    Framing,
    /// The record does not decode.
    #[error("the record does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// The header's public key is none of its signature set.
    #[error("the header's public key is invalid")]
    InvalidKey,
    /// The verifier's caller does not trust the header's key and certificate.
    #[error("the segment's signer is not trusted")]
    Untrusted,
    /// Signed by another key than its segment's header names.
    #[error("signed by another key than the segment's")]
    WrongSigner,
    /// The signature does not verify: content or signature was altered.
    #[error("the signature does not verify")]
    BadSignature,
    /// It belongs to another log.
    #[error("it belongs to the log of '{found}'")]
    WrongLog {
        /// The log it names.
        found: PeerId,
    },
    /// A segment is missing or out of place.
    #[error("segment {expected} is missing: found segment {found}")]
    SegmentGap {
        /// The number that had to follow.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// An entry is missing or out of place.
    #[error("entry {expected} is missing: found entry {found}")]
    EntryGap {
        /// The number that had to follow.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// Its `previous` hash is not that of the record before it.
    #[error("it does not chain to the record before it")]
    BrokenChain,
}

/// The first bad record of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the record of entry {seq} at byte {offset}: {defect}")]
pub struct SegmentError {
    /// Where its frame starts, in bytes from the start of the segment.
    pub offset: usize,
    /// The entry that was expected there (for a header: the one after it).
    pub seq: u64,
    /// What is wrong.
    pub defect: Defect,
}

/// What a verified segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Its number.
    pub segment: u64,
    /// How many entries it holds.
    pub entries: u64,
    /// Its signer's class.
    pub class: SignerClass,
    /// Where an incomplete last record starts, if there is one. It is part of no verified content.
    pub torn_at: Option<usize>,
    /// Length of the verified records in bytes.
    pub length: usize,
}

/// Follows one log from its first segment (or from any, see [`LogVerifier::resume`]).
pub struct LogVerifier {
    backend: Backend,
    log_id: Option<PeerId>,
    next_segment: Option<u64>,
    previous: Digest,
    next_seq: u64,
    torn: bool,
}

impl LogVerifier {
    /// Starts before the first segment.
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            log_id: None,
            next_segment: Some(1),
            previous: Digest([0; Digest::LEN]),
            next_seq: 1,
            torn: false,
        }
    }

    /// Starts at any segment: what precedes it is taken from its own header and must be checked otherwise.
    pub fn resume(backend: Backend) -> Self {
        Self { next_segment: None, ..Self::new(backend) }
    }

    /// The log's keeper, once a header verified.
    pub fn log_id(&self) -> Option<&PeerId> {
        self.log_id.as_ref()
    }

    /// Where the verified part ends.
    pub fn head(&self) -> ChainHead {
        ChainHead { seq: self.next_seq.saturating_sub(1), hash: self.previous }
    }

    /// Verifies the next segment. `trusted` judges the header's key and certificate after its own signature verified;
    /// `visit` sees each verified entry with its chain hash. After an error, the verifier stands where verification
    /// ended; only a torn last record is no error, and then no further segment may follow.
    pub fn segment(
        &mut self,
        bytes: &[u8],
        trusted: &mut dyn FnMut(&SegmentHeader) -> bool,
        visit: &mut dyn FnMut(&SegmentHeader, &AuditEntry, Digest),
    ) -> Result<SegmentSummary, Box<SegmentError>> {
        let mut frames = Frames::new(bytes);
        let mut at = 0;
        let result = self.segment_at(&mut frames, &mut at, trusted, visit);
        result.map_err(|defect| Box::new(SegmentError { offset: at, seq: self.next_seq, defect }))
    }

    fn segment_at(
        &mut self,
        frames: &mut Frames<'_>,
        at: &mut usize,
        trusted: &mut dyn FnMut(&SegmentHeader) -> bool,
        visit: &mut dyn FnMut(&SegmentHeader, &AuditEntry, Digest),
    ) -> Result<SegmentSummary, Defect> {
        if self.torn {
            return Err(Defect::Torn);
        }
        let record = match frames.next() {
            None => return Err(Defect::NoHeader),
            Some(Frame::Torn { .. }) => return Err(Defect::Torn),
            Some(Frame::Corrupt { .. }) => return Err(Defect::Framing),
            Some(Frame::Record { record, .. }) => record,
        };
        let (header, key) = self.header(record)?;
        if !trusted(&header) {
            return Err(Defect::Untrusted);
        }
        let (number, class) = (header.segment, header.class);
        self.previous = record_hash(header.payload());
        self.next_segment = number.checked_add(1);
        self.log_id = Some(header.log_id.clone());
        let mut summary = SegmentSummary { segment: number, entries: 0, class, torn_at: None, length: 0 };
        let mut end = super::frame::PREFIX + record.len();
        for frame in frames {
            match frame {
                Frame::Record { offset, record } => {
                    *at = offset;
                    let entry = self.entry(record, &header.log_id, &key)?;
                    self.previous = record_hash(entry.payload());
                    self.next_seq = self.next_seq.saturating_add(1);
                    summary.entries += 1;
                    end = offset + super::frame::PREFIX + record.len();
                    visit(&header, &entry, self.previous);
                }
                Frame::Torn { offset } => {
                    self.torn = true;
                    summary.torn_at = Some(offset);
                }
                Frame::Corrupt { offset } => {
                    *at = offset;
                    return Err(Defect::Framing);
                }
            }
        }
        summary.length = end;
        Ok(summary)
    }

    fn header(&mut self, record: &[u8]) -> Result<(Signed<SegmentHeader>, SignerKey), Defect> {
        let header = Unverified::<SegmentHeader>::decode(record, MAX_HEADER)?;
        let claimed = header.unverified();
        let log_id = claimed.log_id.clone();
        let key = SignerKey::parse(self.backend, claimed.set, &claimed.public_key)
            .map_err(|_| Defect::InvalidKey)?;
        let header = header.verify(&key, &&log_id).map_err(signature_defect)?;
        if let Some(expected) = &self.log_id
            && *expected != log_id
        {
            return Err(Defect::WrongLog { found: log_id });
        }
        match self.next_segment {
            Some(expected) if expected != header.segment => {
                return Err(Defect::SegmentGap { expected, found: header.segment });
            }
            Some(_) if header.first_seq != self.next_seq => {
                return Err(Defect::EntryGap { expected: self.next_seq, found: header.first_seq });
            }
            Some(_) if header.previous != self.previous => return Err(Defect::BrokenChain),
            Some(_) => {}
            None => self.next_seq = header.first_seq,
        }
        Ok((header, key))
    }

    fn entry(&self, record: &[u8], log_id: &PeerId, key: &SignerKey) -> Result<Signed<AuditEntry>, Defect> {
        let entry = Unverified::<AuditEntry>::decode(record, MAX_ENTRY)?;
        let entry = entry.verify(key, &log_id).map_err(signature_defect)?;
        if entry.log_id != *log_id {
            return Err(Defect::WrongLog { found: entry.log_id.clone() });
        }
        if entry.seq != self.next_seq {
            return Err(Defect::EntryGap { expected: self.next_seq, found: entry.seq });
        }
        if entry.previous != self.previous {
            return Err(Defect::BrokenChain);
        }
        Ok(entry)
    }
}

fn signature_defect(error: crate::codec::signed::VerifyError) -> Defect {
    match error {
        crate::codec::signed::VerifyError::WrongSigner => Defect::WrongSigner,
        crate::codec::signed::VerifyError::BadSignature => Defect::BadSignature,
    }
}
