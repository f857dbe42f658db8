//! Peers' announcements and prekey bundles (invariants I1, I2).

use alloc::vec::Vec;
use core::time::Duration;

use super::output::{Event, Output};
use super::peers::{Owed, Peer, Prekey, Trusted};
use super::record::{BundleRecord, PeerRecord, bundle_digest, certificate_digest, put};
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
use crate::ids::{Digest, PeerId};
use crate::store::{Change, RecordKind};

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
        let result = self.judge_announcement(id, payload);
        if result == Err(RefusalReason::Revoked) {
            self.hear_of_revoked_keys(id);
        }
        result
    }

    /// Who waits for the peer learns that the broker has nothing newer of it than its revoked keys. It is told once, however
    /// often that is repeated.
    fn hear_of_revoked_keys(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if peer.in_force().is_some() || core::mem::replace(&mut peer.announced_revoked, true) {
            return;
        }
        let event = Event::PeerRevoked { peer: id.clone() };
        self.barrier.emit(self.barrier.latest(), Output::Event(event));
    }

    fn judge_announcement(&mut self, id: &PeerId, payload: Vec<u8>) -> Result<(), RefusalReason> {
        let announcement = Announcement::decode(&payload, self.config.limits.announcement)
            .map_err(|_| RefusalReason::Malformed)?;
        let claimed = announcement.unverified();
        let peer = self.peers.get(id).ok_or(RefusalReason::UnknownPeer)?;
        if let Some(pins) = &peer.pins {
            // A repetition of what is in force costs no signature and leaves no trace.
            let digest = certificate_digest(announcement.certificate());
            if digest == pins.certificate && peer.in_force().is_some() {
                return Ok(());
            }
            check_pins(pins, &announcement, digest)?;
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
        let pins = PeerRecord::new(&certificate);
        if self.revocations.is_revoked(&pins.revocation) {
            return Err(RefusalReason::Revoked);
        }
        self.budgets.announcements.give_back();
        self.trust(id, Trusted::new(certificate), pins);
        Ok(())
    }

    pub(super) fn verify_certificate(&self, encoded: &[u8]) -> Result<VerifiedCertificate, RefusalReason> {
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

    fn trust(&mut self, id: &PeerId, trusted: Trusted, mut pins: PeerRecord) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let mut changes = Vec::new();
        let mut prekey = None;
        if let Some(old) = peer.pins.take() {
            if old.identity == pins.identity {
                pins.bundle = old.bundle;
                prekey = peer.trusted.as_mut().and_then(|old| old.prekey.take());
            } else if old.bundle.is_some() {
                changes.push(Change::Delete { kind: RecordKind::Bundle, key: id.as_str().into() });
            }
        }
        let at = self.clock.effective();
        let usable = pins.bundle.as_ref().is_some_and(|bundle| at < bundle.not_after);
        // Otherwise its bundle is in the store, and both are loaded together when they are needed.
        let at_hand = prekey.is_some() || !usable;
        changes.push(pins.change(id));
        changes.push(put(RecordKind::Certificate, id, trusted.certificate.encoded().to_vec()));
        let detail = alloc::format!("epoch {} key {}", pins.key_epoch, pins.identity.key_id());
        peer.pins = Some(pins);
        peer.missed_keys = false;
        peer.announced_revoked = false;
        let missed_bundle = core::mem::take(&mut peer.missed_prekeys);
        let event = AuditEvent::new(AuditKind::KeyExchangeAccepted, Some(id.clone()), &detail);
        let after = self.barrier.persist(changes, alloc::vec![event]);
        if at_hand {
            self.keep_parsed(id, Trusted { prekey, ..trusted });
        } else {
            self.leave_in_store(id);
        }
        self.announce_ready(id, after);
        self.peer_can_be_sent_to(id);
        if missed_bundle {
            self.barrier.emit(Durable::NOW, Output::Refetch(self.topics.prekeys(id)));
        }
        self.end_loading(id);
        self.retry_held();
    }

    /// Tells the application once the peer can be sent to.
    fn announce_ready(&mut self, id: &PeerId, after: Durable) {
        let Some(peer) = self.peers.get(id) else { return };
        let at = self.clock.effective();
        let bundle = peer.in_force().and_then(|pins| pins.bundle.as_ref());
        let forward_secret = bundle.is_some_and(|bundle| at < bundle.not_after);
        let ready = match &peer.trusted {
            Some(trusted) => trusted.kem_key(at).is_ok(),
            None => peer.unloaded && forward_secret,
        };
        if ready {
            let event = Event::PeerReady { peer: id.clone(), forward_secret };
            self.barrier.emit(after, Output::Event(event));
        }
    }

    pub(super) fn receive_bundle(&mut self, id: &PeerId, payload: Vec<u8>) -> Result<(), RefusalReason> {
        let peer = self.peers.get(id).ok_or(RefusalReason::UnknownPeer)?;
        let bundle = Unverified::<PrekeyBundle>::decode(&payload, self.config.limits.prekeys)
            .map_err(|_| RefusalReason::Malformed)?;
        let claimed = bundle.unverified();
        let Some(pins) = peer.in_force() else {
            // Its certificate may come next.
            if let Some(peer) = self.peers.get_mut(id) {
                peer.missed_prekeys = true;
            }
            return Ok(());
        };
        let trusted = peer.trusted.as_ref();
        let other_kem = trusted.is_some_and(|trusted| claimed.kem != trusted.certificate.claims().keys.kem);
        if claimed.identity != pins.identity || other_kem {
            // Perhaps that of new keys, whose announcement comes next.
            if let Some(peer) = self.peers.get_mut(id) {
                peer.missed_prekeys = true;
            }
            return Err(RefusalReason::BadPrekey);
        }
        if claimed.bundle_seq < pins.bundle_seq() {
            return Err(RefusalReason::Rollback);
        }
        if claimed.bundle_seq == pins.bundle_seq() {
            // The same content under any signature changes nothing; other content is a collision.
            let content = bundle_digest(claimed);
            let repeated = pins.bundle.as_ref().is_some_and(|pinned| pinned.content == content);
            return if repeated { Ok(()) } else { Err(RefusalReason::Collision) };
        }
        if claimed.not_after <= self.clock.effective() {
            return Err(RefusalReason::Expired);
        }
        if !self.budgets.announcements.take(self.clock.monotonic()) {
            self.missed(id, |peer| peer.missed_prekeys = true);
            return Err(RefusalReason::OverBudget);
        }
        let Some(trusted) = self.peers.get(id).and_then(|peer| peer.trusted.as_ref()) else {
            // Fetched again once the certificate is loaded.
            self.missed(id, |peer| peer.missed_prekeys = true);
            self.load(id, Some(Owed::Announcements));
            return Ok(());
        };
        let topic = self.topics.prekeys(id);
        let bundle = bundle
            .verify(trusted.certificate.signer(), &PublishedBy { peer: id, topic: &topic })
            .map_err(|_| RefusalReason::BadPrekey)?;
        self.budgets.announcements.give_back();
        let key = EncapsulationKey::parse(self.backend, bundle.kem, &bundle.encapsulation_key)
            .map_err(|_| RefusalReason::BadPrekey)?;
        let prekey = Prekey { id: bundle.prekey_id, key, not_after: bundle.not_after };
        let pinned = BundleRecord::new(&bundle);
        self.genuine(id);
        self.adopt_bundle(id, prekey, pinned, payload);
        Ok(())
    }

    fn adopt_bundle(&mut self, id: &PeerId, prekey: Prekey, pinned: BundleRecord, encoded: Vec<u8>) {
        let Some(Peer { pins: Some(pins), trusted: Some(trusted), .. }) = self.peers.get_mut(id) else {
            return;
        };
        trusted.prekey = Some(prekey);
        pins.bundle = Some(pinned);
        let changes = alloc::vec![pins.change(id), put(RecordKind::Bundle, id, encoded)];
        let after = self.barrier.persist(changes, Vec::new());
        self.announce_ready(id, after);
        self.peer_can_be_sent_to(id);
    }

    /// Notes something of a peer's that found no budget, to be fetched again soon.
    pub(super) fn missed(&mut self, id: &PeerId, note: fn(&mut Peer)) {
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
            peer.missed_keys || (peer.missed_prekeys && peer.in_force().is_some())
        };
        let mut missed = self.peers.iter_mut().filter(worth);
        let mut filters = Vec::new();
        for (id, peer) in missed.by_ref().take(REFETCH_AT_ONCE) {
            if core::mem::take(&mut peer.missed_keys) {
                filters.push(self.topics.keys(id));
            }
            if peer.in_force().is_some() && core::mem::take(&mut peer.missed_prekeys) {
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
fn check_pins(
    pins: &PeerRecord,
    announcement: &Announcement<'_>,
    certificate: Digest,
) -> Result<(), RefusalReason> {
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
    if certificate == pins.certificate {
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
