//! What our groups are like, for people.

use alloc::vec::Vec;

use super::OwnGroup;
use crate::endpoint::Endpoint;
use crate::ids::PeerId;
use crate::topic::TopicFilter;

/// A topic group of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Which topics it is for.
    pub filter: TopicFilter,
    /// Whether it ended in this start. Its members are then those that have not said yet that they forgot it.
    pub ended: bool,
    /// Its members by name, at most 4,096.
    pub members: Vec<(PeerId, MemberState)>,
}

/// How far a member of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MemberState {
    /// No certificate that lets it read all of the group's topics, in the group's suite, is known, or is any more.
    NotAdmitted,
    /// It is to have the group's key, and has not said that it has.
    WaitsForKey,
    /// It said that the present key is on its disk: it reads what is sealed from now on.
    HasKey,
}

impl Endpoint {
    /// Our groups, and those that ended and whose members are still being told. Costs a copy of all members' names.
    pub fn groups(&self) -> Vec<GroupStatus> {
        let own = self.groups.own.iter().map(|(filter, group)| group.status(filter, false));
        let ended = self.groups.ending.iter().map(|ending| ending.group.status(&ending.filter, true));
        own.chain(ended).collect()
    }
}

impl OwnGroup {
    fn status(&self, filter: &TopicFilter, ended: bool) -> GroupStatus {
        let members = self.members.iter().map(|(peer, member)| {
            let state = match member.admitted {
                None => MemberState::NotAdmitted,
                Some(_) if self.waits(member) => MemberState::WaitsForKey,
                Some(_) => MemberState::HasKey,
            };
            (peer.clone(), state)
        });
        GroupStatus { filter: filter.clone(), ended, members: members.collect() }
    }
}
