//! Records of group epochs that nobody handed us a key for: whoever may publish there is asked, in bounds. What strangers
//! make up costs a few small questions.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::LOST_AFTER;
use crate::budget::{Bucket, Rate};
use crate::endpoint::Endpoint;
use crate::endpoint::refusal::RefusalReason;
use crate::group::MAX_SAME_ID;
use crate::identity::grants::Action;
use crate::ids::{GroupId, PeerId};
use crate::session::Control;
use crate::time::Monotonic;

/// How long a key is waited for before it is asked for: it is usually on its way.
const FIRST: Duration = Duration::from_secs(1);
/// How long after a question the next follows, doubled each time, if records still come.
const AGAIN: Duration = Duration::from_secs(2);
/// How often one group epoch is asked about.
const ATTEMPTS: u32 = 8;
/// Group epochs asked about at once.
const MAX_WANTED: usize = 16;
/// Sessions that are searched for a publisher that no group was followed of yet.
const MAX_SEARCHED: usize = 1024;
/// All questions together.
const QUESTIONS: Rate = Rate { burst: 8, per_second: 1 };

/// What is asked for.
pub(super) struct Wanted {
    groups: BTreeMap<(GroupId, u16), Want>,
    questions: Bucket,
}

struct Want {
    topic: String,
    /// When it is looked at.
    at: Monotonic,
    asked: u32,
    /// Whether a record came since it was asked for.
    seen: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), questions: Bucket::new(QUESTIONS) }
    }
}

impl Wanted {
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.groups.values().map(|want| want.at).min()
    }

    /// The key came.
    pub(super) fn found(&mut self, gid: GroupId, epoch: u16) {
        self.groups.remove(&(gid, epoch));
    }

    /// A record came that no key is there for.
    pub(super) fn note(&mut self, now: Monotonic, topic: &str, gid: GroupId, epoch: u16) {
        if let Some(want) = self.groups.get_mut(&(gid, epoch)) {
            want.seen = true;
        } else if self.groups.len() < MAX_WANTED {
            let want = Want { topic: topic.to_string(), at: now.plus(FIRST), asked: 0, seen: true };
            self.groups.insert((gid, epoch), want);
        }
    }

    /// What to ask for now, on which topic it came, and how often it was asked for before. What is not heard of any more, or
    /// was asked for often enough, makes room.
    fn due(&mut self, now: Monotonic) -> Vec<(GroupId, u16, String, u32)> {
        self.groups.retain(|_, want| now < want.at || (want.seen && want.asked < ATTEMPTS));
        let mut due = Vec::new();
        for ((gid, epoch), want) in self.groups.iter_mut().filter(|(_, want)| want.at <= now) {
            due.push((*gid, *epoch, want.topic.clone(), want.asked));
            want.at = now.plus(AGAIN * (1 << want.asked));
            want.asked += 1;
            want.seen = false;
        }
        due
    }
}

/// Some of those that may be asked, each time others, so that none hides behind the rest.
fn in_turn(mut all: Vec<PeerId>, asked: u32) -> Vec<PeerId> {
    if !all.is_empty() {
        let from = asked as usize * MAX_SAME_ID % all.len();
        all.rotate_left(from);
    }
    all.truncate(MAX_SAME_ID);
    all
}

impl Endpoint {
    /// Asks for keys of groups whose records come.
    pub(super) fn ask_for_keys(&mut self, now: Monotonic) {
        for (gid, epoch, topic, asked) in self.groups.wanted.due(now) {
            if !self.online {
                continue;
            }
            for peer in self.perhaps_publishers(gid, &topic, asked) {
                if self.groups.wanted.questions.take(now) {
                    self.send_control(&peer, &Control::WantGroupKey { gid, epoch });
                }
            }
        }
    }

    /// Whose group it may be: of a publisher of which we follow one with that id, or for that topic; or of any that may publish
    /// there, some at a time.
    fn perhaps_publishers(&self, gid: GroupId, topic: &str, asked: u32) -> Vec<PeerId> {
        let mut all = self.groups.subscriptions.publishers(gid, topic);
        all.retain(|peer| self.has_session(peer.as_str()));
        if all.is_empty() {
            let at = self.clock.effective();
            let may_publish = |peer: &&PeerId| {
                let trusted = self.peers.get(*peer).and_then(|peer| peer.trusted.as_ref());
                trusted.is_some_and(|trusted| trusted.certificate.claims().allows(Action::Publish, topic, at))
            };
            let some = self.peers_in_session().take(MAX_SEARCHED).filter(may_publish);
            all.extend(some.cloned());
        }
        in_turn(all, asked)
    }

    /// A member has records of the current epoch of a group of ours, and no key.
    pub(super) fn group_key_wanted(
        &mut self,
        peer: &PeerId,
        gid: GroupId,
        epoch: u16,
    ) -> Result<(), RefusalReason> {
        let now = self.clock.monotonic();
        let mut own = self.groups.own.iter_mut();
        let current = own.find(|(_, group)| (group.publisher.gid(), group.publisher.epoch()) == (gid, epoch));
        let Some((filter, group)) = current else { return Ok(()) };
        let Some(member) = group.members.get_mut(peer) else { return Ok(()) };
        let Some((identity, _)) = member.admitted else { return Ok(()) };
        if !member.answers.take(now) {
            return Err(RefusalReason::OverBudget);
        }
        if group.publisher.hand_out(&identity).is_some() {
            let filter = filter.clone();
            self.hand_out(&filter, Some(peer));
        } else {
            // It confirmed the key and lost it since. To hand it out again costs a block, so that waits for others.
            member.lost = true;
            group.lost_due.get_or_insert(now.plus(LOST_AFTER));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_publisher_that_it_may_be_is_asked_in_its_turn() {
        for count in [0, 1, MAX_SAME_ID, MAX_SAME_ID + 1, MAX_SAME_ID * ATTEMPTS as usize] {
            let peers = (0..count).map(|number| PeerId::new(&alloc::format!("press-{number}")).unwrap());
            let all: Vec<PeerId> = peers.collect();
            let mut asked = BTreeSet::new();
            for attempt in 0..ATTEMPTS {
                let some = in_turn(all.clone(), attempt);
                assert_eq!(some.len(), count.min(MAX_SAME_ID));
                asked.extend(some);
            }
            assert_eq!(asked.len(), count, "all of {count}");
        }
    }
}
