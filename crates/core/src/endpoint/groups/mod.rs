//! Topic groups in the endpoint: ours, which we publish in, and the group epochs of others that were handed to us.
//!
//! ```text
//!  publisher: membership ─► key in the member's session, until it confirms ─► records ─► seal, by the provider
//!  subscriber: key ─► record, told as some member's ─► seal, or leaves asked for in the session ─► told as the publisher's
//! ```
//! What [`group`](crate::group) leaves to its caller is here: grants, certificates, revocation, rows, timers and budgets. There
//! is no outbox: a record that the broker loses is lost, and one that arrives is told, not kept.

mod ending;
mod follow;
mod members;
mod publish;
mod receive;
mod row;
mod status;
mod waiting;
mod wanted;
mod wanting;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::budget::{Bucket, Rate};
use crate::group::{GroupEpoch, MAX_AGE, MAX_PER_SOURCE, Publisher, Subscriptions};
use crate::ids::{Fingerprint, GroupId, PeerId};
use crate::time::{Monotonic, UnixTime};
use crate::topic::TopicFilter;
use ending::Ending;
pub use status::{FollowedGroup, FollowedStage, GroupStatus, MemberState, StoredGroup};
use wanted::Wanted;

/// Groups of one's own at most: subscribers keep two epochs of each.
pub const MAX_OWN_GROUPS: usize = MAX_PER_SOURCE / 2;

/// How long after it went a key goes again to a member that does not confirm it, at first and at last.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
const AGAIN_LAST: Duration = Duration::from_secs(5 * 60);
/// How long after a member began a new session its key goes again: it may have lost both, and a hand-out costs a block.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// How long after the provider failed a seal is signed again.
const SIGN_AGAIN: Duration = Duration::from_secs(5);
/// How long after leaves were asked for they are again, at first, and how often.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const ASK_ATTEMPTS: u32 = 8;

/// Answers to peers that are no members (any more).
const OTHERS: Rate = Rate { burst: 8, per_second: 1 };

/// Trials of records with more than [`MAX_SAME_ID`](crate::group::MAX_SAME_ID) publishers of one group id. Those of a record that
/// authenticates in the end are given back.
const TRIALS: Rate = Rate { burst: 256, per_second: 64 };

/// Which group epoch.
type Name = GroupEpoch;

/// Everything about topic groups.
pub(super) struct Groups {
    own: BTreeMap<TopicFilter, OwnGroup>,
    /// Groups of ours that ended, in order: at most [`MAX_OWN_GROUPS`].
    ending: Vec<Ending>,
    subscriptions: Subscriptions,
    followed: BTreeMap<Name, Followed>,
    /// How many group epochs were accepted, over all starts.
    accepted: u64,
    /// How many records and seals were sent in this start.
    sent: u64,
    /// How many groups of our own there were in this start.
    begun: u64,
    wanted: Wanted,
    others: Bucket,
    trials: Bucket,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            own: BTreeMap::new(),
            ending: Vec::new(),
            subscriptions: Subscriptions::default(),
            followed: BTreeMap::new(),
            accepted: 0,
            sent: 0,
            begun: 0,
            wanted: Wanted::default(),
            others: Bucket::new(OTHERS),
            trials: Bucket::new(TRIALS),
        }
    }
}

/// A group that we publish in.
struct OwnGroup {
    /// Names it in this start, also when it ended and another one has its filter.
    number: u64,
    publisher: Publisher,
    members: BTreeMap<PeerId, Member>,
    /// When the first member's certificate, or grant, ends.
    ends: UnixTime,
    /// When the epoch began.
    since: Monotonic,
    /// Where the last record went, and seals go.
    last_topic: String,
    signing: bool,
    sign_again: Option<Monotonic>,
    /// When members that wait are looked at again, and after what delay then.
    again: Option<(Monotonic, Duration)>,
    /// When those that may have lost their key are handed it again.
    lost_due: Option<Monotonic>,
}

/// A peer that is to be a member.
struct Member {
    /// Under which identity it is one, and until when its certificate allows it.
    admitted: Option<(Fingerprint, UnixTime)>,
    /// It began a new session since it confirmed the key.
    lost: bool,
    /// Answers about leaves.
    answers: Bucket,
}

/// What there is about a group epoch besides its keys.
struct Followed {
    source: PeerId,
    /// Its place in the order of acceptance.
    order: u64,
    /// When leaves are asked for again, and how often they were.
    asking: Option<(Monotonic, u32)>,
    /// Since when it is followed in this start.
    since: Monotonic,
    stage: Stage,
    /// When records that no seal decided about are looked at.
    look_at: Option<Monotonic>,
    /// How often a seal was asked for in vain.
    seal_asked: u32,
}

/// How far a group epoch is, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its publisher uses it.
    Running,
    /// A newer epoch came, of this start of the publisher's or a later one.
    Superseded,
    /// The group ended: the row goes once everything is decided.
    Over,
}

impl Followed {
    fn new(source: PeerId, order: u64, asking: Option<(Monotonic, u32)>, now: Monotonic) -> Self {
        Self { source, order, asking, since: now, stage: Stage::Running, look_at: None, seal_asked: 0 }
    }
}

impl Groups {
    /// The earliest thing to do for any group.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let own = self.own.values().flat_map(|group| {
            let again = group.again.map(|(at, _)| at);
            let rotation = Some(group.since.plus(MAX_AGE));
            [group.publisher.deadline(), group.sign_again, again, group.lost_due, rotation]
        });
        let followed = self.followed.values().flat_map(|followed| {
            let over = followed.since.plus(waiting::FOLLOWED_FOR);
            [followed.asking.map(|(at, _)| at), followed.look_at, Some(over)]
        });
        let ending = self
            .ending
            .iter()
            .flat_map(|ending| [ending.group.sign_again, Some(ending.again.0), Some(ending.until)]);
        own.chain(followed).chain(ending).chain([self.wanted.deadline()]).flatten().min()
    }

    fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Our group of this number, also if it ended.
    fn numbered(&mut self, number: u64) -> Option<&mut OwnGroup> {
        let ending = self.ending.iter_mut().map(|ending| &mut ending.group);
        self.own.values_mut().chain(ending).find(|group| group.number == number)
    }

    /// Our group that has or had this id, also if it ended.
    fn publishing(&mut self, gid: GroupId) -> Option<&mut OwnGroup> {
        let ending = self.ending.iter_mut().map(|ending| &mut ending.group);
        self.own.values_mut().chain(ending).find(|group| group.publisher.knows(gid))
    }
}

impl OwnGroup {
    fn new(number: u64, publisher: Publisher, now: Monotonic) -> Self {
        Self {
            number,
            publisher,
            members: BTreeMap::new(),
            ends: UnixTime(u64::MAX),
            since: now,
            last_topic: String::new(),
            signing: false,
            sign_again: None,
            again: None,
            lost_due: None,
        }
    }

    /// Looks at waiting members soon.
    fn hurry(&mut self, now: Monotonic) {
        self.again = Some((now.plus(AGAIN_FIRST), AGAIN_FIRST));
    }

    fn waits(&self, member: &Member) -> bool {
        member.admitted.is_none_or(|(identity, _)| self.publisher.hand_out(&identity).is_some())
    }

    fn note_ends(&mut self) {
        let ends = self.members.values().filter_map(|member| member.admitted.map(|(_, until)| until));
        self.ends = ends.min().unwrap_or(UnixTime(u64::MAX));
    }
}
