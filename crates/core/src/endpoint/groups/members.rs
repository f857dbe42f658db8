//! Who is a member, when that ends, and how members come by the key.

use alloc::vec::Vec;

use super::{AGAIN_FIRST, AGAIN_LAST, LOST_AFTER, Member, OwnGroup};
use crate::budget::{Bucket, Rate};
use crate::crypto::suite::SessionSuite;
use crate::endpoint::Endpoint;
use crate::endpoint::sessions::Carrier;
use crate::group::GroupKey;
use crate::identity::grants::{Action, covered_until};
use crate::ids::{Fingerprint, GroupId, PeerId};
use crate::session::{Control, Handout};
use crate::time::{Monotonic, UnixTime};
use crate::topic::TopicFilter;

/// Answers about leaves that one member gets: one has at most 13 KiB.
const ANSWERS: Rate = Rate { burst: 8, per_second: 1 };

/// Whether a peer may be a member.
pub(super) enum Standing {
    /// It may, under this identity and until then.
    In(Fingerprint, UnixTime),
    /// Its certificate is in force, and to be loaded.
    Unknown(Fingerprint),
    /// It may not, at least now.
    Out,
}

impl OwnGroup {
    /// A peer is to be a member once its certificate allows it.
    pub(super) fn admit_later(&mut self, peer: &PeerId, now: Monotonic) {
        let member = Member { admitted: None, lost: false, answers: Bucket::new(ANSWERS) };
        self.members.insert(peer.clone(), member);
        self.hurry(now);
    }
}

impl Endpoint {
    /// What a peer's certificate, in force and valid, says about all of `filter`.
    pub(super) fn standing(&mut self, peer: &PeerId, filter: &TopicFilter, suite: SessionSuite) -> Standing {
        let at = self.clock.effective();
        let Some(known) = self.peers.get(peer) else { return Standing::Out };
        let Some(pins) = known.in_force().filter(|pins| pins.valid_at(at)) else { return Standing::Out };
        let identity = pins.identity;
        let Some(trusted) = &known.trusted else {
            self.load_in_turn(peer);
            return Standing::Unknown(identity);
        };
        let claims = trusted.certificate.claims();
        let until = covered_until(&claims.grants, Action::Subscribe, filter, at);
        match until.filter(|_| claims.suites.contains(&suite)) {
            Some(until) => Standing::In(identity, until.min(claims.not_after)),
            None => Standing::Out,
        }
    }

    /// Admits a peer that may be a member, and expels one that may not be any more.
    pub(super) fn review(&mut self, filter: &TopicFilter, peer: &PeerId) {
        self.review_each(filter, core::slice::from_ref(peer));
    }

    fn review_each(&mut self, filter: &TopicFilter, peers: &[PeerId]) {
        for peer in peers {
            self.review_one(filter, peer);
        }
        if let Some(group) = self.groups.own.get_mut(filter) {
            group.note_ends();
        }
        self.sign_group_seal(filter);
    }

    fn review_one(&mut self, filter: &TopicFilter, peer: &PeerId) {
        let Some(group) = self.groups.own.get(filter) else { return };
        let Some(member) = group.members.get(peer) else { return };
        let (suite, admitted) = (group.publisher.suite(), member.admitted.map(|(identity, _)| identity));
        let standing = self.standing(peer, filter, suite);
        if let Some(before) = admitted {
            let stays = matches!(standing, Standing::In(now, _) | Standing::Unknown(now) if now == before);
            if !stays {
                if let Some(member) = self.groups.own.get_mut(filter).and_then(|g| g.members.get_mut(peer)) {
                    member.admitted = None;
                }
                self.expel(filter, before);
            }
        }
        if let Standing::In(identity, until) = standing {
            let now = self.clock.monotonic();
            let Some(group) = self.groups.own.get_mut(filter) else { return };
            let known = admitted == Some(identity);
            if !known && group.publisher.add(now, identity).is_err() {
                return;
            }
            if let Some(member) = group.members.get_mut(peer) {
                member.admitted = Some((identity, until));
            }
            if !known {
                group.hurry(now);
            }
        }
    }

    pub(super) fn review_all(&mut self, filter: &TopicFilter) {
        let Some(group) = self.groups.own.get(filter) else { return };
        let peers: Vec<PeerId> = group.members.keys().cloned().collect();
        self.review_each(filter, &peers);
    }

    /// Ends a membership: the epoch ends with it. The others are handed the next one's key at the next timeout, which is due
    /// at once, as many may go together.
    pub(super) fn expel(&mut self, filter: &TopicFilter, identity: Fingerprint) {
        let now = self.clock.monotonic();
        let Some(group) = self.groups.own.get_mut(filter) else { return };
        if group.publisher.remove(&mut *self.random, now, &identity) {
            group.since = now;
            group.again = Some((now, AGAIN_FIRST));
            self.sign_group_seal(filter);
        }
    }

    /// Begins the next epoch.
    pub(super) fn rotate_group(&mut self, filter: &TopicFilter) {
        let now = self.clock.monotonic();
        let Some(group) = self.groups.own.get_mut(filter) else { return };
        // Also if the library fails: then it is tried again when it is used, and at the next turn.
        group.since = now;
        if group.publisher.rotate(&mut *self.random, now) {
            group.hurry(now);
            self.sign_group_seal(filter);
            self.hand_out(filter, None);
        }
    }

    /// Sends the key to members that wait for it, or to one of them; begins handshakes with those without a session.
    pub(super) fn hand_out(&mut self, filter: &TopicFilter, only: Option<&PeerId>) {
        if !self.online || self.closed || self.own.revoked {
            return;
        }
        let at = self.clock.effective();
        let ours = self.own.certificate.claims();
        if !ours.valid_at(at) || covered_until(&ours.grants, Action::Publish, filter, at).is_none() {
            return;
        }
        let Some(group) = self.groups.own.get(filter) else { return };
        let key_of = |(peer, member): (&PeerId, &Member)| {
            let (identity, until) = member.admitted?;
            let key = group.publisher.hand_out(&identity).filter(|_| at < until)?;
            Some((peer.clone(), key))
        };
        let waiting: Vec<(PeerId, GroupKey)> = match only {
            Some(peer) => group.members.get_key_value(peer).and_then(key_of).into_iter().collect(),
            None => group.members.iter().filter_map(key_of).collect(),
        };
        for (peer, key) in waiting {
            if self.peers.get(&peer).is_some_and(|known| known.must_load(at)) {
                self.load_in_turn(&peer);
            } else if self.carrier(&peer) == Carrier::Session {
                self.send_control(&peer, &Control::GroupKey(Handout(key.encode())));
            }
        }
    }

    /// A member has the key.
    pub(super) fn group_key_known(&mut self, peer: &PeerId, gid: GroupId, epoch: u16) {
        for group in self.groups.own.values_mut() {
            let current = (group.publisher.gid(), group.publisher.epoch()) == (gid, epoch);
            if let Some((identity, _)) = group.members.get(peer).and_then(|member| member.admitted)
                && current
            {
                group.publisher.handed(&identity);
                if let Some(member) = group.members.get_mut(peer) {
                    member.lost = false;
                }
            }
        }
    }

    /// A new session began: the peer may have lost what it had in the old one.
    pub(in crate::endpoint) fn group_session(&mut self, peer: &PeerId) {
        let now = self.clock.monotonic();
        let mut filters = Vec::new();
        for (filter, group) in &mut self.groups.own {
            let Some((identity, _)) = group.members.get(peer).and_then(|member| member.admitted) else {
                continue;
            };
            if group.publisher.hand_out(&identity).is_some() {
                filters.push(filter.clone());
            } else if let Some(member) = group.members.get_mut(peer) {
                member.lost = true;
                group.lost_due.get_or_insert(now.plus(LOST_AFTER));
            }
        }
        for filter in filters {
            self.hand_out(&filter, Some(peer));
        }
    }

    /// The peer's certificate, or trust in it, changed.
    pub(in crate::endpoint) fn group_peer_changed(&mut self, peer: &PeerId) {
        let of_peer = self.groups.own.iter().filter(|(_, group)| group.members.contains_key(peer));
        let filters: Vec<TopicFilter> = of_peer.map(|(filter, _)| filter.clone()).collect();
        for filter in filters {
            self.review(&filter, peer);
            self.hand_out(&filter, Some(peer));
        }
        self.drop_ended_source(peer);
    }

    /// The link is up: keys go again.
    pub(in crate::endpoint) fn groups_link_up(&mut self) {
        let filters: Vec<TopicFilter> = self.groups.own.keys().cloned().collect();
        for filter in filters {
            self.hand_out(&filter, None);
        }
    }

    /// What is due: batches, epochs, keys, and leaves.
    pub(in crate::endpoint) fn groups_timeout(&mut self) {
        let now = self.clock.monotonic();
        let filters: Vec<TopicFilter> = self.groups.own.keys().cloned().collect();
        for filter in filters {
            self.readmit_lost(&filter, now);
            let Some(group) = self.groups.own.get_mut(&filter) else { continue };
            let closed = group.publisher.tick(now);
            if closed || group.sign_again.is_some_and(|at| at <= now) {
                self.sign_group_seal(&filter);
            }
            let wants = |group: &OwnGroup| group.publisher.wants_rotation(now);
            if self.groups.own.get(&filter).is_some_and(wants) {
                self.rotate_group(&filter);
            }
            self.look_at_waiting(&filter, now);
        }
        self.look_at_ending(now);
        self.ask_for_leaves(now);
        self.look_for_seals(now);
        self.ask_for_keys(now);
    }

    fn readmit_lost(&mut self, filter: &TopicFilter, now: Monotonic) {
        let Some(group) = self.groups.own.get_mut(filter) else { return };
        if group.lost_due.is_none_or(|at| now < at) {
            return;
        }
        group.lost_due = None;
        for member in group.members.values_mut() {
            if core::mem::take(&mut member.lost)
                && let Some((identity, _)) = member.admitted
            {
                // It is a member, so there is room.
                let _ = group.publisher.add(now, identity);
            }
        }
        group.hurry(now);
        self.sign_group_seal(filter);
        self.hand_out(filter, None);
    }

    fn look_at_waiting(&mut self, filter: &TopicFilter, now: Monotonic) {
        let Some(group) = self.groups.own.get_mut(filter) else { return };
        let Some((_, delay)) = group.again.filter(|(at, _)| *at <= now) else { return };
        group.again = None;
        let waiting = |(peer, member): (&PeerId, &Member)| group.waits(member).then(|| peer.clone());
        let waiting: Vec<PeerId> = group.members.iter().filter_map(waiting).collect();
        if waiting.is_empty() {
            return;
        }
        self.review_each(filter, &waiting);
        self.hand_out(filter, None);
        let delay = (2 * delay).min(AGAIN_LAST);
        if let Some(group) = self.groups.own.get_mut(filter) {
            group.again.get_or_insert((now.plus(delay), delay));
        }
    }
}
