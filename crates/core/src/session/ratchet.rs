//! The KEM ratchet: a fresh encapsulation inside the session starts each epoch, so that a thief of its state is shut out.
//!
//! ```text
//!   proposer                              acceptor
//!   offer: new key pair, durable   ──►    accept: encapsulate, durable
//!   switch, durable                ◄──    (repeats the same ACCEPT)
//!   first record of e+1            ──►    switch, durable
//! ```
//! Both switches are one durable record each, and with it the old secrets are gone. The initiator proposes after even
//! epochs, the responder after odd ones.

use alloc::vec::Vec;

use thiserror::Error;

use crate::codec::Writer;
use crate::crypto::backend::{Backend, RandomSource};
use crate::crypto::kdf::{self, PseudorandomKey};
use crate::crypto::kem::{self, DecapsulationKey, EncapsulationKey};
use crate::crypto::labels;
use crate::crypto::secret::{Secret, SecretBytes};
use crate::crypto::suite::SessionSuite;

/// An offer: the proposer's fresh key for the epoch after the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The epoch it is for.
    pub epoch: u16,
    /// The encapsulation key.
    pub encapsulation_key: Vec<u8>,
}

/// The answer to an [`Offer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The epoch it is for.
    pub epoch: u16,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
}

/// Why an offer or an answer was refused. The session goes on as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RatchetError {
    /// It is for another epoch than the next.
    #[error("for another epoch than the next")]
    Epoch,
    /// It is not this side's turn.
    #[error("the other side proposes this epoch")]
    Turn,
    /// The epoch before the current one is still alive.
    #[error("the epoch before is still alive")]
    Busy,
    /// Another offer for the same epoch was accepted, or none was made.
    #[error("does not belong to the offer under way")]
    Other,
    /// The key or ciphertext is malformed.
    #[error("malformed key or ciphertext")]
    Malformed,
}

/// An offer of ours that waits for its answer.
pub(super) struct Offered {
    pub(super) seed: SecretBytes,
    pub(super) offer: Offer,
    /// Expanded; after a restart, and once the session was idle, only when the answer comes.
    key: Option<DecapsulationKey>,
}

/// An answer of ours that waits for the peer's first record of the epoch.
pub(super) struct Accepted {
    pub(super) encapsulation_key: Vec<u8>,
    pub(super) accept: Accept,
}

impl Offered {
    pub(super) fn new(
        backend: Backend,
        random: &mut dyn RandomSource,
        suite: SessionSuite,
        epoch: u16,
    ) -> Result<Self, RatchetError> {
        let seed = kem::generate_seed(suite.kem(), random);
        let key =
            DecapsulationKey::from_seed(backend, suite.kem(), &seed).map_err(|_| RatchetError::Malformed)?;
        let offer = Offer { epoch, encapsulation_key: key.encapsulation_key().to_vec() };
        Ok(Self { seed, offer, key: Some(key) })
    }

    pub(super) fn restore(seed: SecretBytes, offer: Offer) -> Self {
        Self { seed, offer, key: None }
    }

    /// Lets the expanded key go.
    pub(super) fn shrink(&mut self) {
        self.key = None;
    }

    /// The base of the epoch that `accept` completes.
    pub(super) fn complete(
        &self,
        backend: Backend,
        suite: SessionSuite,
        ratchet: &PseudorandomKey,
        accept: &Accept,
    ) -> Result<PseudorandomKey, RatchetError> {
        if accept.epoch != self.offer.epoch {
            return Err(RatchetError::Epoch);
        }
        let expanded;
        let key = match &self.key {
            Some(key) => key,
            None => {
                expanded = DecapsulationKey::from_seed(backend, suite.kem(), &self.seed)
                    .map_err(|_| RatchetError::Malformed)?;
                &expanded
            }
        };
        let shared = key.decapsulate(&accept.ciphertext).map_err(|_| RatchetError::Malformed)?;
        next_base(suite, ratchet, &shared, &self.offer.encapsulation_key, accept)
            .ok_or(RatchetError::Malformed)
    }
}

/// Answers an offer: gives the answer and the base of the new epoch.
pub(super) fn answer(
    backend: Backend,
    random: &mut dyn RandomSource,
    suite: SessionSuite,
    ratchet: &PseudorandomKey,
    offer: &Offer,
) -> Result<(Accepted, PseudorandomKey), RatchetError> {
    let key = EncapsulationKey::parse(backend, suite.kem(), &offer.encapsulation_key)
        .map_err(|_| RatchetError::Malformed)?;
    let (ciphertext, shared) = key.encapsulate(random).map_err(|_| RatchetError::Malformed)?;
    let accept = Accept { epoch: offer.epoch, ciphertext };
    let base = next_base(suite, ratchet, &shared, &offer.encapsulation_key, &accept)
        .ok_or(RatchetError::Malformed)?;
    Ok((Accepted { encapsulation_key: offer.encapsulation_key.clone(), accept }, base))
}

/// `Expand(Extract(ratchet, ss), CBOR[label, H(CBOR[ek, ct, epoch])])`.
fn next_base(
    suite: SessionSuite,
    ratchet: &PseudorandomKey,
    shared: &Secret<32>,
    encapsulation_key: &[u8],
    accept: &Accept,
) -> Option<PseudorandomKey> {
    let mut bound = Writer::new();
    bound.array(3).bytes(encapsulation_key).bytes(&accept.ciphertext).uint(accept.epoch.into());
    let digest = kdf::hash(suite.hash(), &[&bound.finish()]);
    let mut info = Writer::new();
    info.array(2).text(labels::SESSION_EPOCH).bytes(digest.as_slice());
    let mixed = PseudorandomKey::extract(suite.hash(), ratchet.expose(), shared.expose());
    let mut out = zeroize::Zeroizing::new([0; 48]);
    let out = out.get_mut(..suite.hash().output_len())?;
    mixed.expand(&info.finish(), out).ok()?;
    PseudorandomKey::from_slice(suite.hash(), out)
}
