//! The packet's frame, read without allocating.

use alloc::vec::Vec;

use thiserror::Error;

use crate::crypto::suite::SessionSuite;
use crate::ids::{KeyId, PeerId, PeerIdError, StreamId};
use crate::provider::PrekeyId;

/// The envelope version spoken here.
pub const VERSION: u8 = 1;

/// Length of the blob's fixed header, in bytes.
pub const HEADER_LEN: usize = 1 + 1 + KeyId::LEN + 4 + 1 + 8;

/// The blob's clear, authenticated fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) suite: SessionSuite,
    pub(super) recipient: KeyId,
    pub(super) prekey: PrekeyId,
    pub(super) stream: StreamId,
    pub(super) sequence: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.push(VERSION);
        out.push(self.suite.id());
        out.extend_from_slice(self.recipient.as_bytes());
        out.extend_from_slice(&self.prekey.0.to_be_bytes());
        out.push(self.stream.value());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, PacketError> {
        let [version, suite, rest @ ..] = bytes;
        if *version != VERSION {
            return Err(PacketError::Version);
        }
        let suite = SessionSuite::from_id(*suite).ok_or(PacketError::Suite)?;
        let (recipient, rest) = rest.split_first_chunk().ok_or(PacketError::Truncated)?;
        let (prekey, rest) = rest.split_first_chunk().ok_or(PacketError::Truncated)?;
        let ([stream], rest) = rest.split_first_chunk().ok_or(PacketError::Truncated)?;
        let (sequence, _) = rest.split_first_chunk().ok_or(PacketError::Truncated)?;
        Ok(Self {
            suite,
            recipient: KeyId(*recipient),
            prekey: PrekeyId(u32::from_be_bytes(*prekey)),
            stream: StreamId::new(*stream).ok_or(PacketError::Stream)?,
            sequence: u64::from_be_bytes(*sequence),
        })
    }
}

/// A packet cut into its parts; nothing in it is authenticated yet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub(super) sender: &'a [u8],
    pub(super) header: Header,
    /// Blob and signature: where one ends depends on the sender's signature set.
    pub(super) rest: &'a [u8],
}

/// Why bytes are not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Too short for its own lengths.
    #[error("truncated packet")]
    Truncated,
    /// The first byte is not that of an envelope (0x01–0x80).
    #[error("not an envelope")]
    Kind,
    /// The sender id is malformed.
    #[error("malformed sender id: {0}")]
    Sender(#[from] PeerIdError),
    /// A version this release does not speak.
    #[error("unknown envelope version")]
    Version,
    /// A suite outside the registry.
    #[error("unknown suite")]
    Suite,
    /// A stream outside 0–7.
    #[error("stream out of range")]
    Stream,
}

impl<'a> Packet<'a> {
    /// Cuts `bytes`, which the caller has checked against its size limit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (&length, rest) = bytes.split_first().ok_or(PacketError::Truncated)?;
        if !(1..=128).contains(&length) {
            return Err(PacketError::Kind);
        }
        let (sender, rest) = rest.split_at_checked(length.into()).ok_or(PacketError::Truncated)?;
        PeerId::check(sender)?;
        let header = Header::decode(rest.first_chunk().ok_or(PacketError::Truncated)?)?;
        Ok(Self { sender, header, rest })
    }

    /// The sender's id, checked for form only.
    pub fn sender(&self) -> &'a str {
        // Checked as ASCII by `parse`.
        core::str::from_utf8(self.sender).unwrap_or_default()
    }

    /// The suite it claims.
    pub fn suite(&self) -> SessionSuite {
        self.header.suite
    }

    /// The recipient's key it claims to be sealed to.
    pub fn recipient(&self) -> KeyId {
        self.header.recipient
    }

    /// The recipient's prekey it claims to be sealed to.
    pub fn prekey(&self) -> PrekeyId {
        self.header.prekey
    }

    /// Its stream.
    pub fn stream(&self) -> StreamId {
        self.header.stream
    }

    /// Its sequence.
    pub fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// Blob and signature, given the length of the sender's signatures.
    pub(super) fn split_signature(&self, length: usize) -> Result<(&'a [u8], &'a [u8]), PacketError> {
        let shortest =
            HEADER_LEN + self.header.suite.kem().ciphertext_len() + crate::crypto::suite::Aead::TAG_LEN;
        let at = self.rest.len().checked_sub(length).filter(|at| *at >= shortest);
        self.rest.split_at_checked(at.ok_or(PacketError::Truncated)?).ok_or(PacketError::Truncated)
    }
}
