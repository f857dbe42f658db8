//! What an endpoint knows about its peers.

use alloc::boxed::Box;
use core::cell::Cell;

use super::record::PeerRecord;
use crate::crypto::kem::EncapsulationKey;
use crate::crypto::suite::SessionSuite;
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::KeyId;
use crate::provider::PrekeyId;
use crate::time::{Monotonic, UnixTime};

use super::output::SendFailure;

/// The most peers one endpoint follows.
pub const MAX_PEERS: usize = 100_000;

/// A peer somebody asked for. Pins outlive trust: a revoked or expired peer cannot come back with older keys.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) pins: Option<PeerRecord>,
    /// Its certificate is in force and at hand.
    pub(super) trusted: Option<Box<Trusted>>,
    /// Its certificate is in force and in the store: to be loaded, and verified again, before it is used. Never while
    /// `trusted` is there.
    pub(super) unloaded: bool,
    /// An announcement came that could not be looked at: without budget, or while revocations are missing. Nothing of
    /// it is kept, as anyone may have sent it: the retained one is fetched again.
    pub(super) missed_keys: bool,
    /// As for announcements, and for bundles that came before their certificate.
    pub(super) missed_prekeys: bool,
    /// No keys of it are in force, and those that it had or announces are revoked; that was told.
    pub(super) announced_revoked: bool,
    /// Until when its certificate is expected, so that messages may wait for it.
    pub(super) expected_until: Option<Monotonic>,
}

impl Peer {
    /// The pins of a certificate in force, at hand or not.
    pub(super) fn in_force(&self) -> Option<&PeerRecord> {
        self.pins.as_ref().filter(|_| self.unloaded || self.trusted.is_some())
    }

    /// Whether the keys in force are those with this id.
    pub(super) fn trusts(&self, key: KeyId) -> bool {
        self.in_force().is_some_and(|pins| pins.identity.key_id() == key)
    }

    /// Whether the certificate has to be loaded before it is used at `at`; what is out of its validity is not.
    pub(super) fn must_load(&self, at: UnixTime) -> bool {
        self.unloaded && self.pins.as_ref().is_some_and(|pins| pins.valid_at(at))
    }

    pub(super) fn end_trust(&mut self) {
        self.trusted = None;
        self.unloaded = false;
    }
}

/// A peer whose certificate verified.
pub(super) struct Trusted {
    pub(super) certificate: VerifiedCertificate,
    pub(super) prekey: Option<Prekey>,
    /// Its place in the order of use.
    pub(super) used: u64,
    /// What paid for loading it, until it pays for something else.
    pub(super) owed: Cell<Option<Owed>>,
}

/// A peer's current prekey.
pub(super) struct Prekey {
    pub(super) id: PrekeyId,
    pub(super) key: EncapsulationKey,
    pub(super) not_after: UnixTime,
}

/// The budget that paid for loading a certificate. A message that caused it has paid for its own check, too: otherwise
/// two peers that drop each other's certificates could spend all tokens on loading. What a bundle paid comes back with a
/// genuine one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    Messages,
    Announcements,
}

impl Trusted {
    pub(super) fn new(certificate: VerifiedCertificate) -> Self {
        Self { certificate, prekey: None, used: 0, owed: Cell::new(None) }
    }

    /// Whether loading it paid for a message; for one only.
    pub(super) fn has_prepaid(&self) -> bool {
        let prepaid = self.owed.get() == Some(Owed::Messages);
        if prepaid {
            self.owed.set(None);
        }
        prepaid
    }

    /// The key to seal to at `at`.
    pub(super) fn kem_key(&self, at: UnixTime) -> Result<(PrekeyId, &EncapsulationKey), SendFailure> {
        match &self.prekey {
            Some(prekey) if at < prekey.not_after => Ok((prekey.id, &prekey.key)),
            _ if self.certificate.claims().prekey_required => Err(SendFailure::NoPrekey),
            _ => Ok((PrekeyId::STATIC, self.certificate.encapsulation_key())),
        }
    }

    /// The first of the peer's suites that `allowed` has.
    pub(super) fn suite(&self, allowed: &[SessionSuite]) -> Option<SessionSuite> {
        self.certificate.claims().suites.iter().copied().find(|suite| allowed.contains(suite))
    }
}
