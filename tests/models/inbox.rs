//! The order of steps at a receiver: `core::endpoint::inbox` between the broker and the application.
//!
//! A broker delivers again what was not acknowledged; a hostile one delivers anything again. The receiver crashes between
//! any two steps and keeps what a transaction stored.

use stateright::{Model, Property};

use crate::{breaks, holds};

const MESSAGES: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Row and replay state in one transaction, then the acknowledgement; consuming leaves a tombstone.
    Inbox,
    /// The broker is acknowledged before the row is durable.
    AckFirst,
    /// Consuming removes the row and leaves nothing.
    Tombless,
    /// The replay state is raised in a transaction of its own, before the row's.
    FloorRaisedEarly,
    /// As `Inbox`, with an application that commits its effect apart from the consumption.
    SeparateConsumer,
}

#[derive(Clone)]
struct Inbox(Rule);

/// Sets of messages are bit masks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// At the broker: not acknowledged.
    broker: u8,
    /// Durable rows, and what remains of consumed ones.
    rows: u8,
    tombstones: u8,
    /// Refused as replays without a row or tombstone.
    raised: u8,
    /// The message in work and the steps it has behind it: lost with the process.
    working: Option<(u8, u8)>,
    /// The application's durable effects.
    effects: [u8; MESSAGES as usize],
    /// An effect whose consumption is not stored yet (`SeparateConsumer`).
    unmarked: Option<u8>,
    crashes: u8,
    replays: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Deliver(u8),
    /// The broker delivers what was acknowledged long ago.
    Replay(u8),
    Step,
    Consume(u8),
    Mark,
    Crash,
}

fn bit(message: u8) -> u8 {
    1 << message
}

impl Inbox {
    /// The next step of the message in work.
    fn step(&self, state: &mut State, message: u8, done: u8) {
        let known = (state.rows | state.tombstones | state.raised) & bit(message) != 0;
        let acknowledge = |state: &mut State| {
            state.broker &= !bit(message);
            state.working = None;
        };
        match (self.0, done) {
            (Rule::AckFirst, 0) => {
                state.broker &= !bit(message);
                state.working = Some((message, 1));
            }
            (Rule::AckFirst, _) => {
                if !known {
                    state.rows |= bit(message);
                }
                state.working = None;
            }
            (_, 0) if known => acknowledge(state),
            (Rule::FloorRaisedEarly, 0) => {
                state.raised |= bit(message);
                state.working = Some((message, 1));
            }
            (Rule::FloorRaisedEarly, 1) => {
                state.rows |= bit(message);
                state.working = Some((message, 2));
            }
            (_, 0) => {
                state.rows |= bit(message);
                state.working = Some((message, 1));
            }
            _ => acknowledge(state),
        }
    }

    fn mark(&self, state: &mut State, message: u8) {
        state.rows &= !bit(message);
        if self.0 != Rule::Tombless {
            state.tombstones |= bit(message);
        }
    }

    /// Goes on without crashes and replays until nothing is left to do.
    fn calm(&self, state: &State) -> State {
        let mut state = State { crashes: 0, replays: 0, ..state.clone() };
        loop {
            let mut actions = Vec::new();
            self.actions(&state, &mut actions);
            let Some(next) = actions.into_iter().next().and_then(|action| self.next_state(&state, action))
            else {
                return state;
            };
            state = next;
        }
    }
}

impl Model for Inbox {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            broker: bit(MESSAGES) - 1,
            rows: 0,
            tombstones: 0,
            raised: 0,
            working: None,
            effects: [0; MESSAGES as usize],
            unmarked: None,
            crashes: 2,
            replays: 1,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let messages = || 0..MESSAGES;
        if state.unmarked.is_some() {
            actions.push(Action::Mark);
        } else {
            actions.extend(messages().filter(|m| state.rows & bit(*m) != 0).map(Action::Consume));
        }
        if state.working.is_some() {
            actions.push(Action::Step);
        } else {
            actions.extend(messages().filter(|m| state.broker & bit(*m) != 0).map(Action::Deliver));
            if state.replays > 0 {
                actions.extend(messages().filter(|m| state.broker & bit(*m) == 0).map(Action::Replay));
            }
        }
        if state.crashes > 0 {
            actions.push(Action::Crash);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Deliver(message) => state.working = Some((message, 0)),
            Action::Replay(message) => {
                state.replays -= 1;
                state.working = Some((message, 0));
            }
            Action::Step => {
                let (message, done) = state.working?;
                self.step(&mut state, message, done);
            }
            Action::Consume(message) => {
                state.effects[usize::from(message)] += 1;
                if self.0 == Rule::SeparateConsumer {
                    state.unmarked = Some(message);
                } else {
                    self.mark(&mut state, message);
                }
            }
            Action::Mark => {
                let message = state.unmarked.take()?;
                self.mark(&mut state, message);
            }
            Action::Crash => {
                state.crashes -= 1;
                state.working = None;
                state.unmarked = None;
            }
        }
        // Beyond two effects nothing new is learnt.
        state.effects.iter().all(|effects| *effects <= 2).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // The application acts on a message once, whatever the broker repeats and whenever the process dies:
            // inbox rows and tombstones are the replay state (`core::endpoint::inbox`, `core::replay`).
            Property::always("consumed at most once", |_, state: &State| {
                state.effects.iter().all(|effects| *effects <= 1)
            }),
            // Once the broker need not deliver a message again, a row holds it or the application has it
            // (`Output::Acknowledge` waits for `Input::Persisted`, `core::endpoint::barrier`).
            Property::always("nothing acknowledged is lost", |_, state: &State| {
                (0..MESSAGES).all(|message| {
                    let held = (state.broker | state.rows) & bit(message) != 0;
                    held || state.effects[usize::from(message)] > 0
                })
            }),
            // From wherever crashes have led: without further ones, every message reaches the application.
            Property::always("consumed in the end", |model: &Self, state: &State| {
                model.calm(state).effects.iter().all(|effects| *effects >= 1)
            }),
        ]
    }
}

#[test]
fn row_then_acknowledgement_then_tombstone_is_exactly_once() {
    holds("inbox", Inbox(Rule::Inbox));
}

#[test]
fn mutant_acknowledging_first_loses_messages() {
    breaks("ack-first", "nothing acknowledged is lost", Inbox(Rule::AckFirst));
    breaks("ack-first", "consumed in the end", Inbox(Rule::AckFirst));
}

#[test]
fn mutant_consuming_without_a_tombstone_repeats_messages() {
    breaks("tombless", "consumed at most once", Inbox(Rule::Tombless));
}

#[test]
fn mutant_raising_the_floor_before_the_row_loses_messages() {
    breaks("floor-raised-early", "nothing acknowledged is lost", Inbox(Rule::FloorRaisedEarly));
    breaks("floor-raised-early", "consumed in the end", Inbox(Rule::FloorRaisedEarly));
}

#[test]
fn a_consumer_with_a_transaction_of_its_own_gets_at_least_once() {
    breaks("separate-consumer", "consumed at most once", Inbox(Rule::SeparateConsumer));
}
