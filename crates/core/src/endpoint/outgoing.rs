//! Messages out: permission, a durable sequence, the seal, the signature, and only then the network.

use super::input::{Publish, Ticket};
use super::output::{Event, Output, SendFailure, Transmit};
use super::pending::{Pending, Sealing};
use super::{Durable, Endpoint, counters};
use crate::envelope::{MessageClass, PendingSeal, Recipient};
use crate::identity::grants::Action;
use crate::provider::ProviderRequest;

/// What an envelope adds at most to a payload besides KEM ciphertext and signature, in bytes.
const FRAMING: usize = 4096;

impl Endpoint {
    pub(super) fn publish(&mut self, publish: Publish) {
        let ticket = publish.ticket;
        if let Err(reason) = self.seal(publish) {
            self.barrier.emit(Durable::NOW, Output::Event(Event::SendFailed { ticket, reason }));
        }
    }

    fn seal(&mut self, publish: Publish) -> Result<(), SendFailure> {
        let Publish { ticket, peer: id, topic, stream, content } = publish;
        if self.closed || self.own.revoked {
            return Err(SendFailure::Closed);
        }
        if content.class == MessageClass::Command {
            return Err(SendFailure::Command);
        }
        if self.topics.is_control(topic.as_str()) {
            return Err(SendFailure::ControlTopic);
        }
        let peer = self.peers.get(&id).ok_or(SendFailure::UnknownPeer)?;
        if peer.pins.as_ref().is_some_and(|pins| pins.revoked) {
            return Err(SendFailure::Revoked);
        }
        let trusted = peer.trusted.as_ref().ok_or(SendFailure::NotReady)?;
        let (theirs, ours) = (trusted.certificate.claims(), self.own.certificate.claims());
        let now = self.clock.effective();
        if !theirs.valid_at(now) || !ours.valid_at(now) {
            return Err(SendFailure::Expired);
        }
        let granted = ours.allows(Action::Publish, topic.as_str(), now)
            && theirs.allows(Action::Subscribe, topic.as_str(), now);
        if !granted {
            return Err(SendFailure::NoGrant);
        }
        let suite = trusted.suite(&self.config.suites).ok_or(SendFailure::Suite)?;
        let overhead = FRAMING + suite.kem().ciphertext_len() + self.own.sender.set.signature_len();
        if content.payload.len().saturating_add(overhead) > self.config.limits.message {
            return Err(SendFailure::TooLarge);
        }
        let (prekey, encapsulation_key) = trusted.kem_key(now)?;

        let recipient = Recipient { key_id: trusted.certificate.key_id(), prekey, encapsulation_key, suite };
        let counter = counters::counter_key(self.own.certificate.key_id(), recipient.key_id, stream);
        let barrier = &mut self.barrier;
        let sequence = self
            .counters
            .next(counter, |change| barrier.persist(alloc::vec![change], alloc::vec::Vec::new()))
            .ok_or(SendFailure::Sealing)?;
        let envelope = PendingSeal::new(
            self.backend,
            &mut *self.random,
            &self.own.sender,
            &recipient,
            topic.as_str(),
            stream,
            sequence.value,
            &content,
        )
        .map_err(|_| SendFailure::Sealing)?;
        let structure = envelope.structure().clone();
        let sealing = Sealing {
            ticket,
            peer: id,
            recipient: recipient.key_id,
            topic: topic.as_str().into(),
            after: sequence.after,
            envelope,
        };
        self.request(Pending::Seal(sealing), ProviderRequest::Sign(structure));
        Ok(())
    }

    pub(super) fn sealed(&mut self, sealing: Sealing, signature: &[u8]) {
        let Sealing { ticket, peer, recipient, topic, after, envelope } = sealing;
        // A revocation, of our own keys or the peer's, may have come while the provider signed.
        let trusted = self.peers.get(&peer).and_then(|peer| peer.trusted.as_ref());
        let still_trusted = trusted.is_some_and(|trusted| trusted.certificate.key_id() == recipient);
        let packet = if self.own.revoked || !still_trusted { None } else { envelope.finish(signature) };
        match packet {
            Some(payload) => {
                let transmit = Transmit { ticket: Some(ticket), topic, payload, retain: false };
                self.barrier.emit(after, Output::Transmit(transmit));
            }
            None => self.seal_failed(ticket),
        }
    }

    pub(super) fn seal_failed(&mut self, ticket: Ticket) {
        let event = Event::SendFailed { ticket, reason: SendFailure::Sealing };
        self.barrier.emit(Durable::NOW, Output::Event(event));
    }
}
