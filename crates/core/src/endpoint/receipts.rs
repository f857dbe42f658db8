//! Receipts out: sealed to the sender at its control topic, only for what is durable here.

use core::time::Duration;

use alloc::string::String;

use super::Endpoint;
use super::output::{Output, Purpose, Transmit};
use super::pending::{Pending, SealingReceipt};
use super::sessions::Carrier;
use crate::delivery::Receipt;
use crate::envelope::Body;
use crate::ids::{PeerId, StreamId};
use crate::provider::ProviderRequest;
use crate::session::{Class, Text};

/// How long a receipt waits for keys to seal it to.
const RETRY: Duration = Duration::from_secs(5);

impl Endpoint {
    /// Makes the receipts whose time has come.
    pub(super) fn send_receipts(&mut self) {
        let now = self.clock.monotonic();
        for peer in self.inbox.due_receipts(now) {
            if self.seal_receipt(&peer).is_none() && !self.confirm_once_loaded(&peer) {
                // Without a link or keys; a peer that is gone for good asks for nothing more.
                let retry = self.can_still_confirm(&peer).then(|| now.plus(RETRY));
                self.inbox.receipt_made(&peer, now, retry);
            }
        }
    }

    /// What could not be confirmed before the peer's certificate was there.
    pub(super) fn confirm_loaded(&mut self, peer: &PeerId) {
        let now = self.clock.monotonic();
        if self.seal_receipt(peer).is_none() {
            let retry = self.can_still_confirm(peer).then(|| now.plus(RETRY));
            self.inbox.receipt_made(peer, now, retry);
        }
    }

    fn can_still_confirm(&self, peer: &PeerId) -> bool {
        let revoked = |pins: &super::PeerRecord| pins.revoked;
        let known = self.peers.get(peer).is_some_and(|peer| !peer.pins.as_ref().is_some_and(revoked));
        known && !self.own.revoked && !self.closed
    }

    fn seal_receipt(&mut self, peer: &PeerId) -> Option<()> {
        if !self.online || self.own.revoked {
            return None;
        }
        let topic = self.topics.control(peer);
        if self.carrier(peer) == Carrier::Session {
            return self.carry_receipt(peer, topic);
        }
        let to = self.addressee(peer, &topic).ok()?;
        let windows = &self.windows;
        let last = |stream: StreamId| windows.get(&(to.recipient, stream)).map_or(0, |w| w.last_sequence());
        let receipt: Receipt = self.inbox.heard.receipt(peer, last);
        // What it confirms may still be on its way to the disk.
        let durable = self.barrier.latest();
        let body = Body::Receipt(receipt);
        let (_, reserved, envelope) = self.envelope(peer, to, &topic, StreamId::CONTROL, &body).ok()?;
        let structure = envelope.structure().clone();
        let after = durable.max(reserved);
        let sealing = SealingReceipt { peer: peer.clone(), recipient: to.recipient, after, envelope };
        self.request(Pending::SealReceipt(sealing), ProviderRequest::Sign(structure));
        Some(())
    }

    /// In the session there is nothing to wait for.
    fn carry_receipt(&mut self, peer: &PeerId, topic: String) -> Option<()> {
        let now = self.clock.monotonic();
        let key = self.peers.get(peer)?.in_force()?.identity.key_id();
        let windows = &self.windows;
        let last = |stream: StreamId| windows.get(&(key, stream)).map_or(0, |w| w.last_sequence());
        let body = Body::Receipt(self.inbox.heard.receipt(peer, last)).encode();
        let (class, stream, text) = (Class::Control, StreamId::CONTROL, Text::Body(&body));
        let durable = self.barrier.latest();
        let sealed = self.sessions.seal_record(&mut self.barrier, peer, class, stream, &topic, text, now);
        let (sealed, reserved) = sealed.ok()?;
        let purpose = Purpose::Receipt(peer.clone());
        let transmit = Transmit { purpose, topic, payload: sealed.record, retain: false };
        self.barrier.emit(reserved.max(durable), Output::Transmit(transmit));
        self.inbox.receipt_made(peer, now, None);
        Some(())
    }

    pub(super) fn receipt_sealed(&mut self, sealing: SealingReceipt, signature: Option<&[u8]>) {
        let SealingReceipt { peer, recipient, after, envelope } = sealing;
        let now = self.clock.monotonic();
        let addressed = self.still_addressed(&peer, recipient);
        let packet = signature.filter(|_| addressed).and_then(|signature| envelope.finish(signature));
        let Some(payload) = packet else {
            let retry = self.can_still_confirm(&peer).then(|| now.plus(RETRY));
            return self.inbox.receipt_made(&peer, now, retry);
        };
        let topic = self.topics.control(&peer);
        let purpose = Purpose::Receipt(peer.clone());
        self.barrier.emit(after, Output::Transmit(Transmit { purpose, topic, payload, retain: false }));
        self.inbox.receipt_made(&peer, now, None);
        self.send_receipts();
    }

    /// A message arrived that its sender wants confirmed.
    pub(super) fn receipt_due(&mut self, peer: &PeerId) {
        self.inbox.receipt_due(peer, self.clock.monotonic());
        self.send_receipts();
    }
}
