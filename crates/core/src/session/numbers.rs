//! Message numbers that cost nothing: the receiver works them out once it has confirmed where they start.
//!
//! Until then each record carries its number (form [`Numbered`](super::Form::Numbered), 8 bytes). Afterwards the header has
//! the number's lowest byte, in the place of the counter's highest ([`Implied`](super::Form::Implied)). First transmissions of
//! telemetry go in order, so from one record of a stream to a later one the number rises, and by no more than the counter
//! does, however many streams take turns: less than 256 counters away from any record of the stream that was heard, its lowest
//! byte names one number only. Where a number was given up that does not hold; there a new run begins, numbered again.

use alloc::vec::Vec;

use super::header::Form;
use crate::ids::{BootId, StreamId};

/// Runs that a receiver remembers per stream: records on their way may still need the one before.
const RUNS_PER_STREAM: usize = 2;
/// Streams that telemetry has.
const STREAMS: usize = 7;
/// Runs that a receiver remembers.
pub const MAX_BASES: usize = RUNS_PER_STREAM * STREAMS;
/// How far a number is implied, in counters: a byte tells no more.
const REACH: u32 = 256;
/// A sender tells the number again after so many counters of other streams: half of what is lost on the way may be lost.
const TOLD_AFTER: u32 = REACH / 2;
/// A numbered record so many counters after the base is a new base, even if it follows.
const BASE_EVERY: u32 = 64;

/// From `counter` on, messages on `stream` of the sender's `boot` are numbered from `number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberBase {
    /// The counter of a numbered record.
    pub counter: u32,
    /// Its message's stream.
    pub stream: StreamId,
    /// Its sender's start.
    pub boot: BootId,
    /// Its message's number.
    pub number: u64,
}

/// A counter and the number of the message in that record.
pub(super) type Place = (u32, u64);

/// What is known of consecutive messages of one stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) base: NumberBase,
    /// The newest place in it.
    pub(super) newest: Place,
}

impl Run {
    fn new(base: NumberBase) -> Self {
        Self { base, newest: (base.counter, base.number) }
    }

    /// Whether a later record may be of the same run.
    fn goes_on(&self, told: &NumberBase) -> bool {
        let (counter, number) = self.newest;
        let (Some(counters), Some(numbers)) =
            (told.counter.checked_sub(counter), told.number.checked_sub(number))
        else {
            return false;
        };
        self.base.boot == told.boot && numbers > 0 && numbers <= counters.into()
    }

    fn reach(&mut self, place: Place) {
        if place.0 > self.newest.0 {
            self.newest = place;
        }
    }
}

/// The number with the lowest byte `low` in the record with `counter`, seen from a place of the same run.
fn seen_from(place: Place, counter: u32, low: u8) -> Option<u64> {
    let (at, number) = place;
    let [.., lowest] = number.to_be_bytes();
    let within = |step: u8, counters: u32| step > 0 && u32::from(step) <= counters && counters < REACH;
    if counter > at {
        let step = low.wrapping_sub(lowest);
        if within(step, counter - at) { number.checked_add(step.into()) } else { None }
    } else {
        let step = lowest.wrapping_sub(low);
        if within(step, at - counter) { number.checked_sub(step.into()) } else { None }
    }
}

/// What a receiver knows of the numbers in one epoch: runs in order of their bases.
#[derive(Default)]
pub(super) struct Numbers(Vec<Run>);

impl Numbers {
    pub(super) fn restore(runs: Vec<Run>) -> Self {
        Self(runs)
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.0
    }

    fn run(&mut self, counter: u32, stream: StreamId, boot: BootId) -> Option<&mut Run> {
        let before = |run: &&mut Run| run.base.stream == stream && run.base.counter < counter;
        self.0.iter_mut().rev().find(before).filter(|run| run.base.boot == boot)
    }

    /// The number of an implied message. `None` if no record of its run was heard that is near enough.
    pub(super) fn imply(&mut self, counter: u32, stream: StreamId, boot: BootId, low: u8) -> Option<u64> {
        let run = self.run(counter, stream, boot)?;
        let number = seen_from(run.newest, counter, low)
            .or_else(|| seen_from((run.base.counter, run.base.number), counter, low))?;
        run.reach((counter, number));
        Some(number)
    }

    /// A number that was told again.
    pub(super) fn told(&mut self, told: NumberBase) {
        if let Some(run) = self.run(told.counter, told.stream, told.boot) {
            run.reach((told.counter, told.number));
        }
    }

    /// Takes note of a numbered record. Whether it is a base, which must be durable before it is confirmed.
    pub(super) fn note(&mut self, told: NumberBase) -> bool {
        let of_stream = |run: &Run| run.base.stream == told.stream;
        if let Some(newest) = self.0.iter_mut().rev().find(|run| of_stream(run)) {
            if newest.base.counter >= told.counter {
                return false;
            }
            if newest.goes_on(&told) && told.counter - newest.base.counter < BASE_EVERY {
                newest.reach((told.counter, told.number));
                return false;
            }
        }
        let at = self.0.partition_point(|run| run.base.counter < told.counter);
        self.0.insert(at, Run::new(told));
        if self.0.iter().filter(|run| of_stream(run)).count() > RUNS_PER_STREAM
            && let Some(oldest) = self.0.iter().position(of_stream)
        {
            self.0.remove(oldest);
        }
        true
    }

    /// Lets go of room for more.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// The newest base of each stream, which is what a receiver confirms.
    pub(super) fn newest(&self) -> Vec<NumberBase> {
        let mut newest: Vec<NumberBase> = Vec::new();
        for Run { base, .. } in self.0.iter().rev() {
            if newest.iter().all(|other| other.stream != base.stream) {
                newest.push(*base);
            }
        }
        newest
    }
}

/// What a sender's receiver knows of the numbers in one epoch.
#[derive(Default)]
pub(super) struct Telling(Vec<Told>);

struct Told {
    run: Run,
    confirmed: bool,
    /// The next number is told: something of the stream was lost.
    again: bool,
}

impl Telling {
    /// How the next message of a stream tells its number.
    pub(super) fn form(&mut self, next: NumberBase) -> Form {
        let new = Told { run: Run::new(next), confirmed: false, again: false };
        let Some(told) = self.0.iter_mut().find(|told| told.run.base.stream == next.stream) else {
            self.0.push(new);
            return Form::Numbered;
        };
        if !told.run.goes_on(&next) {
            *told = new;
            return Form::Numbered;
        }
        let far = next.counter - told.run.newest.0 >= TOLD_AFTER;
        told.run.reach((next.counter, next.number));
        if !told.confirmed {
            Form::Numbered
        } else if core::mem::take(&mut told.again) || far {
            Form::Told
        } else {
            Form::Implied
        }
    }

    /// The receiver has a base, durably.
    pub(super) fn confirmed(&mut self, base: &NumberBase) {
        if let Some(told) = self.0.iter_mut().find(|told| told.run.base.stream == base.stream) {
            let ours = told.run.base;
            told.confirmed |= ours.boot == base.boot && ours.counter <= base.counter;
        }
    }

    /// A message of the stream was lost: the receiver may be too far behind.
    pub(super) fn lost(&mut self, stream: StreamId) {
        if let Some(told) = self.0.iter_mut().find(|told| told.run.base.stream == stream) {
            told.again = true;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    const BOOT: BootId = BootId([1; 8]);

    fn stream(stream: u8) -> StreamId {
        StreamId::new(stream).unwrap()
    }

    /// A sender's side: counters that all streams share, and numbers of each.
    #[derive(Default)]
    struct Sender {
        telling: Telling,
        counter: u32,
        numbers: [u64; STREAMS],
    }

    #[derive(Clone, Copy)]
    struct Sent {
        place: NumberBase,
        form: Form,
    }

    impl Sender {
        fn send(&mut self, on: u8, given_up: u64) -> Sent {
            let number = &mut self.numbers[usize::from(on)];
            *number += 1 + given_up;
            self.counter += 1;
            let place = NumberBase { counter: self.counter, stream: stream(on), boot: BOOT, number: *number };
            Sent { place, form: self.telling.form(place) }
        }
    }

    /// The number that a receiver takes a record for, and whether it must write first.
    fn hear(numbers: &mut Numbers, sent: Sent) -> (Option<u64>, bool) {
        let NumberBase { counter, stream, boot, number } = sent.place;
        match sent.form {
            Form::Numbered => (Some(number), numbers.note(sent.place)),
            Form::Told => {
                numbers.told(sent.place);
                (Some(number), false)
            }
            _ => (numbers.imply(counter, stream, boot, number.to_be_bytes()[7]), false),
        }
    }

    fn confirm(sender: &mut Sender, numbers: &Numbers) {
        numbers.newest().iter().for_each(|base| sender.telling.confirmed(base));
    }

    #[test]
    fn streams_that_take_turns_cost_nothing_once_confirmed() {
        let (mut sender, mut numbers) = (Sender::default(), Numbers::default());
        for turn in 0..8 {
            hear(&mut numbers, sender.send(turn % 4, 0));
        }
        confirm(&mut sender, &numbers);
        for turn in 0..10_000_u64 {
            let sent = sender.send(if turn % 7 == 0 { 3 } else { (turn % 4) as u8 }, 0);
            assert_eq!(sent.form, Form::Implied);
            assert_eq!(hear(&mut numbers, sent).0, Some(sent.place.number));
        }
    }

    #[test]
    fn a_rare_stream_tells_its_number_and_wants_no_confirmation() {
        let (mut sender, mut numbers) = (Sender::default(), Numbers::default());
        for on in [0, 1] {
            hear(&mut numbers, sender.send(on, 0));
        }
        confirm(&mut sender, &numbers);
        for _ in 0..20 {
            for _ in 0..TOLD_AFTER {
                assert_eq!(sender.send(0, 0).form, Form::Implied);
            }
            assert_eq!(sender.send(1, 0).form, Form::Told);
        }
    }

    #[test]
    fn a_receiver_that_lost_too_much_finds_its_way_back() {
        let (mut sender, mut numbers) = (Sender::default(), Numbers::default());
        hear(&mut numbers, sender.send(0, 0));
        confirm(&mut sender, &numbers);
        for _ in 0..REACH {
            sender.send(0, 0);
        }
        let refused = sender.send(0, 0);
        assert_eq!(hear(&mut numbers, refused).0, None, "never a guess");
        sender.telling.lost(stream(0));
        for form in [Form::Told, Form::Implied] {
            let sent = sender.send(0, 0);
            assert_eq!(sent.form, form);
            assert_eq!(hear(&mut numbers, sent).0, Some(sent.place.number));
        }
    }

    proptest! {
        /// Whatever is lost, late or forgotten in a crash, and whatever numbers are given up: no message is misnamed.
        #[test]
        fn no_implied_number_is_another_messages(
            steps in proptest::collection::vec((0..7_u8, 0..100_u8, any::<u16>(), any::<u8>()), 1..900),
            lossy in 0..100_u8,
        ) {
            let (mut sender, mut numbers) = (Sender::default(), Numbers::default());
            let (mut durable, mut heard) = (vec![], 0);
            let mut network: Vec<Sent> = Vec::new();
            for (on, event, pick, gap) in steps {
                let given_up = if event < 3 { gap.into() } else { 0 };
                network.push(sender.send(on, given_up));
                match event {
                    // A burst of one stream; most of it is lost.
                    3 => (0..gap).for_each(|_| network.push(sender.send(on, 0))),
                    4 => numbers = Numbers::restore(durable.clone()),
                    5 => sender.telling.lost(stream(on)),
                    6..16 => confirm(&mut sender, &Numbers::restore(durable.clone())),
                    _ => {}
                }
                if event >= lossy || network.len() > 300 {
                    let sent = network.swap_remove(usize::from(pick) % network.len());
                    let (number, must_write) = hear(&mut numbers, sent);
                    prop_assert!(number.is_none_or(|number| number == sent.place.number));
                    heard += 1;
                    if must_write || heard % 64 == 0 {
                        durable = numbers.runs().to_vec();
                    }
                    prop_assert!(durable.len() <= MAX_BASES);
                }
            }
        }
    }
}
