//! The handshake: two messages, both signed, over a prekey and an ephemeral key (protocol §18).
//!
//! ```text
//! initiator                                                   responder
//! Initiate ──sign──► ExpectM2 ── m1 ─► M1 ─► CheckedM1 ──decapsulate──► Authentic
//!                        │                                    attempt judged │
//!                        ◄──────────── STALE ──────────────── .stale() ──────┤
//!                        ◄───────────── m2 ── Established ◄──sign── Answer ──┘
//!                   Established
//! ```
//! No I/O, no clock and no store: the states pause where a provider has to sign or decapsulate, and where the caller
//! has to judge an attempt. What is refused is refused without an answer, so a peer learns from no failure which
//! check it failed; the precise reason is for the log.

mod initiator;
mod packet;
mod responder;
mod row;
mod tiebreak;
mod transcript;

pub use initiator::{ExpectM2, Initiate, InitiateError, Initiation, M2Refusal, StaleRefusal};
pub use packet::{
    KIND_M1, KIND_M2, KIND_STALE, M1, MAX_PARAMETERS, MAX_SEALED, PacketError, answered_handshake,
};
pub use responder::{Answer, AnswerError, Authentic, CheckedM1, M1Refusal, Responder};
pub use tiebreak::{Contender, Winner, tiebreak};

pub use super::Role;
use super::SessionStart;

use thiserror::Error;

use crate::crypto::kdf::{HashOutput, PseudorandomKey};
use crate::crypto::suite::SessionSuite;
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::{BootId, Fingerprint, SessionId};

/// The handshake version spoken here; bound into the transcript.
pub const VERSION: u8 = 1;

/// A finished handshake. It holds secrets and has no `Debug`.
///
/// The responder sends nothing under these keys before a record of the initiator's has verified.
pub struct Established {
    /// The suite.
    pub suite: SessionSuite,
    /// Which side we are.
    pub role: Role,
    /// The hash of the whole exchange; equal on both sides exactly if they agree on everything.
    pub th2: HashOutput,
    /// Where the chains of records begin.
    pub root: PseudorandomKey,
    /// Vouches for the next handshake of this pair.
    pub gate: PseudorandomKey,
    /// We receive under it.
    pub sid_in: SessionId,
    /// The peer receives under it.
    pub sid_out: SessionId,
    /// The peer's boot, also the salt of its records.
    pub boot_in: BootId,
    /// Our boot, also the salt of our records.
    pub boot_out: BootId,
    /// The initiator's identity.
    pub initiator: Fingerprint,
    /// The responder's identity.
    pub responder: Fingerprint,
    /// The initiator's attempt.
    pub attempt: u64,
    /// Whether a prekey was used: without one, the responder's static key and m1 give its first half away.
    pub prekey_used: bool,
}

impl Established {
    /// What the session starts from.
    pub fn start(&self) -> SessionStart {
        SessionStart {
            suite: self.suite,
            role: self.role,
            root: self.root.clone(),
            gate: self.gate.clone(),
            sid_in: self.sid_in,
            sid_out: self.sid_out,
            boot_out: self.boot_out,
            boot_in: self.boot_in,
        }
    }
}

/// Why a signature did not finish a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FinishError {
    /// The provider's signature has not the length of its set.
    #[error("the signature's length is not its set's")]
    SignatureLength,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// The suite to begin with: the first of the peer's list, in the peer's order, that our policy allows.
pub fn choose_suite(peer: &VerifiedCertificate, allowed: &[SessionSuite]) -> Option<SessionSuite> {
    peer.claims().suites.iter().copied().find(|suite| allowed.contains(suite))
}
