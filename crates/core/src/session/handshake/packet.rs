//! The three packets' frames, read without allocating or computing.
//!
//! ```text
//! m1    = 0xC1 ‖ suite ‖ id_len ‖ id_I ‖ fp_I 32 ‖ fp_R 32 ‖ prekey_id u32 ‖ policy seq u64 ‖ revocation seq u64
//!              ‖ attempt u64 ‖ ek_E ‖ ct1 ‖ gate 16 ‖ c1
//! m2    = 0xC2 ‖ suite ‖ th1[..16] ‖ ct2 ‖ c2
//! STALE = 0xC3 ‖ suite ‖ th1[..16] ‖ sealed attempt
//! ```

use alloc::vec::Vec;

use thiserror::Error;

use crate::crypto::suite::{Aead, SessionSuite};
use crate::ids::{Fingerprint, HandshakeId, PeerId, PeerIdError};
use crate::provider::PrekeyId;

/// The first byte of m1.
pub const KIND_M1: u8 = 0xc1;
/// The first byte of m2.
pub const KIND_M2: u8 = 0xc2;
/// The first byte of STALE.
pub const KIND_STALE: u8 = 0xc3;

/// The largest encoded parameter map, in bytes.
pub const MAX_PARAMETERS: usize = 512;
/// The largest sealed part of m1 and m2, in bytes: the longest signature (4,627), the inner part and their framing.
pub const MAX_SEALED: usize = 4_627 + MAX_PARAMETERS + 64;

pub(super) const GATE_LEN: usize = 16;
pub(super) const STALE_TAG_LEN: usize = 16;

/// Why bytes are not a handshake packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Too short for its own lengths.
    #[error("truncated handshake packet")]
    Truncated,
    /// Longer than its kind can be.
    #[error("handshake packet too long")]
    TooLong,
    /// Another first byte than this kind's.
    #[error("not this kind of handshake packet")]
    Kind,
    /// A suite outside the registry.
    #[error("unknown suite")]
    Suite,
    /// The initiator's id is malformed.
    #[error("malformed initiator id: {0}")]
    Initiator(#[from] PeerIdError),
}

/// An m1 cut into its parts; nothing in it is authenticated yet.
#[derive(Clone, Copy)]
pub struct M1<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) suite: SessionSuite,
    initiator: &'a [u8],
    pub(super) initiator_fingerprint: Fingerprint,
    pub(super) responder_fingerprint: Fingerprint,
    pub(super) prekey: PrekeyId,
    pub(super) revocation_seq: u64,
    pub(super) attempt: u64,
    pub(super) ephemeral: &'a [u8],
    pub(super) ciphertext: &'a [u8],
    pub(super) gate: [u8; GATE_LEN],
    /// c1; what precedes it is authenticated with it.
    pub(super) sealed: &'a [u8],
}

impl<'a> M1<'a> {
    /// Cuts `bytes`: checks kind, suite, id and lengths.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let mut cursor = Cursor(bytes);
        let suite = cursor.head(KIND_M1)?;
        let [id_len] = cursor.array()?;
        let initiator = cursor.take(id_len.into())?;
        PeerId::check(initiator)?;
        let m1 = Self {
            bytes,
            suite,
            initiator,
            initiator_fingerprint: Fingerprint(cursor.array()?),
            responder_fingerprint: Fingerprint(cursor.array()?),
            prekey: PrekeyId(u32::from_be_bytes(cursor.array()?)),
            revocation_seq: cursor.u64()?,
            attempt: cursor.u64()?,
            ephemeral: cursor.take(suite.kem().encapsulation_key_len())?,
            ciphertext: cursor.take(suite.kem().ciphertext_len())?,
            gate: cursor.array()?,
            sealed: cursor.sealed(MAX_SEALED)?,
        };
        Ok(m1)
    }

    /// The initiator's id, checked for form only.
    pub fn initiator(&self) -> &'a str {
        // Checked as ASCII by `parse`.
        core::str::from_utf8(self.initiator).unwrap_or_default()
    }

    /// The identity it claims to come from.
    pub fn initiator_fingerprint(&self) -> Fingerprint {
        self.initiator_fingerprint
    }

    /// The identity it claims to be meant for.
    pub fn responder_fingerprint(&self) -> Fingerprint {
        self.responder_fingerprint
    }

    /// The suite it claims.
    pub fn suite(&self) -> SessionSuite {
        self.suite
    }

    /// The responder's key it claims to be encapsulated to.
    pub fn prekey(&self) -> PrekeyId {
        self.prekey
    }

    /// The attempt it claims.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// What precedes c1.
    pub(super) fn clear(&self) -> &'a [u8] {
        self.bytes.get(..self.bytes.len() - self.sealed.len()).unwrap_or_default()
    }
}

/// Writes what precedes ek_E in m1; `None` for an id that is too long to have passed [`PeerId`].
pub(super) fn m1_head(
    suite: SessionSuite,
    initiator: &PeerId,
    fingerprints: [Fingerprint; 2],
    prekey: PrekeyId,
    revocation_seq: u64,
    attempt: u64,
) -> Option<Vec<u8>> {
    let id = initiator.as_str().as_bytes();
    let mut out = Vec::with_capacity(8 * 1024);
    out.extend_from_slice(&[KIND_M1, suite.id(), u8::try_from(id.len()).ok()?]);
    out.extend_from_slice(id);
    for fingerprint in &fingerprints {
        out.extend_from_slice(fingerprint.as_bytes());
    }
    out.extend_from_slice(&prekey.0.to_be_bytes());
    for number in [revocation_seq, attempt] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    Some(out)
}

/// Writes what m2 and STALE begin with.
pub(super) fn answer_head(kind: u8, suite: SessionSuite, handshake: HandshakeId) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + HandshakeId::LEN);
    out.extend_from_slice(&[kind, suite.id()]);
    out.extend_from_slice(handshake.as_bytes());
    out
}

/// The handshake that an m2 or STALE claims to answer, to find the initiator's state by; `None` if it is neither.
pub fn answered_handshake(bytes: &[u8]) -> Option<HandshakeId> {
    let (&kind, _) = bytes.split_first()?;
    if !matches!(kind, KIND_M2 | KIND_STALE) {
        return None;
    }
    HandshakeId::from_slice(bytes.get(2..2 + HandshakeId::LEN)?)
}

/// An m2 cut into its parts.
pub(super) struct M2<'a> {
    pub(super) suite: SessionSuite,
    pub(super) handshake: HandshakeId,
    pub(super) ciphertext: &'a [u8],
    pub(super) clear: &'a [u8],
    pub(super) sealed: &'a [u8],
}

impl<'a> M2<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let mut cursor = Cursor(bytes);
        let suite = cursor.head(KIND_M2)?;
        let handshake = HandshakeId(cursor.array()?);
        let ciphertext = cursor.take(suite.kem().ciphertext_len())?;
        let sealed = cursor.sealed(MAX_SEALED)?;
        let clear = bytes.get(..bytes.len() - sealed.len()).unwrap_or_default();
        Ok(Self { suite, handshake, ciphertext, clear, sealed })
    }
}

/// A STALE cut into its parts.
pub(super) struct Stale<'a> {
    pub(super) suite: SessionSuite,
    pub(super) handshake: HandshakeId,
    pub(super) highest: u64,
    /// All that the tag covers.
    pub(super) clear: &'a [u8],
    pub(super) tag: [u8; STALE_TAG_LEN],
}

impl<'a> Stale<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let mut cursor = Cursor(bytes);
        let suite = cursor.head(KIND_STALE)?;
        let handshake = HandshakeId(cursor.array()?);
        let highest = cursor.u64()?;
        let tag = cursor.array()?;
        if !cursor.0.is_empty() {
            return Err(PacketError::TooLong);
        }
        let clear = bytes.get(..bytes.len() - STALE_TAG_LEN).unwrap_or_default();
        Ok(Self { suite, handshake, highest, clear, tag })
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], PacketError> {
        let (now, later) = self.0.split_at_checked(length).ok_or(PacketError::Truncated)?;
        self.0 = later;
        Ok(now)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PacketError> {
        let (now, later) = self.0.split_first_chunk().ok_or(PacketError::Truncated)?;
        self.0 = later;
        Ok(*now)
    }

    fn u64(&mut self) -> Result<u64, PacketError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn head(&mut self, kind: u8) -> Result<SessionSuite, PacketError> {
        let [found] = self.array()?;
        if found != kind {
            return Err(PacketError::Kind);
        }
        let [suite] = self.array()?;
        SessionSuite::from_id(suite).ok_or(PacketError::Suite)
    }

    /// All that is left, as the output of an AEAD of at most `limit` bytes.
    fn sealed(&mut self, limit: usize) -> Result<&'a [u8], PacketError> {
        match self.0.len() {
            length if length < Aead::TAG_LEN => Err(PacketError::Truncated),
            length if length > limit => Err(PacketError::TooLong),
            length => self.take(length),
        }
    }
}
