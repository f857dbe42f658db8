//! The responder: judges m1 step by step, cheap before dear, and answers only after its caller judged the attempt.

use alloc::vec::Vec;

use thiserror::Error;

use super::packet::{GATE_LEN, KIND_M2, KIND_STALE, M1, answer_head};
use super::transcript::{self, Inner, Offer, Party};
use super::{Established, FinishError, Role};
use crate::codec::DecodeError;
use crate::codec::signed::SigStructure;
use crate::crypto::backend::{Backend, RandomSource};
use crate::crypto::kdf::{HashOutput, PseudorandomKey, hash};
use crate::crypto::kem::EncapsulationKey;
use crate::crypto::labels;
use crate::crypto::secret::Secret;
use crate::crypto::suite::SessionSuite;
use crate::envelope::Sender;
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::{BootId, Fingerprint, HandshakeId, SessionId};
use crate::provider::{PrekeyId, ProviderRequest};
use crate::session::schedule::{EarlySecret, HandshakeSecret};

/// What a responder judges an m1 by.
pub struct Responder<'a> {
    /// Our identity.
    pub us: &'a Sender,
    /// The suites that our certificate lists, in its order.
    pub accepted: &'a [SessionSuite],
    /// The suites that our policy allows.
    pub allowed: &'a [SessionSuite],
    /// Whether our certificate requires a prekey.
    pub prekey_required: bool,
    /// The public half of the key that [`M1::prekey`] names.
    pub encapsulation_key: &'a [u8],
}

/// Why an m1 was refused. The peer never learns which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum M1Refusal {
    /// Meant for other keys than ours.
    #[error("meant for other keys than ours")]
    Recipient,
    /// The given certificate is not of the id and keys that it names.
    #[error("the certificate is not the one of this handshake's initiator")]
    Certificate,
    /// Our own message, back.
    #[error("our own message came back")]
    Ourselves,
    /// A suite that our certificate does not list or our policy does not allow.
    #[error("a suite that we do not accept")]
    Suite,
    /// It uses our static key, and we require a prekey.
    #[error("uses the static key although a prekey is required")]
    PrekeyRequired,
    /// The named prekey is not of the suite's mechanism.
    #[error("the named prekey does not fit the suite")]
    Prekey,
    /// The sealed part does not authenticate.
    #[error("the sealed part does not authenticate")]
    Ciphertext,
    /// The sealed part is malformed.
    #[error("the sealed part is malformed: {0}")]
    Content(#[from] DecodeError),
    /// The initiator's signature does not verify for this handshake.
    #[error("the initiator's signature does not verify for this handshake")]
    Signature,
}

/// An m1 whose clear part fits both sides; its shared secret is awaited.
pub struct CheckedM1 {
    backend: Backend,
    suite: SessionSuite,
    bytes: Vec<u8>,
    th1: HashOutput,
}

impl M1<'_> {
    /// Checks what costs no more than a hash: that it is for us, from `peer`, and under a suite that both sides
    /// accept. The caller has looked `peer` up by the id and checked its validity and revocation.
    pub fn check(
        &self,
        backend: Backend,
        we: &Responder<'_>,
        peer: &VerifiedCertificate,
    ) -> Result<CheckedM1, M1Refusal> {
        let us = we.us;
        if self.responder_fingerprint != us.fingerprint {
            return Err(M1Refusal::Recipient);
        }
        if self.initiator_fingerprint == us.fingerprint || self.initiator() == us.id.as_str() {
            return Err(M1Refusal::Ourselves);
        }
        if self.initiator() != peer.claims().subject.as_str()
            || self.initiator_fingerprint != peer.fingerprint()
        {
            return Err(M1Refusal::Certificate);
        }
        if !we.accepted.contains(&self.suite) || !we.allowed.contains(&self.suite) {
            return Err(M1Refusal::Suite);
        }
        if self.prekey == PrekeyId::STATIC && we.prekey_required {
            return Err(M1Refusal::PrekeyRequired);
        }
        if we.encapsulation_key.len() != self.suite.kem().encapsulation_key_len() {
            return Err(M1Refusal::Prekey);
        }
        let offer = Offer {
            suite: self.suite,
            accepted: we.accepted,
            initiator: Party::of(peer),
            responder: Party { id: us.id.as_str(), fingerprint: us.fingerprint, set: us.set },
            prekey: self.prekey,
            encapsulation_key: we.encapsulation_key,
            revocation_seq: self.revocation_seq,
            attempt: self.attempt,
            ephemeral: self.ephemeral,
            ciphertext: self.ciphertext,
        };
        Ok(CheckedM1 { backend, suite: self.suite, bytes: self.bytes.to_vec(), th1: offer.th1() })
    }
}

impl CheckedM1 {
    /// Whether m1 vouches for itself with the gate key of a session: it may then use its peer's reserve. A hint:
    /// nothing is refused for a wrong one.
    pub fn gate_matches(&self, key: &PseudorandomKey) -> bool {
        let Ok(m1) = M1::parse(&self.bytes) else { return false };
        let found: &[u8; GATE_LEN] = &m1.gate;
        transcript::gate_matches(key, &self.th1, found)
    }

    /// By what an answer that was given before is found.
    pub fn handshake(&self) -> HandshakeId {
        transcript::handshake_id(&self.th1)
    }

    /// What to ask of the provider; nothing if m1 does not parse, which [`M1::check`] has excluded.
    pub fn request(&self) -> Option<ProviderRequest> {
        let m1 = M1::parse(&self.bytes).ok()?;
        Some(ProviderRequest::Decapsulate { key: m1.prekey, ciphertext: m1.ciphertext.to_vec() })
    }

    /// Opens the sealed part with the decapsulated secret and verifies the initiator's signature.
    pub fn decapsulated(self, ss1: &Secret<32>, peer: &VerifiedCertificate) -> Result<Authentic, M1Refusal> {
        let suite = self.suite;
        let m1 = M1::parse(&self.bytes).map_err(|_| M1Refusal::Ciphertext)?;
        if m1.initiator_fingerprint != peer.fingerprint() {
            return Err(M1Refusal::Certificate);
        }
        let early = EarlySecret::new(suite, ss1);
        let k1 = early.k1(&self.th1).map_err(|_| M1Refusal::Ciphertext)?;
        let plaintext = transcript::open(self.backend, suite, &k1, m1.clear(), m1.sealed)
            .map_err(|_| M1Refusal::Ciphertext)?;
        let (inner, signature) = transcript::split(&plaintext)?;
        let signer = peer.signer();
        let structure = transcript::structure(
            suite,
            signer.set(),
            signer.fingerprint(),
            labels::SESSION_M1,
            &self.th1,
            inner,
        );
        signer.verify(&structure, signature).map_err(|_| M1Refusal::Signature)?;
        let inner = Inner::decode(inner)?;
        Ok(Authentic {
            backend: self.backend,
            suite,
            initiator: m1.initiator_fingerprint,
            responder: m1.responder_fingerprint,
            prekey: m1.prekey,
            revocation_seq: m1.revocation_seq,
            attempt: m1.attempt,
            ephemeral: m1.ephemeral.to_vec(),
            c1_hash: hash(suite.hash(), &[m1.sealed]),
            th1: self.th1,
            early,
            inner,
        })
    }
}

/// An m1 that its initiator signed. Nothing was sent yet: the caller judges the attempt first. It holds secrets and
/// has no `Debug`.
pub struct Authentic {
    backend: Backend,
    suite: SessionSuite,
    initiator: Fingerprint,
    responder: Fingerprint,
    prekey: PrekeyId,
    revocation_seq: u64,
    attempt: u64,
    ephemeral: Vec<u8>,
    c1_hash: HashOutput,
    th1: HashOutput,
    early: EarlySecret,
    inner: Inner,
}

/// Why an authentic m1 has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The initiator's ephemeral key is not a valid key.
    #[error("the initiator's ephemeral key is invalid")]
    EphemeralKey,
    /// The given identity is not the one that m1 was checked for.
    #[error("not the identity that the handshake was checked for")]
    Identity,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

impl Authentic {
    /// The initiator's attempt, to be judged: higher than all before, the same as the last, or lower.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// The whole transcript hash: an equal attempt with another one is equivocation.
    pub fn th1(&self) -> &HashOutput {
        &self.th1
    }

    /// By what an answer finds the initiator's state.
    pub fn handshake(&self) -> HandshakeId {
        transcript::handshake_id(&self.th1)
    }

    /// The initiator's identity.
    pub fn initiator(&self) -> Fingerprint {
        self.initiator
    }

    /// Where the initiator wants to receive.
    pub fn sid(&self) -> SessionId {
        self.inner.sid
    }

    /// The initiator's boot.
    pub fn boot(&self) -> BootId {
        self.inner.boot
    }

    /// The sequence of the revocations that the initiator holds: a hint that there is something to fetch, never a mode.
    pub fn revocation_seq(&self) -> u64 {
        self.revocation_seq
    }

    /// STALE: tells the initiator the highest attempt that we know of.
    ///
    /// The number is authenticated and not secret, so that it may be told anew under one key when it has risen.
    pub fn stale(self, highest: u64) -> Result<Vec<u8>, AnswerError> {
        let key = self.early.stale(&self.th1).map_err(|_| AnswerError::Library)?;
        let mut stale = answer_head(KIND_STALE, self.suite, self.handshake());
        stale.extend_from_slice(&highest.to_be_bytes());
        let tag = transcript::stale_tag(&key, &stale);
        stale.extend_from_slice(&tag);
        Ok(stale)
    }

    /// Encapsulates to the initiator's ephemeral key, which is validated here.
    ///
    /// Draws the encapsulation's randomness from `random`. `sid` is random and unique among our own.
    pub fn answer(
        self,
        random: &mut dyn RandomSource,
        us: &Sender,
        sid: SessionId,
        boot: BootId,
    ) -> Result<Answer, AnswerError> {
        if us.fingerprint != self.responder {
            return Err(AnswerError::Identity);
        }
        let suite = self.suite;
        let key = EncapsulationKey::parse(self.backend, suite.kem(), &self.ephemeral)
            .map_err(|_| AnswerError::EphemeralKey)?;
        let (ciphertext, ss2) = key.encapsulate(random).map_err(|_| AnswerError::EphemeralKey)?;
        let th2 = transcript::th2(suite, &self.th1, &self.c1_hash, &ciphertext);
        let secret = self.early.advance(&self.th1, &ss2).map_err(|_| AnswerError::Library)?;
        let inner = Inner { sid, boot }.encode();
        let structure = transcript::structure(suite, us.set, us.signer, labels::SESSION_M2, &th2, &inner);
        let mut clear = answer_head(KIND_M2, suite, self.handshake());
        clear.extend_from_slice(&ciphertext);
        Ok(Answer { authentic: self, sid, boot, th2, secret, clear, inner, structure })
    }
}

/// An m2 that waits for its signature. It holds secrets and has no `Debug`.
pub struct Answer {
    authentic: Authentic,
    sid: SessionId,
    boot: BootId,
    th2: HashOutput,
    secret: HandshakeSecret,
    clear: Vec<u8>,
    inner: Vec<u8>,
    structure: SigStructure,
}

impl Answer {
    /// What our identity key signs.
    pub fn structure(&self) -> &SigStructure {
        &self.structure
    }

    /// Seals the signature into m2.
    ///
    /// Session and packet must be durable before m2 is sent; a retransmission repeats its bytes.
    pub fn signed(self, signature: &[u8]) -> Result<(Vec<u8>, Established), FinishError> {
        if signature.len() != self.structure.set().signature_len() {
            return Err(FinishError::SignatureLength);
        }
        let m1 = self.authentic;
        let k2 = self.secret.k2(&self.th2).map_err(|_| FinishError::Library)?;
        let plaintext = transcript::join(&self.inner, signature);
        let m2 = transcript::seal(m1.backend, m1.suite, &k2, self.clear, plaintext)
            .map_err(|_| FinishError::Library)?;
        let secrets = self.secret.finish(&self.th2).map_err(|_| FinishError::Library)?;
        let established = Established {
            suite: m1.suite,
            role: Role::Responder,
            th2: self.th2,
            root: secrets.root,
            gate: secrets.gate,
            sid_in: self.sid,
            sid_out: m1.inner.sid,
            boot_in: m1.inner.boot,
            boot_out: self.boot,
            initiator: m1.initiator,
            responder: m1.responder,
            attempt: m1.attempt,
            prekey_used: m1.prekey != PrekeyId::STATIC,
        };
        Ok((m2, established))
    }
}
