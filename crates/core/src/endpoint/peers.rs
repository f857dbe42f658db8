//! What an endpoint knows about its peers.

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, Writer};
use crate::control::revocation::RevocationEntryId;
use crate::crypto::kem::EncapsulationKey;
use crate::crypto::suite::SessionSuite;
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::{Fingerprint, PeerId};
use crate::provider::PrekeyId;
use crate::store::{Change, RecordKind};
use crate::time::{Monotonic, UnixTime};

use super::output::SendFailure;

/// The most peers one endpoint follows.
pub const MAX_PEERS: usize = 100_000;

/// A peer somebody asked for. Pins outlive trust: a revoked or expired peer cannot come back with older keys.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) pins: Option<Pins>,
    pub(super) trusted: Option<Trusted>,
    /// An announcement came that could not be looked at: without budget, or while revocations are missing. Nothing of
    /// it is kept, as anyone may have sent it: the retained one is fetched again.
    pub(super) missed_keys: bool,
    /// As for announcements, and for bundles that came before their certificate.
    pub(super) missed_prekeys: bool,
    /// Until when its certificate is expected, so that messages may wait for it.
    pub(super) expected_until: Option<Monotonic>,
}

/// The highest of everything seen from a peer.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pins {
    pub(super) key_epoch: u64,
    pub(super) identity: Fingerprint,
    /// The certificate's `nbf`: an older certificate for the same keys is a rollback.
    pub(super) not_before: UnixTime,
    /// In force, or the last that was: what repeats it costs no signature.
    pub(super) certificate: Vec<u8>,
    pub(super) bundle_seq: u64,
    pub(super) bundle: Vec<u8>,
    pub(super) revoked: bool,
}

/// A peer whose certificate verified.
pub(super) struct Trusted {
    pub(super) certificate: VerifiedCertificate,
    pub(super) revocation: RevocationEntryId,
    pub(super) prekey: Option<Prekey>,
}

/// A peer's current prekey.
pub(super) struct Prekey {
    pub(super) id: PrekeyId,
    pub(super) key: EncapsulationKey,
    pub(super) not_after: UnixTime,
}

impl Trusted {
    pub(super) fn new(certificate: VerifiedCertificate) -> Self {
        let revocation = RevocationEntryId::new(&certificate.claims().subject, &certificate.key_id());
        Self { certificate, revocation, prekey: None }
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

impl Pins {
    pub(super) fn change(&self, peer: &PeerId) -> Change {
        let mut writer = Writer::new();
        writer
            .array(7)
            .uint(self.key_epoch)
            .bytes(self.identity.as_bytes())
            .uint(self.not_before.0)
            .bytes(&self.certificate)
            .uint(self.bundle_seq)
            .bytes(&self.bundle)
            .bool(self.revoked);
        Change::Put { kind: RecordKind::Peer, key: peer.as_str().into(), value: writer.finish() }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        reader.array_of(7)?;
        let pins = Self {
            key_epoch: reader.uint()?,
            identity: Fingerprint(reader.bytes_of()?),
            not_before: UnixTime(reader.uint()?),
            certificate: reader.bytes()?.to_vec(),
            bundle_seq: reader.uint()?,
            bundle: reader.bytes()?.to_vec(),
            revoked: reader.bool()?,
        };
        reader.finish()?;
        Ok(pins)
    }
}
