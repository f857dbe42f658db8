//! What a session keeps while nothing uses it: counted by the allocator, so that nothing is estimated. The `portable`
//! backend allocates as Rust does, so what is counted is everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use allocation_counter::measure;
use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::crypto::kdf::PseudorandomKey;
use pqc_iiot_core::crypto::portable::PORTABLE;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::ids::{BootId, SessionId, StreamId};
use pqc_iiot_core::session::{
    Class, Control, EPOCH_DRAIN, Header, Opened, Role, Session, SessionStart, Settled, Text,
};
use pqc_iiot_core::time::Monotonic;

/// What an idle session may take, in bytes.
const IDLE: usize = 2_048;
const TOPIC: [u8; 32] = [9; 32];

struct Counting(u64);

impl RandomSource for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

fn boot(role: Role) -> BootId {
    BootId([role as u8 + 1; BootId::LEN])
}

fn session(suite: SessionSuite, role: Role) -> Session {
    let key =
        |byte| PseudorandomKey::from_slice(suite.hash(), &vec![byte; suite.hash().output_len()]).unwrap();
    let start = SessionStart {
        suite,
        role,
        root: key(7),
        gate: key(8),
        sid_in: SessionId([role as u8; 4]),
        sid_out: SessionId([role.other() as u8; 4]),
        boot_out: boot(role),
        boot_in: boot(role.other()),
    };
    Session::new(&PORTABLE, &start).unwrap()
}

/// Both ends, and the time.
struct Pair {
    ends: [Box<Session>; 2],
    now: Monotonic,
    numbers: [u64; 2],
    random: Counting,
}

impl Pair {
    fn new(suite: SessionSuite) -> Self {
        let ends = [Role::Initiator, Role::Responder].map(|role| Box::new(session(suite, role)));
        Self { ends, now: Monotonic(Duration::from_secs(1)), numbers: [0; 2], random: Counting(1) }
    }

    fn send(&mut self, from: Role, class: Class, text: Text<'_>) -> Opened {
        let [initiator, responder] = &mut self.ends;
        let (sender, receiver) = match from {
            Role::Initiator => (initiator, responder),
            Role::Responder => (responder, initiator),
        };
        if sender.wants_reservation(class) {
            assert!(sender.reserve(class));
            sender.written(1);
        }
        let sealed = sender.seal(boot(from), self.now, class, StreamId::default(), &TOPIC, text).unwrap();
        let header = Header::parse(&sealed.record).unwrap();
        let heard = self.numbers[from as usize].saturating_sub(1);
        let settled = Settled { cumulative: heard, highest: heard };
        receiver.open(self.now, &header, &TOPIC, &|_| settled, sealed.record).unwrap()
    }

    /// Records in every class and in both directions.
    fn talk(&mut self, records: usize) {
        for _ in 0..records {
            for from in [Role::Initiator, Role::Responder] {
                let number = self.numbers[from as usize] + 1;
                self.numbers[from as usize] = number;
                let confirmed = Settled { cumulative: number - 1, highest: number - 1 };
                self.send(from, Class::Telemetry, Text::Telemetry { number, confirmed, payload: b"73.9" });
                self.send(from, Class::Command, Text::Body(b"stop"));
                self.send(from, Class::Control, Text::Body(&Control::Confirm.encode()));
            }
        }
    }

    /// A new epoch at both ends, and the end of the one before.
    fn rekey(&mut self) {
        let proposer = usize::from(!self.ends[0].is_our_turn());
        let offer = self.ends[proposer].offer(&mut self.random).unwrap();
        let accept = self.ends[1 - proposer].accept(&mut self.random, &offer).unwrap();
        self.ends[proposer].accepted(&accept).unwrap();
        let from = if proposer == 0 { Role::Initiator } else { Role::Responder };
        for from in [from, from.other()] {
            self.send(from, Class::Control, Text::Body(&Control::Confirm.encode()));
        }
        self.now = self.now.plus(EPOCH_DRAIN);
        self.ends.iter_mut().for_each(|end| assert!(end.expire(self.now)));
    }

    fn rest(&mut self) {
        self.ends.iter_mut().for_each(|end| end.shrink());
    }
}

/// What both ends keep, by how they came to it.
fn kept(suite: SessionSuite, history: impl FnOnce(&mut Pair)) -> (usize, Pair) {
    let mut pair = None;
    let counted = measure(|| {
        let mut made = Pair::new(suite);
        history(&mut made);
        pair = Some(made);
    });
    (usize::try_from(counted.bytes_current).unwrap(), pair.unwrap())
}

#[test]
fn an_idle_session_takes_at_most_2_kib() {
    for suite in SessionSuite::ALL {
        for records in [1, 3, 50] {
            let (bytes, mut pair) = kept(suite, |pair| {
                pair.talk(records);
                pair.rest();
            });
            println!("suite {}, {records} records of each class: {} bytes", suite.id(), bytes / 2);
            assert!(bytes / 2 <= IDLE, "{bytes} bytes for two");
            pair.talk(3);
        }
    }
}

#[test]
fn what_makes_it_fast_comes_back_with_use_and_goes_again() {
    let (first, mut pair) = kept(SessionSuite::Hybrid, |pair| {
        pair.talk(3);
        pair.rest();
    });
    let used = measure(|| pair.talk(3));
    let rested = measure(|| pair.rest());
    assert!(used.bytes_current > 2_000, "{}", used.bytes_current);
    // Higher counters take a byte more each.
    let more = used.bytes_current + rested.bytes_current;
    assert!(more.unsigned_abs() <= 16, "{more} bytes more than the first time, {first}");
}

#[test]
fn no_epoch_leaves_anything_behind() {
    // From 24 to 255 an epoch's number takes as many bytes at rest.
    let (_, mut pair) = kept(SessionSuite::Hybrid, |pair| {
        (0..24).for_each(|_| pair.rekey());
        pair.talk(3);
        pair.rest();
    });
    let grown = measure(|| {
        (0..200).for_each(|_| pair.rekey());
        pair.talk(3);
        pair.rest();
    });
    assert_eq!(pair.ends[0].epoch(), 224);
    assert_eq!(grown.bytes_current, 0, "200 epochs");
}

#[test]
fn forged_jumps_leave_nothing_once_the_session_rests() {
    let (_, mut pair) = kept(SessionSuite::Hybrid, |pair| {
        pair.talk(1);
        pair.rest();
    });
    let grown = measure(|| {
        let text = Text::Telemetry { number: 9, confirmed: Settled::default(), payload: b"73.9" };
        let [initiator, responder] = &mut pair.ends;
        let ours = boot(Role::Initiator);
        let sealed = initiator.seal(ours, pair.now, Class::Telemetry, StreamId::default(), &TOPIC, text);
        for block in [900, 1000] {
            let mut forged = sealed.as_ref().unwrap().record.clone();
            forged[8..12].copy_from_slice(&(block * Class::Telemetry.block_len()).to_be_bytes());
            let header = Header::parse(&forged).unwrap();
            assert_eq!(header.block(), block);
            assert!(responder.open(pair.now, &header, &TOPIC, &|_| Settled::default(), forged).is_err());
        }
        pair.rest();
    });
    assert_eq!(grown.bytes_current, 0);
}
