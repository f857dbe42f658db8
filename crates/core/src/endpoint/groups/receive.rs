//! Records and seals in: cheap checks first, then whether their publisher may, then keys and signatures.

use alloc::string::String;
use alloc::vec::Vec;

use super::Name;
use crate::crypto::kdf::hash;
use crate::endpoint::hold::{Held, Why};
use crate::endpoint::input::DeliveryId;
use crate::endpoint::output::{Event, Output};
use crate::endpoint::refusal::RefusalReason;
use crate::endpoint::{Durable, Endpoint};
use crate::group::{
    Delivery, Header, MAX_SAME_ID, OpenError, Opened, SealError, SealPacket, Source, TYPE_SEAL,
};
use crate::identity::grants::Action;
use crate::ids::{GroupId, PeerId};
use crate::time::Monotonic;

/// Why a record or seal is not taken now.
enum NotTaken {
    Wait(Why),
    Refuse(RefusalReason, Option<PeerId>),
}

impl Endpoint {
    /// Takes a record or a seal of a topic group, lets it wait, or refuses it.
    pub(in crate::endpoint) fn consider_group(
        &mut self,
        since: Monotonic,
        delivery: Option<DeliveryId>,
        topic: String,
        payload: Vec<u8>,
    ) {
        let taken = if self.topics.is_control(&topic) {
            Err(NotTaken::Refuse(RefusalReason::WrongStream, None))
        } else if payload.first() == Some(&TYPE_SEAL) {
            self.take_seal(&topic, &payload)
        } else {
            self.take_group_record(&topic, &payload)
        };
        match taken {
            Ok(after) => {
                if let Some(delivery) = delivery {
                    self.barrier.emit(after, Output::Acknowledge(delivery));
                }
            }
            Err(NotTaken::Wait(why)) => {
                let mut held = Held { since, why, delivery, topic, payload };
                if held.why == Why::Group {
                    // Anybody can make up groups, and acknowledgements leave in order.
                    self.acknowledge(held.delivery.take());
                }
                if let Err(held) = self.hold.push(held) {
                    self.refuse_delivery(held.delivery, held.reason(), None);
                }
            }
            Err(NotTaken::Refuse(reason, peer)) => {
                self.refuse(reason, peer.as_ref());
                if let Some(delivery) = delivery {
                    self.barrier.emit(self.barrier.latest(), Output::Acknowledge(delivery));
                }
            }
        }
    }

    /// The publishers that this may be of, and that may publish on `topic` now. `None` if it is our own.
    fn sources(&mut self, topic: &str, gid: GroupId, epoch: u16) -> Result<Option<Vec<Source>>, NotTaken> {
        if self.groups.publishing(gid).is_some() {
            return Ok(None);
        }
        let sources = self.groups.subscriptions.sources_of(topic, gid, epoch);
        if sources.is_empty() {
            self.want_key(topic, gid, epoch);
        }
        let (mut permitted, mut refused) = (Vec::new(), NotTaken::Wait(Why::Group));
        for source in sources {
            match self.source_may(&source, topic) {
                Ok(()) => permitted.push(source),
                Err(NotTaken::Wait(why)) => return Err(NotTaken::Wait(why)),
                Err(refuse) => refused = refuse,
            }
        }
        if permitted.is_empty() { Err(refused) } else { Ok(Some(permitted)) }
    }

    fn source_may(&mut self, source: &Source, topic: &str) -> Result<(), NotTaken> {
        let at = self.clock.effective();
        let refuse = |reason| Err(NotTaken::Refuse(reason, Some(source.id.clone())));
        let Some(known) = self.peers.get(&source.id) else {
            return Err(NotTaken::Refuse(RefusalReason::UnknownPeer, None));
        };
        if known.pins.as_ref().is_some_and(|pins| pins.revoked) {
            return refuse(RefusalReason::Revoked);
        }
        let Some(pins) = known.in_force().filter(|pins| pins.identity == source.fingerprint) else {
            return refuse(RefusalReason::UnknownPeer);
        };
        if !pins.valid_at(at) {
            return refuse(RefusalReason::Expired);
        }
        let Some(trusted) = &known.trusted else {
            self.load(&source.id, None);
            return Err(NotTaken::Wait(Why::Loading(source.id.clone())));
        };
        if trusted.certificate.claims().allows(Action::Publish, topic, at) {
            Ok(())
        } else {
            refuse(RefusalReason::NoGrant)
        }
    }

    fn take_group_record(&mut self, topic: &str, payload: &[u8]) -> Result<Durable, NotTaken> {
        let header = Header::parse(payload).ok_or(NotTaken::Refuse(RefusalReason::Malformed, None))?;
        let Some(sources) = self.sources(topic, header.gid, header.epoch)? else { return Ok(Durable::NOW) };
        let now = self.clock.monotonic();
        let mut refused = OpenError::Unauthentic;
        for (place, source) in sources.into_iter().enumerate() {
            if place >= MAX_SAME_ID && !self.groups.trials.take(now) {
                return Err(NotTaken::Refuse(RefusalReason::OverBudget, None));
            }
            let name = (source.fingerprint, header.gid, header.epoch);
            let Some(one) = self.groups.subscriptions.get_mut(&name.0, name.1, name.2) else { continue };
            let topic_hash = hash(one.suite().hash(), &[topic.as_bytes()]);
            match one.open(now, &header, topic_hash.as_slice(), payload.to_vec()) {
                // Perhaps of another publisher with the same ids: what one that did not make it says decides nothing.
                Err(error) if !error.is_decided() => refused = refused.or(error),
                decided => {
                    (MAX_SAME_ID..=place).for_each(|_| self.groups.trials.give_back());
                    self.groups.subscriptions.prefer(&name.0, name.1, name.2);
                    return match decided {
                        Ok(opened) => Ok(self.group_record_opened(name, &source.id, topic, opened)),
                        Err(error) => Err(self.group_record_refused(&name, source.id, header.counter, error)),
                    };
                }
            }
        }
        // That one publisher's group epoch is there does not mean that another's is, though they have the same ids.
        let perhaps = refused == OpenError::Unauthentic && self.want_key(topic, header.gid, header.epoch);
        Err(if perhaps { NotTaken::Wait(Why::Group) } else { group_record_unopened(refused) })
    }

    fn group_record_opened(&mut self, name: Name, peer: &PeerId, topic: &str, opened: Opened) -> Durable {
        // Used, and perhaps not by its owner: a member may have made it.
        self.touch(peer);
        let Opened { delivery, outcome } = opened;
        let (name_of, payload, verified) = match delivery {
            Delivery::Member(message) => (*message.name(), message.unattributed().clone(), false),
            Delivery::Verified(message) => (*message.name(), message.into_inner(), true),
        };
        let event =
            Event::GroupMessage { peer: peer.clone(), topic: topic.into(), payload, name: name_of, verified };
        // If it is verified, by a seal whose row may still be on its way to the disk.
        let after = if verified { self.barrier.latest() } else { Durable::NOW };
        self.barrier.emit(after, Output::Event(event));
        if outcome.upgrades.is_empty() && outcome.forged.is_empty() {
            if !verified {
                self.wait_for_seal(name, name_of.counter);
            }
            return after;
        }
        self.group_decided(name, peer, &outcome)
    }

    fn group_record_refused(
        &mut self,
        &(_, gid, epoch): &Name,
        peer: PeerId,
        counter: u32,
        error: OpenError,
    ) -> NotTaken {
        if error == OpenError::Forged {
            let event = Event::GroupForged { peer, gid, epoch, counter };
            self.barrier.emit(Durable::NOW, Output::Event(event));
        }
        group_record_unopened(error)
    }

    fn take_seal(&mut self, topic: &str, payload: &[u8]) -> Result<Durable, NotTaken> {
        let packet = SealPacket::parse(payload).ok_or(NotTaken::Refuse(RefusalReason::Malformed, None))?;
        let Some(sources) = self.sources(topic, packet.gid(), packet.epoch())? else {
            return Ok(Durable::NOW);
        };
        let (mut refused, mut spent) = (RefusalReason::BadSignature, 0);
        for source in sources {
            let name = (source.fingerprint, packet.gid(), packet.epoch());
            if !self.budgets.messages.take(self.clock.monotonic()) {
                return Err(NotTaken::Wait(Why::Budget));
            }
            spent += 1;
            let Some(one) = self.groups.subscriptions.get_mut(&name.0, name.1, name.2) else { continue };
            let trusted = self.peers.get(&source.id).and_then(|peer| peer.trusted.as_ref());
            let Some(trusted) = trusted else { continue };
            let received = one.receive_seal(&trusted.certificate, &packet);
            if received != Err(SealError::BadSignature) {
                // Either it is genuine, or no signature was verified.
                self.budgets.messages.give_back();
                spent -= 1;
            }
            refused = match received {
                Ok(outcome) => {
                    // It is genuine, so it was no forgery for those tried before it.
                    (0..spent).for_each(|_| self.budgets.messages.give_back());
                    self.groups.subscriptions.prefer(&name.0, name.1, name.2);
                    self.genuine(&source.id);
                    let after = self.group_decided(name, &source.id, &outcome);
                    self.retry_group();
                    return Ok(after);
                }
                Err(SealError::Replay) => RefusalReason::Replayed,
                Err(SealError::TooOld) => RefusalReason::TooOld,
                Err(SealError::Malformed) => RefusalReason::Malformed,
                Err(SealError::BadSignature | SealError::UnknownGroup) => continue,
                Err(SealError::Equivocation) => {
                    // It signed two histories: neither is told any more.
                    self.unfollow(&[name]);
                    return Err(NotTaken::Refuse(RefusalReason::BadGroup, Some(source.id)));
                }
            };
        }
        Err(NotTaken::Refuse(refused, None))
    }

    /// Tries those again, in order, that waited for a group's key or seal.
    pub(super) fn retry_group(&mut self) {
        for held in self.hold.take_group() {
            self.consider(held.since, held.delivery, held.topic, held.payload);
        }
    }
}

fn group_record_unopened(error: OpenError) -> NotTaken {
    let reason = match error {
        // A seal may be on its way.
        OpenError::UnknownGroup | OpenError::TooFar => return NotTaken::Wait(Why::Group),
        OpenError::Replay => RefusalReason::Replayed,
        OpenError::TooOld => RefusalReason::TooOld,
        OpenError::Crowded => RefusalReason::GroupCrowded,
        OpenError::Forged => RefusalReason::GroupForgery,
        OpenError::Unauthentic => RefusalReason::BadCiphertext,
    };
    NotTaken::Refuse(reason, None)
}
