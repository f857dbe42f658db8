//! Records of group epochs that nobody handed us a key for: whoever may publish there is asked, in bounds. What strangers
//! make up costs a few small questions.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::LOST_AFTER;
use crate::endpoint::Endpoint;
use crate::endpoint::refusal::RefusalReason;
use crate::group::MAX_SAME_ID;
use crate::identity::grants::Action;
use crate::ids::{GroupId, PeerId};
use crate::session::Control;
use crate::time::Monotonic;

/// Sessions that are searched for a publisher that no group was followed of yet.
const MAX_SEARCHED: usize = 1024;

/// Some of those that may be asked, each time others, so that none hides behind the rest.
fn in_turn(mut all: Vec<PeerId>, turn: u32, asked: u32) -> Vec<PeerId> {
    if !all.is_empty() {
        let from = (turn as usize % all.len()) + asked as usize * MAX_SAME_ID;
        let from = from % all.len();
        all.rotate_left(from);
    }
    all.truncate(MAX_SAME_ID);
    all
}

impl Endpoint {
    /// A record of a group epoch came whose key is not there, unless it is junk. Whether a publisher whose group is followed
    /// may have begun that epoch.
    pub(super) fn want_key(&mut self, topic: &str, gid: GroupId, epoch: u16) -> bool {
        let now = self.clock.monotonic();
        let newest = self.groups.subscriptions.newest_epochs(gid);
        let behind: Vec<_> = newest.into_iter().filter(|(_, (_, newest))| *newest < epoch).collect();
        let perhaps = !behind.is_empty();
        for (identity, (of, _)) in behind {
            self.groups.wanted.note_newer(now, identity, of, gid, epoch);
        }
        self.groups.wanted.note(now, &mut *self.random, topic, gid, epoch);
        perhaps
    }

    /// Asks for keys of groups whose records come.
    pub(super) fn ask_for_keys(&mut self, now: Monotonic) {
        for id in self.groups.wanted.newer_due(now) {
            let asks = !self.online || self.groups.wanted.of_followed.take(now);
            let Some(newer) = self.groups.wanted.newer.get_mut(&id) else { continue };
            if !asks {
                newer.asking.put_off(now);
                continue;
            }
            newer.asking.was_asked(now);
            let (of, control) = (newer.of.clone(), Control::WantGroupKey { gid: id.1, epoch: newer.epoch });
            if self.online {
                self.send_control(&of, &control);
            }
        }
        for (gid, epoch) in self.groups.wanted.due(now) {
            self.ask_for_key(now, gid, epoch);
        }
    }

    fn ask_for_key(&mut self, now: Monotonic, gid: GroupId, epoch: u16) {
        let Some(want) = self.groups.wanted.groups.get(&(gid, epoch)) else { return };
        let (topic, turn, asked) = (want.topic.clone(), want.turn, want.asking.asked);
        let has_question = !self.online || self.groups.wanted.questions.take(now);
        let mut paid = has_question && self.online;
        if paid {
            for peer in self.perhaps_publishers(gid, epoch, &topic, turn, asked) {
                if !core::mem::take(&mut paid) && !self.groups.wanted.questions.take(now) {
                    break;
                }
                self.send_control(&peer, &Control::WantGroupKey { gid, epoch });
            }
        }
        if paid {
            // Nobody is there to be asked.
            self.groups.wanted.questions.give_back();
        }
        if let Some(want) = self.groups.wanted.groups.get_mut(&(gid, epoch)) {
            if has_question { want.asking.was_asked(now) } else { want.asking.put_off(now) }
        }
    }

    /// Whose group it may be: of a publisher of which we follow one with that id, or for that topic; or of any that may publish
    /// there, some at a time. Not of one whose key for it is there.
    fn perhaps_publishers(
        &mut self,
        gid: GroupId,
        epoch: u16,
        topic: &str,
        turn: u32,
        asked: u32,
    ) -> Vec<PeerId> {
        let known: BTreeSet<PeerId> = self
            .groups
            .subscriptions
            .sources_of(topic, gid, epoch)
            .into_iter()
            .map(|source| source.id)
            .collect();
        let mut all = self.groups.subscriptions.publishers(gid, topic);
        all.retain(|peer| !known.contains(peer) && self.has_session(peer.as_str()));
        if all.is_empty() {
            let at = self.clock.effective();
            let may_publish = |peer: &&PeerId| {
                let Some(known) = self.peers.get(*peer) else { return false };
                // One whose certificate is still in the store is asked whatever it may: that is less than to load it.
                known.must_load(at)
                    || known.trusted.as_ref().is_some_and(|trusted| {
                        trusted.certificate.claims().allows(Action::Publish, topic, at)
                    })
            };
            let some = self.peers_in_session().take(MAX_SEARCHED).filter(may_publish);
            all.extend(some.filter(|peer| !known.contains(*peer)).cloned());
        }
        in_turn(all, turn, asked)
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
    use super::super::wanted::ATTEMPTS;
    use super::*;

    #[test]
    fn every_publisher_that_it_may_be_is_asked_in_its_turn() {
        for count in [0, 1, MAX_SAME_ID, MAX_SAME_ID + 1, MAX_SAME_ID * ATTEMPTS as usize] {
            let peers = (0..count).map(|number| PeerId::new(&alloc::format!("press-{number}")).unwrap());
            let all: Vec<PeerId> = peers.collect();
            let mut asked = BTreeSet::new();
            for attempt in 0..ATTEMPTS {
                let some = in_turn(all.clone(), u32::MAX - 5, attempt);
                assert_eq!(some.len(), count.min(MAX_SAME_ID));
                asked.extend(some);
            }
            assert_eq!(asked.len(), count, "all of {count}");
        }
    }
}
