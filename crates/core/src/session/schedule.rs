//! The key schedule of a handshake: two shared secrets in, a session's keys out.
//!
//! ```text
//! ss1 ─► es0 = Extract(H(suite), ss1)            ─► k1(th1), stale(th1)
//! ss2 ─► es1 = Extract(Expand(es0, es, th1), ss2) ─► k2(th2)
//!         ms = Extract(Expand(es1, es, th2), 0)   ─► root, gate (th2)
//! ```
//! HKDF with the suite's hash; the `info` of every Expand is CBOR `[label, transcript hash]`.

use zeroize::Zeroize;

use crate::codec::Writer;
use crate::crypto::kdf::{HashOutput, OutputTooLong, PseudorandomKey, hash};
use crate::crypto::labels;
use crate::crypto::secret::Secret;
use crate::crypto::suite::{HashAlgorithm, SessionSuite};

/// The longest hash output of the registry, in bytes.
const MAX_HASH_LEN: usize = 48;

/// After the first encapsulation: `es0`. Only whoever holds the responder's prekey has it besides the initiator.
pub(super) struct EarlySecret {
    hash: HashAlgorithm,
    es0: PseudorandomKey,
}

impl EarlySecret {
    pub(super) fn new(suite: SessionSuite, ss1: &Secret<32>) -> Self {
        let salt = hash(suite.hash(), &[&[suite.id()]]);
        let es0 = PseudorandomKey::extract(suite.hash(), salt.as_slice(), ss1.expose());
        Self { hash: suite.hash(), es0 }
    }

    /// As a durable row kept it; `None` if it is not one hash length.
    pub(super) fn from_slice(suite: SessionSuite, bytes: &[u8]) -> Option<Self> {
        Some(Self { hash: suite.hash(), es0: PseudorandomKey::from_slice(suite.hash(), bytes)? })
    }

    /// For a durable row.
    pub(super) fn expose(&self) -> &[u8] {
        self.es0.expose()
    }

    /// The key of m1's sealed part.
    pub(super) fn k1(&self, th1: &HashOutput) -> Result<Secret<32>, OutputTooLong> {
        expand_key(&self.es0, labels::SESSION_K1, th1)
    }

    /// The key of STALE.
    pub(super) fn stale(&self, th1: &HashOutput) -> Result<Secret<32>, OutputTooLong> {
        expand_key(&self.es0, labels::SESSION_STALE, th1)
    }

    /// Mixes the second shared secret in.
    pub(super) fn advance(
        &self,
        th1: &HashOutput,
        ss2: &Secret<32>,
    ) -> Result<HandshakeSecret, OutputTooLong> {
        let salt = expand_hash(self.hash, &self.es0, labels::SESSION_ES, th1)?;
        let es1 = PseudorandomKey::extract(self.hash, salt.expose(), ss2.expose());
        Ok(HandshakeSecret { hash: self.hash, es1 })
    }
}

/// After the second encapsulation: `es1`.
pub(super) struct HandshakeSecret {
    hash: HashAlgorithm,
    es1: PseudorandomKey,
}

impl HandshakeSecret {
    /// The key of m2's sealed part.
    pub(super) fn k2(&self, th2: &HashOutput) -> Result<Secret<32>, OutputTooLong> {
        expand_key(&self.es1, labels::SESSION_K2, th2)
    }

    /// The session's secrets.
    pub(super) fn finish(&self, th2: &HashOutput) -> Result<SessionSecrets, OutputTooLong> {
        let salt = expand_hash(self.hash, &self.es1, labels::SESSION_ES, th2)?;
        let zeros = [0; MAX_HASH_LEN];
        let ms = PseudorandomKey::extract(self.hash, salt.expose(), &zeros[..self.hash.output_len()]);
        Ok(SessionSecrets {
            root: expand_hash(self.hash, &ms, labels::SESSION_ROOT, th2)?,
            gate: expand_hash(self.hash, &ms, labels::SESSION_GATE, th2)?,
        })
    }
}

/// What a handshake ends in.
pub(super) struct SessionSecrets {
    pub(super) root: PseudorandomKey,
    pub(super) gate: PseudorandomKey,
}

fn info(label: &str, transcript: &HashOutput) -> alloc::vec::Vec<u8> {
    let mut writer = Writer::new();
    writer.array(2).text(label).bytes(transcript.as_slice());
    writer.finish()
}

fn expand_key(
    from: &PseudorandomKey,
    label: &str,
    transcript: &HashOutput,
) -> Result<Secret<32>, OutputTooLong> {
    let mut key = Secret::new([0; 32]);
    from.expand(&info(label, transcript), key.expose_mut())?;
    Ok(key)
}

fn expand_hash(
    hash: HashAlgorithm,
    from: &PseudorandomKey,
    label: &str,
    transcript: &HashOutput,
) -> Result<PseudorandomKey, OutputTooLong> {
    let mut bytes = [0; MAX_HASH_LEN];
    let out = &mut bytes[..hash.output_len()];
    from.expand(&info(label, transcript), out)?;
    let key = PseudorandomKey::from_slice(hash, out).ok_or(OutputTooLong);
    bytes.zeroize();
    key
}
