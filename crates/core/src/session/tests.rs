#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod network;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::crypto::backend::RandomSource;
use crate::crypto::default_backend;
use crate::delivery::ReceivedSet;
use crate::ids::StreamId;

const TOPIC: [u8; 32] = [9; 32];

/// Deterministic, for tests.
struct Counting(u64);

impl RandomSource for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn boot(n: u8) -> BootId {
    BootId([n; 8])
}

fn key(suite: SessionSuite, byte: u8) -> PseudorandomKey {
    PseudorandomKey::from_slice(suite.hash(), &alloc::vec![byte; suite.hash().output_len()]).unwrap()
}

fn pair_of(suite: SessionSuite) -> (Session, Session) {
    let start = |role: Role| {
        let (ours, theirs) = if role == Role::Initiator { (1, 2) } else { (2, 1) };
        SessionStart {
            suite,
            role,
            root: key(suite, 7),
            gate: key(suite, 8),
            sid_in: SessionId([ours; 4]),
            sid_out: SessionId([theirs; 4]),
            boot_out: boot(ours),
            boot_in: boot(theirs),
        }
    };
    let make = |role| Session::new(default_backend(), &start(role)).unwrap();
    (make(Role::Initiator), make(Role::Responder))
}

fn pair() -> (Session, Session) {
    pair_of(SessionSuite::Hybrid)
}

fn seal_at(session: &mut Session, ours: BootId, now: u64, class: Class, text: Text<'_>) -> Sealed {
    if session.wants_reservation(class) {
        assert!(session.reserve(class));
        session.written(1);
    }
    session.seal(ours, at(now), class, StreamId::default(), &TOPIC, text).unwrap()
}

fn telemetry(session: &mut Session, ours: u8, number: u64) -> Vec<u8> {
    let text = Text::Telemetry { number, confirmed: Settled::default(), payload: b"73.9" };
    seal_at(session, boot(ours), 0, Class::Telemetry, text).record
}

fn nothing(_: BootId) -> Settled {
    Settled::default()
}

fn open(session: &mut Session, record: &[u8]) -> Result<Opened, OpenError> {
    let header = Header::parse(record).unwrap();
    session.open(at(0), &header, &TOPIC, &nothing, record.to_vec())
}

fn crash(session: &Session) -> Session {
    Session::from_row(default_backend(), &session.to_row(), at(0)).unwrap()
}

/// Seals and opens as two ends do that know so much of the sender's numbers.
fn pass(
    ends: (&mut Session, &mut Session),
    number: u64,
    confirmed: Settled,
    settled: Settled,
) -> (usize, Option<Plain>) {
    let text = Text::Telemetry { number, confirmed, payload: b"73.9" };
    let record = seal_at(ends.0, boot(1), 0, Class::Telemetry, text).record;
    let header = Header::parse(&record).unwrap();
    let length = record.len() - 4;
    (length, ends.1.open(at(0), &header, &TOPIC, &|_| settled, record).ok().map(|opened| opened.plain))
}

#[test]
fn numbers_cost_nothing_near_what_is_confirmed_and_eight_bytes_elsewhere() {
    let (mut a, mut b) = pair();
    let said = |number| Some(Plain::Telemetry { boot: boot(1), number, payload: b"73.9".to_vec() });
    let settled = |cumulative, highest| Settled { cumulative, highest };
    let (none, some, stuck) = (Settled::default(), settled(9_000, 9_000), settled(9_000, 70_000));
    for (number, confirmed, at_receiver, length) in [
        (1, none, none, OVERHEAD),
        (2_048, none, none, OVERHEAD),
        (2_049, none, none, OVERHEAD + 8),
        (9_001, some, settled(9_400, 9_400), OVERHEAD),
        (u64::MAX, some, some, OVERHEAD + 8),
        // One message never arrives.
        (9_100, stuck, stuck, OVERHEAD),
        (70_100, stuck, stuck, OVERHEAD),
        (40_000, stuck, stuck, OVERHEAD + 8),
    ] {
        assert_eq!(pass((&mut a, &mut b), number, confirmed, at_receiver), (length, said(number)));
    }
}

#[test]
fn a_receiver_that_lost_its_record_takes_no_message_for_another() {
    let (mut a, mut b) = pair();
    let some = Settled { cumulative: 9_000, highest: 9_000 };
    assert_eq!(pass((&mut a, &mut b), 9_001, some, Settled::default()).1, None, "it does not authenticate");
    assert!(pass((&mut a, &mut b), 9_002, some, some).1.is_some(), "and cost its session nothing");
}

#[test]
fn a_record_opens_once_in_its_session_direction_topic_and_class() {
    for suite in SessionSuite::ALL {
        let (mut a, mut b) = pair_of(suite);
        let record = telemetry(&mut a, 1, 1);
        let header = Header::parse(&record).unwrap();
        for other in [&[8; 32][..], &[9; 31], &[]] {
            assert_eq!(
                b.open(at(0), &header, other, &nothing, record.clone()).err(),
                Some(OpenError::Forged)
            );
        }
        for bit in 0..record.len() * 8 {
            let mut forged = record.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            // The id is for the caller to look up; another one is not in the caller's table.
            if let Some(header) = Header::parse(&forged) {
                assert!(b.open(at(0), &header, &TOPIC, &nothing, forged).is_err(), "bit {bit}");
            }
        }
        assert_eq!(open(&mut a, &record).err(), Some(OpenError::Forged), "reflected");
        assert!(open(&mut b, &record).is_ok(), "after all that");
        assert_eq!(open(&mut b, &record).err(), Some(OpenError::Replay));
    }
}

#[test]
fn what_a_record_takes_to_judge_is_known_before_it_is_judged() {
    let (mut a, mut b) = pair();
    let genuine = telemetry(&mut a, 1, 1);
    open(&mut b, &genuine).unwrap();
    let header = Header::parse(&genuine).unwrap();
    let far = Header { counter: 64 * 1_000, ..header };
    assert_eq!(b.steps_to(&header), 0);
    assert_eq!(b.steps_to(&Header { counter: 64, ..header }), 0, "the next block");
    assert_eq!(b.steps_to(&far), 999);
    assert!(b.open(at(0), &far, &TOPIC, &nothing, alloc::vec![0; 64]).is_err());
    assert!(b.steps_to(&far) < CHECKPOINT_EVERY, "the way is remembered");
    b.shrink();
    assert_eq!(b.steps_to(&far), 999, "and not by one at rest");
    assert_eq!(b.steps_to(&Header { epoch: 1, ..far }), 0, "refused anyway");
}

#[test]
fn a_session_at_rest_knows_what_it_received() {
    let (mut a, mut b) = pair();
    let mut records: Vec<_> = (1..100).map(|number| telemetry(&mut a, 1, number)).collect();
    for class in [Class::Command, Class::Control] {
        let body = Control::Confirm.encode();
        records.push(seal_at(&mut a, boot(1), 0, class, Text::Body(&body)).record);
    }
    let (missing, received): (Vec<_>, Vec<_>) =
        records.into_iter().enumerate().partition(|(place, _)| place % 7 == 3);
    for (_, record) in &received {
        open(&mut b, record).unwrap();
        b.shrink();
        assert!(b.rests());
    }
    for (place, record) in &received {
        assert!(open(&mut b, record).is_err(), "{place}, again");
        b.shrink();
    }
    for (place, record) in &missing {
        assert!(open(&mut b, record).is_ok(), "{place} was late");
    }
}

#[test]
fn a_session_at_rest_erases_in_its_time_what_it_keeps_for_late_records() {
    let (mut a, mut b) = pair();
    let records: Vec<_> = (1..200).map(|number| telemetry(&mut a, 1, number)).collect();
    open(&mut b, &records[198]).unwrap();
    b.shrink();
    let before = b.to_row();
    let due = b.expires().expect("blocks were left out");
    assert_eq!(due, Monotonic(SKIPPED_FOR));
    assert!(!b.expire(Monotonic(SKIPPED_FOR - Duration::from_secs(1))));
    assert!(b.expire(due), "the row is to be written");
    assert!(b.to_row().len() + 32 < before.len(), "a key is gone");
    assert_eq!(b.expires(), None);
    let header = Header::parse(&records[0]).unwrap();
    assert!(b.open(due, &header, &TOPIC, &nothing, records[0].clone()).is_err());
    assert!(open(&mut b, &records[197]).is_ok(), "its block is the newest");
}

#[test]
fn losing_sixty_thousand_records_in_a_row_does_not_end_a_session() {
    let (mut a, mut b) = pair();
    for lost in [51, 500, 60_000] {
        for number in 0..lost {
            telemetry(&mut a, 1, number + 1);
        }
        let record = telemetry(&mut a, 1, lost);
        assert!(open(&mut b, &record).is_ok(), "after {lost} lost ones");
    }
}

#[test]
fn forged_jumps_are_bounded_in_work_and_memory_and_change_nothing() {
    let (mut a, mut b) = pair();
    let genuine = telemetry(&mut a, 1, 1);
    let header = Header::parse(&genuine).unwrap();
    let before = b.to_row();
    for gap in 0..100_000u32 {
        let counter = if gap % 7 == 0 { u32::MAX - gap } else { gap };
        let forged = Header { counter, ..header };
        assert!(b.open(at(0), &forged, &TOPIC, &nothing, alloc::vec![0; 64]).is_err());
    }
    assert!(b.to_row() == before);
    let kept = b.current.view().unwrap().receive(Class::Telemetry).checkpoints().len();
    assert!(kept <= (MAX_JUMP / CHECKPOINT_EVERY) as usize, "{kept} checkpoints");
    assert!(open(&mut b, &genuine).is_ok());
}

#[test]
fn a_jump_keeps_the_newest_skipped_blocks_and_they_expire() {
    let (mut a, mut b) = pair();
    let records: Vec<_> = (1..=64 * 20).map(|number| telemetry(&mut a, 1, number)).collect();
    open(&mut b, &records[64 * 19]).unwrap();
    for block in 0..19 {
        let late = open(&mut b, &records[64 * block]);
        assert_eq!(late.is_ok(), block >= 19 - MAX_SKIPPED, "block {block}");
    }
    let header = Header::parse(&records[64 * 15 + 1]).unwrap();
    b.expire(Monotonic(SKIPPED_FOR));
    let late = b.open(Monotonic(SKIPPED_FOR), &header, &TOPIC, &nothing, records[64 * 15 + 1].clone());
    assert_eq!(late.err(), Some(OpenError::TooOld));
    assert!(open(&mut b, &records[64 * 19 + 1]).is_ok(), "the newest block stays");
}

#[test]
fn a_crashed_sender_skips_its_reservation_and_tells_its_boot_until_it_is_confirmed() {
    let (mut a, mut b) = pair();
    open(&mut b, &telemetry(&mut a, 1, 1)).unwrap();
    let mut a = crash(&a);
    assert_eq!(
        a.seal(boot(3), at(0), Class::Telemetry, StreamId::default(), &TOPIC, Text::Body(b"")).err(),
        Some(SealError::Reserve)
    );
    let record = telemetry(&mut a, 3, 1);
    assert_eq!(record.len(), 4 + OVERHEAD + SALT_LEN, "36 bytes of overhead");
    assert_eq!(Header::parse(&record).unwrap().block(), RESERVED_BLOCKS);
    let opened = open(&mut b, &record).unwrap();
    assert_eq!(opened.plain, Plain::Telemetry { boot: boot(3), number: 1, payload: b"73.9".to_vec() });
    let mut b = crash(&b);
    a.boot_confirmed(Class::Telemetry, b.peer_boot(Class::Telemetry).unwrap());
    let record = telemetry(&mut a, 3, 2);
    assert_eq!(record.len(), 4 + OVERHEAD);
    let opened = open(&mut b, &record).unwrap();
    assert!(opened.admitted.restored, "the block's bitmap is gone");
    assert_eq!(opened.plain, Plain::Telemetry { boot: boot(3), number: 2, payload: b"73.9".to_vec() });
}

#[test]
fn a_restored_image_repeats_no_pair_of_key_and_nonce() {
    let (mut a, mut b) = pair();
    let image = a.to_row();
    let first = telemetry(&mut a, 1, 1);
    open(&mut b, &first).unwrap();
    // Twice from one image, in two starts: the same counters, other keys.
    let mut keystreams = BTreeSet::new();
    for start in [4, 5] {
        let mut copy = Session::from_row(default_backend(), &image, at(0)).unwrap();
        let record = telemetry(&mut copy, start, 1);
        let clear = Header::parse(&record).unwrap().encoded_len();
        assert!(keystreams.insert(record[clear..].to_vec()));
    }
}

#[test]
fn commands_step_their_key_each_time() {
    let (mut a, mut b) = pair();
    for n in 0..40u8 {
        let sealed = seal_at(&mut a, boot(1), 0, Class::Command, Text::Body(&[n]));
        let opened = open(&mut b, &sealed.record).unwrap();
        assert!(opened.must_write(), "each is written before it is told");
        assert_eq!(opened.plain, Plain::Body(alloc::vec![n]));
        assert_eq!(open(&mut crash(&b), &sealed.record).err(), Some(OpenError::TooOld), "also after a crash");
    }
}

#[test]
fn a_block_closes_after_an_hour() {
    let (mut a, _) = pair();
    let first = seal_at(&mut a, boot(1), 0, Class::Control, Text::Body(b""));
    let later = seal_at(&mut a, boot(1), BLOCK_AGE.as_secs(), Class::Control, Text::Body(b""));
    assert_eq!((first.counter, later.counter), (0, 64));
}

#[test]
fn epochs_change_in_turns_and_a_stolen_state_is_shut_out() {
    let (mut a, mut b) = pair();
    let mut random = Counting(1);
    for epoch in 1..6u16 {
        let (proposer, acceptor) = if epoch % 2 == 1 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let thief = crash(acceptor);
        assert_eq!(acceptor.offer(&mut random).err(), Some(RatchetError::Turn));
        let offer = proposer.offer(&mut random).unwrap();
        assert_eq!(crash(proposer).offer(&mut random), Ok(offer.clone()), "the same after a crash");
        let accept = acceptor.accept(&mut random, &offer).unwrap();
        assert_eq!(acceptor.accept(&mut random, &offer), Ok(accept.clone()), "the same again");
        let mut acceptor_after = crash(acceptor);
        assert_eq!(acceptor_after.accept(&mut random, &offer), Ok(accept.clone()));
        assert_eq!(acceptor.epoch(), epoch - 1, "it switches only on a record");
        let other = Accept { epoch, ciphertext: alloc::vec![1; accept.ciphertext.len()] };
        let forged = crash(proposer).accepted(&Accept { epoch: epoch + 1, ..other });
        assert_eq!(forged, Err(RatchetError::Epoch));
        proposer.accepted(&accept).unwrap();
        let ours = if epoch % 2 == 1 { 1 } else { 2 };
        let first = seal_at(proposer, boot(ours), 0, Class::Control, Text::Body(b"switched")).record;
        let opened = open(acceptor, &first).unwrap();
        assert!(opened.switched && opened.must_write());
        assert_eq!((proposer.epoch(), acceptor.epoch()), (epoch, epoch));
        let mut thief = thief;
        let header = Header::parse(&first).unwrap();
        assert_eq!(thief.open(at(0), &header, &TOPIC, &nothing, first).err(), Some(OpenError::Epoch));
        let theirs = 3 - ours;
        open(proposer, &seal_at(acceptor, boot(theirs), 0, Class::Control, Text::Body(b"")).record).unwrap();
        let next_turn = acceptor.offer(&mut random);
        assert_eq!(next_turn.err(), Some(RatchetError::Busy), "the epoch before is alive");
        assert!(acceptor.expire(Monotonic(EPOCH_DRAIN)) && proposer.expire(Monotonic(EPOCH_DRAIN)));
    }
}

#[test]
fn records_of_the_epoch_before_are_read_until_it_is_over() {
    let (mut a, mut b) = pair();
    let mut random = Counting(2);
    let late = telemetry(&mut a, 1, 1);
    let later = telemetry(&mut a, 1, 2);
    let offer = a.offer(&mut random).unwrap();
    let accept = b.accept(&mut random, &offer).unwrap();
    a.accepted(&accept).unwrap();
    open(&mut b, &telemetry(&mut a, 1, 3)).unwrap();
    assert!(open(&mut b, &late).is_ok());
    b.expire(Monotonic(EPOCH_DRAIN));
    assert_eq!(open(&mut b, &later).err(), Some(OpenError::Epoch));
}

#[test]
fn exported_secrets_agree_and_end_with_either_boot() {
    let (mut a, mut b) = pair();
    let secret = a.export("oscore", b"x", boot(1), 32).unwrap();
    assert_eq!(b.export("oscore", b"x", boot(2), 32), Some(secret.clone()));
    for other in [
        b.export("oscore", b"y", boot(2), 32),
        b.export("other", b"x", boot(2), 32),
        b.export("oscore", b"x", boot(3), 32),
    ] {
        assert_ne!(other, Some(secret.clone()));
    }
    let record = seal_at(&mut a, boot(4), 0, Class::Control, Text::Body(b"")).record;
    open(&mut b, &record).unwrap();
    assert_ne!(b.export("oscore", b"x", boot(2), 32), Some(secret));
    assert_eq!(b.export("oscore", b"x", boot(2), 32), a.export("oscore", b"x", boot(4), 32));
    assert_eq!(a.export("oscore", b"x", boot(1), 256 * 32), None);
}

#[test]
fn a_session_is_packed_where_it_was_before() {
    let (mut a, mut b) = pair();
    a.shrink();
    let (place, mut others) = (a.current.place(), Vec::new());
    assert!(place.is_some());
    for number in 1..100 {
        open(&mut b, &telemetry(&mut a, 1, number)).unwrap();
        assert_eq!(a.current.place(), None, "in use");
        // Others would take it, were it given back.
        others.extend((4..16).map(|size| alloc::vec![0_u8; 64 * size]));
        a.shrink();
        assert_eq!(a.current.place(), place);
    }
    let mut random = Counting(5);
    let offer = a.offer(&mut random).unwrap();
    a.accepted(&b.accept(&mut random, &offer).unwrap()).unwrap();
    a.shrink();
    assert_eq!((a.epoch(), a.current.place()), (1, place), "in the next epoch, too");
}

proptest! {
    #[test]
    fn any_bytes_are_a_row_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), at_byte in any::<usize>()) {
        let _ = Session::from_row(default_backend(), &bytes, at(0));
        let mut row = pair().0.to_row();
        let at_byte = at_byte % row.len();
        row[at_byte] ^= bytes.first().copied().unwrap_or(1);
        let _ = Session::from_row(default_backend(), &row, at(0));
    }
}
