//! What publishers and members tell each other in their sessions, and what became of what was sealed.

use alloc::vec::Vec;

use super::row::{subscription_key, subscription_row};
use super::{ASK_AGAIN, ASK_ATTEMPTS, Followed, Name, Stage};
use crate::endpoint::output::{Event, Output};
use crate::endpoint::refusal::RefusalReason;
use crate::endpoint::{Durable, Endpoint};
use crate::group::{Accepted, GroupKey, Leaves, LeavesError, MessageName, MissingLeaves, Outcome, Source};
use crate::identity::grants::{Action, covered_until};
use crate::ids::{Fingerprint, PeerId};
use crate::session::Control;
use crate::store::{Change, RecordKind};
use crate::time::Monotonic;
use crate::topic::TopicFilter;

impl Endpoint {
    /// Something about groups came in the session with `peer`.
    pub(in crate::endpoint) fn group_told(
        &mut self,
        peer: &PeerId,
        control: &Control,
    ) -> Result<(), RefusalReason> {
        match control {
            Control::GroupKey(handout) => self.accept_group_key(peer, handout.0.expose()),
            Control::GroupKeyKnown { gid, epoch } => {
                self.group_key_known(peer, *gid, *epoch);
                Ok(())
            }
            Control::MissingLeaves(asked) => self.answer_leaves(peer, asked),
            Control::Leaves(leaves) => self.receive_leaves(peer, leaves),
            Control::MissingSeal { gid, epoch, from } => self.answer_seal(peer, *gid, *epoch, *from),
            Control::GroupSeal { from, packet } => self.receive_group_seal(peer, *from, packet),
            Control::GroupOver { gid, epoch } => {
                self.group_over(peer, *gid, *epoch);
                Ok(())
            }
            Control::GroupGone { gid, epoch } => {
                self.group_gone(peer, *gid, *epoch);
                Ok(())
            }
            Control::WantGroupKey { gid, epoch } => self.group_key_wanted(peer, *gid, *epoch),
            _ => Ok(()),
        }
    }

    /// A key that came in a block of an earlier start, and that no row knows, may be one that came then and whose group epoch is
    /// over, or its row lost: what was verified of it would be once more. A genuine one comes again, in the next session epoch,
    /// which this asks for.
    pub(in crate::endpoint) fn is_perhaps_an_old_key(&mut self, peer: &PeerId, control: &Control) -> bool {
        let Control::GroupKey(handout) = control else { return false };
        let Ok(key) = GroupKey::decode(handout.0.expose()) else { return false };
        let Some(pins) = self.peers.get(peer).and_then(|peer| peer.in_force()) else { return false };
        let known = self.groups.subscriptions.get_mut(&pins.identity, key.gid, key.epoch).is_some();
        if !known {
            self.turn_ratchet(peer);
        }
        !known
    }

    fn accept_group_key(&mut self, peer: &PeerId, encoded: &[u8]) -> Result<(), RefusalReason> {
        let key = GroupKey::decode(encoded).map_err(|_| RefusalReason::Malformed)?;
        let at = self.clock.effective();
        let known = self.peers.get(peer).ok_or(RefusalReason::UnknownPeer)?;
        if known.must_load(at) {
            // It comes again.
            self.load_in_turn(peer);
            return Ok(());
        }
        let trusted = known.trusted.as_ref().ok_or(RefusalReason::UnknownPeer)?;
        let claims = trusted.certificate.claims();
        if covered_until(&claims.grants, Action::Publish, &key.filter, at).is_none() {
            return Err(RefusalReason::NoGrant);
        }
        if !self.config.suites.contains(&key.suite) {
            return Err(RefusalReason::SuiteNotAllowed);
        }
        let fingerprint = trusted.certificate.fingerprint();
        let name = (fingerprint, key.gid, key.epoch);
        let source = Source { id: peer.clone(), fingerprint };
        let dropped = self.groups.subscriptions.would_drop(&fingerprint, &key.filter).ok().flatten();
        let unproved = dropped.map(|dropped| self.unproved_of(&dropped));
        let accepted = self.groups.subscriptions.accept(self.backend, source, &key);
        if let Accepted::New { dropped } = accepted.map_err(|_| RefusalReason::BadGroup)? {
            self.groups.accepted += 1;
            let now = self.clock.monotonic();
            let followed = Followed::new(peer.clone(), self.groups.accepted, None, now);
            self.groups.followed.insert(name, followed);
            self.groups.wanted.found(&name);
            let mut changes: Vec<Change> = self.subscription_change(name).into_iter().collect();
            let gave_way = dropped.and_then(|dropped| self.groups.followed.remove(&dropped));
            if let Some(dropped) = dropped {
                let key = subscription_key(&dropped);
                changes.push(Change::Delete { kind: RecordKind::GroupSubscription, key });
            }
            self.barrier.persist(changes, Vec::new());
            let gave_way = gave_way.map_or_else(|| peer.clone(), |followed| followed.source);
            self.tell_unproved(&gave_way, unproved.as_deref().unwrap_or_default());
            self.supersede(name, Some(&key.filter));
        }
        self.send_control(peer, &Control::GroupKeyKnown { gid: key.gid, epoch: key.epoch });
        self.retry_group();
        Ok(())
    }

    /// Epochs before this one of the same publisher and filter are over.
    pub(super) fn supersede(&mut self, (fingerprint, gid, epoch): Name, filter: Option<&TopicFilter>) {
        let Some(filter) = filter else { return };
        let epochs = self.groups.subscriptions.epochs_of(&fingerprint, filter);
        for (older, of) in epochs.into_iter().take_while(|id| *id != (gid, epoch)) {
            self.end_of_epoch((fingerprint, older, of), Stage::Superseded);
        }
    }

    /// What is still waited for in a group epoch.
    fn unproved_of(&mut self, name: &Name) -> Vec<MessageName> {
        let one = self.groups.subscriptions.get_mut(&name.0, name.1, name.2);
        one.map(|one| one.unproved()).unwrap_or_default()
    }

    fn subscription_change(&mut self, name: Name) -> Option<Change> {
        let order = self.groups.followed.get(&name)?.order;
        let one = self.groups.subscriptions.get_mut(&name.0, name.1, name.2)?;
        Some(subscription_row(&name, order, &one.to_row()))
    }

    fn answer_leaves(&mut self, peer: &PeerId, asked: &MissingLeaves) -> Result<(), RefusalReason> {
        let now = self.clock.monotonic();
        let Some(group) = self.groups.publishing(asked.gid) else {
            return self.answer_gone(peer, asked.gid, asked.epoch);
        };
        let Some(member) = group.members.get_mut(peer).filter(|member| member.admitted.is_some()) else {
            return Err(RefusalReason::NoGrant);
        };
        if !member.answers.take(now) {
            return Err(RefusalReason::OverBudget);
        }
        if let Some(leaves) = group.publisher.leaves(asked) {
            self.send_control(peer, &Control::Leaves(leaves));
        }
        Ok(())
    }

    fn receive_leaves(&mut self, peer: &PeerId, leaves: &Leaves) -> Result<(), RefusalReason> {
        let Some(pins) = self.peers.get(peer).and_then(|peer| peer.in_force()) else { return Ok(()) };
        let name = (pins.identity, leaves.asked.gid, leaves.asked.epoch);
        let Some(one) = self.groups.subscriptions.get_mut(&name.0, name.1, name.2) else { return Ok(()) };
        match one.receive_leaves(leaves) {
            Ok(outcome) => {
                self.group_decided(name, peer, &outcome);
                Ok(())
            }
            Err(LeavesError::Unasked) => Ok(()),
            Err(LeavesError::Wrong) => Err(RefusalReason::BadGroup),
        }
    }

    /// A seal, leaves or a late record decided something: written, and then told.
    pub(super) fn group_decided(&mut self, name: Name, peer: &PeerId, outcome: &Outcome) -> Durable {
        let after = match self.subscription_change(name) {
            Some(change) => self.barrier.persist(alloc::vec![change], Vec::new()),
            None => self.barrier.latest(),
        };
        for upgrade in &outcome.upgrades {
            let event = Event::GroupVerified { peer: peer.clone(), name: *upgrade.name() };
            self.barrier.emit(after, Output::Event(event));
        }
        let (fingerprint, gid, epoch) = name;
        for counter in outcome.forged.iter().copied() {
            let event = Event::GroupForged { peer: peer.clone(), gid, epoch, counter };
            self.barrier.emit(after, Output::Event(event));
            self.refuse(RefusalReason::GroupForgery, None);
        }
        self.tell_unproved(peer, &outcome.unproved);
        if let Some(asked) = outcome.missing {
            self.send_control(peer, &Control::MissingLeaves(asked));
        }
        let one = self.groups.subscriptions.get_mut(&fingerprint, gid, epoch);
        let waits = one.is_some_and(|one| !one.missing().is_empty());
        let again = self.clock.monotonic().plus(ASK_AGAIN);
        if let Some(followed) = self.groups.followed.get_mut(&name) {
            followed.asking = if waits { followed.asking.or(Some((again, 1))) } else { None };
        }
        self.look_after_deciding(name);
        after
    }

    /// Asks again for leaves that did not come.
    pub(super) fn ask_for_leaves(&mut self, now: Monotonic) {
        let is_due = |followed: &Followed| followed.asking.is_some_and(|(at, _)| at <= now);
        let due = self.groups.followed.iter().filter(|(_, followed)| is_due(followed));
        let due: Vec<(Name, PeerId)> = due.map(|(name, followed)| (*name, followed.source.clone())).collect();
        for (name, peer) in due {
            let sends = self.online && self.has_session(peer.as_str());
            let one = self.groups.subscriptions.get_mut(&name.0, name.1, name.2);
            let missing = one.map(|one| one.missing()).unwrap_or_default();
            if let Some(followed) = self.groups.followed.get_mut(&name)
                && let Some((_, asked)) = followed.asking
            {
                let asked = asked + u32::from(sends);
                let again = now.plus(ASK_AGAIN * (1 << asked.min(6)));
                // Its publisher keeps leaves only for a while.
                let over = missing.is_empty() || asked > ASK_ATTEMPTS;
                followed.asking = if over { None } else { Some((again, asked)) };
            }
            for asked in missing {
                self.send_control(&peer, &Control::MissingLeaves(asked));
            }
        }
    }

    /// Forgets group epochs. What waits in them is told as never proved.
    pub(super) fn unfollow(&mut self, names: &[Name]) {
        let mut changes = Vec::new();
        let mut unproved = Vec::new();
        for name in names {
            let waits = self.unproved_of(name);
            if let Some(followed) = self.groups.followed.remove(name) {
                unproved.push((followed.source, waits));
            }
            self.groups.subscriptions.remove(&name.0, name.1, name.2);
            changes.push(Change::Delete { kind: RecordKind::GroupSubscription, key: subscription_key(name) });
        }
        if !changes.is_empty() {
            self.barrier.persist(changes, Vec::new());
        }
        for (peer, names) in unproved {
            self.tell_unproved(&peer, &names);
        }
    }

    /// Whether group epochs of this identity of the peer's may still be followed.
    pub(super) fn may_follow(&self, peer: &PeerId, identity: &Fingerprint) -> bool {
        let pins = self.peers.get(peer).and_then(|peer| peer.in_force());
        pins.is_some_and(|pins| !pins.revoked && pins.identity == *identity)
    }

    /// Groups of keys that are no longer trusted end at once.
    pub(super) fn drop_ended_source(&mut self, peer: &PeerId) {
        let of_peer = self.groups.followed.iter().filter(|(_, followed)| followed.source == *peer);
        let ended = of_peer.filter(|(name, _)| !self.may_follow(peer, &name.0));
        let ended: Vec<Name> = ended.map(|(name, _)| *name).collect();
        self.unfollow(&ended);
    }
}
