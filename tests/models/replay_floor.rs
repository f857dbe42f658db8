//! The receiver's floor for records that are taken at most once, commands and volatile streams: `core::session::receive` and
//! what its caller makes durable.
//!
//! The floor is durable before a record is delivered: one above the counter for commands (whose blocks are one counter
//! long), the end of the block, written at its first record, for volatile streams. While the process lives, what it has seen
//! tells duplicates from late ones; after a crash only what lies above the floor is taken. The network repeats and
//! reorders as it likes.

use stateright::{Model, Property};

use crate::{breaks, holds};

const RECORDS: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Design,
    /// The record is delivered, and then the floor is raised.
    RaisedAfterDelivery,
    /// The first record of a block raises the floor above itself only, and the others of the block not at all.
    RaisedToTheCounter,
    /// The broker is told that it may forget the record, and then the floor is raised and the record delivered.
    AcknowledgeBeforePersist,
}

#[derive(Clone)]
struct Floor {
    rule: Rule,
    /// Counters in a block: 1 for commands.
    block: u8,
}

/// Sets of records are bit masks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// At the broker: not acknowledged.
    broker: u8,
    /// Durable: records below are refused by a process that starts.
    floor: u8,
    /// What the process read at its start, and what it has delivered since.
    start: u8,
    seen: u8,
    /// The record in work and the steps it has behind it.
    working: Option<(u8, u8)>,
    delivered: [u8; RECORDS as usize],
    crashes: u8,
    replays: u8,
    /// Records for which the process had decided on delivery when it died.
    torn: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Receive(u8),
    /// The network repeats what was acknowledged.
    Replay(u8),
    Step,
    Crash,
}

fn bit(record: u8) -> u8 {
    1 << record
}

/// The steps that a record goes through once it is accepted.
#[derive(Clone, Copy)]
enum Step {
    Raise,
    Deliver,
    Acknowledge,
}

impl Floor {
    fn steps(&self) -> [Step; 3] {
        match self.rule {
            Rule::RaisedAfterDelivery => [Step::Deliver, Step::Raise, Step::Acknowledge],
            Rule::AcknowledgeBeforePersist => [Step::Acknowledge, Step::Raise, Step::Deliver],
            _ => [Step::Raise, Step::Deliver, Step::Acknowledge],
        }
    }

    fn raised(&self, record: u8) -> u8 {
        match self.rule {
            Rule::RaisedToTheCounter if record.is_multiple_of(self.block) => record + 1,
            Rule::RaisedToTheCounter => 0,
            _ => (record / self.block + 1) * self.block,
        }
    }
}

impl Model for Floor {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            broker: bit(RECORDS) - 1,
            floor: 0,
            start: 0,
            seen: 0,
            working: None,
            delivered: [0; RECORDS as usize],
            crashes: 2,
            replays: 2,
            torn: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.working.is_some() {
            actions.push(Action::Step);
        } else {
            actions.extend((0..RECORDS).filter(|r| state.broker & bit(*r) != 0).map(Action::Receive));
            if state.replays > 0 {
                actions.extend((0..RECORDS).filter(|r| state.broker & bit(*r) == 0).map(Action::Replay));
            }
        }
        if state.crashes > 0 {
            actions.push(Action::Crash);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Receive(record) => state.working = Some((record, 0)),
            Action::Replay(record) => {
                state.replays -= 1;
                state.working = Some((record, 0));
            }
            Action::Step => {
                let (record, done) = state.working?;
                if done == 0 && (record < state.start || state.seen & bit(record) != 0) {
                    state.broker &= !bit(record);
                    state.working = None;
                    return Some(state);
                }
                match self.steps()[usize::from(done)] {
                    Step::Raise => state.floor = state.floor.max(self.raised(record)),
                    Step::Deliver => {
                        state.seen |= bit(record);
                        state.delivered[usize::from(record)] += 1;
                    }
                    Step::Acknowledge => state.broker &= !bit(record),
                }
                state.working = (done < 2).then_some((record, done + 1));
            }
            Action::Crash => {
                state.crashes -= 1;
                if let Some((record, _)) = state.working.take() {
                    state.torn |= bit(record);
                }
                state.start = state.floor;
                state.seen = 0;
            }
        }
        // Beyond two deliveries nothing new is learnt.
        state.delivered.iter().all(|times| *times <= 2).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // A command acts once or not at all, and a sample of a volatile stream is shown once.
            Property::always("delivered at most once", |_, state: &State| {
                state.delivered.iter().all(|times| *times <= 1)
            }),
            // What the broker need not deliver again was delivered, or a crash explains why it was not: it came between the
            // floor and the delivery, or left the record below the floor. The sender of a command that is not
            // answered says so; a volatile stream reports the gap.
            Property::always("dropped only below the floor of a crash", |_, state: &State| {
                (0..RECORDS).all(|record| {
                    let gone =
                        state.broker & bit(record) == 0 && state.working.is_none_or(|(r, _)| r != record);
                    !gone || state.delivered[usize::from(record)] > 0 || record < state.start
                })
            }),
            // A crash costs what lies below the end of the newest block, never a record of a later one.
            Property::always("nothing above the newest block is refused", |model: &Self, state: &State| {
                let newest = (0..RECORDS)
                    .filter(|r| state.delivered[usize::from(*r)] > 0 || state.torn & bit(*r) != 0)
                    .max();
                state.start <= newest.map_or(0, |newest| (newest / model.block + 1) * model.block)
            }),
        ]
    }
}

#[test]
fn a_floor_raised_first_delivers_commands_at_most_once() {
    holds("replay floor, commands", Floor { rule: Rule::Design, block: 1 });
}

#[test]
fn a_floor_at_the_end_of_the_block_delivers_volatile_records_at_most_once() {
    holds("replay floor, volatile", Floor { rule: Rule::Design, block: 2 });
}

#[test]
fn mutant_raising_the_floor_after_delivery_repeats_records() {
    for block in [1, 2] {
        let mutant = Floor { rule: Rule::RaisedAfterDelivery, block };
        breaks("floor-after-delivery", "delivered at most once", mutant);
    }
}

#[test]
fn mutant_a_floor_within_the_block_repeats_the_rest_of_it() {
    let mutant = Floor { rule: Rule::RaisedToTheCounter, block: 2 };
    breaks("floor-within-block", "delivered at most once", mutant);
}

#[test]
fn mutant_acknowledging_before_the_floor_loses_records_for_no_reason() {
    for block in [1, 2] {
        let mutant = Floor { rule: Rule::AcknowledgeBeforePersist, block };
        breaks("acknowledge-before-persist", "dropped only below the floor of a crash", mutant);
    }
}
