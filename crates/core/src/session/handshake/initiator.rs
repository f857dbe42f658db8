//! The initiator: makes m1, then waits for m2 or STALE for as long as it likes.

use alloc::vec::Vec;

use subtle::ConstantTimeEq;
use thiserror::Error;

use super::packet::{GATE_LEN, M2, PacketError, Stale, m1_head};
use super::transcript::{self, Inner, Offer, Party};
use super::{Established, FinishError, Role};
use crate::codec::DecodeError;
use crate::codec::signed::SigStructure;
use crate::crypto::backend::{Backend, RandomSource};
use crate::crypto::kdf::{HashOutput, PseudorandomKey, hash};
use crate::crypto::kem::{DecapsulationKey, EncapsulationKey, generate_seed};
use crate::crypto::labels;
use crate::crypto::secret::SecretBytes;
use crate::crypto::suite::SessionSuite;
use crate::envelope::Sender;
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::{BootId, Fingerprint, HandshakeId, SessionId};
use crate::provider::PrekeyId;
use crate::session::schedule::EarlySecret;

/// How far a responder may send an initiator's attempts ahead.
const MAX_ATTEMPT_JUMP: u64 = 1 << 32;

/// What a handshake begins with.
pub struct Initiation<'a> {
    /// Our identity.
    pub us: &'a Sender,
    /// Our boot.
    pub boot: BootId,
    /// Where we want to receive: random, and unique among our own.
    pub sid: SessionId,
    /// The peer.
    pub peer: &'a VerifiedCertificate,
    /// Which of the peer's KEM keys.
    pub prekey: PrekeyId,
    /// That key, from a bundle that the peer signed.
    pub encapsulation_key: &'a EncapsulationKey,
    /// The suite: see [`choose_suite`](super::choose_suite).
    pub suite: SessionSuite,
    /// The sequence of the revocations that we hold: a hint for a responder that missed some.
    pub revocation_seq: u64,
    /// Fresh and higher than every earlier one to this peer's keys, durable before m1 is sent.
    pub attempt: u64,
    /// The gate key of the newest common session.
    pub gate: Option<&'a PseudorandomKey>,
}

/// Why a handshake does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InitiateError {
    /// The peer is ourselves.
    #[error("a peer has no session with itself")]
    Ourselves,
    /// The peer's certificate does not list the suite.
    #[error("the peer's certificate does not list this suite")]
    Suite,
    /// The peer requires a prekey, and its static key was given.
    #[error("the peer requires a prekey")]
    PrekeyRequired,
    /// The peer's KEM key is invalid, of another mechanism, or not the one that its name means.
    #[error("the peer's KEM key is invalid for this suite")]
    InvalidKey,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// An m1 that waits for its signature. It holds secrets and has no `Debug`.
pub struct Initiate {
    backend: Backend,
    suite: SessionSuite,
    clear: Vec<u8>,
    inner: Vec<u8>,
    structure: SigStructure,
    rest: Waiting,
}

/// What stays the same from before the signature until m2.
pub(super) struct Waiting {
    pub(super) us: Fingerprint,
    pub(super) peer: Fingerprint,
    pub(super) sid: SessionId,
    pub(super) boot: BootId,
    pub(super) prekey: PrekeyId,
    pub(super) attempt: u64,
    pub(super) th1: HashOutput,
    pub(super) early: EarlySecret,
    pub(super) seed: SecretBytes,
    pub(super) key: DecapsulationKey,
}

impl Initiate {
    /// Draws an ephemeral key and encapsulates to the peer's prekey.
    ///
    /// Draws from `random`: the ephemeral seed, the encapsulation's randomness, and without a gate key 16 bytes.
    pub fn new(
        backend: Backend,
        random: &mut dyn RandomSource,
        with: &Initiation<'_>,
    ) -> Result<Self, InitiateError> {
        let (suite, kem) = (with.suite, with.suite.kem());
        let (us, peer) = (with.us, with.peer);
        if us.fingerprint == peer.fingerprint() || us.id == peer.claims().subject {
            return Err(InitiateError::Ourselves);
        }
        if !peer.claims().suites.contains(&suite) {
            return Err(InitiateError::Suite);
        }
        let is_static = with.prekey == PrekeyId::STATIC;
        if is_static && peer.claims().prekey_required {
            return Err(InitiateError::PrekeyRequired);
        }
        if with.encapsulation_key.kem() != kem
            || is_static && with.encapsulation_key != peer.encapsulation_key()
        {
            return Err(InitiateError::InvalidKey);
        }
        let seed = generate_seed(kem, random);
        let key = DecapsulationKey::from_seed(backend, kem, &seed).map_err(|_| InitiateError::Library)?;
        let (ciphertext, ss1) =
            with.encapsulation_key.encapsulate(random).map_err(|_| InitiateError::InvalidKey)?;
        let offer = Offer {
            suite,
            accepted: &peer.claims().suites,
            initiator: Party { id: us.id.as_str(), fingerprint: us.fingerprint, set: us.set },
            responder: Party::of(peer),
            prekey: with.prekey,
            encapsulation_key: with.encapsulation_key.as_bytes(),
            revocation_seq: with.revocation_seq,
            attempt: with.attempt,
            ephemeral: key.encapsulation_key(),
            ciphertext: &ciphertext,
        };
        let th1 = offer.th1();
        let mut gate = [0; GATE_LEN];
        match with.gate {
            Some(gate_key) => gate = transcript::gate(gate_key, &th1),
            None => random.fill(&mut gate),
        }
        let fingerprints = [us.fingerprint, peer.fingerprint()];
        let mut clear = m1_head(suite, &us.id, fingerprints, with.prekey, with.revocation_seq, with.attempt)
            .ok_or(InitiateError::Library)?;
        clear.extend_from_slice(key.encapsulation_key());
        clear.extend_from_slice(&ciphertext);
        clear.extend_from_slice(&gate);
        let inner = Inner { sid: with.sid, boot: with.boot }.encode();
        let structure = transcript::structure(suite, us.set, us.signer, labels::SESSION_M1, &th1, &inner);
        let rest = Waiting {
            us: us.fingerprint,
            peer: peer.fingerprint(),
            sid: with.sid,
            boot: with.boot,
            prekey: with.prekey,
            attempt: with.attempt,
            th1,
            early: EarlySecret::new(suite, &ss1),
            seed,
            key,
        };
        Ok(Self { backend, suite, clear, inner, structure, rest })
    }

    /// What our identity key signs.
    pub fn structure(&self) -> &SigStructure {
        &self.structure
    }

    /// Seals the signature into m1.
    pub fn signed(self, signature: &[u8]) -> Result<ExpectM2, FinishError> {
        if signature.len() != self.structure.set().signature_len() {
            return Err(FinishError::SignatureLength);
        }
        let k1 = self.rest.early.k1(&self.rest.th1).map_err(|_| FinishError::Library)?;
        let clear_len = self.clear.len();
        let plaintext = transcript::join(&self.inner, signature);
        let m1 = transcript::seal(self.backend, self.suite, &k1, self.clear, plaintext)
            .map_err(|_| FinishError::Library)?;
        let c1_hash = hash(self.suite.hash(), &[m1.get(clear_len..).unwrap_or_default()]);
        Ok(ExpectM2 { backend: self.backend, suite: self.suite, m1, c1_hash, rest: self.rest })
    }
}

/// An m1 on its way. It holds secrets and has no `Debug`.
///
/// Nothing that arrives changes it: a forged answer costs one decapsulation and leaves the attempt open. Drop it,
/// and erase its row, when [`Self::receive_m2`] has succeeded or the attempt is given up.
pub struct ExpectM2 {
    pub(super) backend: Backend,
    pub(super) suite: SessionSuite,
    pub(super) m1: Vec<u8>,
    pub(super) c1_hash: HashOutput,
    pub(super) rest: Waiting,
}

/// Why an m2 was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum M2Refusal {
    /// Malformed.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// It answers another m1.
    #[error("answers another handshake")]
    Foreign,
    /// The given certificate is not of the keys that m1 was made for.
    #[error("the certificate is not the one of this handshake's responder")]
    Certificate,
    /// The KEM refuses the ciphertext.
    #[error("the KEM refuses the ciphertext")]
    KemCiphertext,
    /// The sealed part does not authenticate.
    #[error("the sealed part does not authenticate")]
    Ciphertext,
    /// The sealed part is malformed.
    #[error("the sealed part is malformed: {0}")]
    Content(#[from] DecodeError),
    /// The responder's signature does not verify for this handshake.
    #[error("the responder's signature does not verify for this handshake")]
    Signature,
}

/// Why a STALE was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StaleRefusal {
    /// Malformed.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// It answers another m1.
    #[error("answers another handshake")]
    Foreign,
    /// It does not authenticate.
    #[error("does not authenticate")]
    Tag,
    /// It names an attempt below ours.
    #[error("names an attempt below ours")]
    NotHigher,
    /// It names an attempt more than 2^32 above ours.
    #[error("names an attempt too far above ours")]
    TooFar,
}

impl ExpectM2 {
    /// The packet; a retransmission repeats it.
    pub fn m1(&self) -> &[u8] {
        &self.m1
    }

    /// By what an answer finds this state: see [`answered_handshake`](super::answered_handshake).
    pub fn handshake(&self) -> HandshakeId {
        transcript::handshake_id(&self.rest.th1)
    }

    /// Its attempt.
    pub fn attempt(&self) -> u64 {
        self.rest.attempt
    }

    /// Where we are going to receive.
    pub fn sid(&self) -> SessionId {
        self.rest.sid
    }

    /// The identity that it was made for.
    pub fn peer(&self) -> Fingerprint {
        self.rest.peer
    }

    /// Judges an m2: what is cheap first, then one decapsulation, one decryption, one signature.
    pub fn receive_m2(&self, bytes: &[u8], peer: &VerifiedCertificate) -> Result<Established, M2Refusal> {
        let (suite, state) = (self.suite, &self.rest);
        let m2 = M2::parse(bytes)?;
        if m2.suite != suite || m2.handshake != self.handshake() {
            return Err(M2Refusal::Foreign);
        }
        if peer.fingerprint() != state.peer {
            return Err(M2Refusal::Certificate);
        }
        let ss2 = state.key.decapsulate(m2.ciphertext).map_err(|_| M2Refusal::KemCiphertext)?;
        let th2 = transcript::th2(suite, &state.th1, &self.c1_hash, m2.ciphertext);
        let secret = state.early.advance(&state.th1, &ss2).map_err(|_| M2Refusal::Ciphertext)?;
        let k2 = secret.k2(&th2).map_err(|_| M2Refusal::Ciphertext)?;
        let plaintext = transcript::open(self.backend, suite, &k2, m2.clear, m2.sealed)
            .map_err(|_| M2Refusal::Ciphertext)?;
        let (inner, signature) = transcript::split(&plaintext)?;
        let signer = peer.signer();
        let structure =
            transcript::structure(suite, signer.set(), signer.fingerprint(), labels::SESSION_M2, &th2, inner);
        signer.verify(&structure, signature).map_err(|_| M2Refusal::Signature)?;
        let inner = Inner::decode(inner)?;
        let secrets = secret.finish(&th2).map_err(|_| M2Refusal::Ciphertext)?;
        Ok(Established {
            suite,
            role: Role::Initiator,
            th2,
            root: secrets.root,
            gate: secrets.gate,
            sid_in: state.sid,
            sid_out: inner.sid,
            boot_in: inner.boot,
            boot_out: state.boot,
            initiator: state.us,
            responder: state.peer,
            attempt: state.attempt,
            prekey_used: state.prekey != PrekeyId::STATIC,
        })
    }

    /// The highest attempt that the responder knows of, from its STALE: begin again above it.
    ///
    /// It is authentic as far as the prekey is: whoever holds the prekey's secret can make one.
    pub fn receive_stale(&self, bytes: &[u8]) -> Result<u64, StaleRefusal> {
        let stale = Stale::parse(bytes)?;
        if stale.suite != self.suite || stale.handshake != self.handshake() {
            return Err(StaleRefusal::Foreign);
        }
        let key = self.rest.early.stale(&self.rest.th1).map_err(|_| StaleRefusal::Tag)?;
        if !bool::from(transcript::stale_tag(&key, stale.clear).ct_eq(&stale.tag)) {
            return Err(StaleRefusal::Tag);
        }
        let highest = stale.highest;
        match highest.checked_sub(self.rest.attempt) {
            // The same number: a session of the peer's making has it, and goes before ours.
            None => Err(StaleRefusal::NotHigher),
            Some(jump) if jump > MAX_ATTEMPT_JUMP => Err(StaleRefusal::TooFar),
            Some(_) => Ok(highest),
        }
    }
}
