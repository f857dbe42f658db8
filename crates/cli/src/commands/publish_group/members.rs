//! Who is in the group, and who has its key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pqc_iiot_core::endpoint::{Event, GroupStatus, MemberState, PeerLoss, SendFailure};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_mqtt::client::{ClientEvent, Events, PublishError, SecureMqttClient};
use tokio::time::Instant;

use super::AGAIN_AFTER;
use crate::commands::publish::HINT_AFTER;
use crate::commands::{Context, client};
use crate::error::{CliError, ErrorKind, Result};

pub(super) struct Membership<'a> {
    pub(super) handle: &'a SecureMqttClient,
    pub(super) filter: &'a TopicFilter,
    pub(super) context: &'a Context,
}

impl Membership<'_> {
    /// Makes the group if there is none, and removes whom `named` does not name: first of all, so that nothing that fails
    /// later keeps anybody in. Without names there must be a group, and all stay.
    pub(super) async fn restrict_to(&self, named: &BTreeSet<PeerId>) -> Result<Vec<PeerId>> {
        if named.contains(self.handle.peer_id()) {
            return Err(CliError::new(
                ErrorKind::Usage,
                format!("{} is this identity", self.handle.peer_id()),
            )
            .because("who sends to a group is no member of it")
            .fix("leave it out of --to"));
        }
        if named.is_empty() {
            return self.must_exist().await.map(|()| Vec::new());
        }
        if let Err(error) = self.handle.create_group(self.filter.clone()).await {
            return Err(self.not_created(error).await);
        }
        let mut removed = Vec::new();
        for (peer, _) in self.states().await? {
            if !named.contains(&peer) {
                let removal = self.handle.remove_subscriber(self.filter.clone(), peer.clone()).await;
                removal.map_err(|error| group_error(self.filter, error))?;
                removed.push(peer);
            }
        }
        Ok(removed)
    }

    /// Waits until all of `named` can be admitted.
    pub(super) async fn ready(
        &self,
        events: &mut Events,
        named: &BTreeSet<PeerId>,
        patience: Duration,
    ) -> Result<()> {
        let mut unheard = named.clone();
        let mut refused = BTreeMap::new();
        for peer in named {
            self.handle.add_peer(peer.clone()).await.map_err(|error| group_error(self.filter, error))?;
        }
        let hearing = async {
            while !unheard.is_empty() {
                let Some(event) = events.recv().await else {
                    return Err(CliError::new(ErrorKind::Failed, "the client ended"));
                };
                client::fatal(&event)?;
                client::note_state(&event, self.context.output);
                match event {
                    ClientEvent::Protocol(Event::PeerReady { peer, .. }) => {
                        unheard.remove(&peer);
                    }
                    ClientEvent::Protocol(Event::PeerLost { peer, reason }) if named.contains(&peer) => {
                        return Err(client::lost(&peer, reason).fix("leave it out of --to"));
                    }
                    ClientEvent::Protocol(Event::PeerRevoked { peer }) if named.contains(&peer) => {
                        return Err(client::lost(&peer, PeerLoss::Revoked).fix("leave it out of --to"));
                    }
                    ClientEvent::Protocol(Event::Refused { reason, peer: Some(peer) }) => {
                        refused.insert(peer, reason);
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let hint = async {
            tokio::time::sleep(HINT_AFTER).await;
            self.context.output.note(format_args!(
                "waiting up to {} for the announcement of every member",
                humantime::format_duration(patience)
            ));
            std::future::pending::<Result<()>>().await
        };
        let both = async {
            tokio::select! { result = hearing => result, never = hint => never }
        };
        if let Ok(result) = tokio::time::timeout(patience, both).await {
            return result;
        }
        let names: Vec<&str> = unheard.iter().map(PeerId::as_str).collect();
        let what = format!("nothing can be sealed to {}", names.join(", "));
        let why = unheard.iter().find_map(|peer| refused.get(peer).map(|reason| (peer, reason)));
        Err(match why {
            Some((peer, reason)) => CliError::new(ErrorKind::Refused, what)
                .because(format!("the announcement of {peer} was refused: {}", reason.name()))
                .fix(format!("see that {peer} holds a valid certificate of this identity's authority")),
            None => CliError::new(ErrorKind::Failed, what)
                .because(format!("no announcement came within {}", humantime::format_duration(patience)))
                .fix("start each on this broker once, for instance with `pqc-iiot sub`; check the spelling and --prefix"),
        })
    }

    /// Makes `peer` a member, or hands it the key at once if it is one.
    pub(super) async fn add(&self, peer: &PeerId) -> Result<()> {
        let added = self.handle.add_subscriber(self.filter.clone(), peer.clone()).await;
        added.map_err(|error| {
            let what = format!("{peer} cannot be a member of {}", self.filter);
            match error {
                PublishError::Refused(SendFailure::NoGrant) => CliError::new(ErrorKind::Refused, what)
                    .because("its subscribe grants do not cover all topics of the group, or it has not the group's suite")
                    .fix(format!(
                        "let the authority issue it a certificate: pqc-iiot ca issue REQUEST --grant 'subscribe:{}'; or leave it out of --to",
                        self.filter
                    )),
                PublishError::Refused(failure @ SendFailure::Revoked) => {
                    CliError::new(ErrorKind::Refused, what).because(failure).fix("leave it out of --to")
                }
                error => group_error(self.filter, error),
            }
        })
    }

    /// Waits until all members have the key, as long as `patience` allows.
    pub(super) async fn await_keys(&self, patience: Duration) -> Result<Vec<(PeerId, MemberState)>> {
        let (until, hint_at) = (Instant::now() + patience, Instant::now() + HINT_AFTER);
        let mut hinted = false;
        loop {
            let states = self.states().await?;
            let waiting = states.iter().filter(|(_, state)| *state != MemberState::HasKey);
            let waiting: Vec<&str> = waiting.map(|(peer, _)| peer.as_str()).collect();
            if waiting.is_empty() || Instant::now() >= until {
                return Ok(states);
            }
            if !hinted && Instant::now() >= hint_at {
                hinted = true;
                self.context.output.note(format_args!(
                    "waiting up to {} until {} {} the key",
                    humantime::format_duration(patience),
                    waiting.join(", "),
                    if waiting.len() == 1 { "has" } else { "have" }
                ));
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Ends the group; who has not said within `patience` that it forgot it.
    pub(super) async fn end(&self, patience: Duration) -> Result<Vec<PeerId>> {
        self.handle.end_group(self.filter.clone()).await.map_err(|error| group_error(self.filter, error))?;
        let until = Instant::now() + patience;
        loop {
            let ended = self.groups().await?.into_iter().find(|group| group.ended);
            let untold: Vec<PeerId> =
                ended.into_iter().flat_map(|group| group.members).map(|(peer, _)| peer).collect();
            if untold.is_empty() || Instant::now() >= until {
                return Ok(untold);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// The members, and how far each is.
    pub(super) async fn states(&self) -> Result<Vec<(PeerId, MemberState)>> {
        let groups = self.groups().await?;
        let ours = groups.into_iter().find(|group| !group.ended && group.filter == *self.filter);
        Ok(ours.map(|group| group.members).unwrap_or_default())
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>> {
        let groups = self.handle.groups().await;
        groups.ok_or_else(|| CliError::new(ErrorKind::Failed, "the client ended"))
    }

    async fn must_exist(&self) -> Result<()> {
        let groups = self.groups().await?;
        if groups.iter().any(|group| group.filter == *self.filter) {
            return Ok(());
        }
        let names: Vec<String> = groups.iter().map(|group| format!("'{}'", group.filter)).collect();
        let others = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(CliError::new(ErrorKind::Failed, format!("there is no group '{}'", self.filter))
            .because(format!("this identity's groups: {others}"))
            .fix("name one of these with --group, or members with --to to make it"))
    }

    async fn not_created(&self, error: PublishError) -> CliError {
        let PublishError::Refused(failure @ SendFailure::GroupOverlap) = error else {
            return group_error(self.filter, error);
        };
        let groups = self.groups().await.unwrap_or_default();
        let other = groups.into_iter().find(|group| !group.ended && group.filter.overlaps(self.filter));
        let other = other.map_or_else(|| "FILTER".to_owned(), |group| group.filter.to_string());
        CliError::new(ErrorKind::Failed, format!("the group '{}' was not made", self.filter))
            .because(format!("{failure}: '{other}'"))
            .fix(format!(
                "send with --group '{other}', or end that one: pqc-iiot pub --group '{other}' --end"
            ))
    }
}

/// What concerns the group as a whole.
pub(super) fn group_error(filter: &TopicFilter, error: PublishError) -> CliError {
    let what = format!("nothing more goes to the group '{filter}'");
    let (kind, fix) = match &error {
        PublishError::Refused(SendFailure::NoGrant) => {
            return CliError::new(ErrorKind::Refused, what)
                .because("this identity's publish grants do not cover all topics of the group")
                .fix(format!(
                    "let the authority issue it a certificate: pqc-iiot ca issue REQUEST --grant 'publish:{filter}'; then `pqc-iiot device install`"
                ));
        }
        PublishError::Refused(SendFailure::Revoked | SendFailure::Expired | SendFailure::Closed) => {
            (ErrorKind::Refused, "see `pqc-iiot status`")
        }
        PublishError::Refused(SendFailure::Offline) => (
            ErrorKind::Broker,
            "check the link: pqc-iiot doctor --broker URL; nothing is kept for later in a group",
        ),
        PublishError::Refused(SendFailure::Busy) => {
            (ErrorKind::Broker, "the broker takes too little: send less, or give it longer with --timeout")
        }
        PublishError::Refused(SendFailure::GroupFull) => (
            ErrorKind::Failed,
            "end a group that is not needed any more: pqc-iiot pub --group FILTER --end; or name fewer members",
        ),
        PublishError::Refused(SendFailure::TooLarge) => {
            (ErrorKind::Failed, "send it in parts of less than 256 KiB")
        }
        PublishError::Refused(SendFailure::ControlTopic) => {
            (ErrorKind::Usage, "choose a topic outside the control prefix")
        }
        PublishError::Busy => {
            (ErrorKind::Failed, "see whether the disk of the data directory is full: free some space")
        }
        _ => (ErrorKind::Failed, "see what is wrong: pqc-iiot doctor --dir DIR"),
    };
    CliError::new(kind, what).because(error).fix(fix)
}
