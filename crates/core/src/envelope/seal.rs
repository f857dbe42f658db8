//! Sealing: encapsulate, encrypt, and hand the structure to sign to whoever holds the identity key.

use alloc::vec::Vec;

use thiserror::Error;

use super::body::Body;
use super::packet::Header;
use super::{KeyContext, derive, signed_structure};
use crate::codec::signed::SigStructure;
use crate::crypto::backend::{Backend, RandomSource};
use crate::crypto::kem::EncapsulationKey;
use crate::crypto::suite::{SessionSuite, SignatureSet};
use crate::ids::{Fingerprint, KeyId, PeerId, StreamId};
use crate::provider::PrekeyId;

/// The sender's public identity, as an envelope needs it.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Its id.
    pub id: PeerId,
    /// The identity's full fingerprint.
    pub fingerprint: Fingerprint,
    /// The signature set.
    pub set: SignatureSet,
    /// The signing key's fingerprint.
    pub signer: Fingerprint,
}

/// Whom and what an envelope is sealed to.
pub struct Recipient<'a> {
    /// The identity's lookup key.
    pub key_id: KeyId,
    /// Which of its KEM keys.
    pub prekey: PrekeyId,
    /// That key.
    pub encapsulation_key: &'a EncapsulationKey,
    /// The chosen suite.
    pub suite: SessionSuite,
}

/// Why sealing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The recipient's KEM key is invalid, or not of the suite's mechanism.
    #[error("the recipient's KEM key is invalid for this suite")]
    InvalidKey,
    /// A property is over its limit.
    #[error("a message property is over its size limit")]
    Property,
    /// The cipher failed.
    #[error("the cipher failed")]
    Cipher,
}

/// An encrypted envelope that waits for its signature.
pub struct PendingSeal {
    sender: PeerId,
    blob: Vec<u8>,
    structure: SigStructure,
    signature_len: usize,
}

impl PendingSeal {
    /// Encapsulates to the recipient and encrypts `body` for `topic`.
    ///
    /// `sequence` must be fresh for (sender key, recipient key, stream) and durable before the packet is sent.
    #[allow(clippy::too_many_arguments, reason = "each is bound into the key, none has a default")]
    pub fn new(
        backend: Backend,
        random: &mut dyn RandomSource,
        sender: &Sender,
        recipient: &Recipient<'_>,
        topic: &str,
        stream: StreamId,
        sequence: u64,
        body: &Body,
    ) -> Result<Self, SealError> {
        if recipient.encapsulation_key.kem() != recipient.suite.kem() {
            return Err(SealError::InvalidKey);
        }
        if !body.within_limits() {
            return Err(SealError::Property);
        }
        let header = Header {
            suite: recipient.suite,
            recipient: recipient.key_id,
            prekey: recipient.prekey,
            stream,
            sequence,
        };
        let (kem_ciphertext, shared) =
            recipient.encapsulation_key.encapsulate(random).map_err(|_| SealError::InvalidKey)?;
        let context = KeyContext {
            header: &header,
            sender: &sender.id,
            sender_fingerprint: sender.fingerprint,
            encapsulation_key: recipient.encapsulation_key.as_bytes(),
            kem_ciphertext: &kem_ciphertext,
            topic,
        };
        let (key, nonce) = derive(&shared, &context).ok_or(SealError::Cipher)?;
        let mut blob = header.encode();
        blob.extend_from_slice(&kem_ciphertext);
        let mut sealed = body.encode();
        backend
            .aead_key(recipient.suite.aead(), &key)
            .seal(&nonce, &blob, &mut sealed)
            .map_err(|_| SealError::Cipher)?;
        blob.extend_from_slice(&sealed);
        let structure = signed_structure(sender.set, sender.signer, &sender.id, topic, &blob);
        Ok(Self { sender: sender.id.clone(), blob, structure, signature_len: sender.set.signature_len() })
    }

    /// What the sender signs.
    pub fn structure(&self) -> &SigStructure {
        &self.structure
    }

    /// The packet; `None` if the signature's length is not the set's.
    pub fn finish(self, signature: &[u8]) -> Option<Vec<u8>> {
        if signature.len() != self.signature_len {
            return None;
        }
        let id = self.sender.as_str().as_bytes();
        let mut packet = Vec::with_capacity(1 + id.len() + self.blob.len() + signature.len());
        packet.push(u8::try_from(id.len()).ok()?);
        packet.extend_from_slice(id);
        packet.extend_from_slice(&self.blob);
        packet.extend_from_slice(signature);
        Some(packet)
    }
}
