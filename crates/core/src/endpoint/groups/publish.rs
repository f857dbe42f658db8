//! Commands of the application's, records out, and seals over them.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::members::Standing;
use super::row::{group_row, member_key};
use super::{MAX_OWN_GROUPS, OwnGroup, SIGN_AGAIN};
use crate::crypto::kdf::hash;
use crate::endpoint::input::Ticket;
use crate::endpoint::output::{Event, Output, Purpose, SendFailure, Transmit};
use crate::endpoint::pending::Pending;
use crate::endpoint::{Durable, Endpoint};
use crate::group::{MAX_MEMBERS, OVERHEAD, PublishError, Publisher};
use crate::identity::grants::{Action, covered_until};
use crate::ids::PeerId;
use crate::provider::ProviderRequest;
use crate::store::{Change, RecordKind};
use crate::topic::{Topic, TopicFilter};

impl Endpoint {
    pub(in crate::endpoint) fn create_group(&mut self, ticket: Ticket, filter: TopicFilter) {
        let result = self.new_group(filter);
        self.group_changed(ticket, result);
    }

    fn new_group(&mut self, filter: TopicFilter) -> Result<Vec<Change>, SendFailure> {
        if self.groups.own.contains_key(&filter) {
            return Ok(Vec::new());
        }
        if self.groups.own.keys().any(|other| other.overlaps(&filter)) {
            return Err(SendFailure::GroupOverlap);
        }
        if self.groups.own.len() >= MAX_OWN_GROUPS {
            return Err(SendFailure::GroupFull);
        }
        let claims = self.own.certificate.claims();
        if covered_until(&claims.grants, Action::Publish, &filter, self.clock.effective()).is_none() {
            return Err(SendFailure::NoGrant);
        }
        let suite = claims.suites.iter().copied().find(|suite| self.config.suites.contains(suite));
        let suite = suite.ok_or(SendFailure::Suite)?;
        let (now, me) = (self.clock.monotonic(), self.own.sender.clone());
        let publisher = Publisher::new(self.backend, &mut *self.random, suite, me, filter.clone(), now);
        let publisher = publisher.ok_or(SendFailure::Sealing)?;
        let change = group_row(&filter, suite);
        let number = self.groups.begin();
        self.groups.own.insert(filter, OwnGroup::new(number, publisher, now));
        Ok(alloc::vec![change])
    }

    pub(in crate::endpoint) fn add_subscriber(&mut self, ticket: Ticket, filter: &TopicFilter, peer: PeerId) {
        let result = self.new_member(filter, &peer);
        let added = result.is_ok();
        self.group_changed(ticket, result);
        if added {
            self.review(filter, &peer);
            self.hand_out(filter, Some(&peer));
        }
    }

    fn new_member(&mut self, filter: &TopicFilter, peer: &PeerId) -> Result<Vec<Change>, SendFailure> {
        let known = self.peers.get(peer).ok_or(SendFailure::UnknownPeer)?;
        if known.pins.as_ref().is_some_and(|pins| pins.revoked) {
            return Err(SendFailure::Revoked);
        }
        let at_hand = known.trusted.is_some();
        let group = self.groups.own.get(filter).ok_or(SendFailure::NoGroup)?;
        if group.members.contains_key(peer) {
            return Ok(Vec::new());
        }
        if group.members.len() >= MAX_MEMBERS {
            return Err(SendFailure::GroupFull);
        }
        let suite = group.publisher.suite();
        if at_hand && matches!(self.standing(peer, filter, suite), Standing::Out) {
            return Err(SendFailure::NoGrant);
        }
        let now = self.clock.monotonic();
        if let Some(group) = self.groups.own.get_mut(filter) {
            group.admit_later(peer, now);
        }
        let key = member_key(filter, peer);
        Ok(alloc::vec![Change::Put { kind: RecordKind::Group, key, value: Vec::new() }])
    }

    pub(in crate::endpoint) fn remove_subscriber(
        &mut self,
        ticket: Ticket,
        filter: &TopicFilter,
        peer: &PeerId,
    ) {
        let Some(group) = self.groups.own.get_mut(filter) else {
            return self.send_failed(ticket, SendFailure::NoGroup);
        };
        let removed = group.members.remove(peer);
        group.note_ends();
        let change = Change::Delete { kind: RecordKind::Group, key: member_key(filter, peer) };
        self.group_changed(ticket, Ok(alloc::vec![change]));
        if let Some((identity, _)) = removed.and_then(|member| member.admitted) {
            self.expel(filter, identity);
            self.hand_out(filter, None);
        }
    }

    pub(super) fn group_changed(&mut self, ticket: Ticket, result: Result<Vec<Change>, SendFailure>) {
        match result {
            Ok(changes) => {
                let after = if changes.is_empty() {
                    self.barrier.latest()
                } else {
                    self.barrier.persist(changes, Vec::new())
                };
                self.barrier.emit(after, Output::Event(Event::GroupChanged { ticket }));
            }
            Err(reason) => self.send_failed(ticket, reason),
        }
    }

    pub(in crate::endpoint) fn publish_topic(&mut self, ticket: Ticket, topic: &Topic, payload: &[u8]) {
        match self.seal_for_group(topic.as_str(), payload) {
            Ok(()) => {
                let event = Event::Accepted { ticket, durable: false };
                self.barrier.emit(Durable::NOW, Output::Event(event));
            }
            Err(reason) => self.send_failed(ticket, reason),
        }
    }

    fn seal_for_group(&mut self, topic: &str, payload: &[u8]) -> Result<(), SendFailure> {
        if self.closed || self.own.revoked {
            return Err(SendFailure::Closed);
        }
        if self.topics.is_control(topic) {
            return Err(SendFailure::ControlTopic);
        }
        if payload.len().saturating_add(OVERHEAD) > self.config.limits.message {
            return Err(SendFailure::TooLarge);
        }
        let (now, at) = (self.clock.monotonic(), self.clock.effective());
        let ours = self.own.certificate.claims();
        if !ours.valid_at(at) {
            return Err(SendFailure::Expired);
        }
        if !ours.allows(Action::Publish, topic, at) {
            return Err(SendFailure::NoGrant);
        }
        let mut groups = self.groups.own.iter().filter(|(filter, _)| filter.matches(topic));
        let (filter, ends) =
            groups.next().map(|(filter, group)| (filter.clone(), group.ends)).ok_or(SendFailure::NoGroup)?;
        if !self.online {
            return Err(SendFailure::Offline);
        }
        if self.room == 0 {
            return Err(SendFailure::Busy);
        }
        if ends <= at {
            self.review_all(&filter);
        }
        if self.groups.own.get(&filter).is_some_and(|group| group.publisher.wants_rotation(now)) {
            self.rotate_group(&filter);
        }
        let group = self.groups.own.get_mut(&filter).ok_or(SendFailure::NoGroup)?;
        let topic_hash = hash(group.publisher.suite().hash(), &[topic.as_bytes()]);
        let published =
            group.publisher.publish(now, topic_hash.as_slice(), payload).map_err(|error| match error {
                PublishError::Unsigned => SendFailure::Busy,
                PublishError::Finished => SendFailure::Closed,
                PublishError::Rotate | PublishError::Cipher => SendFailure::Sealing,
            })?;
        group.last_topic = topic.to_string();
        self.transmit_to_group(topic.to_string(), published.record);
        if published.sign {
            self.sign_group_seal(&filter);
        }
        Ok(())
    }

    fn transmit_to_group(&mut self, topic: alloc::string::String, payload: Vec<u8>) {
        self.groups.sent += 1;
        self.room = self.room.saturating_sub(1);
        let purpose = Purpose::Group(self.groups.sent);
        self.barrier
            .emit(Durable::NOW, Output::Transmit(Transmit { purpose, topic, payload, retain: false }));
    }

    /// Has the oldest closed batch signed, unless one is being.
    pub(super) fn sign_group_seal(&mut self, filter: &TopicFilter) {
        if let Some(number) = self.groups.own.get(filter).map(|group| group.number) {
            self.sign_seal_of(number);
        }
    }

    /// The same, also for a group that ended.
    pub(super) fn sign_seal_of(&mut self, number: u64) {
        let Some(group) = self.groups.numbered(number) else { return };
        group.sign_again = None;
        if group.signing || self.own.revoked {
            return;
        }
        let Some(structure) = group.publisher.to_sign() else { return };
        group.signing = true;
        self.request(Pending::SignGroupSeal(number), ProviderRequest::Sign(structure));
    }

    /// The provider signed, or did not.
    pub(in crate::endpoint) fn group_seal_signed(&mut self, number: u64, signature: Option<&[u8]>) {
        let now = self.clock.monotonic();
        let Some(group) = self.groups.numbered(number) else { return };
        group.signing = false;
        let Some(packet) = signature.and_then(|signature| group.publisher.signed(signature)) else {
            group.sign_again = Some(now.plus(SIGN_AGAIN));
            return;
        };
        let topic = group.last_topic.clone();
        if !self.own.revoked {
            self.transmit_to_group(topic, packet);
        }
        self.sign_seal_of(number);
    }
}
