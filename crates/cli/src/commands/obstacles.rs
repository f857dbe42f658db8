//! Why nothing of a peer's can arrive, said while `sub` waits: a misspelt peer or topic would otherwise look like a silent one.

use std::collections::{BTreeMap, BTreeSet};

use pqc_iiot_core::endpoint::{Obstacle, RefusalReason};
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_mqtt::client::SecureMqttClient;
use serde::{Deserialize, Serialize};

use super::client;
use super::subscribe::for_terminal;
use crate::output::Output;

/// Grants that a proposed command repeats, at most.
const REPEATED: usize = 8;

/// Something that stands in the way, as people and programs are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Warning {
    pub(crate) peer: String,
    /// Unless nothing of the peer's can arrive on any topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// [`Obstacle::name`].
    reason: String,
    what: String,
    why: String,
    fix: String,
}

impl Warning {
    /// What stands between `own` and `peer`, whose announcement was last refused for `refused`.
    pub(crate) fn new(
        own: &PeerId,
        peer: &PeerId,
        filter: &TopicFilter,
        obstacle: &Obstacle,
        refused: Option<RefusalReason>,
    ) -> Self {
        let about_topic = matches!(obstacle, Obstacle::NoGrant(_) | Obstacle::NoOwnGrant(_));
        let what = if about_topic {
            format!("nothing from {peer} can arrive on {filter}")
        } else if *obstacle == Obstacle::NotAnnounced {
            format!("nothing from {peer} can arrive yet")
        } else {
            format!("nothing from {peer} can arrive")
        };
        let renew = format!(
            "let the authority issue a new one: pqc-iiot ca issue {peer}/request.cbor, and install it there"
        );
        let mut why = obstacle.to_string();
        let fix = match obstacle {
            Obstacle::Own => "name the sender in --from; --dir is the receiver's".to_owned(),
            Obstacle::NotAnnounced => match refused {
                Some(reason) => {
                    why = format!("its announcement was refused: {}", reason.name());
                    format!(
                        "see that {peer} holds a valid certificate of this identity's authority: pqc-iiot device show"
                    )
                }
                None => format!(
                    "start {peer} on this broker once, for instance with `pqc-iiot sub`; check the spelling, and --prefix"
                ),
            },
            Obstacle::Revoked => client::new_keys(peer),
            Obstacle::NoGrant(grants) => {
                why = format!("{why}; it has {}", listed(grants));
                proposal(peer, Action::Publish, filter, grants)
            }
            Obstacle::NoOwnGrant(grants) => {
                why = format!("{why}; {own} has {}", listed(grants));
                proposal(own, Action::Subscribe, filter, grants)
            }
            Obstacle::NotFollowed => "follow fewer peers with one identity".to_owned(),
            _ => renew,
        };
        Self {
            peer: peer.as_str().to_owned(),
            topic: about_topic.then(|| filter.as_str().to_owned()),
            reason: obstacle.name().to_owned(),
            what,
            why,
            fix,
        }
    }

    /// Whether it may be over in a moment: what is retained was perhaps not delivered yet, or the peer not yet added.
    fn is_early(&self) -> bool {
        [Obstacle::NotAnnounced, Obstacle::NotFollowed].iter().any(|early| self.reason == early.name())
    }
}

/// How somebody gets one more grant beside those there are.
pub(super) fn proposal(whose: &PeerId, action: Action, filter: &TopicFilter, grants: &[Grant]) -> String {
    let wanted = Grant::new(action, filter.clone());
    let options: Vec<String> =
        grants.iter().take(REPEATED).chain([&wanted]).map(|grant| format!("--grant '{grant}'")).collect();
    let others = if grants.len() > REPEATED { " (and its other grants)" } else { "" };
    format!(
        "check the topic, or let the authority grant it: pqc-iiot ca issue {whose}/request.cbor {}{others}, and \
         `pqc-iiot device install` the certificate there",
        options.join(" ")
    )
}

/// Grants, for people to read.
pub(super) fn listed(grants: &[Grant]) -> String {
    if grants.is_empty() {
        return "none at all".to_owned();
    }
    let more = if grants.len() > REPEATED { ", …" } else { "" };
    let shown: Vec<String> = grants.iter().take(REPEATED).map(Grant::to_string).collect();
    format!("{}{more}", shown.join(", "))
}

/// What was said so far.
#[derive(Debug, Default)]
pub(crate) struct Obstacles {
    told: BTreeSet<Warning>,
    /// Why a peer's announcement was refused last.
    refused: BTreeMap<PeerId, RefusalReason>,
    /// Peers of which something changed that may have made one.
    changed: BTreeSet<PeerId>,
}

impl Obstacles {
    /// Something of the peer's was refused.
    pub(super) fn refused(&mut self, peer: &PeerId, reason: RefusalReason) {
        // That is what messages are refused for while there is no announcement.
        if reason != RefusalReason::UnknownPeer {
            self.refused.insert(peer.clone(), reason);
        }
    }

    /// Something changed of this peer.
    pub(super) fn changed(&mut self, peer: &PeerId) {
        self.changed.insert(peer.clone());
    }

    /// Those of which something changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// Looks for them, and says what is new; unless it is `late`, not what may be over in a moment.
    pub(super) async fn look(
        &mut self,
        client: &SecureMqttClient,
        (from, topics): (&[PeerId], &[TopicFilter]),
        late: bool,
        output: Output,
    ) {
        for peer in from {
            for filter in topics {
                if let Some(obstacle) = client.obstacle(peer, filter).await {
                    let refused = self.refused.get(peer).copied();
                    let warning = Warning::new(client.peer_id(), peer, filter, &obstacle, refused);
                    self.tell(warning, late, output);
                }
            }
        }
    }

    /// Says it, unless that was done.
    pub(super) fn tell(&mut self, warning: Warning, late: bool, output: Output) {
        if (warning.is_early() && !late) || self.told.contains(&warning) {
            return;
        }
        let [what, why, fix] =
            [&warning.what, &warning.why, &warning.fix].map(|text| for_terminal(text.as_bytes()));
        output.warn(&warning, format_args!("warning: {what}\n  why: {why}\n  fix: {fix}"));
        self.told.insert(warning);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_new_grant_is_proposed_beside_those_there_are() {
        let [own, peer] = ["gateway", "press-7"].map(|name| PeerId::new(name).unwrap());
        let filter = TopicFilter::new("office/#").unwrap();
        let grants = vec![Grant::new(Action::Publish, TopicFilter::new("plant/#").unwrap())];
        let theirs = Warning::new(&own, &peer, &filter, &Obstacle::NoGrant(grants.clone()), None);
        assert!(
            theirs.fix.contains(
                "pqc-iiot ca issue press-7/request.cbor --grant 'publish:plant/#' --grant 'publish:office/#',"
            ),
            "{theirs:?}"
        );
        assert_eq!(theirs.topic.as_deref(), Some("office/#"));
        let ours =
            Warning::new(&own, &peer, &filter, &Obstacle::NoOwnGrant(vec![grants[0].clone(); 9]), None);
        assert!(ours.fix.contains("ca issue gateway/request.cbor") && ours.fix.contains("other grants"));
        assert!(ours.fix.contains("--grant 'subscribe:office/#'"), "{ours:?}");
    }
}
