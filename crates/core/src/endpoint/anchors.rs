//! New versions of the trust anchors, applied step by step.

use alloc::vec::Vec;

use super::Endpoint;
use super::input::DeliveryId;
use super::output::{Event, Output, PeerLoss};
use super::refusal::RefusalReason;
use crate::audit::{AuditEvent, AuditKind};
use crate::ids::PeerId;
use crate::store::{Change, RecordKind};

impl Endpoint {
    pub(super) fn receive_anchors(&mut self, delivery: DeliveryId, payload: &[u8]) {
        if payload == self.anchors.encoded() {
            return self.acknowledge(delivery);
        }
        if self.anchors.precheck(payload).is_err() {
            return self.refuse_delivery(delivery, RefusalReason::BadAnchors, None);
        }
        // A budget of their own: junk here must not delay a revocation.
        if !self.budgets.anchors.take(self.clock.monotonic()) {
            self.control_retry = self.budgets.anchors.next_token();
            return self.refuse_delivery(delivery, RefusalReason::OverBudget, None);
        }
        match self.anchors.succeed(payload, self.clock.effective()) {
            Ok(next) => {
                self.budgets.anchors.give_back();
                self.anchors = next;
                self.anchors_changed();
                self.barrier.emit(self.barrier.latest(), Output::Acknowledge(delivery));
            }
            Err(_) => self.refuse_delivery(delivery, RefusalReason::BadAnchors, None),
        }
    }

    /// Persists the new anchors and ends the trust of peers whose issuer is no longer appointed.
    fn anchors_changed(&mut self) {
        let version = self.anchors.anchors().version;
        let change = Change::Put {
            kind: RecordKind::Anchors,
            key: Vec::new(),
            value: self.anchors.encoded().to_vec(),
        };
        let detail = alloc::format!("version {version}");
        let mut audit = alloc::vec![AuditEvent::new(AuditKind::AnchorsApplied, None, &detail)];
        let dropped: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.in_force().is_some_and(|pins| !self.anchors.has_issuer(pins.issuer)))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &dropped {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.end_trust();
            }
            audit.push(AuditEvent::new(AuditKind::PeerRevoked, Some(id.clone()), "issuer dropped"));
        }
        let after = self.barrier.persist(alloc::vec![change], audit);
        for peer in &dropped {
            self.withdraw(peer);
        }
        for peer in dropped {
            let event = Event::PeerLost { peer, reason: PeerLoss::IssuerDropped };
            self.barrier.emit(after, Output::Event(event));
        }
        self.barrier.emit(after, Output::Event(Event::Anchors { version }));
    }
}
