//! A subscriber's records that no seal decided about: their seals are asked for, and in the end they are verified, forged or
//! told as never proved. Nothing is waited for without end.

use alloc::vec::Vec;
use core::time::Duration;

use super::{ASK_AGAIN, Followed, Name, Stage};
use crate::endpoint::Endpoint;
use crate::endpoint::output::{Event, Output};
use crate::endpoint::refusal::RefusalReason;
use crate::group::{MAX_AGE, MAX_INTERVAL, MessageName, SealError, SealPacket, Source};
use crate::identity::grants::{Action, covered_until};
use crate::ids::{GroupId, PeerId};
use crate::session::Control;
use crate::time::Monotonic;

/// How long after a seal must have been made it is asked for: it may be on its way.
const GRACE: Duration = Duration::from_secs(5);
/// How long after a record its seal must have been made: no batch stays open longer.
const SEALED_AFTER: Duration = MAX_INTERVAL.saturating_add(GRACE);
/// How long a record waits for its publisher's word.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(3_600);
/// How long a group epoch is followed in one start: twice what it lasts.
pub(super) const FOLLOWED_FOR: Duration = MAX_AGE.saturating_mul(2);

impl Endpoint {
    /// A record was told that no seal decided about yet.
    pub(super) fn wait_for_seal(&mut self, name: Name, counter: u32) {
        let now = self.clock.monotonic();
        let one = self.groups.subscriptions.get_mut(&name.0, name.1, name.2);
        let far = one.is_some_and(|one| one.is_far_from_seals(counter));
        let Some(followed) = self.groups.followed.get_mut(&name) else { return };
        let due = now.plus(SEALED_AFTER);
        let due = followed.look_at.map_or(due, |at| at.min(due));
        // Once asked, only the time between two questions counts, whatever an insider sends.
        let hurry = followed.seal_asked == 0 && (far || followed.stage != Stage::Running);
        followed.look_at = Some(if hurry { due.min(now.plus(GRACE)) } else { due });
    }

    /// Something was decided: what is left may show that a seal is missing, or that nothing is left to come.
    pub(super) fn look_after_deciding(&mut self, name: Name) {
        let now = self.clock.monotonic();
        let Some(one) = self.groups.subscriptions.get_mut(&name.0, name.1, name.2) else { return };
        let undecided = one.undecided();
        let Some(followed) = self.groups.followed.get_mut(&name) else { return };
        let Some(undecided) = undecided else {
            (followed.look_at, followed.seal_asked) = (None, 0);
            if followed.stage == Stage::Over {
                self.leave_group(name);
            }
            return;
        };
        let made = undecided.unsealed.is_some_and(|unsealed| unsealed.made);
        if made && followed.seal_asked == 0 {
            let due = now.plus(GRACE);
            followed.look_at = Some(followed.look_at.map_or(due, |at| at.min(due)));
        }
    }

    /// A newer epoch of the same group follows, or the group ended: what is left of this one has its seals by now.
    pub(super) fn end_of_epoch(&mut self, name: Name, stage: Stage) {
        let due = self.clock.monotonic().plus(GRACE);
        let waits = self.groups.subscriptions.get_mut(&name.0, name.1, name.2);
        let waits = waits.is_some_and(|one| one.undecided().is_some());
        let Some(followed) = self.groups.followed.get_mut(&name) else { return };
        followed.stage = followed.stage.max(stage);
        if waits {
            followed.seal_asked = 0;
            followed.look_at = Some(followed.look_at.map_or(due, |at| at.min(due)));
        } else if followed.stage == Stage::Over {
            self.leave_group(name);
        }
    }

    /// Asks for seals that should have come, and gives up what waited too long.
    pub(super) fn look_for_seals(&mut self, now: Monotonic) {
        let over = |followed: &Followed| now.since(followed.since) >= FOLLOWED_FOR;
        let old = self.groups.followed.iter().filter(|(_, followed)| over(followed));
        let old: Vec<Name> = old.map(|(name, _)| *name).collect();
        self.unfollow(&old);
        let due = |followed: &Followed| followed.look_at.is_some_and(|at| at <= now);
        let due = self.groups.followed.iter().filter(|(_, followed)| due(followed));
        let due: Vec<(Name, PeerId)> = due.map(|(name, followed)| (*name, followed.source.clone())).collect();
        for (name, peer) in due {
            self.look_for_seal(name, &peer, now);
        }
    }

    fn look_for_seal(&mut self, name: Name, peer: &PeerId, now: Monotonic) {
        let sends = self.online && self.has_session(peer.as_str());
        let Some(one) = self.groups.subscriptions.get_mut(&name.0, name.1, name.2) else { return };
        let given_up = match now.0.checked_sub(GIVE_UP_AFTER) {
            Some(then) => one.give_up_until(Monotonic(then)),
            None => Vec::new(),
        };
        let undecided = one.undecided();
        self.tell_unproved(peer, &given_up);
        let Some(followed) = self.groups.followed.get_mut(&name) else { return };
        let Some(undecided) = undecided else {
            return self.look_after_deciding(name);
        };
        let mut next = undecided.since.plus(GIVE_UP_AFTER);
        let mut ask = None;
        if let Some(unsealed) = undecided.unsealed {
            let due = unsealed.since.plus(SEALED_AFTER);
            if unsealed.made || followed.stage != Stage::Running || due <= now {
                ask = Some(unsealed.from).filter(|_| sends);
                followed.seal_asked += u32::from(sends);
                next = next.min(now.plus(ASK_AGAIN * (1 << followed.seal_asked.min(6))));
            } else {
                next = next.min(due);
            }
        }
        followed.look_at = Some(next);
        if let Some(from) = ask {
            self.send_control(peer, &Control::MissingSeal { gid: name.1, epoch: name.2, from });
        }
    }

    /// The publisher answered with a seal.
    pub(super) fn receive_group_seal(
        &mut self,
        peer: &PeerId,
        from: u32,
        packet: &[u8],
    ) -> Result<(), RefusalReason> {
        let packet = SealPacket::parse(packet).ok_or(RefusalReason::Malformed)?;
        let Some(pins) = self.peers.get(peer).and_then(|peer| peer.in_force()) else { return Ok(()) };
        let name = (pins.identity, packet.gid(), packet.epoch());
        let at = self.clock.effective();
        let Some(known) = self.peers.get(peer) else { return Ok(()) };
        let Some(one) = self.groups.subscriptions.get_mut(&name.0, name.1, name.2) else { return Ok(()) };
        let Some(trusted) = known.trusted.as_ref() else {
            // It is asked for again.
            self.load_in_turn(peer);
            return Ok(());
        };
        let claims = trusted.certificate.claims();
        if !claims.valid_at(at) || covered_until(&claims.grants, Action::Publish, one.filter(), at).is_none()
        {
            return Err(RefusalReason::NoGrant);
        }
        if !self.budgets.messages.take(self.clock.monotonic()) {
            return Err(RefusalReason::OverBudget);
        }
        let received = one.receive_seal(&trusted.certificate, &packet);
        if received != Err(SealError::BadSignature) {
            self.budgets.messages.give_back();
        }
        let source = Source { id: peer.clone(), fingerprint: name.0 };
        match received {
            Ok(_) | Err(SealError::Replay) => {
                // Genuine, so what it says about what lies before it is the publisher's word, given in its session.
                let one = self.groups.subscriptions.get_mut(&name.0, name.1, name.2);
                let unproved = one.map(|one| one.give_up_between(from, packet.first())).unwrap_or_default();
                if let Ok(outcome) = &received {
                    self.group_decided(name, &source.id, outcome);
                }
                self.tell_unproved(peer, &unproved);
                if let Some(followed) = self.groups.followed.get_mut(&name) {
                    // The next one, if there is more to ask for.
                    followed.seal_asked = 0;
                    followed.look_at = followed.look_at.map(|_| self.clock.monotonic());
                }
                self.look_after_deciding(name);
                self.retry_group();
                Ok(())
            }
            Err(SealError::TooOld | SealError::UnknownGroup) => Ok(()),
            Err(SealError::Malformed) => Err(RefusalReason::Malformed),
            Err(SealError::BadSignature) => Err(RefusalReason::BadSignature),
            Err(SealError::Equivocation) => {
                self.unfollow(&[name]);
                Err(RefusalReason::BadGroup)
            }
        }
    }

    /// The publisher ended the group.
    pub(super) fn group_over(&mut self, peer: &PeerId, gid: GroupId, epoch: u16) {
        let Some(pins) = self.peers.get(peer).and_then(|peer| peer.in_force()) else { return };
        let identity = pins.identity;
        let of_group = self.groups.followed.keys().filter(|name| name.0 == identity && name.1 == gid);
        let names: Vec<Name> = of_group.copied().collect();
        for name in &names {
            self.end_of_epoch(*name, Stage::Over);
        }
        // A publisher that hears nothing tells it again.
        if names.is_empty() && self.groups.others.take(self.clock.monotonic()) {
            self.send_control(peer, &Control::GroupGone { gid, epoch });
        }
    }

    /// The publisher has nothing of a group epoch of its own any more.
    pub(super) fn group_gone(&mut self, peer: &PeerId, gid: GroupId, epoch: u16) {
        self.ended_group_is_forgotten(peer, gid);
        let Some(pins) = self.peers.get(peer).and_then(|peer| peer.in_force()) else { return };
        let name = (pins.identity, gid, epoch);
        if self.groups.followed.contains_key(&name) {
            self.unfollow(&[name]);
        }
    }

    /// Everything of an ended group is decided: its row goes, and its publisher need not tell again.
    fn leave_group(&mut self, name: Name) {
        let Some(source) = self.groups.followed.get(&name).map(|followed| followed.source.clone()) else {
            return;
        };
        self.unfollow(&[name]);
        let (identity, gid, epoch) = name;
        if !self.groups.followed.keys().any(|other| other.0 == identity && other.1 == gid) {
            self.send_control(&source, &Control::GroupGone { gid, epoch });
        }
    }

    pub(super) fn tell_unproved(&mut self, peer: &PeerId, names: &[MessageName]) {
        for name in names {
            let event = Event::GroupUnproved { peer: peer.clone(), name: *name };
            self.barrier.emit(self.barrier.latest(), Output::Event(event));
        }
    }
}
