//! Loss, reordering, duplicates, restarts, and an insider among it all.

use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn lost_records_cost_their_leaves_and_lost_seals_only_their_own_batch() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    let mut batches = Vec::new();
    for _ in 0..4 {
        let records = publish_many(&mut publisher, MAX_BATCH);
        batches.push((records, identity.sign(&mut publisher).remove(0)));
    }
    // The first seal comes last but one, the second never.
    for (n, (records, _)) in batches.iter().enumerate() {
        for record in records.iter().skip(n) {
            open(&mut subscriber, record).unwrap();
        }
    }
    let mut verified = Vec::new();
    for n in [3, 0, 2] {
        let outcome = identity.seal(&mut subscriber, &batches[n].1).unwrap();
        let outcome = match outcome.missing {
            Some(asked) => {
                assert_eq!(asked.which.len(), n, "what was lost, not more");
                let answer = publisher.leaves(&MissingLeaves::decode(&asked.encode()).unwrap()).unwrap();
                subscriber.receive_leaves(&Leaves::decode(&answer.encode()).unwrap()).unwrap()
            }
            None => outcome,
        };
        assert_eq!(outcome.upgrades.len(), MAX_BATCH - n);
        verified.push(outcome.upgrades.len());
    }
    let Delivery::Verified(late) = open(&mut subscriber, &batches[3].0[1]).unwrap().delivery else {
        panic!()
    };
    assert_eq!(late.get(), &1u32.to_be_bytes());
}

#[test]
fn a_seal_waits_for_records_that_it_overtook() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    let records = publish_many(&mut publisher, MAX_BATCH);
    let seal = identity.sign(&mut publisher).remove(0);
    let asked = identity.seal(&mut subscriber, &seal).unwrap().missing.unwrap();
    assert_eq!(asked.which.len(), MAX_BATCH);
    let (last, before) = records.split_last().unwrap();
    for record in before {
        assert_eq!(open(&mut subscriber, record).unwrap().outcome, Outcome::default());
    }
    assert!(subscriber.missing()[0].which.iter().eq([255]), "what still misses");
    let opened = open(&mut subscriber, last).unwrap();
    assert_eq!(opened.outcome.upgrades.len(), MAX_BATCH);
    assert!(subscriber.missing().is_empty());
    assert_eq!(
        subscriber.receive_leaves(&publisher.leaves(&asked).unwrap()).err(),
        Some(LeavesError::Unasked)
    );
}

#[test]
fn after_any_loss_the_next_seal_reopens_the_window() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    let mut lost = publish_many(&mut publisher, 256);
    for _ in 0..40 {
        lost = publish_many(&mut publisher, 256);
        identity.sign(&mut publisher);
    }
    assert_eq!(open(&mut subscriber, &lost[0]).err(), Some(OpenError::TooFar));
    publish_many(&mut publisher, 256);
    let seal = identity.sign(&mut publisher).remove(0);
    identity.seal(&mut subscriber, &seal).unwrap();
    assert!(open(&mut subscriber, &lost[0]).is_ok(), "a little behind the seal");
    assert!(open(&mut subscriber, &publish(&mut publisher, b"")).is_ok());
    assert!(subscriber.blocks.len() as u32 <= (MAX_AHEAD + MAX_BEHIND) / BLOCK_LEN + 1);
}

#[test]
fn what_is_kept_behind_the_newest_seal_is_bounded() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    let mut seals = Vec::new();
    for n in 1..=20u64 {
        publish(&mut publisher, b"1");
        assert!(publisher.tick(at(n * 1000)));
        seals.extend(identity.sign(&mut publisher));
        identity.seal(&mut subscriber, seals.last().unwrap()).unwrap();
        assert!(subscriber.batches.kept.len() <= MAX_BATCHES && subscriber.missing().len() <= MAX_BATCHES);
    }
    assert_eq!(subscriber.floor, 12);
    assert_eq!(identity.seal(&mut subscriber, &seals[3]).err(), Some(SealError::TooOld));
    let oldest = subscriber.missing()[0];
    assert!(publisher.leaves(&oldest).is_some(), "the publisher keeps as many");
    assert_eq!(publisher.leaves(&MissingLeaves { first: 11, ..oldest }), None);
    let mut beyond = oldest;
    beyond.which.insert(1);
    assert_eq!(publisher.leaves(&beyond), None, "no such place");
}

#[test]
fn a_restart_forgets_candidates_and_never_verifies_twice() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    let records = publish_many(&mut publisher, 2 * MAX_BATCH);
    let seals = identity.sign(&mut publisher);
    let mut names = Vec::new();
    for record in &records {
        names.push(*member_message(open(&mut subscriber, record).unwrap()).name());
    }
    assert_eq!(identity.seal(&mut subscriber, &seals[0]).unwrap().upgrades.len(), MAX_BATCH);
    let mut subscriber = crash(&subscriber);
    assert_eq!(identity.seal(&mut subscriber, &seals[0]).err(), Some(SealError::Replay));
    assert_eq!(open(&mut subscriber, &records[0]).err(), Some(OpenError::TooOld));
    assert!(!subscriber.remember(at(0), &names[0]), "decided");
    assert!(names[MAX_BATCH..].iter().all(|name| subscriber.remember(at(0), name)));
    assert!(!subscriber.remember(at(0), &names[MAX_BATCH]), "remembered already");
    assert_eq!(open(&mut subscriber, &records[MAX_BATCH]).err(), Some(OpenError::Replay));
    assert_eq!(identity.seal(&mut subscriber, &seals[1]).unwrap().upgrades.len(), MAX_BATCH);
    assert!(subscriber.missing().is_empty());
}

#[test]
fn lost_seals_are_given_again_as_long_as_their_batches_are_kept() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    let (gid, epoch) = (publisher.gid(), publisher.epoch());
    for batch in 0..10u64 {
        let record = publish(&mut publisher, b"1");
        open(&mut subscriber, &record).unwrap();
        assert_eq!(publisher.seal_after(gid, epoch, batch as u32), SealAfter::NotYet, "open");
        publisher.tick(at(1000 * (batch + 1)));
        assert_eq!(publisher.seal_after(gid, epoch, batch as u32), SealAfter::NotYet, "not signed");
        identity.sign(&mut publisher);
    }
    let waiting = subscriber.undecided().unwrap().unsealed.unwrap();
    assert_eq!((waiting.from, waiting.made), (0, false));
    // The first two are forgotten, and what is given instead says so.
    let SealAfter::Seal(packet) = publisher.seal_after(gid, epoch, 0) else { panic!() };
    let first = SealPacket::parse(packet).unwrap().first();
    assert_eq!(first, 2);
    assert_eq!(identity.seal(&mut subscriber, packet).unwrap().upgrades.len(), 1);
    assert!(subscriber.undecided().unwrap().unsealed.unwrap().made, "there is a later one");
    assert_eq!(subscriber.give_up_between(0, first).len(), 2);
    assert!(subscriber.give_up_between(0, first).is_empty(), "once");
    assert_eq!(subscriber.undecided().unwrap().unsealed.unwrap().from, 3);
    assert!(publisher.knows(gid) && !publisher.knows(crate::ids::GroupId([0; 7])));
    publisher.rotate(&mut Counting(9), at(20_000));
    assert!(matches!(publisher.seal_after(gid, epoch, 9), SealAfter::Seal(_)), "of the epoch before");
    assert_eq!(publisher.seal_after(gid, epoch, 10), SealAfter::Never);
    publisher.finish(at(20_000));
    assert_eq!(publisher.publish(at(20_000), &[], b"").err(), Some(PublishError::Finished));
    assert!(!publisher.wants_rotation(at(999_999)));
}

#[test]
fn no_seal_is_waited_for_between_two_that_follow_on_each_other() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    publish(&mut publisher, b"1");
    // A new member ends the block: the rest of its counters stays unused.
    publisher.add(at(0), peer(2)).unwrap();
    publish(&mut publisher, b"2");
    publisher.tick(at(1000));
    let seals = identity.sign(&mut publisher);
    open(&mut subscriber, &insiders::forge(&mut join(&mut publisher, &identity, 3), 200, b"")).unwrap();
    let forged = insiders::forge(&mut subscriber, 9, b"");
    open(&mut subscriber, &forged).unwrap();
    identity.seal(&mut subscriber, &seals[1]).unwrap();
    assert_eq!(subscriber.undecided().unwrap().unsealed.unwrap().from, 9, "one may be missing");
    identity.seal(&mut subscriber, &seals[0]).unwrap();
    assert_eq!(subscriber.undecided().unwrap().unsealed.unwrap().from, 200);
    assert_eq!(subscriber.unproved().len(), 2);
    assert!(subscriber.give_up_until(at(0)).len() == 2 && subscriber.undecided().is_none());
}

#[test]
fn what_the_window_leaves_behind_is_given_back() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    let mut seal = Vec::new();
    for batch in 0..6 {
        let records = publish_many(&mut publisher, MAX_BATCH);
        if batch == 0 {
            open(&mut subscriber, &records[7]).unwrap();
        }
        seal = identity.sign(&mut publisher).remove(0);
    }
    let outcome = identity.seal(&mut subscriber, &seal).unwrap();
    assert!(outcome.unproved.iter().map(|name| name.counter).eq([7]));
    assert_eq!(subscriber.undecided(), None);
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u8),
    Tick,
    Forge(u8),
    Deliver(u16),
    Duplicate(u16),
    Lose(u16),
    Answer,
    Crash,
    Join,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40u8).prop_map(Step::Publish),
        2 => Just(Step::Tick),
        3 => any::<u8>().prop_map(Step::Forge),
        40 => any::<u16>().prop_map(Step::Deliver),
        4 => any::<u16>().prop_map(Step::Duplicate),
        2 => any::<u16>().prop_map(Step::Lose),
        4 => Just(Step::Answer),
        1 => Just(Step::Crash),
        1 => Just(Step::Join),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever a network and an insider do: only what the publisher sent is verified, nothing is verified twice, also
    /// over restarts; and once all seals and leaves are there, everything that was received and had room is.
    #[test]
    fn any_network_any_crash_and_an_insider(steps in proptest::collection::vec(step(), 1..300)) {
        let identity = Identity::new("press-7", 1);
        let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
        let mut subscriber = join(&mut publisher, &identity, 1);
        let mut insider = join(&mut publisher, &identity, 2);
        let mut network: Vec<Vec<u8>> = Vec::new();
        let mut genuine: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        // Told since the last restart, by name; and what the publisher vouched for, ever.
        let mut told: BTreeMap<(u32, Vec<u8>), FromMember<Vec<u8>>> = BTreeMap::new();
        let mut verified: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let (mut forged, mut random, mut now, mut joined) = (BTreeSet::new(), Counting(5), 0, 10u8);
        let (mut sent, mut drained) = (0u32, false);
        let mut queue: Vec<Step> = steps.into_iter().rev().collect();
        loop {
            let Some(step) = queue.pop() else {
                if drained {
                    break;
                }
                // In the end the network delivers the rest, and the publisher answers.
                drained = true;
                queue.extend([Step::Answer, Step::Answer]);
                queue.extend((0..network.len() + 8).map(|_| Step::Deliver(0)));
                queue.push(Step::Tick);
                continue;
            };
            let mut outcome = Outcome::default();
            match step {
                Step::Publish(count) => {
                    for _ in 0..count {
                        let Ok(out) = publisher.publish(at(now), topic_hash(publisher.suite).as_slice(), &sent.to_be_bytes()) else { break };
                        genuine.insert(out.counter, sent.to_be_bytes().to_vec());
                        sent += 1;
                        network.push(out.record);
                    }
                    network.extend(identity.sign(&mut publisher));
                }
                Step::Tick => {
                    now += 400;
                    publisher.tick(at(now));
                    network.extend(identity.sign(&mut publisher));
                }
                Step::Join => {
                    joined += 1;
                    publisher.add(at(now), peer(joined)).unwrap();
                    network.extend(identity.sign(&mut publisher));
                }
                Step::Forge(ahead) => {
                    let mut counter = [0; 2];
                    random.fill(&mut counter);
                    let counter = insider.floor + u32::from(u16::from_be_bytes(counter)) % (u32::from(ahead) + 1);
                    network.push(super::insiders::forge(&mut insider, counter, b"forged"));
                }
                Step::Deliver(which) | Step::Duplicate(which) if !network.is_empty() => {
                    let which = usize::from(which) % network.len().min(300);
                    let packet = network[which].clone();
                    if matches!(step, Step::Deliver(_)) {
                        network.remove(which);
                    }
                    if packet[0] == TYPE_SEAL {
                        outcome = identity.seal(&mut subscriber, &packet).unwrap_or_default();
                        prop_assert!(subscriber.batches.kept.len() <= MAX_BATCHES);
                    } else if let Ok(opened) = open(&mut subscriber, &packet) {
                        outcome = opened.outcome;
                        match opened.delivery {
                            Delivery::Member(message) => {
                                let name = (message.name().counter, message.name().leaf.as_slice().to_vec());
                                prop_assert!(told.insert(name, message).is_none(), "told twice in one start");
                            }
                            Delivery::Verified(message) => {
                                let counter = message.name().counter;
                                prop_assert!(verified.insert(counter, message.into_inner()).is_none(), "twice");
                            }
                        }
                    }
                }
                Step::Lose(which) if !network.is_empty() => {
                    let which = usize::from(which) % network.len();
                    network.remove(which);
                }
                Step::Deliver(_) | Step::Duplicate(_) | Step::Lose(_) => {}
                Step::Answer => {
                    for asked in subscriber.missing() {
                        let Some(answer) = publisher.leaves(&asked) else { continue };
                        let more = subscriber.receive_leaves(&answer).unwrap();
                        outcome.upgrades.extend(more.upgrades);
                        outcome.forged.extend(more.forged);
                    }
                }
                Step::Crash => {
                    subscriber = crash(&subscriber);
                    told.clear();
                }
            }
            for upgrade in outcome.upgrades {
                let name = upgrade.name();
                let message = told.remove(&(name.counter, name.leaf.as_slice().to_vec())).expect("told before");
                let message = message.upgrade(&upgrade).expect("its own upgrade");
                prop_assert!(verified.insert(name.counter, message.into_inner()).is_none(), "verified twice");
            }
            for counter in outcome.forged {
                prop_assert!(forged.insert(counter), "told twice of a forgery");
            }
            prop_assert!(subscriber.candidates.len() as u32 <= 2 * (MAX_AHEAD + MAX_BEHIND));
            prop_assert!(subscriber.blocks.len() as u32 <= (MAX_AHEAD + MAX_BEHIND) / BLOCK_LEN + 2);
        }
        for (counter, payload) in &verified {
            prop_assert_eq!(genuine.get(counter), Some(payload), "only what the publisher sent");
        }
        // Everything genuine that was told and whose batch is decided was upgraded.
        for ((counter, _), message) in &told {
            let decided = subscriber.batches.kept.iter().any(|batch| batch.contains(*counter))
                && subscriber.missing().iter().all(|asked| asked.first > *counter || asked.first + 256 <= *counter);
            if decided && *counter >= subscriber.floor {
                prop_assert!(genuine.get(counter) != Some(message.unattributed()), "left behind: {}", counter);
            }
        }
    }
}
