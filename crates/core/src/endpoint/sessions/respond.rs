//! Answering a handshake.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::{HalfOpen, Initiating, Live, Pair, Rank, Slot};
use crate::crypto::secret::Secret;
use crate::endpoint::input::DeliveryId;
use crate::endpoint::output::{Output, Purpose, Transmit};
use crate::endpoint::peers::Trusted;
use crate::endpoint::pending::Pending;
use crate::endpoint::refusal::RefusalReason;
use crate::endpoint::{Durable, Endpoint};
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::{HandshakeId, PeerId, SessionId};
use crate::provider::{PrekeyId, ProviderRequest};
use crate::session::Session;
use crate::session::handshake::{
    Answer, CheckedM1, Contender, M1, M1Refusal, PacketError, Responder, Winner, tiebreak,
};

/// How long the winner of a tie ignores the other's m1.
const TIE: Duration = Duration::from_secs(30);
/// Between two STALEs to one peer, and between two authentic m1s of one attempt.
const STALE_EVERY: Duration = Duration::from_secs(60);
/// Between two answers to one peer: authentic m1s cost no budget, and each answer costs a signature.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// Between two repetitions of one m2.
const REPEAT_EVERY: Duration = Duration::from_secs(1);

/// An m1 whose decapsulation is awaited.
pub(in crate::endpoint) struct OpeningM1 {
    peer: PeerId,
    delivery: DeliveryId,
    m1: CheckedM1,
}

/// An m2 whose signature is awaited.
pub(in crate::endpoint) struct Answering {
    peer: PeerId,
    delivery: DeliveryId,
    handshake: HandshakeId,
    sid: SessionId,
    /// Whether the initiator wins ties.
    favoured: bool,
    answer: Box<Answer>,
}

impl Endpoint {
    /// An m1 at our own topic.
    pub(in crate::endpoint) fn receive_m1(&mut self, delivery: DeliveryId, payload: &[u8]) {
        match self.judge_m1(delivery, payload) {
            Ok(()) => {}
            Err((reason, peer)) => self.refuse_delivery(delivery, reason, peer.as_ref()),
        }
    }

    /// Everything before the first decapsulation.
    fn judge_m1(
        &mut self,
        delivery: DeliveryId,
        payload: &[u8],
    ) -> Result<(), (RefusalReason, Option<PeerId>)> {
        let m1 = M1::parse(payload).map_err(|error| (reason_of(error), None))?;
        let Some((peer, known)) = self.peers.get_key_value(m1.initiator()) else {
            return Err((RefusalReason::UnknownPeer, None));
        };
        let peer = peer.clone();
        let refuse = |reason| Err((reason, Some(peer.clone())));
        if known.pins.as_ref().is_some_and(|pins| pins.revoked) {
            return refuse(RefusalReason::Revoked);
        }
        let now = self.clock.monotonic();
        let at = self.clock.effective();
        let Some(pins) = known.in_force() else {
            // Followed, and its announcement has not come yet: an honest m1 overtook it, and comes again.
            self.acknowledge(delivery);
            return Ok(());
        };
        if !pins.valid_at(at) {
            return refuse(RefusalReason::Expired);
        }
        if pins.identity != m1.initiator_fingerprint() {
            return refuse(RefusalReason::IdentityMismatch);
        }
        if self.own.revoked || self.closed || !self.sessions.policy.enabled {
            self.acknowledge(delivery);
            return Ok(());
        }
        let own = self.own.certificate.claims();
        let key = match m1.prekey() {
            PrekeyId::STATIC => own.keys.encapsulation_key.clone(),
            prekey => match self.prekeys.encapsulation_key(prekey) {
                Some(key) => key.to_vec(),
                None => return refuse(RefusalReason::UnknownPrekey),
            },
        };
        if known.must_load(at) {
            // It comes again.
            self.load(&peer, None);
            self.acknowledge(delivery);
            return Ok(());
        }
        let Some(trusted) = &known.trusted else { return refuse(RefusalReason::UnknownPeer) };
        let we = Responder {
            us: &self.own.sender,
            accepted: &own.suites,
            allowed: &self.config.suites,
            prekey_required: own.prekey_required,
            encapsulation_key: &key,
        };
        let checked = m1.check(self.backend, &we, &trusted.certificate).map_err(|refusal| {
            let reason = match refusal {
                M1Refusal::Recipient | M1Refusal::Prekey => RefusalReason::WrongRecipient,
                M1Refusal::Ourselves => RefusalReason::Reflected,
                M1Refusal::Suite => RefusalReason::SuiteNotAllowed,
                M1Refusal::PrekeyRequired => RefusalReason::StaticKey,
                _ => RefusalReason::IdentityMismatch,
            };
            (reason, Some(peer.clone()))
        })?;
        let we_win = self.tie(trusted) == Some(Winner::Us);
        let attempt = m1.attempt();
        if self.answered_before(&peer, checked.handshake(), attempt) {
            self.acknowledge(delivery);
            return Ok(());
        }
        let rank = Rank { attempt, favoured: !we_win };
        let pair = self.sessions.pair_mut(&peer);
        let ours = Rank { attempt: pair.attempts.ours, favoured: we_win };
        let goes_before = |initiating: &&Initiating| rank < ours && now.since(initiating.since()) < TIE;
        if pair.initiating.as_ref().filter(goes_before).is_some() {
            // Ours goes on; the peer sees the same.
            self.acknowledge(delivery);
            return Ok(());
        }
        if pair.answered.is_some_and(|at| now.since(at) < ANSWER_EVERY) {
            // It comes again.
            self.acknowledge(delivery);
            return Ok(());
        }
        let gate = |live: &Live| checked.gate_matches(live.session.gate());
        let vouched = pair.current.as_deref().is_some_and(gate);
        if !vouched && !self.sessions.budget.take(now) {
            return refuse(RefusalReason::OverBudget);
        }
        let Some(request) = checked.request() else { return refuse(RefusalReason::Malformed) };
        let pair = self.sessions.pair_mut(&peer);
        if core::mem::replace(&mut pair.answering, true) {
            // One at a time; it comes again.
            self.acknowledge(delivery);
            return Ok(());
        }
        self.request(Pending::OpenM1(Box::new(OpeningM1 { peer, delivery, m1: checked })), request);
        Ok(())
    }

    /// Whose m1 goes on when both sides began.
    pub(super) fn tie(&self, trusted: &Trusted) -> Option<Winner> {
        let contender = |certificate: &VerifiedCertificate| Contender {
            tier: certificate.claims().tier,
            fingerprint: certificate.fingerprint(),
        };
        tiebreak(&contender(&self.own.certificate), &contender(&trusted.certificate))
    }

    /// What needs no key: copies of an m1 that was answered, and attempts that were told to be old a moment ago.
    fn answered_before(&mut self, peer: &PeerId, handshake: HandshakeId, attempt: u64) -> bool {
        let now = self.clock.monotonic();
        let Some(pair) = self.sessions.pairs.get_mut(peer) else { return false };
        let same = |live: &Live| live.handshake == handshake;
        if pair.current.as_deref().is_some_and(same) || pair.draining.as_deref().is_some_and(same) {
            return true;
        }
        let recently = |at: &crate::time::Monotonic| now.since(*at) < REPEAT_EVERY;
        if pair.half_open.as_ref().is_some_and(|half_open| same(&half_open.live)) {
            if !pair.repeated.as_ref().is_some_and(recently) {
                pair.repeated = Some(now);
                self.transmit_m2(self.barrier.latest(), peer);
            }
            return true;
        }
        // One new handshake at a time: even an honest key must not make us sign without end. Its m1 comes again.
        let young = |half_open: &HalfOpen| now.since(half_open.since) < ANSWER_EVERY;
        if pair.half_open.as_deref().is_some_and(young) {
            return true;
        }
        let fresh_stale = pair.stale.as_ref().filter(|(_, _, at)| now.since(*at) < STALE_EVERY);
        attempt <= pair.attempts.theirs && fresh_stale.is_some()
    }

    /// The provider decapsulated, or not.
    pub(in crate::endpoint) fn m1_decapsulated(&mut self, opening: OpeningM1, shared: Option<&Secret<32>>) {
        let OpeningM1 { peer, delivery, m1 } = opening;
        if let Some(pair) = self.sessions.pairs.get_mut(&peer) {
            pair.answering = false;
        }
        let answered = match shared {
            Some(shared) => self.judge_authentic(&peer, delivery, m1, shared),
            None => Err(RefusalReason::BadCiphertext),
        };
        match answered {
            Ok(true) => {}
            Ok(false) => self.acknowledge(delivery),
            Err(reason) => self.refuse_delivery(delivery, reason, Some(&peer)),
        }
    }

    /// Whether an answer is on its way.
    fn judge_authentic(
        &mut self,
        peer: &PeerId,
        delivery: DeliveryId,
        m1: CheckedM1,
        shared: &Secret<32>,
    ) -> Result<bool, RefusalReason> {
        let now = self.clock.monotonic();
        // Trust may have ended while the provider worked.
        let known = self.peers.get(peer).ok_or(RefusalReason::UnknownPeer)?;
        let trusted = known.trusted.as_ref().ok_or(RefusalReason::Revoked)?;
        if self.own.revoked {
            return Err(RefusalReason::Revoked);
        }
        let authentic = m1.decapsulated(shared, &trusted.certificate).map_err(|refusal| match refusal {
            M1Refusal::Signature => RefusalReason::BadSignature,
            M1Refusal::Content(_) => RefusalReason::Malformed,
            M1Refusal::Certificate => RefusalReason::Revoked,
            _ => RefusalReason::BadCiphertext,
        })?;
        self.sessions.budget.give_back();
        let favoured = self.tie(trusted) == Some(Winner::Peer);
        self.hear_of_revocations(authentic.revocation_seq());
        self.genuine(peer);
        let (ours, handshake) = (self.own.certificate.fingerprint(), authentic.handshake());
        let pair = self.sessions.pair_mut(peer);
        pair.attempts.fit(ours, authentic.initiator());
        let attempt = authentic.attempt();
        let rank = Rank { attempt, favoured };
        let current = pair.current.as_ref().map(|live| live.rank).unwrap_or_default();
        if attempt <= pair.attempts.theirs || rank < current {
            // An equal attempt with another transcript, or an older one: its sender's state is a copy, or it never heard of
            // what we agreed on since.
            let highest = pair.attempts.theirs.max(current.attempt);
            if pair.stale.as_ref().is_some_and(|(of, ..)| *of == handshake) {
                if let Some((_, _, at)) = &mut pair.stale {
                    *at = now;
                }
            } else {
                let stale = authentic.stale(highest).map_err(|_| RefusalReason::BadCiphertext)?;
                pair.stale = Some((handshake, stale, now));
            }
            let Some((_, payload, _)) = pair.stale.clone() else { return Ok(false) };
            self.transmit_answer(self.barrier.latest(), peer, payload);
            return Err(RefusalReason::StaleHandshake);
        }
        let ours = Rank { attempt: pair.attempts.ours, favoured: !favoured };
        if rank < ours {
            self.abandon_initiation(peer);
        }
        let pair = self.sessions.pair_mut(peer);
        pair.attempts.theirs = attempt;
        pair.answering = true;
        pair.answered = Some(now);
        let sid = self.sessions.sids.draw(&mut *self.random);
        let answer = authentic
            .answer(&mut *self.random, &self.own.sender, sid, self.sessions.boot)
            .map_err(|_| RefusalReason::BadCiphertext);
        let answer = match answer {
            Ok(answer) => answer,
            Err(reason) => {
                self.sessions.pair_mut(peer).answering = false;
                return Err(reason);
            }
        };
        self.sessions.sids.insert(sid, peer);
        let structure = answer.structure().clone();
        let answering =
            Answering { peer: peer.clone(), delivery, handshake, sid, favoured, answer: Box::new(answer) };
        self.request(Pending::SignM2(answering), ProviderRequest::Sign(structure));
        Ok(true)
    }

    /// The provider signed m2, or not: session and answer are durable before it leaves.
    pub(in crate::endpoint) fn m2_signed(&mut self, answering: Answering, signature: Option<&[u8]>) {
        let (delivery, sid) = (answering.delivery, answering.sid);
        if self.answered(answering, signature).is_none() {
            self.sessions.sids.retire(sid);
            self.acknowledge(delivery);
        }
    }

    fn answered(&mut self, answering: Answering, signature: Option<&[u8]>) -> Option<()> {
        let Answering { peer, delivery, handshake, favoured, answer, .. } = answering;
        let (now, at) = (self.clock.monotonic(), self.clock.effective());
        let pair = self.sessions.pairs.get_mut(&peer)?;
        pair.answering = false;
        let (m2, established) = answer.signed(signature?).ok()?;
        // A revocation may have come while the provider signed.
        let pins = self.peers.get(&peer)?.in_force().filter(|pins| pins.identity == established.initiator)?;
        if self.own.revoked {
            return None;
        }
        let ends = pins.not_after.min(self.own.certificate.claims().not_after);
        let session = Session::new(self.backend, &established.start())?;
        let own = self.own.certificate.fingerprint();
        let rank = Rank { attempt: established.attempt, favoured };
        let mut live = Live::new(session, rank, own, established.initiator, handshake, at, ends, now);
        let mut changes = Vec::new();
        if let Some(before) = pair.half_open.take() {
            // Superseded by a higher attempt.
            self.sessions.sids.retire(before.live.session.sid_in());
            changes.push(before.live.deletion());
        }
        changes.push(live.change(&peer, Slot::HalfOpen, &m2));
        changes.push(pair.handshake_change(&peer));
        let after = self.barrier.persist(changes, Vec::new());
        live.session.written(after.position());
        pair.half_open = Some(Box::new(HalfOpen { live, m2, since: now, patient: true }));
        self.sessions.awake.used(&peer, &mut pair.used, now);
        self.transmit_m2(after, &peer);
        self.barrier.emit(after, Output::Acknowledge(delivery));
        self.sessions.schedule(&peer);
        Some(())
    }

    fn transmit_m2(&mut self, after: Durable, peer: &PeerId) {
        let half_open = self.sessions.pairs.get(peer).and_then(|pair| pair.half_open.as_ref());
        if let Some(payload) = half_open.map(|half_open| half_open.m2.clone()) {
            self.transmit_answer(after, peer, payload);
        }
    }

    fn transmit_answer(&mut self, after: Durable, peer: &PeerId, payload: Vec<u8>) {
        let topic = self.topics.session_resp(peer);
        let purpose = Purpose::Handshake { peer: peer.clone(), answer: true };
        self.barrier.emit(after, Output::Transmit(Transmit { purpose, topic, payload, retain: false }));
    }
}

impl Pair {
    /// Whether a handshake is so young that messages wait for it.
    pub(super) fn is_opening(&self) -> bool {
        let ours = self.initiating.as_ref().is_some_and(|initiating| match initiating {
            Initiating::Signing { .. } => true,
            Initiating::Waiting { patient, .. } => *patient,
        });
        ours || self.answering || self.half_open.as_ref().is_some_and(|half_open| half_open.patient)
    }
}

fn reason_of(error: PacketError) -> RefusalReason {
    match error {
        PacketError::Kind => RefusalReason::UnknownKind,
        PacketError::Suite => RefusalReason::UnknownSuite,
        PacketError::Initiator(_) => RefusalReason::InvalidPeerId,
        _ => RefusalReason::Malformed,
    }
}
