//! The publisher's end of groups and of the process: what is open is sealed, members are told, and what they ask about is
//! answered from what is still there.

use alloc::vec::Vec;
use core::time::Duration;

use super::row::{group_key, member_key};
use super::{AGAIN_FIRST, AGAIN_LAST, MAX_OWN_GROUPS, OwnGroup};
use crate::endpoint::Endpoint;
use crate::endpoint::input::Ticket;
use crate::endpoint::output::SendFailure;
use crate::endpoint::refusal::RefusalReason;
use crate::group::SealAfter;
use crate::ids::{GroupId, PeerId};
use crate::session::Control;
use crate::store::{Change, RecordKind};
use crate::time::Monotonic;
use crate::topic::TopicFilter;

/// How long an ended group still answers its members, and tells those that do not confirm.
pub(super) const ENDING_FOR: Duration = Duration::from_secs(15 * 60);

/// A group that ended in this start.
pub(super) struct Ending {
    /// Its members are those that have not confirmed yet.
    pub(super) group: OwnGroup,
    pub(super) filter: TopicFilter,
    pub(super) until: Monotonic,
    /// When members are told again, and after what delay then.
    pub(super) again: (Monotonic, Duration),
}

impl Endpoint {
    pub(in crate::endpoint) fn end_group(&mut self, ticket: Ticket, filter: &TopicFilter) {
        let now = self.clock.monotonic();
        let Some(mut group) = self.groups.own.remove(filter) else {
            return self.send_failed(ticket, SendFailure::NoGroup);
        };
        let member = |peer: &PeerId| member_key(filter, peer);
        let keys = group.members.keys().map(member).chain([group_key(filter).to_vec()]);
        let changes = keys.map(|key| Change::Delete { kind: RecordKind::Group, key }).collect();
        self.group_changed(ticket, Ok(changes));
        group.publisher.finish(now);
        group.members.retain(|_, member| member.admitted.is_some());
        if self.groups.ending.len() >= MAX_OWN_GROUPS {
            self.groups.ending.remove(0);
        }
        let number = group.number;
        let again = (now.plus(AGAIN_FIRST), AGAIN_FIRST);
        self.groups.ending.push(Ending { group, filter: filter.clone(), until: now.plus(ENDING_FOR), again });
        self.sign_seal_of(number);
    }

    /// Tells members of ended groups again, and forgets those groups whose time is over.
    pub(super) fn look_at_ending(&mut self, now: Monotonic) {
        self.groups.ending.retain(|ending| now < ending.until);
        let mut told = Vec::new();
        let mut unsigned = Vec::new();
        for ending in &mut self.groups.ending {
            let group = &ending.group;
            if group.sign_again.is_some_and(|at| at <= now) {
                unsigned.push(group.number);
            }
            if now < ending.again.0 {
                continue;
            }
            let delay = (2 * ending.again.1).min(AGAIN_LAST);
            ending.again = (now.plus(delay), delay);
            // The last seal goes first.
            if group.publisher.to_sign().is_none() {
                let (gid, epoch) = (group.publisher.gid(), group.publisher.epoch());
                told.extend(group.members.keys().map(|peer| (peer.clone(), gid, epoch)));
            }
        }
        unsigned.into_iter().for_each(|number| self.sign_seal_of(number));
        if self.online && !self.closed {
            for (peer, gid, epoch) in told {
                self.send_control(&peer, &Control::GroupOver { gid, epoch });
            }
        }
        self.groups.ending.retain(|ending| !ending.is_done());
    }

    /// A member has nothing of it left to wait for.
    pub(super) fn ended_group_is_forgotten(&mut self, peer: &PeerId, gid: GroupId) {
        for ending in self.groups.ending.iter_mut().filter(|ending| ending.group.publisher.gid() == gid) {
            ending.group.members.remove(peer);
        }
        self.groups.ending.retain(|ending| !ending.is_done());
    }

    /// A member lost a seal.
    pub(super) fn answer_seal(
        &mut self,
        peer: &PeerId,
        gid: GroupId,
        epoch: u16,
        from: u32,
    ) -> Result<(), RefusalReason> {
        let now = self.clock.monotonic();
        let Some(group) = self.groups.publishing(gid) else { return self.answer_gone(peer, gid, epoch) };
        let answer = match group.publisher.seal_after(gid, epoch, from) {
            SealAfter::NotYet => return Ok(()),
            SealAfter::Never => return self.answer_gone(peer, gid, epoch),
            SealAfter::Seal(packet) => Control::GroupSeal { from, packet: packet.to_vec() },
        };
        // What the seal is over may have been read before its reader was removed; it is no secret.
        let member = group.members.get_mut(peer);
        let taken = match member {
            Some(member) => member.answers.take(now),
            None => self.groups.others.take(now),
        };
        if !taken {
            return Err(RefusalReason::OverBudget);
        }
        self.send_control(peer, &answer);
        Ok(())
    }

    /// Nothing is left of a group epoch, perhaps of an earlier start.
    pub(super) fn answer_gone(
        &mut self,
        peer: &PeerId,
        gid: GroupId,
        epoch: u16,
    ) -> Result<(), RefusalReason> {
        let now = self.clock.monotonic();
        let mut members = self.groups.own.values_mut().filter_map(|group| group.members.get_mut(peer));
        let taken = match members.next() {
            Some(member) => member.answers.take(now),
            None => self.groups.others.take(now),
        };
        if !taken {
            return Err(RefusalReason::OverBudget);
        }
        self.send_control(peer, &Control::GroupGone { gid, epoch });
        Ok(())
    }

    /// Seals what is open: a new start begins new groups.
    pub(in crate::endpoint) fn finish_groups(&mut self) {
        let now = self.clock.monotonic();
        for group in self.groups.own.values_mut() {
            group.publisher.finish(now);
        }
        let numbers: Vec<u64> = self.groups.own.values().map(|group| group.number).collect();
        numbers.into_iter().for_each(|number| self.sign_seal_of(number));
    }
}

impl Ending {
    fn is_done(&self) -> bool {
        self.group.members.is_empty() && self.group.publisher.to_sign().is_none()
    }
}
