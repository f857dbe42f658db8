//! Peers' announcements and prekey bundles (invariants I1, I2).

use alloc::vec::Vec;
use core::time::Duration;

use super::output::{Event, Output};
use super::peers::{Peer, Pins, Prekey, Trusted};
use super::refusal::RefusalReason;
use super::{Durable, Endpoint, TrustMode};
use crate::audit::{AuditEvent, AuditKind};
use crate::codec::signed::{SignerKey, Unverified};
use crate::crypto::kem::EncapsulationKey;
use crate::identity::announcement::{Announcement, PublishedBy};
use crate::identity::certificate::{
    CertificateError, MAX_CERTIFICATE, OperationalCertificate, VerifiedCertificate,
};
use crate::identity::prekey::PrekeyBundle;
use crate::ids::PeerId;

/// How often announcements and bundles that could not be looked at are fetched again.
const REFETCH_EVERY: Duration = Duration::from_secs(1);

/// Of how many peers at once: a flood of junk must not become a flood of ours.
const REFETCH_AT_ONCE: usize = 32;

impl Endpoint {
    pub(super) fn receive_announcement(
        &mut self,
        id: &PeerId,
        payload: Vec<u8>,
    ) -> Result<(), RefusalReason> {
        let announcement = Announcement::decode(&payload, self.config.limits.announcement)
            .map_err(|_| RefusalReason::Malformed)?;
        let claimed = announcement.unverified();
        let peer = self.peers.get(id).ok_or(RefusalReason::UnknownPeer)?;
        if let Some(pins) = &peer.pins {
            // A repetition of what is in force costs no signature and leaves no trace.
            if announcement.certificate() == pins.certificate && peer.trusted.is_some() {
                return Ok(());
            }
            check_pins(pins, &announcement)?;
        }
        if !self.trust_allowed() {
            // New trust waits for the missing revocations.
            let until = self.clock.monotonic().plus(super::MAX_HELD_FOR);
            if let Some(peer) = self.peers.get_mut(id).filter(|peer| !peer.missed_keys) {
                peer.missed_keys = true;
                peer.expected_until = Some(until);
            }
            return Ok(());
        }
        if !self.budgets.announcements.take(self.clock.monotonic()) {
            self.missed(id, |peer| peer.missed_keys = true);
            return Err(RefusalReason::OverBudget);
        }
        let certificate = self.verify_certificate(announcement.certificate())?;
        let claims = certificate.claims();
        let bound = claims.subject == *id
            && claims.key_epoch == claimed.key_epoch
            && certificate.key_id() == claimed.key_id;
        if !bound {
            return Err(RefusalReason::IdentityMismatch);
        }
        // Trust on first use is not trust on every use: only an issuer replaces keys.
        let issued = self.anchors.has_issuer(claims.issuer);
        let collides = peer.pins.as_ref().is_some_and(|pins| {
            (pins.key_epoch == claims.key_epoch || !issued) && pins.identity != certificate.fingerprint()
        });
        if collides {
            return Err(RefusalReason::Collision);
        }
        let topic = self.topics.keys(id);
        announcement
            .verify(certificate.signer(), &PublishedBy { peer: id, topic: &topic })
            .map_err(|_| RefusalReason::BadSignature)?;
        let trusted = Trusted::new(certificate);
        if self.revocations.is_revoked(&trusted.revocation) {
            return Err(RefusalReason::Revoked);
        }
        self.budgets.announcements.give_back();
        self.trust(id, trusted);
        Ok(())
    }

    fn verify_certificate(&self, encoded: &[u8]) -> Result<VerifiedCertificate, RefusalReason> {
        let at = self.clock.effective();
        let result = self.anchors.verify_certificate(encoded, at);
        let result = match (result, self.config.trust) {
            (Err(CertificateError::UnknownIssuer), TrustMode::DangerousTrustOnFirstUse) => {
                self.verify_self_issued(encoded)
            }
            (result, _) => result,
        };
        result.map_err(|error| match error {
            CertificateError::Validity => RefusalReason::Expired,
            CertificateError::Decode(_) => RefusalReason::Malformed,
            _ => RefusalReason::BadCertificate,
        })
    }

    /// A certificate that its own key signed: trust on first use, only in the mode that says it is dangerous.
    fn verify_self_issued(&self, encoded: &[u8]) -> Result<VerifiedCertificate, CertificateError> {
        let certificate = Unverified::<OperationalCertificate>::decode(encoded, MAX_CERTIFICATE)?;
        let claims = certificate.unverified();
        if !claims.valid_at(self.clock.effective()) {
            return Err(CertificateError::Validity);
        }
        if claims.issuer != certificate.claimed_signer() {
            return Err(CertificateError::BadSignature);
        }
        let key = SignerKey::parse(self.backend, claims.keys.set, &claims.keys.signing_key)?;
        VerifiedCertificate::self_issued(self.backend, certificate.verify(&key, &())?)
    }

    fn trust(&mut self, id: &PeerId, trusted: Trusted) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let claims = trusted.certificate.claims();
        let identity = trusted.certificate.fingerprint();
        let same_keys = peer.pins.as_ref().is_some_and(|pins| pins.identity == identity);
        let bundle = peer.pins.take().filter(|_| same_keys).map(|pins| (pins.bundle_seq, pins.bundle));
        let prekey = peer.trusted.take().filter(|_| same_keys).and_then(|old| old.prekey);
        let (bundle_seq, bundle) = bundle.unwrap_or_default();
        let pins = Pins {
            key_epoch: claims.key_epoch,
            identity,
            not_before: claims.not_before,
            certificate: trusted.certificate.encoded().to_vec(),
            bundle_seq,
            bundle,
            revoked: false,
        };
        let change = pins.change(id);
        let detail = alloc::format!("epoch {} key {}", claims.key_epoch, trusted.certificate.key_id());
        peer.pins = Some(pins);
        peer.trusted = Some(Trusted { prekey, ..trusted });
        peer.missed_keys = false;
        let missed_bundle = core::mem::take(&mut peer.missed_prekeys);
        let event = AuditEvent::new(AuditKind::KeyExchangeAccepted, Some(id.clone()), &detail);
        let after = self.barrier.persist(alloc::vec![change], alloc::vec![event]);
        self.announce_ready(id, after);
        self.peer_can_be_sent_to(id);
        if missed_bundle {
            self.barrier.emit(Durable::NOW, Output::Refetch(self.topics.prekeys(id)));
        }
        self.retry_held();
    }

    /// Tells the application once the peer can be sent to.
    fn announce_ready(&mut self, id: &PeerId, after: Durable) {
        let Some(trusted) = self.peers.get(id).and_then(|peer| peer.trusted.as_ref()) else { return };
        if let Ok((key, _)) = trusted.kem_key(self.clock.effective()) {
            let forward_secret = key != crate::provider::PrekeyId::STATIC;
            let event = Event::PeerReady { peer: id.clone(), forward_secret };
            self.barrier.emit(after, Output::Event(event));
        }
    }

    pub(super) fn receive_bundle(&mut self, id: &PeerId, payload: Vec<u8>) -> Result<(), RefusalReason> {
        let peer = self.peers.get(id).ok_or(RefusalReason::UnknownPeer)?;
        let bundle = Unverified::<PrekeyBundle>::decode(&payload, self.config.limits.prekeys)
            .map_err(|_| RefusalReason::Malformed)?;
        let claimed = bundle.unverified();
        let (Some(trusted), Some(pins)) = (&peer.trusted, &peer.pins) else {
            // Its certificate may come next.
            if let Some(peer) = self.peers.get_mut(id) {
                peer.missed_prekeys = true;
            }
            return Ok(());
        };
        let certificate = &trusted.certificate;
        if claimed.identity != certificate.fingerprint() || claimed.kem != certificate.claims().keys.kem {
            // Perhaps that of new keys, whose announcement comes next.
            if let Some(peer) = self.peers.get_mut(id) {
                peer.missed_prekeys = true;
            }
            return Err(RefusalReason::BadPrekey);
        }
        if claimed.bundle_seq < pins.bundle_seq {
            return Err(RefusalReason::Rollback);
        }
        if claimed.bundle_seq == pins.bundle_seq {
            // The same content under any signature changes nothing; other content is a collision.
            let repeated = same_content(pins, bundle.unverified());
            return if repeated { Ok(()) } else { Err(RefusalReason::Collision) };
        }
        if claimed.not_after <= self.clock.effective() {
            return Err(RefusalReason::Expired);
        }
        if !self.budgets.announcements.take(self.clock.monotonic()) {
            self.missed(id, |peer| peer.missed_prekeys = true);
            return Err(RefusalReason::OverBudget);
        }
        let topic = self.topics.prekeys(id);
        let bundle = bundle
            .verify(certificate.signer(), &PublishedBy { peer: id, topic: &topic })
            .map_err(|_| RefusalReason::BadPrekey)?;
        self.budgets.announcements.give_back();
        let key = EncapsulationKey::parse(self.backend, bundle.kem, &bundle.encapsulation_key)
            .map_err(|_| RefusalReason::BadPrekey)?;
        let prekey = Prekey { id: bundle.prekey_id, key, not_after: bundle.not_after };
        let bundle_seq = bundle.bundle_seq;
        self.adopt_bundle(id, prekey, bundle_seq, payload);
        Ok(())
    }

    fn adopt_bundle(&mut self, id: &PeerId, prekey: Prekey, bundle_seq: u64, encoded: Vec<u8>) {
        let Some(Peer { pins: Some(pins), trusted: Some(trusted), .. }) = self.peers.get_mut(id) else {
            return;
        };
        trusted.prekey = Some(prekey);
        pins.bundle_seq = bundle_seq;
        pins.bundle = encoded;
        let change = pins.change(id);
        let after = self.barrier.persist(alloc::vec![change], Vec::new());
        self.announce_ready(id, after);
        self.peer_can_be_sent_to(id);
    }

    /// Notes something of a peer's that found no budget, to be fetched again soon.
    fn missed(&mut self, id: &PeerId, note: fn(&mut Peer)) {
        self.peers.get_mut(id).map(note);
        self.missed_retry.get_or_insert(self.clock.monotonic().plus(REFETCH_EVERY));
    }

    /// Has the broker send again what could not be looked at, for few peers at a time.
    pub(super) fn refetch_missed(&mut self) {
        self.missed_retry = None;
        if !self.trust_allowed() {
            // Called again once revocations are complete.
            return;
        }
        let worth = |(_, peer): &(&PeerId, &mut Peer)| {
            peer.missed_keys || (peer.missed_prekeys && peer.trusted.is_some())
        };
        let mut missed = self.peers.iter_mut().filter(worth);
        let mut filters = Vec::new();
        for (id, peer) in missed.by_ref().take(REFETCH_AT_ONCE) {
            if core::mem::take(&mut peer.missed_keys) {
                filters.push(self.topics.keys(id));
            }
            if peer.trusted.is_some() && core::mem::take(&mut peer.missed_prekeys) {
                filters.push(self.topics.prekeys(id));
            }
        }
        if missed.next().is_some() {
            self.missed_retry = Some(self.clock.monotonic().plus(REFETCH_EVERY));
        }
        for filter in filters {
            self.barrier.emit(Durable::NOW, Output::Refetch(filter));
        }
    }
}

/// What can be refused before any signature is checked.
fn check_pins(pins: &Pins, announcement: &Announcement<'_>) -> Result<(), RefusalReason> {
    let claimed = announcement.unverified();
    if claimed.key_epoch < pins.key_epoch {
        return Err(RefusalReason::Rollback);
    }
    if claimed.key_epoch > pins.key_epoch {
        return Ok(());
    }
    if claimed.key_id != pins.identity.key_id() {
        return Err(RefusalReason::Collision);
    }
    if pins.revoked {
        return Err(RefusalReason::Revoked);
    }
    if announcement.certificate() == pins.certificate {
        return Ok(());
    }
    // The same keys under another certificate: only a later one, so that dropped grants do not come back.
    let certificate =
        Unverified::<OperationalCertificate>::decode(announcement.certificate(), MAX_CERTIFICATE)
            .map_err(|_| RefusalReason::Malformed)?;
    if certificate.unverified().not_before <= pins.not_before {
        return Err(RefusalReason::Rollback);
    }
    Ok(())
}

/// Whether the pinned bundle says the same.
fn same_content(pins: &Pins, bundle: &PrekeyBundle) -> bool {
    Unverified::<PrekeyBundle>::decode(&pins.bundle, usize::MAX)
        .is_ok_and(|pinned| pinned.unverified() == bundle)
}
