//! Counters reserved in blocks: `core::endpoint::counters`.
//!
//! The end of a block (the ceiling) is durable before the block's first counter is used; a restart begins at the ceiling.

use stateright::{Model, Property};

use crate::{breaks, holds};

const BLOCK: u8 = 4;
const LAST: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    AtCeiling,
    /// A restart begins at the start of the last block.
    BelowCeiling,
    /// A block is used while its ceiling is still being written.
    BeforePersisted,
}

#[derive(Clone)]
struct Reservation(Rule);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The next counter, and the end of what may be used: lost with the process.
    next: u8,
    usable: u8,
    /// A ceiling that is being written.
    writing: Option<u8>,
    /// The durable ceiling.
    ceiling: u8,
    /// Counters used, as a bit mask.
    used: u32,
    reused: bool,
    /// The receiver's highest counter, and whether an honest message was refused.
    highest: Option<u8>,
    refused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Reserve,
    Persisted,
    Send,
    Crash,
}

impl Model for Reservation {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            next: 0,
            usable: 0,
            writing: None,
            ceiling: 0,
            used: 0,
            reused: false,
            highest: None,
            refused: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.next == state.usable && state.writing.is_none() && state.usable < LAST {
            actions.push(Action::Reserve);
        }
        if state.writing.is_some() {
            actions.push(Action::Persisted);
        }
        if state.next < state.usable {
            actions.push(Action::Send);
        }
        actions.push(Action::Crash);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Reserve => {
                let ceiling = state.usable + BLOCK;
                state.writing = Some(ceiling);
                if self.0 == Rule::BeforePersisted {
                    state.usable = ceiling;
                }
            }
            Action::Persisted => {
                state.ceiling = state.writing.take()?;
                state.usable = state.ceiling;
            }
            Action::Send => {
                let counter = state.next;
                state.reused |= state.used & 1 << counter != 0;
                state.used |= 1 << counter;
                state.refused |= state.highest.is_some_and(|highest| counter <= highest);
                state.highest = state.highest.max(Some(counter));
                state.next += 1;
            }
            Action::Crash => {
                state.writing = None;
                state.next = match self.0 {
                    Rule::BelowCeiling => state.ceiling.saturating_sub(BLOCK),
                    _ => state.ceiling,
                };
                state.usable = state.ceiling;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // A counter, and with it a key and nonce, serves once (`SendCeiling` is durable before `Output::Transmit`).
            Property::always("no counter is used twice", |_, state: &State| !state.reused),
            // After a crash a receiver still takes what the sender sends: it begins above everything used.
            Property::always("honest messages are not refused", |_, state: &State| !state.refused),
            // A crash costs what is left of one block and no more.
            Property::always("at most one block is skipped", |_, state: &State| {
                state.usable - state.next <= BLOCK
            }),
        ]
    }
}

#[test]
fn a_restart_at_the_ceiling_reuses_nothing() {
    holds("reservation", Reservation(Rule::AtCeiling));
}

#[test]
fn mutant_a_restart_below_the_ceiling_reuses_counters() {
    breaks("restart-below-ceiling", "no counter is used twice", Reservation(Rule::BelowCeiling));
    breaks("restart-below-ceiling", "honest messages are not refused", Reservation(Rule::BelowCeiling));
}

#[test]
fn mutant_a_block_used_before_it_is_durable_reuses_counters() {
    breaks("used-before-persisted", "no counter is used twice", Reservation(Rule::BeforePersisted));
}
