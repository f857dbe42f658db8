//! Messages to topic groups that nothing has proved yet, and what became of each.

use std::collections::{HashMap, VecDeque};

use pqc_iiot_core::endpoint::Event;
use pqc_iiot_core::group::MessageName;
use pqc_iiot_core::ids::{GroupId, PeerId};

/// Messages that wait for proof, at most: senders sign every 256.
const MAX_WAITING: usize = 16_384;
/// Bytes of payloads that wait for proof, at most.
const MAX_BYTES: usize = 16 << 20;

/// A message to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupMessage {
    pub(crate) peer: PeerId,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) name: MessageName,
}

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It came, and some member made it.
    Unverified(GroupMessage),
    /// It is its sender's: it came with its proof, or had been told as unverified.
    Verified { message: GroupMessage, before: bool },
    /// Nothing will prove it any more.
    Unproved(GroupMessage),
    /// A member made a message in the sender's name; these were told as unverified.
    Forged { peer: PeerId, gid: GroupId, epoch: u16, counter: u32, messages: Vec<GroupMessage> },
    /// It waited for proof, and there was no room for it any more.
    Dropped(GroupMessage),
}

/// Messages that nothing has proved yet.
#[derive(Debug, Default)]
pub(crate) struct Unproved {
    waiting: HashMap<MessageName, GroupMessage>,
    /// In order of arrival; those that were decided stay for a while.
    order: VecDeque<MessageName>,
    bytes: usize,
}

impl Unproved {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What an event about groups says.
    pub(crate) fn take(&mut self, event: Event) -> Vec<Told> {
        match event {
            Event::GroupMessage { peer, topic, payload, name, verified } => {
                let message = GroupMessage { peer, topic, payload, name };
                if verified {
                    return vec![Told::Verified { message, before: false }];
                }
                let mut told = vec![Told::Unverified(message.clone())];
                told.extend(self.keep(message).into_iter().map(Told::Dropped));
                told
            }
            Event::GroupVerified { name, .. } => {
                let message = self.remove(&name);
                message.map(|message| Told::Verified { message, before: true }).into_iter().collect()
            }
            Event::GroupUnproved { name, .. } => self.remove(&name).map(Told::Unproved).into_iter().collect(),
            Event::GroupForged { peer, gid, epoch, counter } => {
                // What is genuine of this counter was told as verified before.
                let forged =
                    |name: &&MessageName| (name.gid, name.epoch, name.counter) == (gid, epoch, counter);
                let of_peer =
                    |(name, message): (&MessageName, &GroupMessage)| (message.peer == peer).then_some(*name);
                let names: Vec<MessageName> = self.waiting.iter().filter_map(of_peer).collect();
                let names: Vec<MessageName> = names.iter().filter(forged).copied().collect();
                let messages = names.iter().filter_map(|name| self.remove(name)).collect();
                vec![Told::Forged { peer, gid, epoch, counter, messages }]
            }
            _ => Vec::new(),
        }
    }

    /// Keeps it until something is known; what there is no room for.
    fn keep(&mut self, message: GroupMessage) -> Vec<GroupMessage> {
        self.bytes += message.payload.len();
        self.order.push_back(message.name);
        if let Some(before) = self.waiting.insert(message.name, message) {
            self.bytes -= before.payload.len();
        }
        let mut dropped = Vec::new();
        while self.waiting.len() > MAX_WAITING || self.bytes > MAX_BYTES || self.order.len() > 2 * MAX_WAITING
        {
            let Some(oldest) = self.order.pop_front() else { break };
            dropped.extend(self.remove(&oldest));
        }
        dropped
    }

    fn remove(&mut self, name: &MessageName) -> Option<GroupMessage> {
        let message = self.waiting.remove(name)?;
        self.bytes -= message.payload.len();
        if self.waiting.is_empty() {
            self.order.clear();
        }
        Some(message)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use pqc_iiot_core::crypto::kdf::hash;
    use pqc_iiot_core::crypto::suite::HashAlgorithm;
    use pqc_iiot_core::ids::Fingerprint;

    use super::*;

    fn message(counter: u32, payload: &[u8]) -> GroupMessage {
        let peer = PeerId::new("press-7").unwrap();
        let leaf = hash(HashAlgorithm::Sha256, &[&counter.to_be_bytes(), payload]);
        let gid = GroupId::from_slice(&[1; 7]).unwrap();
        let publisher = Fingerprint::from_slice(&[2; 32]).unwrap();
        let name = MessageName { publisher, gid, epoch: 0, counter, leaf };
        GroupMessage { peer, topic: "plant/hall".into(), payload: payload.to_vec(), name }
    }

    fn came(message: &GroupMessage, verified: bool) -> Event {
        let GroupMessage { peer, topic, payload, name } = message.clone();
        Event::GroupMessage { peer, topic, payload, name, verified }
    }

    #[test]
    fn each_message_is_decided_once_and_a_forgery_takes_the_name_of_no_other() {
        let mut unproved = Unproved::default();
        let (genuine, forged, lost) = (message(7, b"21.5"), message(7, b"99.9"), message(8, b"21.6"));
        let peer = genuine.peer.clone();
        for one in [&forged, &genuine, &lost] {
            assert_eq!(unproved.take(came(one, false)), [Told::Unverified(one.clone())]);
        }
        let verified = Event::GroupVerified { peer: peer.clone(), name: genuine.name };
        let told = Told::Verified { message: genuine.clone(), before: true };
        assert_eq!(unproved.take(verified.clone()), [told]);
        assert_eq!(unproved.take(verified), []);
        let (gid, epoch, counter) = (genuine.name.gid, 0, 7);
        let event = Event::GroupForged { peer: peer.clone(), gid, epoch, counter };
        let messages = vec![forged];
        assert_eq!(
            unproved.take(event),
            [Told::Forged { peer: peer.clone(), gid, epoch, counter, messages }]
        );
        let given_up = Event::GroupUnproved { peer, name: lost.name };
        assert_eq!(unproved.take(given_up), [Told::Unproved(lost)]);
        assert_eq!((unproved.len(), unproved.bytes, unproved.order.len()), (0, 0, 0));
        // Late, with its proof.
        assert_eq!(
            unproved.take(came(&genuine, true)),
            [Told::Verified { message: genuine.clone(), before: false }]
        );
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes() {
        let mut unproved = Unproved::default();
        let large = vec![0; MAX_BYTES / 4];
        for counter in 0..4 {
            assert_eq!(unproved.take(came(&message(counter, &large), false)).len(), 1);
        }
        let told = unproved.take(came(&message(4, &large), false));
        assert_eq!(told[1], Told::Dropped(message(0, &large)));
        let mut unproved = Unproved::default();
        for counter in 0..MAX_WAITING as u32 {
            assert_eq!(unproved.take(came(&message(counter, b""), false)).len(), 1);
        }
        assert_eq!(unproved.take(came(&message(u32::MAX, b""), false)).len(), 2);
        assert_eq!(unproved.len(), MAX_WAITING);
    }
}
