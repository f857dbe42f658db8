//! The public half of an identity.

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::kdf::sha256;
use crate::crypto::labels;
use crate::crypto::suite::{Kem, SignatureSet};
use crate::ids::{Fingerprint, KeyId};

/// The public keys of an identity: a signing key of one set and a static KEM key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicIdentity {
    /// The signature set.
    pub set: SignatureSet,
    /// Its concatenated public keys.
    pub signing_key: Vec<u8>,
    /// The mechanism of the static KEM key.
    pub kem: Kem,
    /// The static encapsulation key.
    pub encapsulation_key: Vec<u8>,
}

impl PublicIdentity {
    /// The full fingerprint, `SHA-256(CBOR[tag, set, signing key, kem, encapsulation key])`.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut writer = Writer::new();
        writer
            .array(5)
            .text(labels::IDENTITY_FINGERPRINT)
            .uint(self.set.id().into())
            .bytes(&self.signing_key)
            .uint(self.kem.id().into())
            .bytes(&self.encapsulation_key);
        Fingerprint(sha256(&[&writer.finish()]))
    }

    /// The lookup key.
    pub fn key_id(&self) -> KeyId {
        self.fingerprint().key_id()
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer
            .array(4)
            .uint(self.set.id().into())
            .bytes(&self.signing_key)
            .uint(self.kem.id().into())
            .bytes(&self.encapsulation_key);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_of(4)?;
        let set = SignatureSet::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let signing_key = reader.bytes()?.to_vec();
        let kem = Kem::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let encapsulation_key = reader.bytes()?.to_vec();
        let lengths_fit = signing_key.len() == set.public_key_len()
            && encapsulation_key.len() == kem.encapsulation_key_len();
        if lengths_fit {
            Ok(Self { set, signing_key, kem, encapsulation_key })
        } else {
            Err(DecodeError::Value)
        }
    }
}
