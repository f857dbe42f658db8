//! Key announcements, retained on `<prefix>/keys/<peer_id>`: a peer's certificate and, beside it, what the peer signed
//! about it (invariant I2).

use alloc::vec::Vec;

use crate::codec::signed::{ContextItem, Signed, SignedObject, SignerKey, Unverified, VerifyError};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::kdf::sha256;
use crate::crypto::labels;
use crate::ids::{Digest, KeyId, PeerId};

/// What a peer signs about its certificate. The digest stands for it, so that each half of the signature hashes a
/// few hundred bytes instead of seven thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAnnouncement {
    /// SHA-256 of the whole encoded certificate, signature included.
    pub certificate: Digest,
    /// The certificate's key epoch, monotonic per peer.
    pub key_epoch: u64,
    /// The lookup key of the certified keys.
    pub key_id: KeyId,
}

impl KeyAnnouncement {
    /// Of this encoded certificate, whose epoch and keys these are.
    pub fn new(certificate: &[u8], key_epoch: u64, key_id: KeyId) -> Self {
        Self { certificate: Digest(sha256(&[certificate])), key_epoch, key_id }
    }
}

/// An announcement as it travels, `[certificate, signed object]`, of which nothing was checked but its shape.
pub struct Announcement<'a> {
    certificate: &'a [u8],
    signed: Unverified<KeyAnnouncement>,
}

impl<'a> Announcement<'a> {
    /// Decodes at most `limit` bytes. What the certificate's bytes hold is not looked at.
    ///
    /// # Errors
    ///
    /// As of [`Unverified::decode`].
    pub fn decode(encoded: &'a [u8], limit: usize) -> Result<Self, DecodeError> {
        if encoded.len() > limit {
            return Err(DecodeError::TooLarge);
        }
        let mut reader = Reader::new(encoded)?;
        reader.array_of(2)?;
        let certificate = reader.bytes()?;
        let signed = Unverified::decode(reader.bytes()?, limit)?;
        reader.finish()?;
        Ok(Self { certificate, signed })
    }

    /// The encoded certificate, to be trusted in nothing yet.
    pub fn certificate(&self) -> &'a [u8] {
        self.certificate
    }

    /// What was signed about it, to be trusted in nothing yet.
    pub fn unverified(&self) -> &KeyAnnouncement {
        self.signed.unverified()
    }

    /// Verifies that `key`, which has to be the certified one, signed this about this very certificate.
    ///
    /// # Errors
    ///
    /// [`VerifyError::BadSignature`] also where the signature is of another certificate than the one beside it.
    pub fn verify(
        self,
        key: &SignerKey,
        context: &PublishedBy<'_>,
    ) -> Result<Signed<KeyAnnouncement>, VerifyError> {
        if self.unverified().certificate != Digest(sha256(&[self.certificate])) {
            return Err(VerifyError::BadSignature);
        }
        self.signed.verify(key, context)
    }
}

/// Puts a certificate and the signed object about it into the form that travels.
pub fn assemble_announcement(certificate: &[u8], signed: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(certificate.len() + signed.len() + 16);
    writer.array(2).bytes(certificate).bytes(signed);
    writer.finish()
}

/// What an object published under a peer's own control topic is bound to.
pub struct PublishedBy<'a> {
    /// The peer.
    pub peer: &'a PeerId,
    /// The full topic, prefix included.
    pub topic: &'a str,
}

impl PublishedBy<'_> {
    pub(super) fn items(&self) -> Vec<ContextItem<'_>> {
        alloc::vec![ContextItem::Text(self.peer.as_str()), ContextItem::Text(self.topic)]
    }
}

impl SignedObject for KeyAnnouncement {
    const TAG: &'static str = labels::KEY_ANNOUNCEMENT;
    type Context<'a> = PublishedBy<'a>;

    fn context<'a>(context: &'a PublishedBy<'_>) -> Vec<ContextItem<'a>> {
        context.items()
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(3);
        writer.int(1).bytes(self.certificate.as_bytes());
        writer.int(2).uint(self.key_epoch);
        writer.int(3).bytes(self.key_id.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(3)?;
        reader.key(1)?;
        let certificate = Digest(reader.bytes_of()?);
        reader.key(2)?;
        let key_epoch = reader.uint()?;
        reader.key(3)?;
        Ok(Self { certificate, key_epoch, key_id: KeyId(reader.bytes_of()?) })
    }
}
