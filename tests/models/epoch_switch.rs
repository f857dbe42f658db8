//! The KEM ratchet's switch from one session epoch to the next: `core::session::{ratchet, rekey}`.
//!
//! The proposer switches when ACCEPT verifies and at once sends a record of the new epoch; the acceptor switches on that
//! record only, and repeats the same ACCEPT until it comes. Records of the new epoch name how many there were of the old
//! one (`last_e`). A side may erase the old epoch when it has all of those (the code does not yet), or when the drain is over,
//! which it counts from the first record of the new epoch that it *received*: until then the other side may not have
//! switched. Each switch, with the
//! erasure of what it makes useless, is one durable record. The sides take turns to propose.

use stateright::{Model, Property};

use crate::{breaks, holds};

const LAST_EPOCH: u8 = 2;
const EPOCHS: usize = 3;
/// Records that a side sends in an epoch.
const RECORDS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Design,
    /// The acceptor sends in the new epoch as soon as it has sent ACCEPT.
    AcceptorSwitchesOnAccept,
    /// An OFFER that comes again is answered with a new encapsulation.
    AcceptAnew,
    /// The switch is durable, and then the old root key is erased.
    SwitchThenErase,
    /// The offer's secret and the old root key are erased, and then the switch is durable.
    EraseThenSwitch,
    /// The offer's secret is in memory only when OFFER leaves.
    OfferBeforePersist,
    /// The drain is counted from a side's own switch.
    DrainFromOwnSwitch,
    /// An acceptor erases the old epoch when OFFER comes, which is early where the proposer erased its own by `last_e`.
    AcceptErasesOld,
    /// OFFER and ACCEPT do not wait until the epoch before the current one is erased.
    OfferWhileOldLives,
}

#[derive(Clone)]
struct Ratchet(Rule);

/// What a side has: all of it on its disk except `half`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Side {
    /// The epoch that it sends in.
    sends: u8,
    /// Epochs that it can read, as a bit mask, and which encapsulation made each one's keys.
    reads: u8,
    keys: [u8; EPOCHS],
    /// Epochs whose root key it holds, as a bit mask.
    roots: u8,
    /// Proposer: the secret of an OFFER made in this epoch. Acceptor: ACCEPT was sent in this epoch.
    secret: Option<u8>,
    accepted: Option<u8>,
    /// Records sent and received, for each epoch.
    sent: [u8; EPOCHS],
    received: [u8; EPOCHS],
    /// Epochs of which a record came, as a bit mask.
    heard: u8,
    /// Half of a switch is done, with this encapsulation: lost with the process.
    half: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    sides: [Side; 2],
    /// Sent in each epoch: OFFER, and ACCEPT with which encapsulations (a bit mask).
    offers: [bool; EPOCHS],
    accepts: [u8; EPOCHS],
    /// Records that the network has given up, for each receiver and epoch, as it does when the drain is over.
    expired: [[bool; EPOCHS]; 2],
    crashes: u8,
    /// An honest record came that its receiver could not read.
    unreadable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Offer(usize),
    /// These arrive at this side.
    ReceiveOffer(usize, u8),
    ReceiveAccept(usize, u8, u8),
    Record(usize, u8),
    /// This side sends a record in its epoch.
    Send(usize),
    /// The second half of a switch that is not atomic.
    Finish(usize),
    Erase(usize, u8),
    Drained(usize, u8),
    Crash(usize),
}

fn bit(epoch: u8) -> u8 {
    1 << epoch
}

fn proposer(epoch: u8) -> usize {
    usize::from(epoch % 2)
}

impl State {
    /// Whether `side` could open a record that `other` sends in this epoch.
    fn readable(&self, side: usize, epoch: u8) -> bool {
        let (reader, writer) = (&self.sides[side], &self.sides[1 - side]);
        let at = usize::from(epoch);
        reader.reads & bit(epoch) != 0 && reader.keys[at] == writer.keys[at]
    }

    fn in_flight(&self, side: usize, epoch: u8) -> bool {
        let at = usize::from(epoch);
        self.sides[1 - side].sent[at] > self.sides[side].received[at] && !self.expired[side][at]
    }

    /// Whether records of this epoch still come: to be read once, or again.
    fn comes(&self, side: usize, epoch: u8) -> bool {
        let at = usize::from(epoch);
        self.sides[1 - side].sent[at] > 0 && !self.expired[side][at]
    }
}

impl Ratchet {
    fn may_ratchet(&self, side: &Side) -> bool {
        let old = side.sends.checked_sub(1);
        self.0 == Rule::OfferWhileOldLives || old.is_none_or(|old| side.reads & bit(old) == 0)
    }

    fn offer(&self, state: &mut State, at: usize) {
        let side = &mut state.sides[at];
        side.secret = Some(side.sends);
        state.offers[usize::from(side.sends)] = true;
    }

    fn receive_offer(&self, state: &mut State, at: usize, epoch: u8) {
        if !state.readable(at, epoch) {
            return;
        }
        let ready = self.0 == Rule::AcceptErasesOld || self.may_ratchet(&state.sides[at]);
        let side = &mut state.sides[at];
        side.heard |= bit(epoch);
        let new = epoch + 1;
        if self.0 == Rule::AcceptErasesOld && side.sends == epoch {
            side.reads &= !(bit(epoch) - 1);
        }
        if side.sends != epoch && side.accepted != Some(epoch) || !ready {
            return;
        }
        if side.accepted == Some(epoch) {
            if self.0 == Rule::AcceptAnew && side.sends == epoch {
                side.keys[usize::from(new)] = 1;
            }
        } else {
            side.accepted = Some(epoch);
            side.reads |= bit(new);
            side.keys[usize::from(new)] = 0;
        }
        state.accepts[usize::from(epoch)] |= bit(side.keys[usize::from(new)]);
        if self.0 == Rule::AcceptorSwitchesOnAccept && side.sends == epoch {
            Self::switch(side, 0);
        }
    }

    fn receive_accept(&self, state: &mut State, at: usize, epoch: u8, answer: u8) {
        if !state.readable(at, epoch) {
            return;
        }
        let side = &mut state.sides[at];
        side.heard |= bit(epoch);
        if side.secret != Some(epoch) || side.half.is_some() {
            return;
        }
        match self.0 {
            Rule::EraseThenSwitch => {
                side.secret = None;
                side.roots &= !bit(epoch);
                side.half = Some(answer);
            }
            Rule::SwitchThenErase => {
                let roots = side.roots;
                Self::switch(side, answer);
                side.roots |= roots;
                side.half = Some(answer);
            }
            _ => Self::switch(side, answer),
        }
    }

    /// From the current epoch to the next: one durable record, and at once a record in the new epoch.
    fn switch(side: &mut Side, answer: u8) {
        let new = side.sends + 1;
        side.keys[usize::from(new)] = answer;
        side.reads |= bit(new);
        side.roots = bit(new);
        side.secret = None;
        side.accepted = None;
        side.sends = new;
        side.sent[usize::from(new)] = 1;
    }

    fn finish(&self, side: &mut Side) -> Option<()> {
        let answer = side.half.take()?;
        match self.0 {
            Rule::EraseThenSwitch => Self::switch(side, answer),
            _ => side.roots = bit(side.sends),
        }
        Some(())
    }

    fn receive_record(&self, state: &mut State, at: usize, epoch: u8) {
        let honest = state.in_flight(at, epoch);
        let writer = state.sides[1 - at].sent[usize::from(epoch)];
        if !state.readable(at, epoch) {
            state.unreadable |= honest;
            return;
        }
        let side = &mut state.sides[at];
        side.heard |= bit(epoch);
        side.received[usize::from(epoch)] = writer;
        if side.accepted == Some(epoch.wrapping_sub(1)) && side.sends + 1 == epoch {
            let answer = side.keys[usize::from(epoch)];
            Self::switch(side, answer);
        }
    }

    /// Whether this side knows that the other sends in this epoch no more.
    fn left(state: &State, at: usize, epoch: u8) -> bool {
        let side = &state.sides[at];
        side.sends > epoch && side.heard & bit(epoch + 1) != 0 && side.reads & bit(epoch) != 0
    }

    fn complete(state: &State, at: usize, epoch: u8) -> bool {
        Self::left(state, at, epoch) && !state.in_flight(at, epoch)
    }

    fn erase(state: &mut State, at: usize, epoch: u8) {
        state.sides[at].reads &= !bit(epoch);
    }

    /// The network heals: everything that waits is repeated and arrives.
    fn calm(&self, state: &State) -> State {
        let mut state = state.clone();
        for _ in 0..4 {
            for at in 0..2 {
                let epoch = state.sides[at].sends;
                if state.sides[at].half.is_some() {
                    let _ = self.finish(&mut state.sides[at]);
                }
                if state.sides[at].secret == Some(epoch) {
                    self.receive_offer(&mut state, 1 - at, epoch);
                }
                if state.sides[1 - at].accepted == Some(epoch) && state.accepts[usize::from(epoch)] != 0 {
                    let answer = state.sides[1 - at].keys[usize::from(epoch) + 1];
                    self.receive_accept(&mut state, at, epoch, answer);
                }
            }
            for at in 0..2 {
                let epoch = state.sides[1 - at].sends;
                let sent = &mut state.sides[1 - at].sent[usize::from(epoch)];
                *sent = (*sent).max(1);
                self.receive_record(&mut state, at, epoch);
            }
            for at in 0..2 {
                for epoch in 0..LAST_EPOCH {
                    if Self::left(&state, at, epoch) {
                        Self::erase(&mut state, at, epoch);
                    }
                }
            }
        }
        state
    }
}

impl Model for Ratchet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let side = Side {
            sends: 0,
            reads: bit(0),
            keys: [0; EPOCHS],
            roots: bit(0),
            secret: None,
            accepted: None,
            sent: [0; EPOCHS],
            received: [0; EPOCHS],
            heard: 0,
            half: None,
        };
        vec![State {
            sides: [side.clone(), side],
            offers: [false; EPOCHS],
            accepts: [0; EPOCHS],
            expired: [[false; EPOCHS]; 2],
            crashes: 2,
            unreadable: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..2 {
            let side = &state.sides[at];
            if side.sends < LAST_EPOCH
                && proposer(side.sends) == at
                && !state.offers[usize::from(side.sends)]
                && self.may_ratchet(side)
            {
                actions.push(Action::Offer(at));
            }
            if side.sent[usize::from(side.sends)] < RECORDS {
                actions.push(Action::Send(at));
            }
            if side.half.is_some() {
                actions.push(Action::Finish(at));
            }
            for epoch in 0..=LAST_EPOCH {
                let index = usize::from(epoch);
                if state.comes(at, epoch) {
                    actions.push(Action::Record(at, epoch));
                }
                if epoch == LAST_EPOCH {
                    continue;
                }
                // Both travel inside records of the epoch.
                if state.offers[index] && proposer(epoch) != at && !state.expired[at][index] {
                    actions.push(Action::ReceiveOffer(at, epoch));
                }
                if proposer(epoch) == at && !state.expired[at][index] {
                    let sent = (0..2).filter(|answer| state.accepts[index] & bit(*answer) != 0);
                    actions.extend(sent.map(|answer| Action::ReceiveAccept(at, epoch, answer)));
                }
                if Self::complete(state, at, epoch) {
                    actions.push(Action::Erase(at, epoch));
                }
                let own = self.0 == Rule::DrainFromOwnSwitch && side.sends > epoch;
                if side.reads & bit(epoch) != 0 && (own || Self::left(state, at, epoch)) {
                    actions.push(Action::Drained(at, epoch));
                }
            }
            if state.crashes > 0 {
                actions.push(Action::Crash(at));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Offer(at) => self.offer(&mut state, at),
            Action::ReceiveOffer(at, epoch) => self.receive_offer(&mut state, at, epoch),
            Action::ReceiveAccept(at, epoch, answer) => self.receive_accept(&mut state, at, epoch, answer),
            Action::Record(at, epoch) => self.receive_record(&mut state, at, epoch),
            Action::Send(at) => {
                let epoch = usize::from(state.sides[at].sends);
                state.sides[at].sent[epoch] += 1;
            }
            Action::Finish(at) => self.finish(&mut state.sides[at])?,
            Action::Erase(at, epoch) => Self::erase(&mut state, at, epoch),
            Action::Drained(at, epoch) => {
                // What was sent so far has left the network by then; what is sent later has not.
                state.expired[at][usize::from(epoch)] = state.sides[1 - at].sends > epoch;
                Self::erase(&mut state, at, epoch);
            }
            Action::Crash(at) => {
                state.sides[at].half = None;
                if self.0 == Rule::OfferBeforePersist {
                    state.sides[at].secret = None;
                }
                // Where everything is durable before it is told, a crash loses nothing and is no step.
                if state != *last {
                    state.crashes -= 1;
                }
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // Whoever sends, sends what the other can open, at every moment of every switch.
            Property::always("each side can read what the other sends now", |_, state: &State| {
                (0..2).all(|at| state.readable(at, state.sides[1 - at].sends))
            }),
            // An old epoch is kept for what is on its way, up to `last_e` or the drain.
            Property::always("no record within the drain comes too late", |_, state: &State| {
                !state.unreadable
            }),
            // Two sets of keys are a bound of memory, and of what a thief of it can read.
            Property::always("at most two epochs live", |_, state: &State| {
                state.sides.iter().all(|side| side.reads.count_ones() <= 2)
            }),
            // A thief of the disk after a switch has neither the root of the old epoch nor the secret that made the new one:
            // that is what the ratchet heals by. `half` may still hold it in memory.
            Property::always("a switch leaves no older root on the disk", |_, state: &State| {
                state.sides.iter().all(|side| {
                    let older = side.roots & (bit(side.sends) - 1) != 0;
                    let secret = side.secret.is_some_and(|epoch| epoch != side.sends);
                    side.half.is_some() || !older && !secret
                })
            }),
            // From every state: an OFFER that was made is completed, and the way to the next is free.
            Property::always("an epoch that began completes in the end", |model: &Self, state: &State| {
                let calm = model.calm(state);
                let [a, b] = &calm.sides;
                let offered = state.offers.iter().filter(|offered| **offered).count();
                let reached = |side: &Side| usize::from(side.sends) == offered && model.may_ratchet(side);
                reached(a) && reached(b)
            }),
            Property::sometimes("both epochs are switched to", |_, state: &State| {
                state.sides.iter().all(|side| side.reads == bit(LAST_EPOCH))
            }),
        ]
    }
}

const READABLE: &str = "each side can read what the other sends now";
const COMPLETES: &str = "an epoch that began completes in the end";

#[test]
fn a_switch_on_accept_and_on_the_first_record_always_leaves_a_common_epoch() {
    holds("epoch switch", Ratchet(Rule::Design));
}

#[test]
fn mutant_an_acceptor_that_switches_on_accept_sends_what_nobody_can_read() {
    breaks("acceptor-switches-on-accept", READABLE, Ratchet(Rule::AcceptorSwitchesOnAccept));
}

#[test]
fn mutant_accepting_anew_parts_the_two_sides() {
    breaks("accept-anew", READABLE, Ratchet(Rule::AcceptAnew));
    breaks("accept-anew", COMPLETES, Ratchet(Rule::AcceptAnew));
}

#[test]
fn mutant_a_switch_and_an_erasure_in_two_transactions_leave_old_keys_or_none() {
    breaks("switch-then-erase", "a switch leaves no older root on the disk", Ratchet(Rule::SwitchThenErase));
    breaks("erase-then-switch", COMPLETES, Ratchet(Rule::EraseThenSwitch));
}

#[test]
fn mutant_an_offer_whose_secret_is_not_durable_is_never_completed() {
    breaks("offer-before-persist", COMPLETES, Ratchet(Rule::OfferBeforePersist));
}

#[test]
fn mutant_a_drain_counted_from_the_own_switch_erases_what_the_peer_still_sends_in() {
    breaks("drain-from-own-switch", READABLE, Ratchet(Rule::DrainFromOwnSwitch));
}

#[test]
fn mutant_an_acceptor_that_erases_on_offer_drops_what_is_under_way_to_it() {
    let mutant = Ratchet(Rule::AcceptErasesOld);
    breaks("accept-erases-old", "no record within the drain comes too late", mutant);
}

#[test]
fn mutant_an_offer_while_the_old_epoch_lives_keeps_three() {
    breaks("offer-while-old-lives", "at most two epochs live", Ratchet(Rule::OfferWhileOldLives));
}
