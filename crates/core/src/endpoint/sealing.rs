//! Sealing in envelopes: a sequence, the ciphertext, and, once the provider has signed, the packet. Persisted before it leaves.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::input::Publish;
use super::outbox::{LaneKey, Sealed};
use super::outgoing::NotNow;
use super::output::{Event, Output, Purpose, SendFailure, Transmit};
use super::pending::{Addressee, Pending, Sealing, SealingVolatile};
use super::sessions::Carrier;
use super::{Durable, Endpoint, counters};
use crate::delivery::Origin;
use crate::envelope::{Body, MessageClass, PendingSeal, Recipient, Tracking};
use crate::ids::{PeerId, StreamId};
use crate::provider::ProviderRequest;

/// How long sealing to a peer pauses after the provider failed.
const PROVIDER_PAUSE: Duration = Duration::from_secs(5);

impl Endpoint {
    /// Takes a sequence and encrypts.
    pub(super) fn envelope(
        &mut self,
        peer: &PeerId,
        to: Addressee,
        topic: &str,
        stream: StreamId,
        body: &Body,
    ) -> Result<(u64, Durable, PendingSeal), SendFailure> {
        self.touch(peer);
        let trusted = self.peers.get(peer).and_then(|peer| peer.trusted.as_ref());
        let trusted = trusted.ok_or(SendFailure::NotReady)?;
        let (prekey, encapsulation_key) = trusted.kem_key(self.clock.effective())?;
        let suite = trusted.suite(&self.config.suites).ok_or(SendFailure::Suite)?;
        let counter = counters::counter_key(self.own.certificate.key_id(), to.recipient, stream);
        let barrier = &mut self.barrier;
        let sequence = self
            .counters
            .next(counter, |change| barrier.persist(alloc::vec![change], Vec::new()))
            .ok_or(SendFailure::Sealing)?;
        let recipient = Recipient { key_id: to.recipient, prekey, encapsulation_key, suite };
        let envelope = PendingSeal::new(
            self.backend,
            &mut *self.random,
            &self.own.sender,
            &recipient,
            topic,
            stream,
            sequence.value,
            body,
        )
        .map_err(|_| SendFailure::Sealing)?;
        Ok((sequence.value, sequence.after, envelope))
    }

    /// Whether a peer still has the keys that something was sealed to, and we may still send.
    pub(super) fn still_addressed(&self, peer: &PeerId, recipient: crate::ids::KeyId) -> bool {
        !self.own.revoked && self.peers.get(peer).is_some_and(|peer| peer.trusts(recipient))
    }

    /// The provider signed: the exact bytes go to disk, then to the network.
    pub(super) fn sealed(&mut self, sealing: Sealing, signature: &[u8]) {
        let Sealing { row, lane, sequence, to, envelope } = sealing;
        self.outbox.sealing -= 1;
        let envelope_name = Some((to.recipient, sequence));
        if self.outbox.entry(row).is_none_or(|entry| entry.sealing != envelope_name) {
            // It ended, or was given up or sealed otherwise meanwhile.
            return self.pump();
        }
        // A revocation, of our own keys or the peer's, or new keys, may have come while the provider signed.
        let packet =
            if self.still_addressed(&lane.peer, to.recipient) { envelope.finish(signature) } else { None };
        let Some(packet) = packet else {
            self.outbox.seal_again(&lane, row);
            return self.pump();
        };
        if let Some(entry) = self.outbox.entry_mut(row) {
            let Addressee { recipient, prekey, usable_until } = to;
            let sender = self.own.certificate.key_id();
            entry.sealing = None;
            let sealed = Sealed { sender, sequence, recipient, prekey, usable_until, packet };
            let change = sealed.change(row);
            entry.sealed = Some(Box::new(sealed));
            entry.transmitted = true;
            let after = self.barrier.persist(alloc::vec![change], Vec::new());
            self.transmit(after, row);
        }
        self.pump();
    }

    /// The provider did not sign: later again.
    pub(super) fn seal_failed(&mut self, sealing: Sealing) {
        self.outbox.sealing -= 1;
        let envelope = Some((sealing.to.recipient, sealing.sequence));
        if self.outbox.entry(sealing.row).is_none_or(|entry| entry.sealing != envelope) {
            return self.pump();
        }
        let resume = self.clock.monotonic().plus(PROVIDER_PAUSE);
        self.outbox.seal_again(&sealing.lane, sealing.row);
        if let Some(lane) = self.outbox.lane_mut(&sealing.lane) {
            lane.not_before = Some(resume);
        }
        self.outbox.schedule(&sealing.lane);
        self.pump();
    }

    /// Seals a volatile message at once, or not at all.
    pub(super) fn seal_volatile(&mut self, publish: Publish) -> Result<(), SendFailure> {
        let Publish { ticket, peer, topic, stream, content, .. } = publish;
        self.check(&peer, topic.as_str(), stream, &content)?;
        if !self.online {
            return Err(SendFailure::Offline);
        }
        if self.carrier(&peer) == Carrier::Session {
            return self.carry_volatile(ticket, &peer, topic.as_str(), stream, content);
        }
        if content.class == MessageClass::Command {
            return Err(SendFailure::NotReady);
        }
        let trusted = self.peers.get(&peer).and_then(|peer| peer.trusted.as_ref());
        trusted.ok_or(SendFailure::NotReady)?.kem_key(self.clock.effective())?;
        let to = self.addressee(&peer, topic.as_str()).map_err(|error| match error {
            NotNow::Wait => SendFailure::NotReady,
            NotNow::Never(reason) => reason,
        })?;
        let key = LaneKey { peer: peer.clone(), stream };
        let counter = counters::counter_key(self.own.certificate.key_id(), to.recipient, stream);
        let lane = self.outbox.lane_or_new(&key);
        if !lane.has_room_for(to.recipient, self.counters.peek(&counter)) {
            return Err(SendFailure::Window);
        }
        let msg_seq = self.outbox.lane_or_new(&key).next_volatile();
        let origin = Origin { boot: self.outbox.boot, msg_seq };
        let body = Body::Message { content, tracking: Tracking::Volatile(origin) };
        let (_, after, envelope) = self.envelope(&peer, to, topic.as_str(), stream, &body)?;
        let structure = envelope.structure().clone();
        let sealing = SealingVolatile {
            ticket,
            peer,
            recipient: to.recipient,
            topic: topic.as_str().into(),
            after,
            envelope,
        };
        self.request(Pending::SealVolatile(sealing), ProviderRequest::Sign(structure));
        Ok(())
    }

    pub(super) fn volatile_sealed(&mut self, sealing: SealingVolatile, signature: Option<&[u8]>) {
        let SealingVolatile { ticket, peer, recipient, topic, after, envelope } = sealing;
        let addressed = self.still_addressed(&peer, recipient);
        let packet = signature.filter(|_| addressed).and_then(|signature| envelope.finish(signature));
        let Some(payload) = packet else { return self.send_failed(ticket, SendFailure::Sealing) };
        let purpose = Purpose::Volatile { peer, ticket };
        self.barrier.emit(after, Output::Transmit(Transmit { purpose, topic, payload, retain: false }));
        self.barrier.emit(after, Output::Event(Event::Accepted { ticket, durable: false }));
    }
}
