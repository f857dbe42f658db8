//! A certificate request: the keys a certificate is wanted for, signed by themselves.

use alloc::vec::Vec;

use thiserror::Error;

use super::keys::PublicIdentity;
use crate::codec::signed::{ContextItem, Signed, SignedObject, SignerKey, Unverified};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::Backend;
use crate::crypto::labels;
use crate::ids::{MAX_PEER_ID, PeerId};

/// The largest encoded request, in bytes.
pub const MAX_REQUEST: usize = 32 * 1024;

/// The name and keys a certificate is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The peer.
    pub subject: PeerId,
    /// Its keys.
    pub keys: PublicIdentity,
}

impl SignedObject for CertificateRequest {
    const TAG: &'static str = labels::CERTIFICATE_REQUEST;
    type Context<'a> = ();

    fn context<'a>(_: &'a ()) -> Vec<ContextItem<'a>> {
        Vec::new()
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(2).int(1).text(self.subject.as_str()).int(2);
        self.keys.encode(writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(2)?;
        reader.key(1)?;
        let subject = PeerId::new(&reader.text(MAX_PEER_ID)?).map_err(|_| DecodeError::Value)?;
        reader.key(2)?;
        Ok(Self { subject, keys: PublicIdentity::decode(reader)? })
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It does not decode.
    #[error("the certificate request does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// The requester does not hold the signing key.
    #[error("the certificate request is not signed by the key it names")]
    NoPossession,
}

impl CertificateRequest {
    /// Decodes a request and verifies that its requester holds the signing key it names.
    ///
    /// Possession of the KEM key is not shown here: a request with another's KEM key yields a certificate whose holder
    /// can read nothing.
    pub fn verify(backend: Backend, encoded: &[u8]) -> Result<Signed<Self>, RequestError> {
        let request = Unverified::<Self>::decode(encoded, MAX_REQUEST)?;
        let keys = &request.unverified().keys;
        let signer =
            SignerKey::parse(backend, keys.set, &keys.signing_key).map_err(|_| RequestError::NoPossession)?;
        request.verify(&signer, &()).map_err(|_| RequestError::NoPossession)
    }
}
