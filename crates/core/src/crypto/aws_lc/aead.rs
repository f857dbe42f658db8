//! AES-256-GCM and ChaCha20-Poly1305 on AWS-LC.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::crypto::backend::{AeadKey, BackendError, OpenError};
use crate::crypto::secret::Secret;
use crate::crypto::suite::Aead;

/// "Less safe" because the caller chooses nonces: the protocol derives each pair of key and nonce once.
pub(super) struct Cipher(LessSafeKey);

impl Cipher {
    pub(super) fn new(aead: Aead, key: &Secret<32>) -> Option<Self> {
        let algorithm = match aead {
            Aead::Aes256Gcm => &AES_256_GCM,
            Aead::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        UnboundKey::new(algorithm, key.expose()).ok().map(LessSafeKey::new).map(Self)
    }
}

impl AeadKey for Cipher {
    fn seal_in_place(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; Aead::TAG_LEN], BackendError> {
        let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(aad));
        let tag = self.0.seal_in_place_separate_tag(nonce, aad, text).map_err(|_| BackendError)?;
        tag.as_ref().try_into().map_err(|_| BackendError)
    }

    fn open_in_place(&self, nonce: &[u8; 12], aad: &[u8], sealed: &mut [u8]) -> Result<(), OpenError> {
        let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(aad));
        self.0.open_in_place(nonce, aad, sealed).map(|_| ()).map_err(|_| OpenError)
    }
}
