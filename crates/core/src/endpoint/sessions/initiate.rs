//! Beginning a session: m1 goes out once it is durable, again and again the same bytes, until its answer.

use alloc::boxed::Box;
use core::time::Duration;

use super::{Attempts, Initiating, Pair};
use crate::endpoint::input::DeliveryId;
use crate::endpoint::output::{Output, Purpose, Transmit};
use crate::endpoint::pending::Pending;
use crate::endpoint::refusal::RefusalReason;
use crate::endpoint::{Durable, Endpoint};
use crate::ids::PeerId;
use crate::provider::ProviderRequest;
use crate::session::handshake::{Initiate, Initiation, KIND_M2, M2Refusal, answered_handshake, choose_suite};
use crate::time::Monotonic;

/// When an m1 without answer goes again, at first and at last.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
const AGAIN_LAST: Duration = Duration::from_secs(15 * 60);
/// After how long an m1 is given up and another attempt may be made.
const ATTEMPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(60);

impl Endpoint {
    /// Begins a handshake with `peer`, unless one is under way or was tried a moment ago.
    pub(super) fn begin_handshake(&mut self, peer: &PeerId) -> Option<()> {
        let now = self.clock.monotonic();
        if !self.online || self.closed || self.own.revoked || !self.sessions.policy.enabled {
            return None;
        }
        let known = self.sessions.pairs.get(peer).map(Box::as_ref);
        let may = |pair: &Pair| {
            pair.initiating.is_none() && !pair.answering && pair.retry_at.is_none_or(|at| at <= now)
        };
        if !known.is_none_or(may) {
            return None;
        }
        self.touch(peer);
        let at = self.clock.effective();
        let trusted = self.peers.get(peer)?.trusted.as_ref()?;
        if !trusted.certificate.claims().valid_at(at) || !self.own.certificate.claims().valid_at(at) {
            return None;
        }
        let suite = choose_suite(&trusted.certificate, &self.config.suites)?;
        let (prekey, encapsulation_key) = trusted.kem_key(at).ok()?;
        let ours = self.own.certificate.fingerprint();
        let theirs = trusted.certificate.fingerprint();
        let sid = self.sessions.sids.draw(&mut *self.random);
        let boot = self.sessions.boot;
        let pair = self.sessions.pair_mut(peer);
        pair.attempts.fit(ours, theirs);
        // Above the peer's as well: of two sessions both sides prefer the one with the higher attempt.
        pair.attempts.ours = pair.attempts.ours.max(pair.attempts.theirs).checked_add(1)?;
        let gate = pair.current.as_ref().map(|live| live.session.gate());
        let initiation = Initiation {
            us: &self.own.sender,
            boot,
            sid,
            peer: &trusted.certificate,
            prekey,
            encapsulation_key,
            suite,
            revocation_seq: self.revocations.head().seq,
            attempt: pair.attempts.ours,
            gate,
        };
        let initiate = Initiate::new(self.backend, &mut *self.random, &initiation).ok()?;
        pair.initiating = Some(Initiating::Signing { since: now, sid });
        let structure = initiate.structure().clone();
        self.sessions.sids.insert(sid, peer);
        let pending = Pending::SignM1(peer.clone(), Box::new(initiate));
        self.request(pending, ProviderRequest::Sign(structure));
        Some(())
    }

    /// The provider signed m1, or not.
    pub(in crate::endpoint) fn m1_signed(
        &mut self,
        peer: &PeerId,
        initiate: Initiate,
        signature: Option<&[u8]>,
    ) {
        let now = self.clock.monotonic();
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let Some(Initiating::Signing { since, sid }) = pair.initiating else { return };
        pair.initiating = None;
        let expected = signature.and_then(|signature| initiate.signed(signature).ok());
        let still = |peer: &PeerId, fingerprint| {
            let trusts = |peer: &crate::endpoint::peers::Peer| {
                peer.in_force().is_some_and(|pins| pins.identity == fingerprint)
            };
            !self.own.revoked && self.peers.get(peer).is_some_and(trusts)
        };
        let Some(state) = expected.filter(|state| still(peer, state.peer())) else {
            pair.retry_at = Some(now.plus(RETRY));
            self.sessions.sids.retire(sid);
            return self.lanes_look_again(peer);
        };
        self.sessions.waiting.insert(state.handshake(), peer.clone());
        let (again, delay) = (now.plus(AGAIN_FIRST), AGAIN_FIRST);
        pair.initiating =
            Some(Initiating::Waiting { state: Box::new(state), since, again, delay, patient: true });
        let change = pair.handshake_change(peer);
        let after = self.barrier.persist(alloc::vec![change], alloc::vec::Vec::new());
        self.transmit_m1(after, peer);
        self.sessions.schedule(peer);
    }

    fn transmit_m1(&mut self, after: Durable, peer: &PeerId) {
        let Some(Initiating::Waiting { state, .. }) =
            self.sessions.pairs.get(peer).and_then(|pair| pair.initiating.as_ref())
        else {
            return;
        };
        let payload = state.m1().to_vec();
        let topic = self.topics.session_init(peer);
        let purpose = Purpose::Handshake { peer: peer.clone(), answer: false };
        self.barrier.emit(after, Output::Transmit(Transmit { purpose, topic, payload, retain: false }));
    }

    /// The timer of an m1 that is out.
    pub(super) fn initiating_timeout(&mut self, peer: &PeerId, now: Monotonic) {
        let online = self.online;
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let Some(Initiating::Waiting { since, again, delay, patient, .. }) = &mut pair.initiating else {
            return;
        };
        if now.since(*since) >= ATTEMPT_FOR {
            self.abandon_initiation(peer);
            return self.lanes_look_again(peer);
        }
        let waited = *patient && now.since(*since) >= super::HANDSHAKE_PATIENCE;
        *patient &= !waited;
        let resend = *again <= now;
        if resend {
            let mut jitter = [0; 1];
            self.random.fill(&mut jitter);
            *delay = (2 * *delay).min(AGAIN_LAST);
            *again = now.plus(*delay + *delay / 512 * u32::from(jitter[0]));
        }
        if resend && online {
            self.transmit_m1(self.barrier.latest(), peer);
        }
        if waited {
            self.lanes_look_again(peer);
        }
    }

    /// Forgets an m1 that is out; what answers it is foreign from now on.
    pub(super) fn abandon_initiation(&mut self, peer: &PeerId) {
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return };
        let Some(Initiating::Waiting { state, .. }) = pair.initiating.take() else { return };
        let change = pair.handshake_change(peer);
        self.sessions.waiting.remove(&state.handshake());
        self.sessions.sids.retire(state.sid());
        self.barrier.persist(alloc::vec![change], alloc::vec::Vec::new());
    }

    /// An m2 or a STALE, at our own topic.
    pub(in crate::endpoint) fn receive_answer(&mut self, delivery: DeliveryId, payload: &[u8]) {
        match self.judge_answer(payload) {
            Ok(()) => self.barrier.emit(self.barrier.latest(), Output::Acknowledge(delivery)),
            Err(reason) => self.refuse_delivery(delivery, reason, None),
        }
    }

    fn judge_answer(&mut self, payload: &[u8]) -> Result<(), RefusalReason> {
        let handshake = answered_handshake(payload).ok_or(RefusalReason::Malformed)?;
        // Late copies of what was answered, and anybody's inventions, cost a look-up.
        let Some(peer) = self.sessions.waiting.get(&handshake).cloned() else { return Ok(()) };
        if !self.sessions.answers.take(self.clock.monotonic()) {
            return Err(RefusalReason::OverBudget);
        }
        let (now, at) = (self.clock.monotonic(), self.clock.effective());
        let known = self.peers.get(&peer).ok_or(RefusalReason::UnknownPeer)?;
        let in_force = known.in_force().is_some_and(|pins| pins.valid_at(at));
        if !in_force {
            return Err(RefusalReason::Revoked);
        }
        if known.must_load(at) {
            // Our m1 goes again, and so does the answer to it.
            self.load(&peer, None);
            return Ok(());
        }
        let trusted = known.trusted.as_ref().ok_or(RefusalReason::UnknownPeer)?;
        let pair = self.sessions.pairs.get(&peer).ok_or(RefusalReason::UnknownPeer)?;
        let Some(Initiating::Waiting { state, .. }) = &pair.initiating else { return Ok(()) };
        if payload.first() == Some(&KIND_M2) {
            let established =
                state.receive_m2(payload, &trusted.certificate).map_err(|refusal| match refusal {
                    M2Refusal::Signature => RefusalReason::BadSignature,
                    M2Refusal::Packet(_) | M2Refusal::Content(_) => RefusalReason::Malformed,
                    _ => RefusalReason::BadCiphertext,
                })?;
            self.sessions.answers.give_back();
            self.genuine(&peer);
            self.initiator_established(&peer, handshake, &established);
            return Ok(());
        }
        let highest = state.receive_stale(payload).map_err(|_| RefusalReason::BadCiphertext)?;
        self.sessions.answers.give_back();
        self.abandon_initiation(&peer);
        if let Some(pair) = self.sessions.pairs.get_mut(&peer) {
            pair.attempts.ours = pair.attempts.ours.max(highest);
            // At once, but not again and again: each time costs a signature.
            let again = pair.sent_ahead.replace(now).is_some_and(|before| now.since(before) < RETRY);
            pair.retry_at = again.then(|| now.plus(RETRY));
        }
        self.begin_handshake(&peer);
        Ok(())
    }
}

impl Attempts {
    /// Attempts count between two identities: other keys begin anew.
    pub(super) fn fit(&mut self, own: crate::ids::Fingerprint, peer: crate::ids::Fingerprint) {
        if self.own != own || self.peer != peer {
            *self = Self { own, peer, ours: 0, theirs: 0 };
        }
    }
}
