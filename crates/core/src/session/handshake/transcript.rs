//! What both sides hash, sign and seal.

use alloc::vec::Vec;

use subtle::ConstantTimeEq;

use super::VERSION;
use super::packet::{GATE_LEN, MAX_PARAMETERS, STALE_TAG_LEN};
use crate::codec::signed::{ContextItem, SigStructure};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::{Backend, BackendError, OpenError};
use crate::crypto::kdf::{HashOutput, PseudorandomKey, hash, hmac_sha256};
use crate::crypto::secret::Secret;
use crate::crypto::suite::{SessionSuite, SignatureSet};
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::{BootId, Fingerprint, HandshakeId, SessionId};
use crate::provider::PrekeyId;

/// k1, k2 and the key of STALE seal one plaintext each.
const NONCE: [u8; 12] = [0; 12];

/// One side, as th1 names it.
#[derive(Clone, Copy)]
pub(super) struct Party<'a> {
    pub(super) id: &'a str,
    pub(super) fingerprint: Fingerprint,
    pub(super) set: SignatureSet,
}

impl<'a> Party<'a> {
    pub(super) fn of(certificate: &'a VerifiedCertificate) -> Self {
        let claims = certificate.claims();
        let set = certificate.signer().set();
        Self { id: claims.subject.as_str(), fingerprint: certificate.fingerprint(), set }
    }
}

/// Everything that th1 binds.
pub(super) struct Offer<'a> {
    pub(super) suite: SessionSuite,
    /// The responder's list, in its certificate's order.
    pub(super) accepted: &'a [SessionSuite],
    pub(super) initiator: Party<'a>,
    pub(super) responder: Party<'a>,
    pub(super) prekey: PrekeyId,
    /// The responder's prekey.
    pub(super) encapsulation_key: &'a [u8],
    pub(super) revocation_seq: u64,
    pub(super) attempt: u64,
    pub(super) ephemeral: &'a [u8],
    pub(super) ciphertext: &'a [u8],
}

impl Offer<'_> {
    pub(super) fn th1(&self) -> HashOutput {
        let mut writer = Writer::with_capacity(
            1_024 + self.encapsulation_key.len() + self.ephemeral.len() + self.ciphertext.len(),
        );
        writer.array(16).text("m1").uint(self.suite.id().into()).uint(VERSION.into());
        writer.array(self.accepted.len());
        for suite in self.accepted {
            writer.uint(suite.id().into());
        }
        let (initiator, responder) = (&self.initiator, &self.responder);
        writer
            .text(initiator.id)
            .text(responder.id)
            .bytes(initiator.fingerprint.as_bytes())
            .bytes(responder.fingerprint.as_bytes())
            .uint(initiator.set.id().into())
            .uint(responder.set.id().into())
            .uint(self.prekey.0.into())
            .bytes(self.encapsulation_key)
            .uint(self.revocation_seq)
            .uint(self.attempt)
            .bytes(self.ephemeral)
            .bytes(self.ciphertext);
        hash(self.suite.hash(), &[&writer.finish()])
    }
}

/// The transcript after m2.
pub(super) fn th2(suite: SessionSuite, th1: &HashOutput, c1_hash: &HashOutput, ct2: &[u8]) -> HashOutput {
    let mut writer = Writer::with_capacity(256 + ct2.len());
    writer.array(4).text("m2").bytes(th1.as_slice()).bytes(c1_hash.as_slice()).bytes(ct2);
    hash(suite.hash(), &[&writer.finish()])
}

/// By what an answer finds its question.
pub(super) fn handshake_id(th1: &HashOutput) -> HandshakeId {
    let mut id = [0; HandshakeId::LEN];
    id.copy_from_slice(&th1.as_slice()[..HandshakeId::LEN]);
    HandshakeId(id)
}

/// The hint that an m1 comes from whom we had a session with: HMAC-SHA-256 whatever the suites, because the older
/// session may have had another.
pub(super) fn gate(key: &PseudorandomKey, th1: &HashOutput) -> [u8; GATE_LEN] {
    let mut gate = [0; GATE_LEN];
    gate.copy_from_slice(&hmac_sha256(key.expose(), &[th1.as_slice()])[..GATE_LEN]);
    gate
}

/// Compares in constant time.
pub(super) fn gate_matches(key: &PseudorandomKey, th1: &HashOutput, found: &[u8; GATE_LEN]) -> bool {
    gate(key, th1).ct_eq(found).into()
}

/// What authenticates a STALE.
pub(super) fn stale_tag(key: &Secret<32>, clear: &[u8]) -> [u8; STALE_TAG_LEN] {
    let mut tag = [0; STALE_TAG_LEN];
    tag.copy_from_slice(&hmac_sha256(key.expose(), &[clear])[..STALE_TAG_LEN]);
    tag
}

/// What a side says under seal and signature.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Inner {
    pub(super) sid: SessionId,
    pub(super) boot: BootId,
}

impl Inner {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(3).bytes(self.sid.as_bytes()).bytes(self.boot.as_bytes()).map(0);
        writer.finish()
    }

    /// Parameters are none yet; those of a later release are passed over.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > 1 + 1 + SessionId::LEN + 1 + BootId::LEN + MAX_PARAMETERS {
            return Err(DecodeError::TooLarge);
        }
        let mut reader = Reader::new(bytes)?;
        reader.array_of(3)?;
        let sid = SessionId(reader.bytes_of()?);
        let boot = BootId(reader.bytes_of()?);
        for _ in 0..reader.map()? {
            reader.int()?;
            reader.skip()?;
        }
        reader.finish()?;
        Ok(Self { sid, boot })
    }
}

/// What a side signs: the transcript and what it says itself.
pub(super) fn structure(
    suite: SessionSuite,
    set: SignatureSet,
    signer: Fingerprint,
    tag: &str,
    transcript: &HashOutput,
    inner: &[u8],
) -> SigStructure {
    let digest = hash(suite.hash(), &[inner]);
    let context = [ContextItem::Bytes(transcript.as_slice()), ContextItem::Bytes(digest.as_slice())];
    SigStructure::new(set, signer, tag, &context, Vec::new())
}

/// The plaintext of c1 and c2.
pub(super) fn join(inner: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(inner.len() + signature.len() + 32);
    writer.array(2).bytes(inner).bytes(signature);
    writer.finish()
}

/// Inner part and signature.
pub(super) fn split(plaintext: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let mut reader = Reader::new(plaintext)?;
    reader.array_of(2)?;
    let parts = (reader.bytes()?, reader.bytes()?);
    reader.finish()?;
    Ok(parts)
}

/// Appends the sealed `plaintext` to `clear`, which it authenticates.
pub(super) fn seal(
    backend: Backend,
    suite: SessionSuite,
    key: &Secret<32>,
    mut clear: Vec<u8>,
    mut plaintext: Vec<u8>,
) -> Result<Vec<u8>, BackendError> {
    backend.aead_key(suite.aead(), key).seal(&NONCE, &clear, &mut plaintext)?;
    clear.extend_from_slice(&plaintext);
    Ok(clear)
}

pub(super) fn open(
    backend: Backend,
    suite: SessionSuite,
    key: &Secret<32>,
    clear: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let mut plaintext = sealed.to_vec();
    backend.aead_key(suite.aead(), key).open(&NONCE, clear, &mut plaintext)?;
    Ok(plaintext)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::labels;
    use crate::crypto::suite::{HashAlgorithm, SignatureAlgorithm};

    const INNER: Inner = Inner { sid: SessionId([1; 4]), boot: BootId([2; 8]) };

    fn offer<'a>(party: &'a Party<'a>, accepted: &'a [SessionSuite], bytes: &'a [u8]) -> Offer<'a> {
        Offer {
            suite: SessionSuite::Hybrid,
            accepted,
            initiator: Party { id: "initiator", ..*party },
            responder: *party,
            prekey: PrekeyId(1),
            encapsulation_key: bytes,
            revocation_seq: 3,
            attempt: 4,
            ephemeral: bytes,
            ciphertext: bytes,
        }
    }

    #[test]
    fn th1_binds_every_field() {
        let fingerprint = Fingerprint([9; 32]);
        let party = Party { id: "responder", fingerprint, set: SignatureSet::Ed25519MlDsa65 };
        let (list, bytes) = ([SessionSuite::Hybrid, SessionSuite::HybridChaCha], [5; 40]);
        let changes: [&dyn Fn(&mut Offer<'_>); 16] = [
            &|_| {},
            &|offer| offer.suite = SessionSuite::HybridChaCha,
            &|offer| offer.accepted = &[SessionSuite::Hybrid],
            &|offer| offer.accepted = &[SessionSuite::HybridChaCha, SessionSuite::Hybrid],
            &|offer| offer.initiator.id = "other",
            &|offer| offer.responder.id = "other",
            &|offer| offer.initiator.fingerprint = Fingerprint([8; 32]),
            &|offer| offer.responder.fingerprint = Fingerprint([8; 32]),
            &|offer| offer.initiator.set = SignatureSet::P256MlDsa65,
            &|offer| offer.responder.set = SignatureSet::P256MlDsa65,
            &|offer| offer.prekey = PrekeyId(2),
            &|offer| offer.encapsulation_key = &[6; 40],
            &|offer| offer.revocation_seq = 9,
            &|offer| offer.attempt = 9,
            &|offer| offer.ephemeral = &[6; 40],
            &|offer| offer.ciphertext = &[6; 40],
        ];
        let mut seen: Vec<HashOutput> = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let mut offer = offer(&party, &list, &bytes);
            change(&mut offer);
            let th1 = offer.th1();
            assert!(!seen.contains(&th1), "change {index} is not bound");
            seen.push(th1);
        }
    }

    #[test]
    fn th2_binds_every_field() {
        let digest = |byte| HashOutput::from_slice(HashAlgorithm::Sha256, &[byte; 32]).unwrap();
        let base = th2(SessionSuite::Hybrid, &digest(1), &digest(2), &[3; 40]);
        for other in [
            th2(SessionSuite::Hybrid, &digest(9), &digest(2), &[3; 40]),
            th2(SessionSuite::Hybrid, &digest(1), &digest(9), &[3; 40]),
            th2(SessionSuite::Hybrid, &digest(1), &digest(2), &[9; 40]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_roles_sign_different_bytes() {
        let transcript = HashOutput::from_slice(HashAlgorithm::Sha256, &[1; 32]).unwrap();
        let message = |tag, inner: &[u8]| {
            let set = SignatureSet::Ed25519MlDsa65;
            structure(SessionSuite::Hybrid, set, Fingerprint([2; 32]), tag, &transcript, inner)
                .message(SignatureAlgorithm::Ed25519)
        };
        assert_ne!(message(labels::SESSION_M1, b"x"), message(labels::SESSION_M2, b"x"));
        assert_ne!(message(labels::SESSION_M1, b"x"), message(labels::SESSION_M1, b"y"));
    }

    fn with_parameters(write: impl Fn(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(3).bytes(&[1; 4]).bytes(&[2; 8]);
        write(&mut writer);
        writer.finish()
    }

    #[test]
    fn parameters_of_a_later_release_are_passed_over_within_their_bound() {
        assert_eq!(Inner::decode(&INNER.encode()), Ok(INNER));
        let known_later = with_parameters(|writer| {
            writer.map(2).int(1).array(2).uint(7).text("x").int(2).map(1).int(5).bytes(&[0; 90]);
        });
        assert_eq!(Inner::decode(&known_later), Ok(INNER));
        let room = MAX_PARAMETERS - 5;
        let fits = with_parameters(|writer| {
            writer.map(1).int(1).bytes(&alloc::vec![0; room]);
        });
        assert_eq!(Inner::decode(&fits), Ok(INNER));
        let too_long = with_parameters(|writer| {
            writer.map(1).int(1).bytes(&alloc::vec![0; room + 1]);
        });
        assert_eq!(Inner::decode(&too_long), Err(DecodeError::TooLarge));
        let no_map = with_parameters(|writer| {
            writer.array(0);
        });
        assert!(Inner::decode(&no_map).is_err());
    }

    proptest! {
        #[test]
        fn any_inner_part_decodes_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Inner::decode(&bytes);
            let _ = split(&bytes);
        }
    }
}
