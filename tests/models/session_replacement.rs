//! How one session of a pair follows another: what the caller of `core::session::handshake` judges, keeps and makes current.
//!
//! Two sides, of which `A` wins ties (the lower tier, then the smaller fingerprint). Whatever was sent can arrive at any later
//! time, again, or never; what a side answers and switches to is durable before it is told to anybody, so that a
//! crash costs a packet and nothing else, which the network does anyway.
//!
//! Sessions have an order that both sides know: the attempt, and among equal ones the winner's. For that, an attempt is above
//! everything that its initiator has sent *or answered*.

use stateright::{Model, Property};

use crate::{breaks, holds};

/// Handshakes that begin, of both sides together: attempts have at most this number.
const ATTEMPTS: u8 = 4;
/// Attempts that begin once the network has healed get further.
const HIGHEST: u8 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Design,
    /// The responder's new session is current as soon as it answers m1.
    ResponderSwitchesOnM1,
    /// An m1 that comes again is answered with a new encapsulation.
    M2Recomputed,
    /// A half-open session is kept in memory only, and a crash answers the same m1 anew.
    HalfOpenInMemory,
    /// The attempt and the bytes of m1 are kept in memory only: after a crash, the same attempt has other keys.
    AttemptInMemory,
    /// Equal attempts are equal: the session that completed last is current.
    NoTieBreak,
    /// The numerically smaller ephemeral key wins, which each side chooses.
    TieBreakByEphemerals,
    /// Attempts count one direction only, and a tie is what a side noticed to be one.
    TiesNoticedLocally,
    /// CLOSE erases the session that it names even where that is still current.
    CloseErasesCurrent,
}

#[derive(Clone)]
struct Pair(Rule);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    A,
    B,
}

impl Side {
    const BOTH: [Self; 2] = [Self::A, Self::B];

    fn other(self) -> Self {
        if self == Self::A { Self::B } else { Self::A }
    }
}

/// Names the keys: whose m1, which attempt, and which answer to it (always the first, if m1 and m2 are repeated as they were).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Session {
    initiator: Side,
    attempt: u8,
    answer: u8,
}

impl Session {
    fn new(initiator: Side, attempt: u8, answer: u8) -> Self {
        Self { initiator, attempt, answer }
    }

    /// Its place in a bit mask.
    fn bit(self) -> u32 {
        1 << ((self.initiator as u8) * 16 + self.attempt * 2 + self.answer)
    }

    fn all() -> impl Iterator<Item = Self> {
        Side::BOTH.into_iter().flat_map(|initiator| {
            (1..=ATTEMPTS).flat_map(move |n| (0..=1).map(move |answer| Self::new(initiator, n, answer)))
        })
    }
}

/// What a side has on its disk: by its shape, at most two sessions and one half-open for the pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Disk {
    /// The last attempt sent, and the highest answered.
    sent: u8,
    highest: u8,
    /// The m1 that waits for its m2.
    pending: Option<u8>,
    /// `AttemptInMemory`: how often that attempt had been made before.
    made: u8,
    half_open: Option<Session>,
    current: Option<Session>,
    draining: Option<Session>,
    /// `TiesNoticedLocally`: the own and the other side's handshake that last met here.
    tie: Option<(Session, Session)>,
}

impl Disk {
    fn holds(&self, session: Session) -> bool {
        [self.half_open, self.current, self.draining].contains(&Some(session))
    }

    fn switch(&mut self, session: Session) {
        if let Some(old) = self.current.replace(session) {
            self.draining = Some(old);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    sides: [Disk; 2],
    /// What was ever sent, as bit masks of sessions: m1 (answer 0), m2, and by each side records and CLOSE.
    m1: u32,
    m2: u32,
    records: [u32; 2],
    closes: [u32; 2],
    initiations: u8,
    gave_up: [bool; 2],
    crashed: bool,
    /// A session that was current on one side or on both ended by something else than the completion of another.
    hurt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Initiate(Side),
    /// Its m1 was not answered: 30 s after it ignored the other side's, or longer.
    GiveUp(Side),
    /// These arrive at the side that did not send them.
    M1(Session),
    M2(Session),
    Record(Side, Session),
    Close(Side, Session),
    /// The drain's time is over.
    Drained(Side),
    Crash(Side),
}

impl State {
    fn at(&mut self, side: Side) -> &mut Disk {
        &mut self.sides[side as usize]
    }

    fn of(&self, side: Side) -> &Disk {
        &self.sides[side as usize]
    }

    fn common(&self) -> Option<Session> {
        let [a, b] = &self.sides;
        if a.current == b.current { a.current } else { None }
    }
}

impl Pair {
    /// Whether the session (or the m1 that asks for it) is newer than the other.
    fn newer(&self, new: Session, old: Option<Session>) -> bool {
        let Some(old) = old else { return true };
        let wins = match self.0 {
            // B has learnt to draw small keys.
            Rule::TieBreakByEphemerals => Side::B,
            _ => Side::A,
        };
        match self.0 {
            Rule::NoTieBreak | Rule::TiesNoticedLocally => new != old && new.attempt >= old.attempt,
            _ => (new.attempt, new.initiator == wins) > (old.attempt, old.initiator == wins),
        }
    }

    /// Ends a handshake at `side`: the session is current, or it only drains because a newer one is.
    fn complete(&self, state: &mut State, side: Side, session: Session) {
        let disk = state.at(side);
        let tied = |a, b| disk.tie == Some((a, b)) || disk.tie == Some((b, a));
        let current = match (self.0, disk.current) {
            (Rule::TiesNoticedLocally, Some(old)) if tied(old, session) => session.initiator == Side::A,
            (Rule::TiesNoticedLocally, _) => true,
            (_, old) => self.newer(session, old),
        };
        if current {
            disk.switch(session);
        } else {
            disk.draining = Some(session);
        }
        let (current, draining) = (disk.current, disk.draining);
        let waits = disk.pending.map(|n| Session::new(side, n, 0));
        let overtaken = match self.0 {
            Rule::TiesNoticedLocally => {
                session.initiator == Side::A && waits.is_some_and(|waits| disk.tie == Some((waits, session)))
            }
            _ => waits.is_some_and(|waits| !self.newer(waits, current)),
        };
        if waits.is_some() && overtaken {
            disk.pending = None;
        }
        state.records[side as usize] |= current.map_or(0, Session::bit);
        state.closes[side as usize] |= draining.map_or(0, Session::bit);
    }

    fn initiate(&self, state: &mut State, side: Side) -> Option<()> {
        let disk = state.at(side);
        let below = if self.0 == Rule::TiesNoticedLocally { disk.sent } else { disk.sent.max(disk.highest) };
        let attempt = below + 1;
        if attempt > HIGHEST {
            return None;
        }
        disk.sent = attempt;
        disk.pending = Some(attempt);
        if self.0 == Rule::TiesNoticedLocally {
            disk.tie = disk.half_open.map(|theirs| (Session::new(side, attempt, 0), theirs));
        }
        let first = Session::new(side, attempt, 0).bit();
        let made = u8::from(state.m1 & first != 0);
        state.at(side).made = made;
        state.m1 |= first << made;
        Some(())
    }

    fn receive_m1(&self, state: &mut State, m1: Session) {
        let Session { initiator, attempt, .. } = m1;
        let side = initiator.other();
        let disk = state.at(side);
        let same = |s: &Session| self.0 != Rule::AttemptInMemory || s.answer == m1.answer;
        let again = disk.half_open.filter(|s| s.initiator == initiator && s.attempt == attempt && same(s));
        let answer = match (again, self.0) {
            (Some(session), Rule::M2Recomputed) => Session { answer: 1, ..session },
            (Some(session), _) => session,
            (None, Rule::HalfOpenInMemory) if disk.highest == attempt && disk.half_open.is_none() => {
                Session { answer: 1, ..m1 }
            }
            (None, _) => {
                let waits = disk.pending.map(|n| Session::new(side, n, 0));
                let ignored = match self.0 {
                    Rule::TiesNoticedLocally => waits.is_some() && side == Side::A,
                    _ => !self.newer(m1, waits) || !self.newer(m1, disk.current),
                };
                if attempt <= disk.highest || ignored {
                    return;
                }
                m1
            }
        };
        disk.highest = attempt;
        disk.half_open = Some(answer);
        if let (Rule::TiesNoticedLocally, Some(own)) = (self.0, disk.pending) {
            disk.tie = Some((Session::new(side, own, 0), answer));
        }
        state.m2 |= answer.bit();
        if self.0 == Rule::ResponderSwitchesOnM1 {
            state.at(side).half_open = None;
            self.complete(state, side, answer);
        }
    }

    fn receive_m2(&self, state: &mut State, session: Session) {
        let side = session.initiator;
        let disk = state.at(side);
        let same = self.0 != Rule::AttemptInMemory || session.answer == disk.made;
        if disk.pending == Some(session.attempt) && same {
            disk.pending = None;
            self.complete(state, side, session);
        }
    }

    fn receive_record(&self, state: &mut State, from: Side, session: Session) {
        let side = from.other();
        let disk = state.at(side);
        if disk.half_open == Some(session) {
            disk.half_open = None;
            self.complete(state, side, session);
        }
    }

    fn receive_close(&self, state: &mut State, from: Side, session: Session) {
        let disk = state.at(from.other());
        if disk.draining == Some(session) {
            disk.draining = None;
        } else if self.0 == Rule::CloseErasesCurrent && disk.current == Some(session) {
            disk.current = None;
        }
    }

    fn apply(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Initiate(side) => {
                state.initiations += 1;
                self.initiate(state, side)?;
            }
            Action::GiveUp(side) => {
                state.gave_up[side as usize] = true;
                state.at(side).pending = None;
            }
            Action::M1(m1) => self.receive_m1(state, m1),
            Action::M2(session) => self.receive_m2(state, session),
            Action::Record(from, session) => self.receive_record(state, from, session),
            Action::Close(from, session) => self.receive_close(state, from, session),
            Action::Drained(side) => state.at(side).draining = None,
            // Everything is durable before it is told: a crash that loses nothing is no step.
            Action::Crash(side) => {
                let disk = state.at(side);
                match self.0 {
                    Rule::HalfOpenInMemory => disk.half_open = None,
                    Rule::AttemptInMemory => (disk.sent, disk.pending) = (0, None),
                    _ => return None,
                }
                state.crashed = true;
            }
        }
        Some(())
    }

    /// The network heals: both sides repeat what waits and send on what is current, `first` before the other; nobody
    /// begins a handshake unless what it sends cannot be read.
    fn calm(&self, state: &State, first: Side) -> State {
        let mut state = state.clone();
        for _ in 0..4 {
            for side in [first, first.other()] {
                if let Some(attempt) = state.of(side).pending {
                    let made = state.of(side).made;
                    self.receive_m1(&mut state, Session::new(side, attempt, made));
                    let answer = state.of(side.other()).half_open;
                    if let Some(m2) = answer.filter(|s| s.initiator == side && s.attempt == attempt) {
                        self.receive_m2(&mut state, m2);
                    }
                }
            }
            for side in [first, first.other()] {
                let current = state.of(side).current;
                if let Some(session) = current {
                    self.receive_record(&mut state, side, session);
                }
                let read = current.is_some_and(|session| state.of(side.other()).holds(session));
                if !read && state.of(side).pending.is_none() {
                    let _ = self.initiate(&mut state, side);
                }
            }
        }
        state
    }
}

impl Model for Pair {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            sides: [Disk::default(), Disk::default()],
            m1: 0,
            m2: 0,
            records: [0; 2],
            closes: [0; 2],
            initiations: 0,
            gave_up: [false; 2],
            crashed: false,
            hurt: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for side in Side::BOTH {
            if state.initiations < ATTEMPTS && state.of(side).pending.is_none() {
                actions.push(Action::Initiate(side));
            }
            if !state.gave_up[side as usize] && state.of(side).pending.is_some() {
                actions.push(Action::GiveUp(side));
            }
            if state.of(side).draining.is_some() {
                actions.push(Action::Drained(side));
            }
            if !state.crashed {
                actions.push(Action::Crash(side));
            }
        }
        for session in Session::all() {
            if state.m1 & session.bit() != 0 {
                actions.push(Action::M1(session));
            }
            if state.m2 & session.bit() != 0 {
                actions.push(Action::M2(session));
            }
            for side in Side::BOTH {
                if state.records[side as usize] & session.bit() != 0 {
                    actions.push(Action::Record(side, session));
                }
                if state.closes[side as usize] & session.bit() != 0 {
                    actions.push(Action::Close(side, session));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.apply(&mut state, action)?;
        let completes = matches!(action, Action::M2(_) | Action::Record(..));
        let parted = last.common().is_some() && state.common().is_none() && !completes;
        let bereft = |side: Side| last.of(side).current.is_some() && state.of(side).current.is_none();
        state.hurt |= parted || Side::BOTH.into_iter().any(bereft);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // A replayed or abandoned m1, a CLOSE, a crash, time: none of them takes a session from sides that share one.
            Property::always("only a completed handshake ends a live session", |_, state: &State| {
                !state.hurt
            }),
            // The responder has the keys of what an initiator switched to, unless something newer replaced them: m2 is the same
            // bytes each time, and durable before the first of them leaves.
            Property::always(
                "an initiator switches to what its peer holds",
                |model: &Self, state: &State| {
                    Side::BOTH.into_iter().all(|side| {
                        let peer = state.of(side.other());
                        state.of(side).current.filter(|s| s.initiator == side).is_none_or(|session| {
                            peer.holds(session)
                                || peer.highest > session.attempt
                                || peer.current.is_some_and(|newer| model.newer(newer, Some(session)))
                        })
                    })
                },
            ),
            // Nobody can choose keys until it wins: B's attempt is not current where A's own of the same number waited for m2.
            Property::always("a tie is A's unless A gives up", |_, state: &State| {
                let [a, _] = &state.sides;
                let bs = a.current.is_some_and(|s| s.initiator == Side::B && s.attempt == a.sent);
                !bs || state.gave_up[Side::A as usize]
            }),
            // From every state, whichever side speaks first: both end with the same session current and nothing waiting.
            Property::always("one common session in the end", |model: &Self, state: &State| {
                Side::BOTH.into_iter().all(|first| {
                    let calm = model.calm(state, first);
                    let idle = state.initiations == 0 || calm.sides.iter().all(|disk| disk.pending.is_none());
                    idle && (calm.common().is_some() || state.initiations == 0)
                })
            }),
            // Not vacuous: both attempts of a tie do complete, and sessions do follow one another.
            Property::sometimes("a tie", |_, state: &State| {
                let [a, b] = &state.sides;
                a.pending.is_some() && a.pending == b.pending
            }),
            Property::sometimes("a third session is shared", |_, state: &State| {
                state.common().is_some_and(|session| session.attempt == ATTEMPTS)
            }),
        ]
    }
}

#[test]
fn sessions_replace_each_other_without_hurting_a_live_one_and_converge() {
    holds("session replacement", Pair(Rule::Design));
}

const ENDS_LIVE: &str = "only a completed handshake ends a live session";
const HELD: &str = "an initiator switches to what its peer holds";
const CONVERGES: &str = "one common session in the end";

#[test]
fn mutant_a_responder_that_switches_on_m1_loses_live_sessions_to_replays() {
    breaks("responder-switches-on-m1", ENDS_LIVE, Pair(Rule::ResponderSwitchesOnM1));
}

#[test]
fn mutant_answering_the_same_m1_anew_leaves_the_initiator_alone() {
    breaks("m2-recomputed", HELD, Pair(Rule::M2Recomputed));
    breaks("half-open-in-memory", HELD, Pair(Rule::HalfOpenInMemory));
}

#[test]
fn mutant_an_attempt_that_a_crash_forgets_is_made_again_with_other_keys_and_refused() {
    breaks("attempt-in-memory", CONVERGES, Pair(Rule::AttemptInMemory));
}

#[test]
fn mutant_no_tie_break_leaves_each_side_with_another_session() {
    breaks("no-tie-break", CONVERGES, Pair(Rule::NoTieBreak));
}

#[test]
fn mutant_a_tie_break_by_ephemerals_is_won_by_who_chooses_them() {
    breaks("tie-break-by-ephemerals", "a tie is A's unless A gives up", Pair(Rule::TieBreakByEphemerals));
}

#[test]
fn mutant_attempts_that_count_one_direction_leave_ties_that_one_side_never_noticed() {
    breaks("ties-noticed-locally", CONVERGES, Pair(Rule::TiesNoticedLocally));
}

#[test]
fn mutant_a_close_that_erases_the_current_session_hurts_it() {
    breaks("close-erases-current", ENDS_LIVE, Pair(Rule::CloseErasesCurrent));
}
