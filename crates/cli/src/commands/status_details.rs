//! What `status` tells of sessions and topic groups, from the store or of a running proxy: never a secret.

use std::io::{self, Write};

use pqc_iiot_core::endpoint::{
    FollowedGroup, GroupStatus, MemberState, SessionStage, SessionStatus, StoredGroup,
};
use pqc_iiot_core::session::Role;
use serde::{Deserialize, Serialize};

use crate::output::{columns, counted, harmless};
use crate::time::rfc3339;

/// Sessions that are listed, at most.
const MAX_SESSIONS: usize = 1024;
/// Members of a group that are listed, at most.
const MAX_MEMBERS: usize = 256;

/// Sessions, and groups in both directions.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    /// [`MAX_SESSIONS`] at most.
    peer_sessions: Vec<Session>,
    published_groups: Vec<Published>,
    subscribed_groups: Vec<Subscribed>,
}

/// A session with a peer.
#[derive(Debug, Serialize, Deserialize)]
struct Session {
    peer: String,
    /// `in-use`, `draining` or `half-open`.
    state: String,
    epoch: u16,
    /// Which end this identity is: `initiator` or `responder`.
    role: String,
    suite: String,
    established: String,
    /// When the first of both certificates ends.
    until: String,
}

/// A topic group that this identity publishes in.
#[derive(Debug, Serialize, Deserialize)]
struct Published {
    group: String,
    /// At rest there is none: each start has keys of its own.
    epoch: Option<u16>,
    /// Its members are being told that it ended.
    ended: bool,
    member_count: usize,
    /// [`MAX_MEMBERS`] at most.
    members: Vec<Member>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    peer: String,
    /// Whether it has the present key; not known at rest.
    key: Option<bool>,
}

/// A topic group of another's that this identity reads.
#[derive(Debug, Serialize, Deserialize)]
struct Subscribed {
    peer: String,
    group: String,
    gid: String,
    epoch: u16,
    /// `in-use`, `superseded` or `ended`, as far as it is known.
    state: Option<String>,
}

impl Details {
    /// Of a store.
    pub(crate) fn at_rest(
        sessions: Vec<SessionStatus>,
        published: Vec<StoredGroup>,
        subscribed: Vec<FollowedGroup>,
    ) -> Self {
        let published = published.into_iter().map(|group| {
            let members = group.members.iter().map(|peer| (peer.as_str(), None));
            Published::new(group.filter.as_str(), None, false, members.collect())
        });
        Self::new(sessions, published.collect(), subscribed)
    }

    /// Of a client that runs.
    pub(crate) fn running(
        sessions: Vec<SessionStatus>,
        published: Vec<GroupStatus>,
        subscribed: Vec<FollowedGroup>,
    ) -> Self {
        let published = published.into_iter().map(|group| {
            let key = |state: &MemberState| Some(*state == MemberState::HasKey);
            let members = group.members.iter().map(|(peer, state)| (peer.as_str(), key(state)));
            Published::new(group.filter.as_str(), Some(group.epoch), group.ended, members.collect())
        });
        Self::new(sessions, published.collect(), subscribed)
    }

    fn new(
        mut sessions: Vec<SessionStatus>,
        published: Vec<Published>,
        mut subscribed: Vec<FollowedGroup>,
    ) -> Self {
        sessions.sort_by(|a, b| (&a.peer, a.stage).cmp(&(&b.peer, b.stage)));
        subscribed.sort_by(|a, b| {
            let key = |one: &FollowedGroup| (one.publisher.clone(), one.filter.clone(), one.stage, one.epoch);
            key(a).cmp(&key(b))
        });
        Self {
            peer_sessions: sessions.iter().take(MAX_SESSIONS).map(Session::from).collect(),
            published_groups: published,
            subscribed_groups: subscribed.iter().map(Subscribed::from).collect(),
        }
    }

    /// The tables that are not empty.
    pub(crate) fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let sessions = self.peer_sessions.iter().map(|session| {
            let epoch = session.epoch.to_string();
            let Session { peer, state, role, established, until, .. } = session;
            [peer, state, &epoch, role, established, until].map(|text| harmless(text)).to_vec()
        });
        section(out, &["PEER", "SESSION", "EPOCH", "ROLE", "SINCE", "UNTIL"], sessions.collect())?;
        let published = self.published_groups.iter().map(|group| {
            let epoch = group.epoch.map_or_else(|| "at rest".to_owned(), |epoch| epoch.to_string());
            vec![harmless(&group.group), epoch, group.summary()]
        });
        section(out, &["PUBLISHED GROUP", "EPOCH", "MEMBERS"], published.collect())?;
        let subscribed = self.subscribed_groups.iter().map(|group| {
            let state = group.state.as_deref().unwrap_or("at rest");
            vec![harmless(&group.group), harmless(&group.peer), group.epoch.to_string(), harmless(state)]
        });
        section(out, &["SUBSCRIBED GROUP", "OF", "EPOCH", "STATE"], subscribed.collect())
    }
}

fn section(out: &mut dyn Write, heading: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    columns(out, heading, &rows)
}

impl From<&SessionStatus> for Session {
    fn from(session: &SessionStatus) -> Self {
        let role = match session.role {
            Role::Initiator => "initiator",
            Role::Responder => "responder",
        };
        Self {
            peer: session.peer.as_str().to_owned(),
            state: SessionStage::name(session.stage).to_owned(),
            epoch: session.epoch,
            role: role.to_owned(),
            suite: session.suite.name().to_owned(),
            established: rfc3339(session.established),
            until: rfc3339(session.ends),
        }
    }
}

impl From<&FollowedGroup> for Subscribed {
    fn from(group: &FollowedGroup) -> Self {
        Self {
            peer: group.publisher.as_str().to_owned(),
            group: group.filter.as_str().to_owned(),
            gid: group.gid.to_string(),
            epoch: group.epoch,
            state: group.stage.map(|stage| stage.name().to_owned()),
        }
    }
}

impl Published {
    fn new(group: &str, epoch: Option<u16>, ended: bool, members: Vec<(&str, Option<bool>)>) -> Self {
        let listed = members.iter().take(MAX_MEMBERS);
        Self {
            group: group.to_owned(),
            epoch,
            ended,
            member_count: members.len(),
            members: listed.map(|(peer, key)| Member { peer: (*peer).to_owned(), key: *key }).collect(),
        }
    }

    fn summary(&self) -> String {
        const SHOWN: usize = 8;
        let shown = self.members.iter().take(SHOWN).map(|member| {
            let without = if member.key == Some(false) { " (no key)" } else { "" };
            format!("{}{without}", harmless(&member.peer))
        });
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if self.member_count > SHOWN {
            text = format!("{}: {text}, …", counted(self.member_count as u64, "member", "members"));
        }
        match self.ended {
            true => format!("ended; still to be told: {text}"),
            false => text,
        }
    }
}
