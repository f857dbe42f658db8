//! Topic groups in the endpoint: ours, which we publish in, and the group epochs of others that were handed to us.
//!
//! ```text
//!  publisher: membership ─► key in the member's session, until it confirms ─► records ─► seal, by the provider
//!  subscriber: key ─► record, told as some member's ─► seal, or leaves asked for in the session ─► told as the publisher's
//! ```
//! What [`group`](crate::group) leaves to its caller is here: grants, certificates, revocation, rows, timers and budgets. There
//! is no outbox: a record that the broker loses is lost, and one that arrives is told, not kept.

mod follow;
mod members;
mod publish;
mod receive;
mod row;

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use crate::budget::Bucket;
use crate::group::{MAX_AGE, MAX_PER_SOURCE, Publisher, Subscriptions};
use crate::ids::{Fingerprint, GroupId, PeerId};
use crate::time::{Monotonic, UnixTime};
use crate::topic::TopicFilter;

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

/// Which group epoch.
type Name = (Fingerprint, GroupId, u16);

/// Everything about topic groups.
#[derive(Default)]
pub(super) struct Groups {
    own: BTreeMap<TopicFilter, OwnGroup>,
    subscriptions: Subscriptions,
    followed: BTreeMap<Name, Followed>,
    /// How many group epochs were accepted, over all starts.
    accepted: u64,
    /// How many records and seals were sent in this start.
    sent: u64,
}

/// A group that we publish in.
struct OwnGroup {
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
}

impl Groups {
    /// The earliest thing to do for any group.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let own = self.own.values().flat_map(|group| {
            let again = group.again.map(|(at, _)| at);
            let rotation = Some(group.since.plus(MAX_AGE));
            [group.publisher.deadline(), group.sign_again, again, group.lost_due, rotation]
        });
        let asking = self.followed.values().map(|followed| followed.asking.map(|(at, _)| at));
        own.chain(asking).flatten().min()
    }
}

impl OwnGroup {
    fn new(publisher: Publisher, now: Monotonic) -> Self {
        Self {
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
