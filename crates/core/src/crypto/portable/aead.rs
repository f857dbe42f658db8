//! AES-256-GCM on the crate `aes-gcm`, ChaCha20-Poly1305 on `chacha20poly1305`.

use alloc::vec::Vec;

use aes_gcm::KeyInit;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::array::sizes::{U12, U16, U32};
use zeroize::Zeroize;

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
    fn seal_from(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), BackendError> {
        let start = start.min(buffer.len());
        let plaintext = buffer.get_mut(start..).ok_or(BackendError)?;
        let tag =
            self.0.encrypt_inout_detached(nonce.into(), aad, plaintext.into()).map_err(|_| BackendError)?;
        buffer.extend_from_slice(&tag);
        Ok(())
    }

    fn open_from(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), OpenError> {
        let end = buffer.len().checked_sub(Aead::TAG_LEN).filter(|end| start <= *end);
        let opened = end.and_then(|end| {
            let (sealed, tag) = buffer.get_mut(start..)?.split_at_mut(end - start);
            let tag: [u8; Aead::TAG_LEN] = (&*tag).try_into().ok()?;
            self.0.decrypt_inout_detached(nonce.into(), aad, sealed.into(), &tag.into()).ok()?;
            Some(end)
        });
        let Some(end) = opened else {
            buffer.zeroize();
            return Err(OpenError);
        };
        buffer.truncate(end);
        Ok(())
    }
}
