//! What our groups, and those we follow, are like, for people: no secrets.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::row::{is_member, read_group, read_member, read_subscription};
use super::{OwnGroup, Stage};
use crate::codec::DecodeError;
use crate::crypto::backend::Backend;
use crate::endpoint::Endpoint;
use crate::group::Subscriber;
use crate::ids::{GroupId, PeerId};
use crate::store::{RecordKind, Row};
use crate::topic::TopicFilter;

/// A topic group of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Which topics it is for.
    pub filter: TopicFilter,
    /// Its epoch in this start: how often its key changed.
    pub epoch: u16,
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

/// A topic group of ours at rest: each start begins a new one, at epoch 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredGroup {
    /// Which topics it is for.
    pub filter: TopicFilter,
    /// Its members by name, at most 4,096.
    pub members: Vec<PeerId>,
}

/// A group epoch of another's that we read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowedGroup {
    /// Whose it is.
    pub publisher: PeerId,
    /// Which topics it is for.
    pub filter: TopicFilter,
    /// Which group: a publisher's next start has another.
    pub gid: GroupId,
    /// Its epoch.
    pub epoch: u16,
    /// How far it is; of a row, unless it says that the group ended, not known.
    pub stage: Option<FollowedStage>,
}

/// How far a followed group epoch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FollowedStage {
    /// Its publisher uses it.
    InUse,
    /// A newer epoch took its place: it is kept for what is still under way.
    Superseded,
    /// The group ended.
    Ended,
}

impl FollowedStage {
    /// Its name for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::InUse => "in-use",
            Self::Superseded => "superseded",
            Self::Ended => "ended",
        }
    }
}

impl StoredGroup {
    /// The groups of a store.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if a row of theirs is damaged.
    pub fn from_rows(rows: &[Row]) -> Result<Vec<Self>, DecodeError> {
        let of_groups = || rows.iter().filter(|row| row.kind == RecordKind::Group);
        let mut groups = BTreeMap::new();
        for row in of_groups().filter(|row| !is_member(&row.key)) {
            let (_, filter) = read_group(&row.value)?;
            groups.insert(row.key.as_slice(), Self { filter, members: Vec::new() });
        }
        for row in of_groups().filter(|row| is_member(&row.key)) {
            let (group, peer) = read_member(&row.key)?;
            groups.get_mut(group).ok_or(DecodeError::Value)?.members.push(peer);
        }
        Ok(groups.into_values().collect())
    }
}

impl FollowedGroup {
    fn new(one: &Subscriber, stage: Option<FollowedStage>) -> Self {
        Self {
            publisher: one.source().id.clone(),
            filter: one.filter().clone(),
            gid: one.gid(),
            epoch: one.epoch(),
            stage,
        }
    }

    /// What a [`RecordKind::GroupSubscription`] row says.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is no such row.
    pub fn from_row(backend: Backend, row: &Row) -> Result<Self, DecodeError> {
        let (_, one) = read_subscription(backend, &row.value)?;
        Ok(Self::new(&one, one.is_over().then_some(FollowedStage::Ended)))
    }
}

impl Endpoint {
    /// The group epochs of others that we read.
    pub fn followed_groups(&self) -> Vec<FollowedGroup> {
        let followed = self.groups.followed.iter().filter_map(|((fingerprint, gid, epoch), followed)| {
            let one = self.groups.subscriptions.get(fingerprint, *gid, *epoch)?;
            let stage = match followed.stage {
                Stage::Running => FollowedStage::InUse,
                Stage::Superseded => FollowedStage::Superseded,
                Stage::Over => FollowedStage::Ended,
            };
            Some(FollowedGroup::new(one, Some(stage)))
        });
        followed.collect()
    }

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
        GroupStatus {
            filter: filter.clone(),
            epoch: self.publisher.epoch(),
            ended,
            members: members.collect(),
        }
    }
}
