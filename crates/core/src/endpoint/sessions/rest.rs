//! Sessions that nothing uses rest: a hub may have a hundred thousand, few of them in use at a time.
//!
//! A pair in use is in a queue once, however many records it seals and opens. When its turn comes it goes to rest, or to
//! the end of the queue if it was used since. So no record costs more than noting the time, and no call more than
//! [`AT_ONCE`] sessions.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::{Pair, Sessions};
use crate::ids::PeerId;
use crate::session::Session;
use crate::time::Monotonic;

/// How long after its last record a session goes to rest; it may take as long again.
pub(super) const REST_AFTER: Duration = Duration::from_secs(30);
/// Pairs looked at in one call.
pub(super) const AT_ONCE: usize = 256;
/// When the next are looked at if more are due, so that records come in between.
const PAUSE: Duration = Duration::from_millis(20);
/// And if none is: each pair's own moment would be a wake-up each.
const TOGETHER: Duration = Duration::from_secs(1);

/// Pairs in use, in the order in which they are looked at.
#[derive(Default)]
pub(super) struct Awake {
    queue: VecDeque<(Monotonic, PeerId)>,
    look: Option<Monotonic>,
}

impl Awake {
    /// A session of the pair was used; `used` is the pair's note of that.
    pub(super) fn used(&mut self, peer: &PeerId, used: &mut Option<Monotonic>, now: Monotonic) {
        if used.replace(now).is_none() {
            let at = now.plus(REST_AFTER);
            self.queue.push_back((at, peer.clone()));
            self.look.get_or_insert(at);
        }
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.look
    }

    fn pop_due(&mut self, now: Monotonic) -> Option<PeerId> {
        let due = self.queue.front().is_some_and(|(at, _)| *at <= now);
        if due { self.queue.pop_front().map(|(_, peer)| peer) } else { None }
    }
}

impl Sessions {
    /// How many pairs have a session that does not rest.
    pub(in crate::endpoint) fn awake(&self) -> usize {
        self.pairs.values().filter(|pair| pair.sessions().any(|session| !session.rests())).count()
    }

    /// Lets the sessions go to rest whose time has come.
    pub(super) fn rest(&mut self, now: Monotonic) {
        if self.awake.look.is_none_or(|at| now < at) {
            return;
        }
        let mut rested = 0;
        while rested < AT_ONCE
            && let Some(peer) = self.awake.pop_due(now)
        {
            rested += 1;
            let Some(pair) = self.pairs.get_mut(&peer) else { continue };
            if pair.used.is_some_and(|used| now.since(used) < REST_AFTER) {
                self.awake.queue.push_back((now.plus(REST_AFTER), peer));
            } else {
                pair.rest();
                self.schedule(&peer);
            }
        }
        let next = self.awake.queue.front().map(|(at, _)| *at);
        self.awake.look = next.map(|at| at.max(now.plus(if at <= now { PAUSE } else { TOGETHER })));
        if next.is_none() {
            self.awake.queue = VecDeque::new();
        }
    }
}

impl Pair {
    fn sessions(&self) -> impl Iterator<Item = &Session> {
        let half_open = self.half_open.as_deref().map(|half_open| &half_open.live);
        let all = [self.current.as_deref(), self.draining.as_deref(), half_open];
        all.into_iter().flatten().map(|live| &live.session)
    }

    fn rest(&mut self) {
        self.used = None;
        let half_open = self.half_open.as_deref_mut().map(|half_open| &mut half_open.live);
        let all = [self.current.as_deref_mut(), self.draining.as_deref_mut(), half_open];
        all.into_iter().flatten().for_each(|live| live.session.shrink());
    }
}
