//! Delivery end to end: `core::endpoint::{outbox, inbox, receipts}` around a broker that forgets what it acknowledged.
//!
//! The sender keeps an entry under its `msg_seq` until the peer's receipt names it, and sends it again whenever it likes.
//! A receipt says everything that the receiver has stored (cumulative number and ranges: here, a set). Both sides crash at
//! any point and keep what was durable.

use stateright::{Model, Property};

use crate::{breaks, holds};

const MESSAGES: u8 = 2;
const ALL: u8 = (1 << MESSAGES) - 1;
/// Receipts under way at once; more differ from these by delay alone.
const RECEIPTS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    EndToEnd,
    /// An entry leaves the outbox when the broker has acknowledged it.
    LeavesOnPuback,
    /// The receipt names the message in work before its row is durable.
    ReceiptBeforeCommit,
    /// Consuming a message makes the receiver forget its `msg_seq`.
    ForgetsOnConsume,
    /// A message that is known already causes no receipt.
    SilentAboutKnown,
}

#[derive(Clone)]
struct Receipts(Rule);

/// Sets of messages are bit masks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// How many messages the sender's application has handed over, durably.
    accepted: u8,
    /// The sender's durable outbox.
    outbox: u8,
    /// What the sender need not send again yet: lost with its process.
    sent: u8,
    /// At the broker, for the receiver.
    data: u8,
    /// At the broker, for the sender: the receipt that names the set `r` is under way if bit `r` is set.
    receipts: u8,
    /// The receiver's durable rows and `msg_seq` set.
    rows: u8,
    known: u8,
    /// The message in work, and whether its row is stored: lost with the receiver's process.
    working: Option<(u8, bool)>,
    /// A receipt is due: lost with the receiver's process.
    due: bool,
    consumed: [u8; MESSAGES as usize],
    crashes: u8,
    amnesia: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Accept,
    Transmit(u8),
    ResendTimeout,
    Deliver(u8),
    Commit,
    Acknowledge,
    SendReceipt,
    DeliverReceipt(u8),
    Consume(u8),
    SenderCrash,
    ReceiverCrash,
    BrokerForgets,
}

fn bit(message: u8) -> u8 {
    1 << message
}

fn members(set: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |member| set & bit(*member) != 0)
}

impl Receipts {
    /// What a receipt sent now would name.
    fn receipt(&self, state: &State) -> u8 {
        match (self.0, state.working) {
            (Rule::ReceiptBeforeCommit, Some((message, _))) => state.known | bit(message),
            _ => state.known,
        }
    }

    /// Goes on fairly, without crashes and with a broker that forgets nothing more.
    fn calm(&self, state: &State) -> State {
        let mut state = State { crashes: 0, amnesia: 0, ..state.clone() };
        // Each round delivers everything that is under way and times out once; three rounds are more than enough.
        for _ in 0..3 {
            loop {
                let mut actions = Vec::new();
                self.actions(&state, &mut actions);
                let progress = actions.into_iter().find(|action| *action != Action::ResendTimeout);
                let Some(next) = progress.and_then(|action| self.next_state(&state, action)) else { break };
                state = next;
            }
            state.sent = 0;
        }
        state
    }
}

impl Model for Receipts {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            accepted: 0,
            outbox: 0,
            sent: 0,
            data: 0,
            receipts: 0,
            rows: 0,
            known: 0,
            working: None,
            due: false,
            consumed: [0; MESSAGES as usize],
            crashes: 2,
            amnesia: 1,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.working {
            Some((_, false)) => actions.push(Action::Commit),
            Some((_, true)) => actions.push(Action::Acknowledge),
            None => actions.extend(members(state.data).map(Action::Deliver)),
        }
        actions.extend(members(state.rows).map(Action::Consume));
        let early = self.0 == Rule::ReceiptBeforeCommit && state.working.is_some();
        if (state.due || early) && state.receipts.count_ones() < RECEIPTS {
            let new = state.receipts & bit(self.receipt(state)) == 0;
            if state.due || new {
                actions.push(Action::SendReceipt);
            }
        }
        actions.extend(members(state.receipts).map(Action::DeliverReceipt));
        if state.accepted < MESSAGES {
            actions.push(Action::Accept);
        }
        actions.extend(members(state.outbox & !state.sent).map(Action::Transmit));
        if state.outbox & state.sent != 0 {
            actions.push(Action::ResendTimeout);
        }
        if state.crashes > 0 {
            actions.extend([Action::SenderCrash, Action::ReceiverCrash]);
        }
        if state.amnesia > 0 && (state.data != 0 || state.receipts != 0) {
            actions.push(Action::BrokerForgets);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Accept => {
                state.outbox |= bit(state.accepted);
                state.accepted += 1;
            }
            Action::Transmit(message) => {
                state.data |= bit(message);
                state.sent |= bit(message);
                if self.0 == Rule::LeavesOnPuback {
                    state.outbox &= !bit(message);
                }
            }
            Action::ResendTimeout => state.sent = 0,
            Action::Deliver(message) => state.working = Some((message, false)),
            Action::Commit => {
                let (message, _) = state.working?;
                let new = state.known & bit(message) == 0;
                if new {
                    state.rows |= bit(message);
                    state.known |= bit(message);
                }
                state.due |= new || self.0 != Rule::SilentAboutKnown;
                state.working = Some((message, true));
            }
            Action::Acknowledge => {
                let (message, _) = state.working.take()?;
                state.data &= !bit(message);
            }
            Action::SendReceipt => {
                state.receipts |= bit(self.receipt(&state));
                state.due = false;
            }
            Action::DeliverReceipt(set) => {
                state.receipts &= !bit(set);
                state.outbox &= !set;
            }
            Action::Consume(message) => {
                state.rows &= !bit(message);
                state.consumed[usize::from(message)] += 1;
                if self.0 == Rule::ForgetsOnConsume {
                    state.known &= !bit(message);
                }
            }
            Action::SenderCrash => {
                state.crashes -= 1;
                state.sent = 0;
            }
            Action::ReceiverCrash => {
                state.crashes -= 1;
                state.working = None;
                state.due = false;
            }
            Action::BrokerForgets => {
                state.amnesia -= 1;
                state.data = 0;
                state.receipts = 0;
            }
        }
        // Beyond two consumptions nothing new is learnt.
        state.consumed.iter().all(|times| *times <= 2).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // The receiver knows each `msg_seq` again, however often the sender repeats it
            // (`core::endpoint::inbox`: the set outlives the consumption).
            Property::always("consumed at most once", |_, state: &State| {
                state.consumed.iter().all(|times| *times <= 1)
            }),
            // What the sender took is in its outbox until the receiver has stored it, so a broker may forget it
            // (`core::endpoint::outbox`: an entry leaves on a receipt; `core::endpoint::receipts`: a receipt names durable
            // rows only).
            Property::always("nothing accepted is lost", |_, state: &State| {
                (0..state.accepted).all(|message| {
                    let held = (state.outbox | state.data | state.rows) & bit(message) != 0;
                    held || state.consumed[usize::from(message)] > 0
                })
            }),
            // From wherever crashes and a forgetful broker have led: once they stop, everything is consumed and the outbox
            // empties (receipts are sent again for messages that are known already).
            Property::always("delivered and receipted in the end", |model: &Self, state: &State| {
                let calm = model.calm(state);
                calm.accepted == MESSAGES
                    && calm.consumed.iter().all(|times| *times >= 1)
                    && calm.known | calm.outbox == ALL
                    && calm.outbox == 0
            }),
        ]
    }
}

#[test]
fn entries_that_leave_on_receipts_are_delivered_exactly_once() {
    holds("receipts", Receipts(Rule::EndToEnd));
}

#[test]
fn mutant_leaving_on_puback_loses_what_the_broker_forgets() {
    breaks("leaves-on-puback", "nothing accepted is lost", Receipts(Rule::LeavesOnPuback));
}

#[test]
fn mutant_a_receipt_before_the_commit_loses_messages() {
    breaks("receipt-before-commit", "nothing accepted is lost", Receipts(Rule::ReceiptBeforeCommit));
}

#[test]
fn mutant_forgetting_the_msg_seq_repeats_messages() {
    breaks("forgets-on-consume", "consumed at most once", Receipts(Rule::ForgetsOnConsume));
}

#[test]
fn mutant_no_receipt_for_known_messages_keeps_the_outbox_full() {
    breaks("silent-about-known", "delivered and receipted in the end", Receipts(Rule::SilentAboutKnown));
}
