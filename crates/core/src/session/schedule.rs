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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Every key of one run of the schedule.
    fn keys(suite: SessionSuite, ss: [u8; 2], th: [u8; 2]) -> Vec<Vec<u8>> {
        let transcript =
            |byte| HashOutput::from_slice(suite.hash(), &[byte; 48][..suite.hash().output_len()]);
        let (th1, th2) = (transcript(th[0]).unwrap(), transcript(th[1]).unwrap());
        let early = EarlySecret::new(suite, &Secret::new([ss[0]; 32]));
        let handshake = early.advance(&th1, &Secret::new([ss[1]; 32])).unwrap();
        let session = handshake.finish(&th2).unwrap();
        let mut all = alloc::vec![
            early.k1(&th1).unwrap().expose().to_vec(),
            early.stale(&th1).unwrap().expose().to_vec(),
            handshake.k2(&th2).unwrap().expose().to_vec(),
        ];
        all.extend([session.root, session.gate].map(|key| key.expose().to_vec()));
        all
    }

    #[test]
    fn every_key_depends_on_all_that_came_before_and_equals_no_other() {
        for suite in SessionSuite::ALL {
            let base = keys(suite, [1, 2], [3, 4]);
            for (index, key) in base.iter().enumerate() {
                assert!(base.iter().filter(|other| *other == key).count() == 1, "{suite:?} key {index}");
            }
            // How many of the keys in front are made before the changed input comes in.
            for (other, unchanged) in [
                (keys(suite, [9, 2], [3, 4]), 0),
                (keys(suite, [1, 9], [3, 4]), 2),
                (keys(suite, [1, 2], [9, 4]), 0),
                (keys(suite, [1, 2], [3, 9]), 2),
            ] {
                for (index, (ours, theirs)) in base.iter().zip(&other).enumerate() {
                    assert_eq!(ours == theirs, index < unchanged, "{suite:?} key {index}");
                }
            }
        }
        let suites = [SessionSuite::Hybrid, SessionSuite::HybridChaCha];
        let [hybrid, chacha] = suites.map(|suite| keys(suite, [1, 2], [3, 4]));
        assert!(hybrid.iter().all(|key| !chacha.contains(key)));
    }

    #[test]
    fn an_early_secret_survives_its_row_only_at_its_length() {
        let suite = SessionSuite::Cnsa2;
        let early = EarlySecret::new(suite, &Secret::new([1; 32]));
        assert!(EarlySecret::from_slice(suite, early.expose()).unwrap().expose() == early.expose());
        assert!(EarlySecret::from_slice(SessionSuite::Hybrid, early.expose()).is_none());
    }
}
