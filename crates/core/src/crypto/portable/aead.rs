//! AES-256-GCM on the crate `aes-gcm`, ChaCha20-Poly1305 on `chacha20poly1305`.

use aes_gcm::KeyInit;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::array::sizes::{U12, U16, U32};

use crate::crypto::backend::{AeadKey, BackendError, OpenError};
use crate::crypto::secret::Secret;
use crate::crypto::suite::Aead;

pub(super) struct Cipher<C>(C);

impl<C: KeyInit<KeySize = U32>> Cipher<C> {
    pub(super) fn new(key: &Secret<32>) -> Self {
        Self(C::new(key.expose().into()))
    }
}

impl<C: AeadInOut<NonceSize = U12, TagSize = U16> + Send + Sync> AeadKey for Cipher<C> {
    fn seal_in_place(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; Aead::TAG_LEN], BackendError> {
        let tag = self.0.encrypt_inout_detached(nonce.into(), aad, text.into()).map_err(|_| BackendError)?;
        Ok(tag.into())
    }

    fn open_in_place(&self, nonce: &[u8; 12], aad: &[u8], sealed: &mut [u8]) -> Result<(), OpenError> {
        let (text, tag) = sealed.split_last_chunk_mut::<{ Aead::TAG_LEN }>().ok_or(OpenError)?;
        let tag = (*tag).into();
        self.0.decrypt_inout_detached(nonce.into(), aad, text.into(), &tag).map_err(|_| OpenError)
    }
}
