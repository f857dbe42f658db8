//! Tracked messages over a session: `core::session::receive` in front of `core::endpoint::inbox`.
//!
//! The session's own replay bitmap is durable only when a block of it closes, because a write for each record would cost
//! more than the record. What makes a message come once is its origin: the row and the received set, by origin,
//! are one transaction. A record may come again under a counter that the bitmap has forgotten, and a message under a new
//! counter, when its sender seals it again.

use stateright::{Model, Property};

use crate::{breaks, holds};

const MESSAGES: u8 = 2;
/// Counters: the first `MESSAGES` carry the messages in order, later ones carry what is sealed again.
const RECORDS: u8 = 4;
const BLOCK: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Design,
    /// The received set is committed, and then the row.
    SetThenRow,
    /// The row is committed, and then the received set.
    RowThenSet,
    /// The broker is acknowledged, and then row and set are committed.
    AcknowledgeBeforePersist,
    /// The receipt to the sender names a message whose row is not durable yet.
    ReceiptBeforePersist,
    /// Origins are not kept: the session's bitmap alone tells what is new.
    BitmapAlone,
}

#[derive(Clone)]
struct Inbox(Rule);

/// Sets of messages, records and blocks are bit masks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The message in each record that was sent.
    records: [Option<u8>; RECORDS as usize],
    /// Records at the broker: not acknowledged.
    broker: u8,
    /// Messages in the sender's outbox: no receipt names them yet.
    outbox: u8,
    /// Durable: rows, the received set, blocks whose keys are erased and whose bitmap is full.
    rows: u8,
    received: u8,
    closed: u8,
    /// The bitmap of open blocks.
    seen: u8,
    /// The record in work and the steps it has behind it.
    working: Option<(u8, u8)>,
    consumed: [u8; MESSAGES as usize],
    crashes: u8,
    replays: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Receive(u8),
    /// The network repeats what was acknowledged.
    Replay(u8),
    Step,
    /// The oldest open block is over: its bitmap becomes durable and its keys are erased.
    CloseBlock(u8),
    Consume(u8),
    /// A receipt reaches the sender.
    Receipt,
    /// The sender seals a message of its outbox again.
    SealAgain(u8),
    Crash,
}

fn bit(member: u8) -> u8 {
    1 << member
}

#[derive(Clone, Copy)]
enum Step {
    Commit { row: bool, set: bool },
    Acknowledge,
}

impl Inbox {
    fn steps(&self) -> &'static [Step] {
        const ROW: Step = Step::Commit { row: true, set: false };
        const SET: Step = Step::Commit { row: false, set: true };
        const BOTH: Step = Step::Commit { row: true, set: true };
        match self.0 {
            Rule::SetThenRow => &[SET, ROW, Step::Acknowledge],
            Rule::RowThenSet => &[ROW, SET, Step::Acknowledge],
            Rule::AcknowledgeBeforePersist => &[Step::Acknowledge, BOTH],
            Rule::BitmapAlone => &[ROW, Step::Acknowledge],
            Rule::Design | Rule::ReceiptBeforePersist => &[BOTH, Step::Acknowledge],
        }
    }

    /// What is left after the worst: the process dies, the network loses everything, the keys of old blocks are erased. Then
    /// the sender seals again what no receipt named, nothing more goes wrong, and the application consumes.
    fn calm(&self, state: &State) -> State {
        let mut state = State { broker: 0, working: None, closed: 0b11, ..state.clone() };
        let new = state.outbox & !state.received;
        state.rows |= new;
        state.received |= new;
        state.outbox &= !state.received;
        for message in (0..MESSAGES).filter(|m| state.rows & bit(*m) != 0) {
            state.consumed[usize::from(message)] += 1;
        }
        state
    }

    fn step(&self, state: &mut State, record: u8, done: u8) -> Option<()> {
        let message = state.records[usize::from(record)]?;
        let refused = state.seen & bit(record) != 0 || state.closed & bit(record / BLOCK) != 0;
        let known = self.0 != Rule::BitmapAlone && state.received & bit(message) != 0;
        if done == 0 && (refused || known) {
            state.seen |= bit(record);
            state.broker &= !bit(record);
            state.working = None;
            return Some(());
        }
        match self.steps().get(usize::from(done))? {
            Step::Commit { row, set } => {
                if *row {
                    state.rows |= bit(message);
                }
                if *set {
                    state.received |= bit(message);
                }
                state.seen |= bit(record);
            }
            Step::Acknowledge => state.broker &= !bit(record),
        }
        let next = done + 1;
        state.working = (usize::from(next) < self.steps().len()).then_some((record, next));
        Some(())
    }
}

impl Model for Inbox {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            records: [Some(0), Some(1), None, None],
            broker: bit(MESSAGES) - 1,
            outbox: bit(MESSAGES) - 1,
            rows: 0,
            received: 0,
            closed: 0,
            seen: 0,
            working: None,
            consumed: [0; MESSAGES as usize],
            crashes: 2,
            replays: 1,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let sent = |r: &u8| state.records[usize::from(*r)].is_some();
        if state.working.is_some() {
            actions.push(Action::Step);
        } else {
            actions.extend((0..RECORDS).filter(|r| state.broker & bit(*r) != 0).map(Action::Receive));
            if state.replays > 0 {
                let gone = |r: &u8| state.broker & bit(*r) == 0;
                actions.extend((0..RECORDS).filter(sent).filter(gone).map(Action::Replay));
            }
            if state.closed == 0 {
                actions.push(Action::CloseBlock(0));
            }
        }
        actions.extend((0..MESSAGES).filter(|m| state.rows & bit(*m) != 0).map(Action::Consume));
        if state.outbox != 0 {
            actions.push(Action::Receipt);
            if !state.records.iter().all(Option::is_some) {
                let waiting = |m: &u8| state.outbox & bit(*m) != 0;
                actions.extend((0..MESSAGES).filter(waiting).map(Action::SealAgain));
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
                self.step(&mut state, record, done)?;
            }
            Action::CloseBlock(block) => state.closed |= bit(block),
            Action::Consume(message) => {
                state.rows &= !bit(message);
                state.consumed[usize::from(message)] += 1;
            }
            Action::Receipt => {
                let mut named = if self.0 == Rule::BitmapAlone { state.rows } else { state.received };
                if let (Rule::ReceiptBeforePersist, Some((record, _))) = (self.0, state.working) {
                    named |= bit(state.records[usize::from(record)]?);
                }
                state.outbox &= !named;
            }
            Action::SealAgain(message) => {
                let free = state.records.iter().position(Option::is_none)?;
                state.records[free] = Some(message);
                state.broker |= 1 << free;
            }
            Action::Crash => {
                state.crashes -= 1;
                state.working = None;
                state.seen = 0;
            }
        }
        (state != *last && state.consumed.iter().all(|times| *times <= 2)).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // However often the network repeats a record and the sender a message (`core::endpoint::inbox`, `core::delivery`).
            Property::always("consumed at most once", |_, state: &State| {
                state.consumed.iter().all(|times| *times <= 1)
            }),
            // From acceptance to consumption a message is in a durable place: the outbox, a row, the application.
            Property::always("nothing tracked is lost", |_, state: &State| {
                (0..MESSAGES).all(|message| {
                    let held = (state.outbox | state.rows) & bit(message) != 0;
                    held || state.consumed[usize::from(message)] > 0
                })
            }),
            // The broker is told to forget what is durable or refused, and nothing else: otherwise each crash costs a resend
            // (`core::endpoint::barrier`).
            Property::always("acknowledged only when durable or refused", |_, state: &State| {
                (0..RECORDS).all(|record| {
                    let Some(message) = state.records[usize::from(record)] else { return true };
                    let at_broker = state.broker & bit(record) != 0;
                    let known = state.rows & bit(message) != 0 || state.consumed[usize::from(message)] > 0;
                    at_broker || known || state.closed & bit(record / BLOCK) != 0
                })
            }),
            // From wherever crashes have led: sealing again what is not receipted brings every message to the application.
            Property::always("consumed in the end", |model: &Self, state: &State| {
                let calm = model.calm(state);
                calm.outbox == 0 && calm.consumed.iter().all(|times| *times >= 1)
            }),
        ]
    }
}

#[test]
fn row_and_origin_in_one_transaction_are_exactly_once_though_the_bitmap_is_forgotten() {
    holds("session inbox", Inbox(Rule::Design));
}

#[test]
fn mutant_the_received_set_before_the_row_loses_messages() {
    breaks("set-then-row", "nothing tracked is lost", Inbox(Rule::SetThenRow));
    breaks("set-then-row", "consumed in the end", Inbox(Rule::SetThenRow));
}

#[test]
fn mutant_the_row_before_the_received_set_repeats_messages() {
    breaks("row-then-set", "consumed at most once", Inbox(Rule::RowThenSet));
}

#[test]
fn mutant_acknowledging_before_the_commit_drops_what_the_broker_held() {
    let mutant = Inbox(Rule::AcknowledgeBeforePersist);
    breaks("acknowledge-before-persist", "acknowledged only when durable or refused", mutant);
}

#[test]
fn mutant_a_receipt_before_the_commit_loses_messages() {
    breaks("receipt-before-persist", "nothing tracked is lost", Inbox(Rule::ReceiptBeforePersist));
}

#[test]
fn mutant_trusting_the_bitmap_alone_repeats_messages() {
    breaks("bitmap-alone", "consumed at most once", Inbox(Rule::BitmapAlone));
}
