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
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), BackendError> {
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), buffer)
            .map_err(|_| BackendError)
    }

    fn open(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        let plaintext =
            self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), buffer.as_mut_slice());
        let Ok(plaintext) = plaintext else {
            buffer.zeroize();
            return Err(OpenError);
        };
        let length = plaintext.len();
        buffer.truncate(length);
        Ok(())
    }
}
