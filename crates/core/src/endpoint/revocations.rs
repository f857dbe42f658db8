//! Revocation updates and checkpoints in, trust out at once (invariant I7).

use alloc::vec::Vec;
use core::time::Duration;

use super::input::DeliveryId;
use super::output::{Event, Output, PeerLoss};
use super::refusal::RefusalReason;
use super::{Durable, Endpoint};
use crate::audit::{AuditEvent, AuditKind};
use crate::codec::signed::{SignedObject, Unverified};
use crate::control::gates::{self, Mode, OperationClass, TelemetryRule};
use crate::control::revocation::{
    ApplyError, ChunkError, ChunkOutcome, CompleteCheckpoint, ManifestOutcome, Outcome, Precheck,
    RevocationCheckpoint, RevocationEntry, RevocationUpdate,
};
use crate::ids::PeerId;

/// How long after a gap was found the revocations are asked for again, at first and at last.
const GAP_RETRY_FIRST: Duration = Duration::from_secs(30);
const GAP_RETRY_LAST: Duration = Duration::from_secs(60 * 60);
/// Between two times that revocations are asked for because a peer claims to hold more.
const HINT_EVERY: Duration = Duration::from_secs(10 * 60);

impl Endpoint {
    /// Whether new trust may be given now.
    pub(super) fn trust_allowed(&self) -> bool {
        let mode = if self.revocations.hold_high_risk() { Mode::RevocationBehind } else { Mode::Normal };
        gates::allows(OperationClass::High, mode, TelemetryRule::Continue)
    }

    pub(super) fn receive_revocation(&mut self, delivery: DeliveryId, payload: Vec<u8>) {
        let result = self.apply_update(&payload);
        self.finish_control(delivery, result);
    }

    fn apply_update(&mut self, payload: &[u8]) -> Result<(), RefusalReason> {
        let update = Unverified::<RevocationUpdate>::decode(payload, self.config.limits.revocation)
            .map_err(|_| RefusalReason::Malformed)?;
        match self.revocations.precheck_update(update.unverified()) {
            Precheck::Duplicate => return Ok(()),
            Precheck::Old => return Err(RefusalReason::RevocationRollback),
            Precheck::Worth => {}
        }
        let topic = self.topics.revocations();
        let update = self.verify_control(update, &topic.as_str())?;
        let floor = self.clock.floor();
        let outcome = self.revocations.apply_update(&update, floor);
        self.revocation_outcome(outcome, AuditKind::RevocationApplied)
    }

    pub(super) fn receive_checkpoint(&mut self, delivery: DeliveryId, payload: Vec<u8>) {
        let result = self.note_checkpoint(&payload);
        self.finish_control(delivery, result);
    }

    fn note_checkpoint(&mut self, payload: &[u8]) -> Result<(), RefusalReason> {
        let manifest = Unverified::<RevocationCheckpoint>::decode(payload, self.config.limits.revocation)
            .map_err(|_| RefusalReason::Malformed)?;
        match self.revocations.precheck_checkpoint(manifest.unverified()) {
            Precheck::Duplicate => return Ok(()),
            Precheck::Old => return Err(RefusalReason::RevocationRollback),
            Precheck::Worth => {}
        }
        let topic = self.topics.checkpoint();
        let manifest = self.verify_control(manifest, &topic.as_str())?;
        let Outcome::Gap(_) = self.revocations.note_checkpoint(&manifest) else {
            return Err(RefusalReason::RevocationEquivocation);
        };
        match self.checkpoint.manifest(manifest) {
            ManifestOutcome::Started => {
                let chunks = self.topics.checkpoint_chunks();
                self.barrier.emit(Durable::NOW, Output::Refetch(chunks));
                Ok(())
            }
            ManifestOutcome::Complete(checkpoint) => self.apply_checkpoint(&checkpoint),
            ManifestOutcome::Unchanged | ManifestOutcome::Older => Ok(()),
        }
    }

    pub(super) fn receive_chunk(&mut self, delivery: DeliveryId, index: u32, payload: &[u8]) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let result = match self.checkpoint.chunk(index, payload) {
            Ok(ChunkOutcome::Complete(checkpoint)) => self.apply_checkpoint(&checkpoint),
            Ok(_) => Ok(()),
            Err(_) if !RevocationEntry::fit(payload.len()) => Err(RefusalReason::Malformed),
            // A chunk nobody waits for, or an older checkpoint's: retained chunks change one by one.
            Err(ChunkError::NoManifest | ChunkError::Index | ChunkError::Length | ChunkError::Hash) => Ok(()),
            Err(_) => Err(RefusalReason::BadRevocation),
        };
        self.finish_control(delivery, result);
    }

    fn apply_checkpoint(&mut self, checkpoint: &CompleteCheckpoint) -> Result<(), RefusalReason> {
        let floor = self.clock.floor();
        let outcome = self.revocations.apply_checkpoint(checkpoint, floor);
        self.revocation_outcome(outcome, AuditKind::CheckpointApplied)
    }

    fn verify_control<T: SignedObject>(
        &mut self,
        object: Unverified<T>,
        context: &T::Context<'_>,
    ) -> Result<crate::codec::signed::Signed<T>, RefusalReason> {
        if self.anchors.control_key(object.claimed_signer()).is_none() {
            return Err(RefusalReason::BadRevocation);
        }
        let now = self.clock.monotonic();
        if !self.budgets.control.take(now) {
            self.control_retry = self.budgets.control.next_token();
            return Err(RefusalReason::OverBudget);
        }
        let verified =
            self.anchors.verify_control(object, context).map_err(|_| RefusalReason::BadRevocation)?;
        self.budgets.control.give_back();
        Ok(verified)
    }

    fn revocation_outcome(
        &mut self,
        outcome: Result<Outcome, ApplyError>,
        kind: AuditKind,
    ) -> Result<(), RefusalReason> {
        let result = match outcome {
            Ok(Outcome::Applied { added, equivocation }) => {
                self.end_revoked(kind, added.len());
                if equivocation.is_some() { Err(RefusalReason::RevocationEquivocation) } else { Ok(()) }
            }
            Ok(Outcome::Unchanged) => Ok(()),
            Ok(Outcome::Stale(_)) => Err(RefusalReason::RevocationRollback),
            Ok(Outcome::Equivocation(_)) => Err(RefusalReason::RevocationEquivocation),
            Ok(Outcome::Gap(gap)) => {
                let detail = alloc::format!("have {} need {}", gap.have, gap.need);
                let changes = self.revocations.take_changes();
                let event = AuditEvent::new(AuditKind::RevocationGap, None, &detail);
                let after = self.barrier.persist(changes, alloc::vec![event]);
                self.barrier.emit(after, Output::Event(Event::RevocationsBehind));
                self.refetch_control();
                Ok(())
            }
            Err(_) => Err(RefusalReason::BadRevocation),
        };
        let changes = self.revocations.take_changes();
        if !changes.is_empty() {
            self.barrier.persist(changes, Vec::new());
        }
        result
    }

    /// Ends the trust of everyone revoked: in memory now, on disk with the list, told once that is durable.
    fn end_revoked(&mut self, kind: AuditKind, added: usize) {
        let mut changes = self.revocations.take_changes();
        let seq = self.revocations.head().seq;
        let mut audit = alloc::vec![AuditEvent::new(kind, None, &alloc::format!("seq {seq}, {added} new"))];
        let mut lost: Vec<PeerId> = Vec::new();
        let mut revoked: Vec<PeerId> = Vec::new();
        for (id, peer) in &mut self.peers {
            let in_force = peer.in_force().is_some();
            let Some(pins) = &mut peer.pins else { continue };
            if pins.revoked || !self.revocations.is_revoked(&pins.revocation) {
                continue;
            }
            pins.revoked = true;
            changes.push(pins.change(id));
            peer.end_trust();
            revoked.push(id.clone());
            if !in_force {
                continue;
            }
            audit.push(AuditEvent::new(AuditKind::PeerRevoked, Some(id.clone()), "revoked"));
            peer.announced_revoked = true;
            lost.push(id.clone());
        }
        let self_revoked = !self.own.revoked && self.revocations.is_revoked(&self.own.revocation);
        self.own.revoked |= self_revoked;
        let after = self.barrier.persist(changes, audit);
        for peer in &revoked {
            self.discard_for(peer);
        }
        if self_revoked {
            for key in self.outbox.all_lanes() {
                self.withdraw(&key.peer);
            }
        }
        for peer in lost {
            self.barrier.emit(after, Output::Event(Event::PeerLost { peer, reason: PeerLoss::Revoked }));
        }
        if self_revoked {
            self.barrier.emit(after, Output::Event(Event::SelfRevoked));
        }
        let entries = self.revocations.revoked().len();
        self.barrier.emit(after, Output::Event(Event::Revocations { seq, entries }));
        self.refetch_missed();
    }

    /// Asks the broker for the retained objects of the authority again.
    fn refetch_control(&mut self) {
        let mut filters =
            alloc::vec![self.topics.revocations(), self.topics.checkpoint(), self.topics.anchors()];
        if self.checkpoint.missing().next().is_some() {
            filters.push(self.topics.checkpoint_chunks());
        }
        for filter in filters {
            self.barrier.emit(Durable::NOW, Output::Refetch(filter));
        }
    }

    /// While revocations are missing, asks for them again and again, ever more rarely: what filled the gap may have
    /// been lost, or not published yet.
    pub(super) fn watch_gap(&mut self) {
        let now = self.clock.monotonic();
        if !self.revocations.is_behind() {
            self.gap_retry = None;
            return;
        }
        self.gap_retry = match self.gap_retry {
            None => Some((now.plus(GAP_RETRY_FIRST), GAP_RETRY_FIRST)),
            Some((at, delay)) if at <= now => {
                self.refetch_control();
                let delay = (2 * delay).min(GAP_RETRY_LAST);
                Some((now.plus(delay), delay))
            }
            waiting => waiting,
        };
    }

    /// A peer says in its handshake up to where it holds revocations. If that is further than ours, what we lack may be at the
    /// broker. Nothing else follows from it: whoever has a certificate may claim anything.
    pub(super) fn hear_of_revocations(&mut self, seq: u64) {
        let now = self.clock.monotonic();
        let asked = self.hinted.is_some_and(|at| now.since(at) < HINT_EVERY);
        if seq > self.revocations.head().seq && !self.revocations.is_behind() && !asked {
            self.hinted = Some(now);
            self.refetch_control();
        }
    }

    pub(super) fn retry_control(&mut self) {
        let now = self.clock.monotonic();
        if self.control_retry.is_some_and(|at| at <= now) {
            self.control_retry = None;
            self.refetch_control();
        }
    }

    fn finish_control(&mut self, delivery: DeliveryId, result: Result<(), RefusalReason>) {
        self.watch_gap();
        match result {
            Ok(()) => self.barrier.emit(self.barrier.latest(), Output::Acknowledge(delivery)),
            Err(reason) => self.refuse_delivery(delivery, reason, None),
        }
    }
}
