//! Opening: verify the sender's signature first, then decapsulate, then decrypt.

use alloc::vec::Vec;

use thiserror::Error;

use super::body::Body;
use super::packet::{HEADER_LEN, Header, Packet, PacketError};
use super::{KeyContext, derive, signed_structure};
use crate::codec::DecodeError;
use crate::crypto::backend::Backend;
use crate::crypto::secret::Secret;
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::{Fingerprint, PeerId};
use crate::provider::PrekeyId;

/// A packet whose signature verified and whose shared secret is awaited.
pub struct PendingOpen {
    sender: PeerId,
    sender_fingerprint: Fingerprint,
    header: Header,
    blob: Vec<u8>,
}

/// Why a packet did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenFailure {
    /// Malformed.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The signature does not verify under the sender's key for this topic.
    #[error("the sender's signature does not verify for this topic")]
    Signature,
    /// The ciphertext does not authenticate under the derived key.
    #[error("the ciphertext does not authenticate")]
    Ciphertext,
    /// The sealed content is malformed.
    #[error("the sealed content is malformed: {0}")]
    Content(#[from] DecodeError),
}

/// An opened envelope.
#[derive(Debug)]
pub struct OpenedEnvelope {
    /// The verified sender.
    pub sender: PeerId,
    /// What it said.
    pub body: Body,
}

impl PendingOpen {
    /// Verifies the signature over sender, topic and blob.
    pub fn verify(
        packet: &Packet<'_>,
        sender: &VerifiedCertificate,
        topic: &str,
    ) -> Result<Self, OpenFailure> {
        let signer = sender.signer();
        let (blob, signature) = packet.split_signature(signer.set().signature_len())?;
        let id = &sender.claims().subject;
        if id.as_str().as_bytes() != packet.sender {
            return Err(OpenFailure::Signature);
        }
        let structure = signed_structure(signer.set(), signer.fingerprint(), id, topic, blob);
        signer.verify(&structure, signature).map_err(|_| OpenFailure::Signature)?;
        Ok(Self {
            sender: id.clone(),
            sender_fingerprint: sender.fingerprint(),
            header: packet.header,
            blob: blob.into(),
        })
    }

    /// The key to decapsulate with.
    pub fn prekey(&self) -> PrekeyId {
        self.header.prekey
    }

    /// The ciphertext to decapsulate.
    pub fn kem_ciphertext(&self) -> &[u8] {
        let end = HEADER_LEN + self.header.suite.kem().ciphertext_len();
        self.blob.get(HEADER_LEN..end).unwrap_or_default()
    }

    /// Decrypts. `encapsulation_key` is the public half of the key that decapsulated.
    pub fn finish(
        self,
        backend: Backend,
        shared: &Secret<32>,
        encapsulation_key: &[u8],
        topic: &str,
    ) -> Result<OpenedEnvelope, OpenFailure> {
        let clear = HEADER_LEN + self.header.suite.kem().ciphertext_len();
        let context = KeyContext {
            header: &self.header,
            sender: &self.sender,
            sender_fingerprint: self.sender_fingerprint,
            encapsulation_key,
            kem_ciphertext: self.kem_ciphertext(),
            topic,
        };
        let (key, nonce) = derive(shared, &context).ok_or(OpenFailure::Ciphertext)?;
        let (aad, sealed) = self.blob.split_at_checked(clear).ok_or(OpenFailure::Ciphertext)?;
        let mut content = sealed.to_vec();
        backend
            .aead_key(self.header.suite.aead(), &key)
            .open(&nonce, aad, &mut content)
            .map_err(|_| OpenFailure::Ciphertext)?;
        Ok(OpenedEnvelope { sender: self.sender, body: Body::decode(&content)? })
    }
}
