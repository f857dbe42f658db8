//! Two ends over any network, with restarts and changes of the epoch in between.

use super::*;

/// To which side, which message it carries, and the record.
type InFlight = (usize, Option<(u8, u64)>, Vec<u8>);

#[derive(Debug, Clone)]
enum Step {
    Send(usize, u8),
    Deliver(usize),
    Duplicate(usize),
    Crash(usize),
    Rekey,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2usize, 0..3u8).prop_map(|(side, class)| Step::Send(side, class)),
        8 => any::<usize>().prop_map(Step::Deliver),
        2 => any::<usize>().prop_map(Step::Duplicate),
        1 => (0..2usize).prop_map(Step::Crash),
        1 => Just(Step::Rekey),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a network does and whenever either side restarts: no (key, nonce) twice, no record opened twice in one
    /// start, numbers always the ones that were sent, and both sides still understand each other in the end.
    #[test]
    fn any_network_and_any_crash(steps in proptest::collection::vec(step(), 1..400)) {
        let (a, b) = pair();
        let mut sides = [a, b];
        let mut boots = [1u8, 2];
        let mut numbers = [0u64; 2];
        let mut sealed: BTreeSet<(usize, u8, u16, u8, u32)> = BTreeSet::new();
        let mut opened: BTreeSet<(u8, Vec<u8>)> = BTreeSet::new();
        let mut network: Vec<InFlight> = Vec::new();
        let mut random = Counting(3);
        let mut starts = 2u8;
        // What of a start's messages arrived, which is durable, and what of it receipts said.
        let mut arrived: BTreeMap<u8, ReceivedSet> = BTreeMap::new();
        let mut confirmed: BTreeMap<u8, Settled> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Send(side, class) => {
                    let class = Class::ALL[class as usize];
                    let mut said = None;
                    let body = [side as u8];
                    let text = if class == Class::Telemetry {
                        // Now and then many are given up.
                        numbers[side] += if sealed.len().is_multiple_of(16) { 3_000 } else { 1 };
                        said = Some((boots[side], numbers[side]));
                        let confirmed = confirmed.get(&boots[side]).copied().unwrap_or_default();
                        Text::Telemetry { number: numbers[side], confirmed, payload: &body }
                    } else {
                        Text::Body(&body)
                    };
                    let record = seal_at(&mut sides[side], boot(boots[side]), 0, class, text);
                    let name = (side, boots[side], record.epoch, class as u8, record.counter);
                    prop_assert!(sealed.insert(name), "a nonce twice: {name:?}");
                    network.push((1 - side, said, record.record));
                }
                Step::Deliver(which) | Step::Duplicate(which) if !network.is_empty() => {
                    let which = which % network.len();
                    let (to, said, record) = network[which].clone();
                    if matches!(step, Step::Deliver(_)) {
                        network.swap_remove(which);
                    }
                    let header = Header::parse(&record).unwrap();
                    let of = |start: BootId| arrived.get(&start.0[0]).map_or_else(Settled::default, Settled::from);
                    let opened_now = sides[to].open(at(0), &header, &TOPIC, &of, record.clone());
                    let Ok(opened_now) = opened_now else { continue };
                    prop_assert!(opened.insert((boots[to], record)), "opened twice in one start");
                    let other = 1 - to;
                    if let Plain::Telemetry { boot: from, number, .. } = opened_now.plain {
                        prop_assert_eq!(said, Some((from.0[0], number)));
                        let arrived = arrived.entry(from.0[0]).or_default();
                        let _ = arrived.insert(number);
                        if number.is_multiple_of(8) {
                            confirmed.insert(from.0[0], Settled::from(&*arrived));
                        }
                    }
                    for class in Class::ALL {
                        let known = sides[to].peer_boot(class).unwrap();
                        sides[other].boot_confirmed(class, known);
                    }
                }
                Step::Deliver(_) | Step::Duplicate(_) => {}
                Step::Crash(side) => {
                    sides[side] = crash(&sides[side]);
                    starts += 1;
                    boots[side] = starts;
                    numbers[side] = 0;
                }
                Step::Rekey => {
                    let proposer = if sides[0].is_our_turn() { 0 } else { 1 };
                    let [a, b] = &mut sides;
                    let (proposer, acceptor) = if proposer == 0 { (a, b) } else { (b, a) };
                    if let Ok(offer) = proposer.offer(&mut random)
                        && let Ok(accept) = acceptor.accept(&mut random, &offer)
                    {
                        proposer.accepted(&accept).unwrap();
                    }
                    for side in &mut sides {
                        side.expire(Monotonic(EPOCH_DRAIN));
                    }
                }
            }
        }
        for _ in 0..2 {
            for side in 0..2 {
                let record = seal_at(&mut sides[side], boot(boots[side]), 0, Class::Control, Text::Body(b"")).record;
                let done = open(&mut sides[1 - side], &record);
                prop_assert!(done.is_ok() || sides[0].epoch() != sides[1].epoch(), "{:?}", done.err());
            }
        }
        prop_assert_eq!(sides[0].epoch(), sides[1].epoch());
    }
}
