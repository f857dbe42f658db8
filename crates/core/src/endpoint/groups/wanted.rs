//! Group epochs that nobody handed us a key for: which are asked about, and when. Their ids are anybody's to make up, so nothing
//! here goes by order of arrival or of ids.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::Name;
use crate::budget::{Bucket, Rate};
use crate::crypto::backend::RandomSource;
use crate::ids::{Fingerprint, GroupId, PeerId};
use crate::time::Monotonic;

/// How long a key is waited for before it is asked for: it is usually on its way.
const FIRST: Duration = Duration::from_secs(1);
/// How long after a question the next follows, doubled each time, if records still come.
const AGAIN: Duration = Duration::from_secs(2);
/// How often one group epoch is asked about.
pub(super) const ATTEMPTS: u32 = 8;
/// Group epochs asked about at once, of which nobody knows whose they are. What comes beyond takes the place of another by lot: no
/// stranger's inventions keep out for long what keeps coming.
const MAX_WANTED: usize = 16;
/// All questions about those.
const QUESTIONS: Rate = Rate { burst: 8, per_second: 4 };
/// All questions to publishers about newer epochs of their groups that are followed: inventions of other groups spend none of
/// them.
const OF_FOLLOWED: Rate = Rate { burst: 8, per_second: 1 };

/// What is asked for.
pub(super) struct Wanted {
    pub(super) groups: BTreeMap<(GroupId, u16), Want>,
    /// How many found no room since some was made.
    passed: u32,
    pub(super) questions: Bucket,
    /// One newer epoch of each group that is followed, of its publisher: the nearest, as far ones are cheap to make up.
    pub(super) newer: BTreeMap<(Fingerprint, GroupId), Newer>,
    pub(super) of_followed: Bucket,
}

pub(super) struct Want {
    pub(super) topic: String,
    /// By lot: its place among others, and who is asked first, where there are few questions left.
    pub(super) turn: u32,
    pub(super) asking: Asking,
}

pub(super) struct Newer {
    pub(super) of: PeerId,
    pub(super) epoch: u16,
    pub(super) asking: Asking,
}

pub(super) struct Asking {
    /// When it is looked at.
    at: Monotonic,
    pub(super) asked: u32,
    /// Whether a record came since it was asked for.
    seen: bool,
}

impl Asking {
    fn new(now: Monotonic) -> Self {
        Self { at: now.plus(FIRST), asked: 0, seen: true }
    }

    /// Whether it is to be kept: what is not heard of any more, or was asked for often enough, makes room.
    fn goes_on(&self, now: Monotonic) -> bool {
        now < self.at || (self.seen && self.asked < ATTEMPTS)
    }

    /// What there is no question left for has its turn before what was asked.
    pub(super) fn put_off(&mut self, now: Monotonic) {
        self.at = now.plus(FIRST);
    }

    pub(super) fn was_asked(&mut self, now: Monotonic) {
        self.at = now.plus(AGAIN * (1 << self.asked));
        self.asked += 1;
        self.seen = false;
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            groups: BTreeMap::new(),
            passed: 0,
            questions: Bucket::new(QUESTIONS),
            newer: BTreeMap::new(),
            of_followed: Bucket::new(OF_FOLLOWED),
        }
    }
}

impl Wanted {
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let newer = self.newer.values().map(|newer| newer.asking.at);
        self.groups.values().map(|want| want.asking.at).chain(newer).min()
    }

    /// The key came.
    pub(super) fn found(&mut self, (identity, gid, epoch): &Name) {
        self.groups.remove(&(*gid, *epoch));
        if self.newer.get(&(*identity, *gid)).is_some_and(|newer| newer.epoch <= *epoch) {
            self.newer.remove(&(*identity, *gid));
        }
    }

    /// A record came that no key is there for.
    pub(super) fn note(
        &mut self,
        now: Monotonic,
        random: &mut dyn RandomSource,
        topic: &str,
        gid: GroupId,
        epoch: u16,
    ) {
        if let Some(want) = self.groups.get_mut(&(gid, epoch)) {
            want.asking.seen = true;
            return;
        }
        let mut drawn = [0; 8];
        random.fill(&mut drawn);
        let drawn = u64::from_be_bytes(drawn);
        if self.groups.len() >= MAX_WANTED {
            // Of all that came since there was room, each has the same chance.
            self.passed = self.passed.saturating_add(1);
            let place = drawn % (MAX_WANTED as u64 + u64::from(self.passed));
            let gives_way =
                usize::try_from(place).ok().and_then(|place| self.groups.keys().nth(place)).copied();
            let Some(gives_way) = gives_way else { return };
            self.groups.remove(&gives_way);
        }
        let turn = (drawn >> 32) as u32;
        let want = Want { topic: topic.to_string(), turn, asking: Asking::new(now) };
        self.groups.insert((gid, epoch), want);
    }

    /// It may be a newer epoch of a group that is followed.
    pub(super) fn note_newer(
        &mut self,
        now: Monotonic,
        identity: Fingerprint,
        of: PeerId,
        gid: GroupId,
        epoch: u16,
    ) {
        match self.newer.get_mut(&(identity, gid)) {
            Some(newer) if newer.epoch == epoch => newer.asking.seen = true,
            Some(newer) if newer.epoch < epoch => {}
            _ => {
                let newer = Newer { of, epoch, asking: Asking::new(now) };
                self.newer.insert((identity, gid), newer);
            }
        }
    }

    /// What to ask for now: what was asked least first, and among those by lot, as ids are anybody's choice.
    pub(super) fn due(&mut self, now: Monotonic) -> Vec<(GroupId, u16)> {
        self.groups.retain(|_, want| want.asking.goes_on(now));
        let due = self.groups.iter().filter(|(_, want)| want.asking.at <= now);
        let mut due: Vec<_> = due.map(|(id, want)| (want.asking.asked, want.turn, *id)).collect();
        if !due.is_empty() {
            self.passed = 0;
        }
        due.sort_unstable();
        due.into_iter().map(|(_, _, id)| id).collect()
    }

    pub(super) fn newer_due(&mut self, now: Monotonic) -> Vec<(Fingerprint, GroupId)> {
        self.newer.retain(|_, newer| newer.asking.goes_on(now));
        let due = self.newer.iter().filter(|(_, newer)| newer.asking.at <= now);
        let mut due: Vec<_> = due.map(|(id, newer)| (newer.asking.asked, newer.asking.at, *id)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, _, id)| id).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    struct Drawn(u64);

    impl RandomSource for Drawn {
        fn fill(&mut self, out: &mut [u8]) {
            for byte in out {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (self.0 >> 56) as u8;
            }
        }
    }

    fn gid(number: u32) -> GroupId {
        let [a, b, c, d] = number.to_be_bytes();
        GroupId([a, b, c, d, 0, 0, 0])
    }

    /// However many a stranger makes up, each before the genuine one.
    #[test]
    fn what_keeps_coming_is_asked_for_in_a_flood_of_inventions() {
        let (mut wanted, mut random, topic) = (Wanted::default(), Drawn(1), "plant/press");
        let (genuine, mut invented, mut first) = (GroupId([255; 7]), 0, None);
        for second in 0..200 {
            let now = Monotonic(Duration::from_secs(second));
            for id in wanted.due(now) {
                wanted.groups.get_mut(&id).unwrap().asking.was_asked(now);
                if id.0 == genuine {
                    first.get_or_insert(second);
                }
            }
            for _ in 0..100 {
                invented += 1;
                wanted.note(now, &mut random, topic, gid(invented), 0);
            }
            wanted.note(now, &mut random, topic, genuine, 0);
            assert!(wanted.groups.len() <= MAX_WANTED);
        }
        assert!(first.is_some_and(|second| second < 60), "{first:?}");
    }

    #[test]
    fn what_was_asked_least_comes_first_and_what_had_no_question_loses_no_turn() {
        let (mut wanted, mut random, topic) = (Wanted::default(), Drawn(1), "plant/press");
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        wanted.note(at(0), &mut random, topic, gid(1), 0);
        assert!(wanted.due(at(0)).is_empty(), "its key is usually on its way");
        assert_eq!(wanted.due(at(1)), [(gid(1), 0)]);
        wanted.groups.get_mut(&(gid(1), 0)).unwrap().asking.was_asked(at(1));
        wanted.note(at(2), &mut random, topic, gid(1), 0);
        wanted.note(at(2), &mut random, topic, gid(2), 0);
        assert_eq!(wanted.due(at(3)), [(gid(2), 0), (gid(1), 0)]);
        for id in [gid(1), gid(2)] {
            wanted.groups.get_mut(&(id, 0)).unwrap().asking.put_off(at(3));
        }
        assert_eq!(wanted.due(at(4)), [(gid(2), 0), (gid(1), 0)], "as before");
    }

    #[test]
    fn of_a_followed_group_the_nearest_epoch_is_asked_for_whatever_others_are_made_up() {
        let mut wanted = Wanted::default();
        let (now, later) = (Monotonic::default(), Monotonic(FIRST));
        let (of, identity) = (PeerId::new("press").unwrap(), Fingerprint([1; 32]));
        for epoch in [9, 65_535, 8, 40_000] {
            wanted.note_newer(now, identity, of.clone(), gid(1), epoch);
        }
        for other in 0..40 {
            let stranger = PeerId::new("lathe").unwrap();
            wanted.note_newer(now, Fingerprint([2; 32]), stranger, gid(other), 1);
        }
        assert!(wanted.newer_due(later).contains(&(identity, gid(1))));
        assert_eq!(wanted.newer[&(identity, gid(1))].epoch, 8);
        wanted.found(&(identity, gid(1), 8));
        assert!(!wanted.newer_due(later).contains(&(identity, gid(1))));
    }
}
