//! Peers' certificates and bundles, loaded from the store when they are needed and dropped when others are.
//!
//! At start an endpoint gets only the small rows. A packet from a peer, or a publish to it, that needs the certificate
//! waits while the driver answers an [`Output::Load`]. What comes back must match the digest that is pinned, and is then
//! verified like anything new. A load costs signatures, so what a stranger can cause is paid for from a budget.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::Cell;

use super::input::{OperationId, Publish};
use super::outbox::{Lane, LaneKey};
use super::output::{Output, SendFailure};
use super::peers::{Owed, Prekey, Trusted};
use super::pending::Pending;
use super::record::{PeerRecord, bundle_digest, certificate_digest, name};
use super::refusal::RefusalReason;
use super::{Durable, Endpoint};
use crate::codec::signed::Unverified;
use crate::control::revocation::RevocationEntryId;
use crate::crypto::kem::EncapsulationKey;
use crate::identity::announcement::PublishedBy;
use crate::identity::prekey::PrekeyBundle;
use crate::ids::PeerId;
use crate::store::{RecordKind, Row};

/// How many peers' certificates are kept parsed; beyond it the one not used for longest is dropped, and loaded again when
/// it is needed. One takes 20 to 90 KiB.
pub const MAX_PARSED_PEERS: usize = 1_024;

/// Loads that sending causes at once; other queues wait for their turn.
const MAX_LOADING: usize = 256;

/// The most volatile messages that wait for their recipients' certificates to be loaded; beyond it publishing fails.
pub const MAX_WAITING_PUBLISHES: usize = 256;

struct Loading {
    operation: OperationId,
    owed: Option<Owed>,
    publishes: Vec<Publish>,
    /// Whether a receipt waits.
    receipt: bool,
}

/// Loads under way.
#[derive(Default)]
pub(super) struct Loads {
    under_way: BTreeMap<PeerId, Loading>,
    publishes: usize,
    /// Queues whose peer's load waits for others to end.
    lanes: BTreeSet<LaneKey>,
}

impl Loads {
    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.under_way.contains_key(peer)
    }

    fn room(&self) -> usize {
        MAX_LOADING.saturating_sub(self.under_way.len())
    }

    pub(super) fn waiting_publishes(&self) -> usize {
        self.publishes
    }
}

/// The order in which parsed peers were used.
#[derive(Default)]
pub(super) struct Recency {
    order: BTreeMap<u64, PeerId>,
    last: u64,
}

impl Recency {
    fn add(&mut self, peer: &PeerId) -> u64 {
        self.last += 1;
        self.order.insert(self.last, peer.clone());
        self.last
    }

    fn renew(&mut self, used: u64) -> u64 {
        if used == self.last {
            return used;
        }
        let Some(peer) = self.order.remove(&used) else { return used };
        self.last += 1;
        self.order.insert(self.last, peer);
        self.last
    }
}

impl Endpoint {
    /// Asks for a peer's certificate, unless that was done.
    pub(super) fn load(&mut self, id: &PeerId, owed: Option<Owed>) {
        if self.loads.contains(id) {
            return;
        }
        let Some(pins) = self.peers.get(id).and_then(|peer| peer.pins.as_ref()) else { return };
        let mut rows = alloc::vec![name(RecordKind::Certificate, id)];
        if pins.bundle.is_some() {
            rows.push(name(RecordKind::Bundle, id));
        }
        let operation = self.pending.insert(Pending::Load(id.clone()));
        self.loads
            .under_way
            .insert(id.clone(), Loading { operation, owed, publishes: Vec::new(), receipt: false });
        // Among the persists in their order, so that the answer is never older than they are.
        self.barrier.emit(Durable::NOW, Output::Load(operation, rows));
    }

    /// As [`Endpoint::load`] for something to send, unless many are under way. Says whether it is.
    pub(super) fn load_in_turn(&mut self, id: &PeerId) -> bool {
        if self.loads.room() > 0 {
            self.load(id, None);
        }
        self.loads.contains(id)
    }

    /// Whether the peer's certificate is to be loaded before this queue goes on; then it is, if there is work.
    pub(super) fn waits_for_load(&mut self, key: &LaneKey) -> bool {
        let at = self.clock.effective();
        if !self.peers.get(&key.peer).is_some_and(|peer| peer.must_load(at)) {
            return false;
        }
        if self.outbox.lane(key).is_some_and(Lane::has_work) && !self.load_in_turn(&key.peer) {
            self.loads.lanes.insert(key.clone());
        }
        true
    }

    /// Lets a receipt wait for a certificate that is being loaded, if one is.
    pub(super) fn confirm_once_loaded(&mut self, id: &PeerId) -> bool {
        let loading = self.loads.under_way.get_mut(id);
        loading.map(|loading| loading.receipt = true).is_some()
    }

    /// Lets a volatile message wait for its recipient's certificate.
    pub(super) fn publish_once_loaded(&mut self, publish: Publish) {
        if self.loads.publishes >= MAX_WAITING_PUBLISHES {
            return self.send_failed(publish.ticket, SendFailure::Busy);
        }
        self.load(&publish.peer, None);
        if let Some(loading) = self.loads.under_way.get_mut(&publish.peer) {
            loading.publishes.push(publish);
            self.loads.publishes += 1;
        }
    }

    /// The store answered.
    pub(super) fn loaded(&mut self, operation: OperationId, rows: &[Row]) {
        let Some(Pending::Load(id)) = self.pending.take(operation) else { return };
        let Some(loading) = self.loads.under_way.get(&id).filter(|loading| loading.operation == operation)
        else {
            // A newer certificate came meanwhile.
            return;
        };
        let owed = loading.owed;
        let pins = self.peers.get(&id).filter(|peer| peer.unloaded).and_then(|peer| peer.pins.as_ref());
        if let Some(pins) = pins {
            match self.verify_loaded(&id, pins, rows) {
                Ok(trusted) => self.keep_parsed(&id, Trusted { owed: Cell::new(owed), ..trusted }),
                // It counts as in force like one that expired at hand.
                Err(RefusalReason::Expired) => {}
                Err(reason) => self.unusable(&id, reason),
            }
        }
        self.end_loading(&id);
    }

    /// Everything that is checked of a new certificate and bundle, and that they are those pinned.
    fn verify_loaded(&self, id: &PeerId, pins: &PeerRecord, rows: &[Row]) -> Result<Trusted, RefusalReason> {
        let of_kind = |kind| {
            let row = rows.iter().find(|row| row.kind == kind && row.key == id.as_str().as_bytes());
            row.map(|row| row.value.as_slice())
        };
        let encoded = of_kind(RecordKind::Certificate)
            .filter(|encoded| certificate_digest(encoded) == pins.certificate)
            .ok_or(RefusalReason::BadCertificate)?;
        let certificate = self.verify_certificate(encoded)?;
        let revocation = RevocationEntryId::new(&certificate.claims().subject, &certificate.key_id());
        let bound = certificate.claims().subject == *id
            && certificate.fingerprint() == pins.identity
            && revocation == pins.revocation;
        if !bound {
            return Err(RefusalReason::IdentityMismatch);
        }
        if self.revocations.is_revoked(&revocation) {
            return Err(RefusalReason::Revoked);
        }
        let mut trusted = Trusted::new(certificate);
        trusted.prekey = of_kind(RecordKind::Bundle)
            .and_then(|encoded| self.verify_loaded_bundle(id, pins, &trusted, encoded));
        Ok(trusted)
    }

    fn verify_loaded_bundle(
        &self,
        id: &PeerId,
        pins: &PeerRecord,
        trusted: &Trusted,
        encoded: &[u8],
    ) -> Option<Prekey> {
        let bundle = Unverified::<PrekeyBundle>::decode(encoded, self.config.limits.prekeys).ok()?;
        let pinned = pins.bundle.as_ref()?;
        if bundle_digest(bundle.unverified()) != pinned.content {
            return None;
        }
        let topic = self.topics.prekeys(id);
        let context = PublishedBy { peer: id, topic: &topic };
        let bundle = bundle.verify(trusted.certificate.signer(), &context).ok()?;
        let key = EncapsulationKey::parse(self.backend, bundle.kem, &bundle.encapsulation_key).ok()?;
        Some(Prekey { id: bundle.prekey_id, key, not_after: bundle.not_after })
    }

    /// What was loaded is not what was pinned: trust ends until the peer's announcement comes again.
    fn unusable(&mut self, id: &PeerId, reason: RefusalReason) {
        let until = self.clock.monotonic().plus(super::MAX_HELD_FOR);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.end_trust();
            peer.expected_until = Some(until);
        }
        self.missed(id, |peer| peer.missed_keys = true);
        self.refuse(reason, Some(id));
    }

    /// Has a certificate at hand; drops those not used for longest.
    pub(super) fn keep_parsed(&mut self, id: &PeerId, trusted: Trusted) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if let Some(old) = &peer.trusted {
            self.recent.order.remove(&old.used);
        }
        let used = self.recent.add(id);
        peer.trusted = Some(Box::new(Trusted { used, ..trusted }));
        peer.unloaded = false;
        while self.recent.order.len() > self.config.parsed_peers.max(1) {
            let Some((used, oldest)) = self.recent.order.pop_first() else { break };
            // Entries whose peer's trust ended stay in the order until their turn comes.
            let oldest = self.peers.get_mut(&oldest);
            if let Some(oldest) = oldest.filter(|peer| peer.trusted.as_ref().is_some_and(|t| t.used == used))
            {
                oldest.trusted = None;
                oldest.unloaded = true;
            }
        }
    }

    /// Has a certificate in force, but in the store alone.
    pub(super) fn leave_in_store(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if let Some(trusted) = peer.trusted.take() {
            self.recent.order.remove(&trusted.used);
        }
        peer.unloaded = true;
    }

    /// Ends a load, whatever came of it: what waited for it goes on.
    pub(super) fn end_loading(&mut self, id: &PeerId) {
        let Some(loading) = self.loads.under_way.remove(id) else { return };
        self.loads.publishes -= loading.publishes.len();
        for publish in loading.publishes {
            self.publish(publish);
        }
        self.retry_loaded(id);
        self.group_peer_changed(id);
        if let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.trusted.is_some())
            && core::mem::take(&mut peer.missed_prekeys)
        {
            self.barrier.emit(Durable::NOW, Output::Refetch(self.topics.prekeys(id)));
        }
        if loading.receipt {
            self.confirm_loaded(id);
        }
        for key in self.outbox.lanes_to(id) {
            self.outbox.needs_attention(key);
        }
        for _ in 0..self.loads.room() {
            let Some(key) = self.loads.lanes.pop_first() else { break };
            self.outbox.needs_attention(key);
        }
        self.pump();
    }

    /// Notes that a certificate was used, and not only by somebody who names it.
    pub(super) fn touch(&mut self, id: &PeerId) {
        if let Some(trusted) = self.peers.get_mut(id).and_then(|peer| peer.trusted.as_mut()) {
            trusted.used = self.recent.renew(trusted.used);
        }
    }

    /// Something genuine came from a peer: what was spent on loading its certificate was well spent.
    pub(super) fn genuine(&mut self, id: &PeerId) {
        self.touch(id);
        let trusted = self.peers.get(id).and_then(|peer| peer.trusted.as_ref());
        match trusted.and_then(|trusted| trusted.owed.take()) {
            Some(Owed::Messages) => self.budgets.messages.give_back(),
            Some(Owed::Announcements) => self.budgets.announcements.give_back(),
            None => {}
        }
    }
}
