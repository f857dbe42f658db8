//! Messages in: cheap checks, one signature, one decapsulation, and only then the replay window moves.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::arrival::{Arrival, Via};
use super::hold::{Held, Why};
use super::input::{DeliveryId, OperationId};
use super::output::Output;
use super::peers::{Owed, Trusted};
use super::pending::{Opening, Pending};
use super::refusal::RefusalReason;
use super::sessions::Judged;
use super::{Durable, Endpoint};
use crate::crypto::secret::Secret;
use crate::envelope::{Body, OpenFailure, Packet, PacketError, PendingOpen};
use crate::group;
use crate::identity::grants::Action;
use crate::ids::{KeyId, PeerId, StreamId};
use crate::provider::{PrekeyId, ProviderFailure, ProviderRequest, ProviderResponse};
use crate::replay::Replay;
use crate::session::TYPE_RECORD;
use crate::time::Monotonic;

pub(super) fn window_key(sender: KeyId, own: KeyId, stream: StreamId) -> Vec<u8> {
    [sender.as_bytes(), own.as_bytes(), &[stream.value()]].concat()
}

/// A refusal, with the peer it concerns if that peer is known.
type Refusal = (RefusalReason, Option<PeerId>);

enum Admission {
    Open(Box<Opening>),
    Wait(Why),
    /// A copy of what is being opened.
    Copy((KeyId, StreamId, u64), PeerId),
}

impl Endpoint {
    pub(super) fn receive_message(&mut self, delivery: DeliveryId, topic: String, payload: Vec<u8>) {
        let since = self.clock.monotonic();
        self.consider(since, Some(delivery), topic, payload);
    }

    /// Opens a packet, lets it wait, or refuses it.
    pub(super) fn consider(
        &mut self,
        since: Monotonic,
        delivery: Option<DeliveryId>,
        topic: String,
        payload: Vec<u8>,
    ) {
        if payload.first() == Some(&TYPE_RECORD) {
            return self.consider_record(since, delivery, topic, payload);
        }
        if let Some(&(group::TYPE_RECORD | group::TYPE_SEAL)) = payload.first() {
            return self.consider_group(since, delivery, topic, payload);
        }
        match self.admit(delivery, &topic, &payload) {
            Ok(Admission::Open(opening)) => self.open(*opening),
            Ok(Admission::Wait(why)) => {
                let waits_for_certificate = matches!(why, Why::Certificate(_));
                let mut held = Held { since, why, delivery, topic, payload };
                if waits_for_certificate {
                    self.acknowledge(held.delivery.take());
                }
                if let Err(held) = self.hold.push(held) {
                    self.refuse_delivery(held.delivery, held.reason(), None);
                }
            }
            Ok(Admission::Copy(of, peer)) => self.copied(delivery, of, &peer),
            Err((reason, peer)) => self.refuse_admission(delivery, reason, peer.as_ref()),
        }
    }

    /// The same for a record of a session.
    fn consider_record(
        &mut self,
        since: Monotonic,
        delivery: Option<DeliveryId>,
        topic: String,
        mut payload: Vec<u8>,
    ) {
        let control = self.topics.is_control(&topic);
        match self.judge_record(&topic, control, &mut payload) {
            Ok(Judged::Open(genuine)) => {
                let peer = genuine.peer.clone();
                match self.take_record(genuine, topic, control) {
                    Ok(after) => {
                        if let Some(delivery) = delivery {
                            self.barrier.emit(after, Output::Acknowledge(delivery));
                        }
                        self.turn_ratchet(&peer);
                    }
                    Err(reason) => self.refuse_admission(delivery, reason, Some(&peer)),
                }
            }
            Ok(Judged::Wait(why)) => {
                if let Err(held) = self.hold.push(Held { since, why, delivery, topic, payload }) {
                    self.refuse_delivery(held.delivery, held.reason(), None);
                }
            }
            Ok(Judged::Foreign) => self.acknowledge(delivery),
            Err((reason, peer)) => self.refuse_admission(delivery, reason, peer.as_ref()),
        }
    }

    /// A copy is acknowledged no sooner than the first: the broker must keep one of them until it is durable.
    fn copied(&mut self, delivery: Option<DeliveryId>, of: (KeyId, StreamId, u64), peer: &PeerId) {
        self.refuse(RefusalReason::Replayed, Some(peer));
        match self.opening.get_mut(&of) {
            Some(copies) => copies.extend(delivery),
            None => self.acknowledge(delivery),
        }
    }

    fn refuse_admission(
        &mut self,
        delivery: Option<DeliveryId>,
        reason: RefusalReason,
        peer: Option<&PeerId>,
    ) {
        self.refuse(reason, peer);
        if let (RefusalReason::Replayed | RefusalReason::TooOld, Some(peer)) = (reason, peer) {
            // Perhaps its sender never heard that we have it.
            self.inbox.receipt_asked(peer, self.clock.monotonic());
        }
        // What it repeats was accepted and may not be durable yet.
        if let Some(delivery) = delivery {
            self.barrier.emit(self.barrier.latest(), Output::Acknowledge(delivery));
        }
    }

    /// The decapsulation is over: its copies may go once what it changed is durable.
    fn opened(&mut self, opening: &(KeyId, StreamId, u64)) -> Vec<DeliveryId> {
        self.opening.remove(opening).unwrap_or_default()
    }

    /// Every check up to and including the signature. Nothing of the sender's has changed when this returns.
    fn admit(
        &mut self,
        delivery: Option<DeliveryId>,
        topic: &str,
        payload: &[u8],
    ) -> Result<Admission, Refusal> {
        let control = self.topics.is_control(topic);
        let packet = Packet::parse(payload).map_err(|error| (reason_of(error), None))?;
        if packet.sender() == self.config.peer_id.as_str() {
            return Err((RefusalReason::Reflected, None));
        }
        let Some((peer_id, peer)) = self.peers.get_key_value(packet.sender()) else {
            return Err((RefusalReason::UnknownPeer, None));
        };
        let refuse = |reason| Err((reason, Some(peer_id.clone())));
        if peer.pins.as_ref().is_some_and(|pins| pins.revoked) {
            return refuse(RefusalReason::Revoked);
        }
        let Some(pins) = peer.in_force() else {
            let now = self.clock.monotonic();
            return if peer.expected_until.is_some_and(|until| now < until) {
                Ok(Admission::Wait(Why::Certificate(peer_id.clone())))
            } else {
                refuse(RefusalReason::UnknownPeer)
            };
        };
        if !pins.valid_at(self.clock.effective()) {
            return refuse(RefusalReason::Expired);
        }
        if packet.recipient() != self.own.certificate.key_id() {
            return refuse(RefusalReason::WrongRecipient);
        }
        let own = self.own.certificate.claims();
        if !own.suites.contains(&packet.suite()) || !self.config.suites.contains(&packet.suite()) {
            return refuse(RefusalReason::SuiteNotAllowed);
        }
        let (key_id, stream, sequence) = (pins.identity.key_id(), packet.stream(), packet.sequence());
        if !control && stream == StreamId::CONTROL {
            return refuse(RefusalReason::WrongStream);
        }
        if !control && self.inbox.is_full() {
            return Ok(Admission::Wait(Why::Room));
        }
        let window = self.windows.get(&(key_id, stream)).copied().unwrap_or_default();
        if let Err(replay) = window.check(sequence) {
            return refuse(reason_of_replay(replay));
        }
        let name = (key_id, stream, sequence);
        if self.opening.contains_key(&name) {
            return Ok(Admission::Copy(name, peer_id.clone()));
        }
        let encapsulation_key = match packet.prekey() {
            PrekeyId::STATIC if own.prekey_required => return refuse(RefusalReason::StaticKey),
            PrekeyId::STATIC => own.keys.encapsulation_key.clone(),
            prekey => match self.prekeys.encapsulation_key(prekey) {
                Some(key) => key.to_vec(),
                None => return refuse(RefusalReason::UnknownPrekey),
            },
        };
        let paid = match &peer.trusted {
            Some(trusted) => trusted.has_prepaid(),
            None => self.loads.contains(peer_id),
        };
        if !paid && !self.budgets.messages.take(self.clock.monotonic()) {
            return Ok(Admission::Wait(Why::Budget));
        }
        let Some(Trusted { certificate, .. }) = peer.trusted.as_deref() else {
            let peer_id = peer_id.clone();
            self.load(&peer_id, Some(Owed::Messages));
            return Ok(Admission::Wait(Why::Loading(peer_id)));
        };
        let envelope = match PendingOpen::verify(&packet, certificate, topic) {
            Ok(envelope) => envelope,
            Err(OpenFailure::Packet(error)) => return refuse(reason_of(error)),
            Err(_) => return refuse(RefusalReason::BadSignature),
        };
        if !control && !certificate.claims().allows(Action::Publish, topic, self.clock.effective()) {
            return refuse(RefusalReason::NoGrant);
        }
        Ok(Admission::Open(Box::new(Opening {
            delivery,
            topic: topic.into(),
            control,
            peer: peer_id.clone(),
            key_id,
            stream,
            sequence,
            encapsulation_key,
            envelope,
        })))
    }

    fn open(&mut self, opening: Opening) {
        let prekey = opening.envelope.prekey();
        let ciphertext = opening.envelope.kem_ciphertext().to_vec();
        self.opening.insert(opening.name(), Vec::new());
        self.request(Pending::Open(opening), ProviderRequest::Decapsulate { key: prekey, ciphertext });
    }

    pub(super) fn decapsulated(&mut self, opening: Opening, shared: &Secret<32>) {
        let (delivery, peer) = (opening.delivery, opening.peer.clone());
        let copies = self.opened(&opening.name());
        if let Err(reason) = self.deliver(opening, shared) {
            self.refuse_delivery(delivery, reason, Some(&peer));
        }
        for copy in copies {
            self.barrier.emit(self.barrier.latest(), Output::Acknowledge(copy));
        }
    }

    fn deliver(&mut self, opening: Opening, shared: &Secret<32>) -> Result<(), RefusalReason> {
        // Trust may have ended while the provider worked.
        let peer = self.peers.get(&opening.peer).ok_or(RefusalReason::UnknownPeer)?;
        if !peer.trusts(opening.key_id) {
            return Err(RefusalReason::Revoked);
        }
        let Opening { delivery, topic, control, peer, key_id, stream, sequence, encapsulation_key, envelope } =
            opening;
        let opened =
            envelope.finish(self.backend, shared, &encapsulation_key, &topic).map_err(
                |error| match error {
                    OpenFailure::Content(_) => RefusalReason::Malformed,
                    _ => RefusalReason::BadCiphertext,
                },
            )?;
        let in_place = match opened.body {
            Body::Message { .. } => !control,
            Body::Lost(_) => control && stream != StreamId::CONTROL,
            Body::Receipt(_) => control && stream == StreamId::CONTROL,
        };
        if !in_place {
            return Err(RefusalReason::WrongStream);
        }

        self.genuine(&peer);
        let mut from = Arrival { peer, key_id, topic, stream, sequence, via: Via::Envelope };
        let after = match opened.body {
            Body::Receipt(receipt) => {
                // Receipts are true for ever: their window needs no disk.
                self.commit_window(&mut from)?;
                self.receipted(&from.peer, key_id, &receipt);
                Durable::NOW
            }
            Body::Lost(loss) => self.deliver_report(from, loss)?,
            Body::Message { content, tracking } => self.deliver_message(from, content, tracking)?,
        };
        // Only now: what is genuine and is not taken could be sent again and again.
        self.budgets.messages.give_back();
        if let Some(delivery) = delivery {
            self.barrier.emit(after, Output::Acknowledge(delivery));
        }
        Ok(())
    }

    pub(super) fn request(&mut self, pending: Pending, request: ProviderRequest) {
        let id = self.pending.insert(pending);
        self.barrier.emit(Durable::NOW, Output::Provider(id, request));
    }

    pub(super) fn provided(&mut self, id: OperationId, result: Result<ProviderResponse, ProviderFailure>) {
        let Some(pending) = self.pending.take(id) else { return };
        match (pending, result) {
            (Pending::Open(opening), Ok(ProviderResponse::SharedSecret(shared))) => {
                self.decapsulated(opening, &shared);
            }
            (Pending::Open(opening), _) => {
                let copies = self.opened(&opening.name());
                for delivery in copies.into_iter().chain(opening.delivery) {
                    self.acknowledge(delivery);
                }
                self.refuse(RefusalReason::BadCiphertext, Some(&opening.peer));
            }
            (Pending::SignM1(peer, initiate), result) => {
                self.m1_signed(&peer, *initiate, signature_of(&result));
            }
            (Pending::OpenM1(opening), Ok(ProviderResponse::SharedSecret(shared))) => {
                self.m1_decapsulated(*opening, Some(&shared));
            }
            (Pending::OpenM1(opening), _) => self.m1_decapsulated(*opening, None),
            (Pending::SignM2(answering), result) => self.m2_signed(answering, signature_of(&result)),
            (Pending::Seal(sealing), Ok(ProviderResponse::Signature(signature))) => {
                self.sealed(sealing, &signature);
            }
            (Pending::Seal(sealing), _) => self.seal_failed(sealing),
            (Pending::SealVolatile(sealing), result) => {
                self.volatile_sealed(sealing, signature_of(&result));
            }
            (Pending::SignGroupSeal(number), result) => {
                self.group_seal_signed(number, signature_of(&result));
            }
            (Pending::SealReceipt(sealing), result) => self.receipt_sealed(sealing, signature_of(&result)),
            (own, result) => self.provided_own(own, result),
        }
    }

    /// Tries those again, in order, that waited for this peer's certificate to be loaded.
    pub(super) fn retry_loaded(&mut self, peer: &PeerId) {
        for held in self.hold.take_loading(peer) {
            self.consider(held.since, held.delivery, held.topic, held.payload);
        }
    }

    /// Tries held deliveries again, in order; those that waited too long are refused.
    pub(super) fn retry_held(&mut self) {
        let now = self.clock.monotonic();
        for held in self.hold.take() {
            let expired = matches!(held.why, Why::Certificate(_) | Why::Group)
                && now.since(held.since) >= super::MAX_HELD_FOR;
            if expired {
                self.refuse_delivery(held.delivery, held.reason(), None);
                continue;
            }
            self.consider(held.since, held.delivery, held.topic, held.payload);
        }
    }
}

fn signature_of(result: &Result<ProviderResponse, ProviderFailure>) -> Option<&[u8]> {
    match result {
        Ok(ProviderResponse::Signature(signature)) => Some(signature),
        _ => None,
    }
}

fn reason_of(error: PacketError) -> RefusalReason {
    match error {
        PacketError::Kind => RefusalReason::UnknownKind,
        PacketError::Sender(_) => RefusalReason::InvalidPeerId,
        PacketError::Version => RefusalReason::UnknownVersion,
        PacketError::Suite => RefusalReason::UnknownSuite,
        PacketError::Truncated | PacketError::Stream => RefusalReason::Malformed,
    }
}

pub(super) fn reason_of_replay(replay: Replay) -> RefusalReason {
    match replay {
        Replay::Duplicate => RefusalReason::Replayed,
        Replay::TooOld => RefusalReason::TooOld,
    }
}
