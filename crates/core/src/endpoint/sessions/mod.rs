//! Sessions with peers: who has one, how one begins, and what ends it.
//!
//! ```text
//!             ┌ initiating: m1 is out ──── m2 ────┐
//!  no session ┤                                   ├─► current ─► draining ─► none
//!             └ half open: m2 is out ─ a record ──┘   (sends)   (reads only)
//! ```
//! The old session stays current at the responder until the new one's first record, so a replayed or abandoned m1 hurts
//! nothing. All of it is in rows before anything leaves.

mod anew;
mod arrive;
mod carry;
mod establish;
mod initiate;
mod policy;
mod records;
mod respond;
mod rest;
mod row;
mod seal;
mod sids;
mod status;
mod topics;
mod upkeep;

pub(super) use carry::RESEND_PAUSE;
pub use policy::SessionPolicy;
pub(super) use records::Judged;
pub(super) use respond::{Answering, OpeningM1};
pub(super) use row::peer_of;
pub(super) use seal::Carrier;
pub use status::{SessionStage, SessionStatus};

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::budget::{Bucket, Rate};
use crate::ids::{BootId, Fingerprint, HandshakeId, PeerId, SessionId};
use crate::session::handshake::ExpectM2;
use crate::session::{Parts, Session};
use crate::store::Change;
use crate::time::{Monotonic, UnixTime};

use anew::Anew;
use rest::Awake;
use sids::Sids;
use topics::TopicHashes;

/// How long messages wait for a handshake before they go in envelopes.
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(2);
/// How long an answered handshake waits for the initiator's first record.
pub const HALF_OPEN_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Pairs whose expired sessions are ended at once; then others get their turn.
const EXPIRED_AT_ONCE: usize = 64;

/// Everything about sessions.
pub(super) struct Sessions {
    pub(super) policy: SessionPolicy,
    /// Our start: its bytes are the salt of what we send.
    pub(super) boot: BootId,
    pairs: BTreeMap<PeerId, Box<Pair>>,
    sids: Sids,
    /// Rows of sessions that ended with our former keys, to be deleted at the start.
    pub(super) over: Vec<Change>,
    /// Peers whose sessions were lost with their rows.
    anew: Anew,
    /// Our m1s on their way.
    waiting: BTreeMap<HandshakeId, PeerId>,
    timers: BTreeSet<(Monotonic, PeerId)>,
    awake: Awake,
    /// When the first certificates of each pair's sessions end.
    expiries: BTreeSet<(UnixTime, PeerId)>,
    topics: TopicHashes,
    /// Work for m1s before they are authentic.
    budget: Bucket,
    /// The same for answers to ours: m1s can be sent by anybody, and must not starve them.
    answers: Bucket,
    /// Records far ahead that turn out to be forged.
    jumps: Bucket,
}

/// Records that take more than [`CHECKPOINT_EVERY`](crate::session::CHECKPOINT_EVERY) steps of a chain before they can be
/// judged, up to a thousand. A genuine one gives its token back, so only forgeries use them up.
const JUMPS: Rate = Rate { burst: 256, per_second: 64 };

/// What there is with one peer.
#[derive(Default)]
struct Pair {
    attempts: Attempts,
    initiating: Option<Initiating>,
    /// An m1 of the peer's is being judged by the provider.
    answering: bool,
    /// Boxed: most pairs have one session, and there may be a hundred thousand.
    half_open: Option<Box<HalfOpen>>,
    current: Option<Box<Live>>,
    draining: Option<Box<Live>>,
    /// When a handshake may be tried again.
    retry_at: Option<Monotonic>,
    /// The last STALE: for which handshake, its bytes, and when it went.
    stale: Option<(HandshakeId, Vec<u8>, Monotonic)>,
    /// When an m1 of the peer's was last answered.
    answered: Option<Monotonic>,
    /// When the peer last sent us ahead with a STALE.
    sent_ahead: Option<Monotonic>,
    /// When an answer was last repeated.
    repeated: Option<Monotonic>,
    /// When `timers` has it.
    timer: Option<Monotonic>,
    /// When a record was last sealed or opened, unless the sessions are at rest since.
    used: Option<Monotonic>,
    /// When `expiries` has it.
    expiry: Option<UnixTime>,
}

/// The newest attempts between two identities, durable.
#[derive(Clone, PartialEq, Eq)]
struct Attempts {
    own: Fingerprint,
    peer: Fingerprint,
    ours: u64,
    theirs: u64,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { own: Fingerprint([0; 32]), peer: Fingerprint([0; 32]), ours: 0, theirs: 0 }
    }
}

/// Which of two sessions, or handshakes, of a pair goes before the other: on both sides the same. The higher attempt, and
/// of two with one attempt, which began at once, the one whose initiator wins the tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Rank {
    attempt: u64,
    favoured: bool,
}

enum Initiating {
    /// The provider signs m1.
    Signing { since: Monotonic, sid: SessionId },
    /// m1 is out.
    Waiting {
        state: Box<ExpectM2>,
        since: Monotonic,
        /// When it goes again, and after what delay then.
        again: Monotonic,
        delay: Duration,
        /// Whether messages still wait for it.
        patient: bool,
    },
}

impl Initiating {
    fn since(&self) -> Monotonic {
        match self {
            Self::Signing { since, .. } | Self::Waiting { since, .. } => *since,
        }
    }
}

/// An answered handshake: nothing is sent in it yet.
struct HalfOpen {
    live: Live,
    m2: Vec<u8>,
    since: Monotonic,
    /// Whether messages still wait for it.
    patient: bool,
}

/// A session with what surrounds it.
struct Live {
    session: Session,
    own: Fingerprint,
    peer: Fingerprint,
    handshake: HandshakeId,
    established: UnixTime,
    /// The earlier end of both certificates.
    ends: UnixTime,
    rank: Rank,
    /// When the current epoch began here.
    epoch_since: Monotonic,
    /// When it is erased, once it only drains: in this start, and for later ones.
    erase_at: Option<(Monotonic, UnixTime)>,
    /// When the peer is to be told what we know of it.
    known_due: Option<Monotonic>,
    /// When the offer, or the answer, under way goes again, and after what delay.
    ratchet_again: Option<(Monotonic, Duration)>,
    /// Since when an epoch is asked for, or offered.
    turn_asked: Option<Monotonic>,
    /// What was sent since the peer last proved that it reads this session.
    unread: Option<Unread>,
    /// What arrived of an offer or an answer that comes in parts.
    parts: Option<Box<Parts>>,
    /// The next epoch begins soon: the peer asked for it, or we were restored after a crash.
    overdue: bool,
}

/// Messages whose receiver has not proved yet that it reads their session.
#[derive(Debug, Clone, Copy)]
struct Unread {
    /// When the first of them was sent.
    since: Monotonic,
    /// When the peer is asked for a proof: it may have none to give of its own.
    ask: Monotonic,
}

impl Unread {
    fn since(now: Monotonic, silence: Duration) -> Self {
        Self { since: now, ask: now.plus(silence / 2) }
    }
}

impl Sessions {
    pub(super) fn new(policy: SessionPolicy, boot: BootId, budget: Bucket) -> Self {
        Self {
            policy,
            boot,
            pairs: BTreeMap::new(),
            sids: Sids::default(),
            over: Vec::new(),
            anew: Anew::default(),
            waiting: BTreeMap::new(),
            timers: BTreeSet::new(),
            awake: Awake::default(),
            expiries: BTreeSet::new(),
            topics: TopicHashes::default(),
            budget,
            answers: budget,
            jumps: Bucket::new(JUMPS),
        }
    }

    /// How many peers have a session that sends.
    pub(super) fn established(&self) -> usize {
        self.pairs.values().filter(|pair| pair.current.is_some()).count()
    }

    fn pair_mut(&mut self, peer: &PeerId) -> &mut Pair {
        if !self.pairs.contains_key(peer) {
            self.pairs.insert(peer.clone(), Box::default());
        }
        // Inserted above; the map has no single look-up for a borrowed key.
        self.pairs.entry(peer.clone()).or_default()
    }

    fn current_mut(&mut self, peer: &PeerId) -> Option<&mut Live> {
        self.pairs.get_mut(peer)?.current.as_deref_mut()
    }

    /// A message was sent: its receiver is to prove, one way or another, that it reads the session.
    fn expects_reading(&mut self, peer: &PeerId, now: Monotonic) {
        let silence = self.policy.silence;
        if let Some(live) = self.current_mut(peer)
            && live.unread.is_none()
        {
            live.unread = Some(Unread::since(now, silence));
            self.schedule(peer);
        }
    }

    /// The peer answered what it can only have read in the session with this id.
    fn was_read(&mut self, peer: &PeerId, sid: SessionId) {
        if let Some(live) = self.current_mut(peer)
            && live.session.sid_in() == sid
            && live.unread.take().is_some()
        {
            self.schedule(peer);
        }
    }

    /// The earliest thing to do for any pair.
    pub(super) fn deadline(&self, now: Monotonic, at: UnixTime) -> Option<Monotonic> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let left = |ends: UnixTime| Duration::from_secs(ends.0.saturating_sub(at.0));
        let expiry = self.expiries.first().map(|(ends, _)| now.plus(left(*ends)));
        [timer, expiry, self.awake.deadline(), self.anew.deadline()].into_iter().flatten().min()
    }

    /// Takes pairs of which a session's certificates are over: some at a time, for a fleet's may all end at once.
    fn expired(&mut self, at: UnixTime) -> Vec<PeerId> {
        let mut expired = Vec::new();
        while expired.len() < EXPIRED_AT_ONCE
            && let Some((ends, _)) = self.expiries.first()
            && *ends <= at
            && let Some((_, peer)) = self.expiries.pop_first()
        {
            if let Some(pair) = self.pairs.get_mut(&peer) {
                pair.expiry = None;
            }
            expired.push(peer);
        }
        expired
    }

    /// Takes the pairs whose time has come.
    fn due(&mut self, now: Monotonic) -> Vec<PeerId> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, peer)) = self.timers.pop_first()
        {
            if let Some(pair) = self.pairs.get_mut(&peer) {
                pair.timer = None;
            }
            due.push(peer);
        }
        due
    }

    /// Notes when a pair has something to do.
    fn schedule(&mut self, peer: &PeerId) {
        let policy = self.policy;
        let Some(pair) = self.pairs.get_mut(peer) else { return };
        let ends = pair.ends();
        if ends != pair.expiry {
            if let Some(before) = pair.expiry {
                self.expiries.remove(&(before, peer.clone()));
            }
            self.expiries.extend(ends.map(|ends| (ends, peer.clone())));
            pair.expiry = ends;
        }
        let at = pair.deadline(&policy);
        if at == pair.timer {
            return;
        }
        if let Some(before) = pair.timer {
            self.timers.remove(&(before, peer.clone()));
        }
        if let Some(at) = at {
            self.timers.insert((at, peer.clone()));
        }
        pair.timer = at;
    }
}

impl Pair {
    fn deadline(&self, policy: &SessionPolicy) -> Option<Monotonic> {
        let waiting = self.initiating.as_ref().and_then(|initiating| match initiating {
            Initiating::Signing { .. } => None,
            Initiating::Waiting { again, patient: false, .. } => Some(*again),
            Initiating::Waiting { since, again, .. } => Some((*again).min(since.plus(HANDSHAKE_PATIENCE))),
        });
        let half_open = self.half_open.as_ref().map(|half_open| {
            half_open.since.plus(if half_open.patient { HANDSHAKE_PATIENCE } else { HALF_OPEN_FOR })
        });
        let draining = self.draining.as_ref().and_then(|live| {
            [live.erase_at.map(|(at, _)| at), live.session.expires()].into_iter().flatten().min()
        });
        let current = self.current.as_ref().and_then(|live| {
            let silent = live.unread.map(|unread| unread.ask.min(unread.since.plus(policy.silence)));
            let again = live.ratchet_again.map(|(at, _)| at);
            let asked = live.turn_asked.map(|since| since.plus(policy.turn_patience));
            [live.session.expires(), live.known_due, silent, again, asked].into_iter().flatten().min()
        });
        [waiting, half_open, draining, current].into_iter().flatten().min()
    }

    /// When the first of its sessions' certificates end.
    fn ends(&self) -> Option<UnixTime> {
        let half_open = self.half_open.as_ref().map(|half_open| &half_open.live);
        let lives = [self.current.as_deref(), self.draining.as_deref(), half_open];
        lives.into_iter().flatten().map(|live| live.ends).min()
    }

    fn live(&self, slot: Slot) -> Option<&Live> {
        match slot {
            Slot::Current => self.current.as_deref(),
            Slot::Draining => self.draining.as_deref(),
            Slot::HalfOpen => self.half_open.as_ref().map(|half_open| &half_open.live),
        }
    }

    fn live_by_sid(&mut self, sid: SessionId) -> Option<(Slot, &mut Live)> {
        let matches = |live: &Live| live.session.sid_in() == sid;
        if self.current.as_deref().is_some_and(matches) {
            return self.current.as_deref_mut().map(|live| (Slot::Current, live));
        }
        if self.draining.as_deref().is_some_and(matches) {
            return self.draining.as_deref_mut().map(|live| (Slot::Draining, live));
        }
        let half_open = self.half_open.as_mut().map(|half_open| &mut half_open.live);
        half_open.filter(|live| matches(live)).map(|live| (Slot::HalfOpen, live))
    }
}

/// Which of a pair's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Slot {
    Current = 0,
    Draining = 1,
    HalfOpen = 2,
}

impl Slot {
    const ALL: [Self; 3] = [Self::Current, Self::Draining, Self::HalfOpen];
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::budget::BudgetLimits;

    #[test]
    fn a_fleet_that_expires_at_once_is_ended_in_turns() {
        let budget = Bucket::new(BudgetLimits::default().messages);
        let mut sessions = Sessions::new(SessionPolicy::default(), BootId([0; 8]), budget);
        let ends = UnixTime(1_000);
        for number in 0..EXPIRED_AT_ONCE + 6 {
            let peer = PeerId::new(&alloc::format!("device-{number}")).unwrap();
            sessions.expiries.insert((ends, peer));
        }
        let (now, before) = (Monotonic::default(), UnixTime(990));
        assert!(sessions.expired(before).is_empty());
        assert_eq!(sessions.deadline(now, before), Some(now.plus(Duration::from_secs(10))));
        assert_eq!(sessions.expired(ends).len(), EXPIRED_AT_ONCE);
        assert_eq!(sessions.deadline(now, ends), Some(now), "the others at once");
        assert_eq!(sessions.expired(ends).len(), 6);
        assert_eq!(sessions.deadline(now, ends), None);
    }
}
