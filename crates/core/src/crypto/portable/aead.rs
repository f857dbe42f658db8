//! AES-256-GCM on the crate `aes-gcm`, ChaCha20-Poly1305 on `chacha20poly1305`.

use alloc::vec::Vec;

use aes_gcm::KeyInit;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::array::sizes::{U12, U32};
use zeroize::Zeroize;

use crate::crypto::backend::{AeadKey, BackendError, OpenError};
use crate::crypto::secret::Secret;

pub(super) struct Cipher<C>(C);

impl<C: KeyInit<KeySize = U32>> Cipher<C> {
    pub(super) fn new(key: &Secret<32>) -> Self {
        Self(C::new(key.expose().into()))
    }
}

impl<C: AeadInOut<NonceSize = U12> + Send + Sync> AeadKey for Cipher<C> {
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), BackendError> {
        self.0.encrypt_in_place(nonce.into(), aad, buffer).map_err(|_| BackendError)
    }

    fn open(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        self.0.decrypt_in_place(nonce.into(), aad, buffer).map_err(|_| {
            buffer.zeroize();
            OpenError
        })
    }
}
