//! What became of it, by member.

use std::io::{self, Write};
use std::time::Duration;

use pqc_iiot_core::endpoint::MemberState;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::{Topic, TopicFilter};
use serde::Serialize;

use crate::error::{CliError, ErrorKind, Result};
use crate::output::{Report, table};

/// What was sent, and who can read it.
#[derive(Serialize)]
pub(super) struct GroupSent {
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    sent: u64,
    /// Members when the last message was sent.
    members: Vec<Member>,
    removed: Vec<String>,
    /// With `--end`: who has not said yet that it forgot the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    untold: Option<Vec<String>>,
}

/// A member.
#[derive(Serialize)]
struct Member {
    peer: String,
    /// Whether it has the key, and so reads what was sent.
    key: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

impl Member {
    fn new((peer, state): (PeerId, MemberState)) -> Self {
        let why = match state {
            MemberState::HasKey => None,
            MemberState::WaitsForKey => Some("it did not answer"),
            _ => Some("no certificate in force lets it read all topics of the group"),
        };
        Self { peer: peer.as_str().to_owned(), key: why.is_none(), why }
    }
}

impl GroupSent {
    /// Nothing yet.
    pub(super) fn new(filter: &TopicFilter, topic: Option<&Topic>, removed: &[PeerId]) -> Self {
        Self {
            group: filter.as_str().to_owned(),
            topic: topic.map(|topic| topic.as_str().to_owned()),
            sent: 0,
            members: Vec::new(),
            removed: names(removed),
            untold: None,
        }
    }

    /// So many were sent, and the members are these.
    pub(super) fn sent(&mut self, sent: u64, members: Vec<(PeerId, MemberState)>) {
        self.sent = sent;
        self.members = members.into_iter().map(Member::new).collect();
    }

    /// The group ended, and these do not know.
    pub(super) fn ended(&mut self, untold: &[PeerId]) {
        self.untold = Some(names(untold));
    }

    /// An error if somebody who was to read cannot.
    pub(super) fn judge(&self, waited: Duration) -> Result<()> {
        let without: Vec<&Member> = self.members.iter().filter(|member| !member.key).collect();
        let what = match without.as_slice() {
            // Of a group that ends without a last word nobody misses anything.
            [] => return Ok(()),
            _ if self.sent == 0 => return Ok(()),
            [one] => format!("{} has no key of '{}'", one.peer, self.group),
            _ => {
                format!("{} of {} members have no key of '{}'", without.len(), self.members.len(), self.group)
            }
        };
        Err(lacking(what, &without, waited))
    }
}

/// Nobody would read it, then or ever.
pub(super) fn nobody(
    filter: &TopicFilter,
    members: Vec<(PeerId, MemberState)>,
    waited: Duration,
) -> CliError {
    let members: Vec<Member> = members.into_iter().map(Member::new).collect();
    let without: Vec<&Member> = members.iter().collect();
    lacking(format!("nothing was sent: no member has the key of '{filter}'"), &without, waited)
}

fn lacking(what: String, without: &[&Member], waited: Duration) -> CliError {
    let why: Vec<String> = without
        .iter()
        .map(|member| format!("{}: {}", member.peer, member.why.unwrap_or("it has the key")))
        .collect();
    let why = if why.is_empty() { "it has no members".to_owned() } else { why.join("; ") };
    CliError::new(ErrorKind::Failed, what).because(why).fix(format!(
        "let it run while this command does: `pqc-iiot sub --from THIS`; wait longer than {} with --wait; or leave it out of --to",
        humantime::format_duration(waited)
    ))
}

fn names(peers: &[PeerId]) -> Vec<String> {
    peers.iter().map(|peer| peer.as_str().to_owned()).collect()
}

impl Report for GroupSent {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows: Vec<(&str, String)> = Vec::new();
        for member in &self.members {
            let state = member.why.map_or_else(|| "has the key".to_owned(), |why| format!("NO KEY: {why}"));
            rows.push((&member.peer, state));
        }
        rows.extend(self.removed.iter().map(|peer| (peer.as_str(), "removed".to_owned())));
        for peer in self.untold.iter().flatten() {
            rows.push((peer, "does not know that the group ended; forgets it in two days".to_owned()));
        }
        table(out, &rows)
    }
}
