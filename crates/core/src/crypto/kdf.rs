//! Hashes, HMAC and HKDF (RFC 5869), on the crates `sha2` and `hkdf` with both backends.

use hkdf::{Hkdf, HkdfExtract};
use sha2::{Digest, Sha256, Sha384};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::suite::HashAlgorithm;

/// Longest digest of the registry, in bytes.
const MAX_HASH_LEN: usize = 48;

/// More than 255 hash lengths were asked of HKDF-Expand (RFC 5869 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("HKDF cannot expand to so many bytes")]
pub struct OutputTooLong;

/// A digest: 32 bytes with SHA-256, 48 with SHA-384.
///
/// Compared in variable time: it is for public values such as transcripts. Keyed output is [`PseudorandomKey`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashOutput {
    bytes: [u8; MAX_HASH_LEN],
    len: usize,
}

impl HashOutput {
    /// Adopts a digest that was kept; it must have exactly the algorithm's length.
    pub fn from_slice(algorithm: HashAlgorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.output_len()).then(|| hash_output(bytes))
    }

    /// The digest's bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for HashOutput {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// SHA-256 of the concatenated parts. Ambiguous unless the caller fixes each part's length.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest::<Sha256>(parts).into()
}

/// Hash of the concatenated parts. Ambiguous unless the caller fixes each part's length.
pub fn hash(algorithm: HashAlgorithm, parts: &[&[u8]]) -> HashOutput {
    match algorithm {
        HashAlgorithm::Sha256 => hash_output(&digest::<Sha256>(parts)),
        HashAlgorithm::Sha384 => hash_output(&digest::<Sha384>(parts)),
    }
}

/// HMAC-SHA-256 (RFC 2104) of the concatenated parts, with a key of any length.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HKDF-Extract is HMAC with the salt as its key (RFC 5869 §2.2), and this interface cannot fail.
    let mut mac = HkdfExtract::<Sha256>::new(Some(key));
    for part in parts {
        mac.input_ikm(part);
    }
    mac.finalize().0.into()
}

/// Extracts and expands in one call: fills `out` from `ikm`.
pub fn hkdf(
    algorithm: HashAlgorithm,
    salt: &[u8],
    ikm: &[u8],
    info: &[u8],
    out: &mut [u8],
) -> Result<(), OutputTooLong> {
    PseudorandomKey::extract(algorithm, salt, ikm).expand(info, out)
}

/// The output of HKDF-Extract: one hash length of key material, from which keys are expanded.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PseudorandomKey {
    #[zeroize(skip)]
    algorithm: HashAlgorithm,
    bytes: [u8; MAX_HASH_LEN],
}

impl PseudorandomKey {
    /// HKDF-Extract. An empty `salt` counts as a hash length of zeros.
    pub fn extract(algorithm: HashAlgorithm, salt: &[u8], ikm: &[u8]) -> Self {
        let mut key = Self { algorithm, bytes: [0; MAX_HASH_LEN] };
        match algorithm {
            HashAlgorithm::Sha256 => key.take(&mut Hkdf::<Sha256>::extract(Some(salt), ikm).0),
            HashAlgorithm::Sha384 => key.take(&mut Hkdf::<Sha384>::extract(Some(salt), ikm).0),
        }
        key
    }

    /// Adopts key material that is already pseudorandom; it must be exactly one hash length.
    pub fn from_slice(algorithm: HashAlgorithm, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != algorithm.output_len() {
            return None;
        }
        let mut key = Self { algorithm, bytes: [0; MAX_HASH_LEN] };
        key.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(key)
    }

    /// The hash it belongs to.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The key's bytes, one hash length.
    pub fn expose(&self) -> &[u8] {
        &self.bytes[..self.algorithm.output_len()]
    }

    /// HKDF-Expand: fills `out`, at most 255 hash lengths.
    pub fn expand(&self, info: &[u8], out: &mut [u8]) -> Result<(), OutputTooLong> {
        match self.algorithm {
            HashAlgorithm::Sha256 => Hkdf::<Sha256>::from_prk(self.expose())
                .map_err(|_| OutputTooLong)?
                .expand(info, out)
                .map_err(|_| OutputTooLong),
            HashAlgorithm::Sha384 => Hkdf::<Sha384>::from_prk(self.expose())
                .map_err(|_| OutputTooLong)?
                .expand(info, out)
                .map_err(|_| OutputTooLong),
        }
    }

    fn take(&mut self, bytes: &mut [u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        bytes.zeroize();
    }
}

impl HashAlgorithm {
    /// Length of its digest in bytes.
    pub fn output_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut state = D::new();
    for part in parts {
        state.update(part);
    }
    state.finalize()
}

fn hash_output(digest: &[u8]) -> HashOutput {
    let mut bytes = [0; MAX_HASH_LEN];
    bytes[..digest.len()].copy_from_slice(digest);
    HashOutput { bytes, len: digest.len() }
}
