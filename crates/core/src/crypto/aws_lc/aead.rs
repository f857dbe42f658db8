//! AES-256-GCM and ChaCha20-Poly1305 on AWS-LC.

use alloc::vec::Vec;

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

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
    fn seal_from(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), BackendError> {
        let start = start.min(buffer.len());
        let plaintext = buffer.get_mut(start..).ok_or(BackendError)?;
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), plaintext)
            .map_err(|_| BackendError)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn open_from(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), OpenError> {
        let start = start.min(buffer.len());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = buffer.get_mut(start..).ok_or(OpenError)?;
        let opened = self.0.open_in_place(nonce, Aad::from(aad), sealed).map(|plaintext| plaintext.len());
        let Ok(length) = opened else {
            buffer.zeroize();
            return Err(OpenError);
        };
        buffer.truncate(start + length);
        Ok(())
    }
}
