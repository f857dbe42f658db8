//! Sealing at rest: XChaCha20-Poly1305 under random 24-byte nonces, so that no counter has to survive a restored disk.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::crypto::kdf;
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::suite::HashAlgorithm;

const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// How many bytes sealing adds.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// What was to be opened does not authenticate under this key and context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

/// A key that seals local data.
pub(crate) struct SealKey(XChaCha20Poly1305);

impl SealKey {
    pub(crate) fn new(key: &Secret<32>) -> Self {
        Self(XChaCha20Poly1305::new(key.expose().into()))
    }

    /// `nonce ‖ ciphertext ‖ tag`.
    pub(crate) fn seal(&self, random: &mut dyn RandomSource, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let body = sealed.get_mut(NONCE_LEN..).unwrap_or_default();
        // Fails only beyond 256 GiB.
        let tag = self.0.encrypt_inout_detached(&XNonce::from(nonce), aad, body.into()).unwrap_or_default();
        sealed.extend_from_slice(&tag);
        sealed
    }

    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotAuthentic> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotAuthentic)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(NotAuthentic)?;
        let mut plaintext = ciphertext.to_vec();
        let body = plaintext.as_mut_slice();
        self.0
            .decrypt_inout_detached(&XNonce::from(*nonce), aad, body.into(), &Tag::from(*tag))
            .map_err(|_| NotAuthentic)?;
        Ok(plaintext)
    }

    pub(crate) fn open_secret(&self, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, NotAuthentic> {
        self.open(aad, sealed).map(SecretBytes::new)
    }
}

/// A 32-byte key derived from `root` for one purpose (HKDF-SHA-256).
pub(crate) fn derive(root: &Secret<32>, purpose: &str) -> Secret<32> {
    derive_salted(root.expose(), &[], purpose)
}

/// As [`derive`], from input keying material of any length and a salt.
pub(crate) fn derive_salted(ikm: &[u8], salt: &[u8], purpose: &str) -> Secret<32> {
    let mut key = Secret::new([0; 32]);
    // HKDF-SHA-256 expands to 32 bytes always.
    let _ = kdf::hkdf(HashAlgorithm::Sha256, salt, ikm, purpose.as_bytes(), key.expose_mut());
    key
}
