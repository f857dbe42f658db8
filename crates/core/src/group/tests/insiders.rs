//! What a member, or a publisher, may try against the others.

use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};

use super::gcm::two_keyed;
use super::*;
use crate::group::seal::Seal;
use crate::ids::GroupId;

/// A record by somebody who has a subscriber's keys.
pub(super) fn forge(insider: &mut Subscriber, counter: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { gid: insider.gid(), epoch: insider.epoch(), counter };
    let hash = topic_hash(insider.suite());
    let aad = header.associated_data(hash.as_slice());
    let (backend, suite, binding) = (insider.backend, insider.suite, insider.binding);
    let keys = insider.blocks.keys(backend, suite, &binding, header.block()).unwrap();
    let mut record = [aad.header(), payload].concat();
    keys.seal(counter, &aad, &mut record).unwrap();
    record
}

fn group() -> (Identity, Publisher, Subscriber, Subscriber) {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let subscriber = join(&mut publisher, &identity, 1);
    let insider = join(&mut publisher, &identity, 2);
    (identity, publisher, subscriber, insider)
}

#[test]
fn a_forgery_takes_no_counter_is_never_upgraded_and_is_told_once() {
    let (identity, mut publisher, mut subscriber, mut insider) = group();
    let forged = forge(&mut insider, 0, b"open the valve");
    assert_eq!(member_message(open(&mut subscriber, &forged).unwrap()).name().counter, 0);
    let records = publish_many(&mut publisher, 256);
    for record in &records {
        assert!(open(&mut subscriber, record).is_ok(), "the genuine one still has room");
    }
    let third = forge(&mut insider, 0, b"close the valve");
    assert_eq!(open(&mut subscriber, &third).err(), Some(OpenError::Crowded));
    let seal = &identity.sign(&mut publisher)[0];
    let outcome = identity.seal(&mut subscriber, seal).unwrap();
    let asked = outcome.missing.unwrap();
    assert!(asked.which.iter().eq([0]), "two candidates, one leaf to ask for");
    assert!(outcome.upgrades.is_empty());
    let outcome = subscriber.receive_leaves(&publisher.leaves(&asked).unwrap()).unwrap();
    assert_eq!((outcome.upgrades.len(), outcome.forged), (256, alloc::vec![0]));
    let genuine = Header::parse(&records[0]).unwrap().counter;
    assert_eq!(outcome.upgrades[0].name().counter, genuine);
    assert_eq!(open(&mut subscriber, &third).err(), Some(OpenError::Replay), "told of counter 0 before");
    let other = forge(&mut insider, 1, b"another");
    assert_eq!(open(&mut subscriber, &other).err(), Some(OpenError::Forged));
    assert_eq!(open(&mut subscriber, &other).err(), Some(OpenError::Replay), "told once");
}

#[test]
fn a_forgery_in_place_of_a_lost_record_does_not_spoil_its_batch() {
    let (identity, mut publisher, mut subscriber, mut insider) = group();
    let records = publish_many(&mut publisher, 256);
    for record in &records[..255] {
        open(&mut subscriber, record).unwrap();
    }
    let forged = forge(&mut insider, 255, b"forged");
    open(&mut subscriber, &forged).unwrap();
    let seal = &identity.sign(&mut publisher)[0];
    let asked = identity.seal(&mut subscriber, seal).unwrap().missing.unwrap();
    assert_eq!(asked.which.len(), 256, "which one is forged does not show");
    let mut wrong = publisher.leaves(&asked).unwrap();
    wrong.leaves.swap(3, 4);
    assert_eq!(subscriber.receive_leaves(&wrong).err(), Some(LeavesError::Wrong));
    let outcome = subscriber.receive_leaves(&publisher.leaves(&asked).unwrap()).unwrap();
    assert_eq!((outcome.upgrades.len(), outcome.forged), (255, alloc::vec![255]));
    let Delivery::Verified(late) = open(&mut subscriber, &records[255]).unwrap().delivery else { panic!() };
    assert_eq!(late.get(), &255u32.to_be_bytes(), "late, and verified at once");
    assert_eq!(open(&mut subscriber, &records[255]).err(), Some(OpenError::Replay));
}

#[test]
fn an_insider_neither_burns_counters_nor_jumps_the_chain_nor_fills_memory() {
    let (identity, mut publisher, mut subscriber, mut insider) = group();
    let row = subscriber.to_row();
    let mut accepted = 0;
    for counter in 0..MAX_BLOCKS * BLOCK_LEN {
        for payload in [b"a", b"b", b"c"] {
            // Only the window's blocks are forged; what is beyond is refused before any work.
            let record = match counter {
                ..1024 => forge(&mut insider, counter, payload),
                _ => {
                    let header = Header { gid: insider.gid(), epoch: 0, counter };
                    [header.associated_data(&[]).header(), &[0; 20]].concat()
                }
            };
            match open(&mut subscriber, &record) {
                Ok(_) => accepted += 1,
                Err(OpenError::Crowded | OpenError::TooFar) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_eq!(accepted, MAX_CANDIDATES as u32 * MAX_AHEAD);
    assert_eq!(subscriber.candidates.len() as u32, accepted);
    assert!(subscriber.blocks.len() as u32 <= MAX_AHEAD / BLOCK_LEN + 1);
    assert!(subscriber.to_row() == row, "nothing moved");
    // The publisher's seals still move everything, and what comes after them is read and proved.
    for _ in 0..6 {
        for record in publish_many(&mut publisher, 256) {
            let _ = open(&mut subscriber, &record);
        }
        let seal = &identity.sign(&mut publisher)[0];
        let outcome = identity.seal(&mut subscriber, seal).unwrap();
        if let Some(asked) = outcome.missing {
            let outcome = subscriber.receive_leaves(&publisher.leaves(&asked).unwrap()).unwrap();
            assert_eq!((outcome.upgrades.len(), outcome.forged.len()), (0, 256), "all taken by forgeries");
        } else {
            assert_eq!(outcome.upgrades.len(), 256);
        }
    }
    assert_eq!(subscriber.head, 6 * 256);
    assert_eq!(subscriber.candidates.len(), 0);
}

#[test]
fn only_the_publishers_signature_seals() {
    let (identity, mut publisher, mut subscriber, _) = group();
    publish_many(&mut publisher, 256);
    let seal = identity.sign(&mut publisher).remove(0);
    let other = Identity::new("insider", 7);
    let packet = SealPacket::parse(&seal).unwrap();
    let refused = subscriber.receive_seal(&other.certificate, &packet);
    assert_eq!(refused.err(), Some(SealError::BadSignature));
    let mut forged = seal.clone();
    for byte in [1, 9, 13, 16, 17, 49, 81, 200, seal.len() - 1] {
        forged[byte] ^= 1;
        let refused =
            SealPacket::parse(&forged).map(|packet| subscriber.receive_seal(&identity.certificate, &packet));
        assert!(refused.is_none_or(|refused| refused.is_err()), "byte {byte}");
        forged[byte] ^= 1;
    }
    assert_eq!(subscriber.head, 0);
    assert!(identity.seal(&mut subscriber, &seal).is_ok());
}

/// A seal that the publisher really signs, of whatever it wants.
fn dishonest(identity: &Identity, subscriber: &Subscriber, seal: Seal) -> Vec<u8> {
    let (sender, source) = (&identity.sender, identity.source());
    let structure =
        seal.structure(sender.set, sender.signer, &source, subscriber.filter(), subscriber.commitment());
    seal.packet(&identity.key.sign(&mut Counting(1), &|half| structure.message(half)).unwrap())
}

#[test]
fn a_publisher_that_signs_two_histories_is_found() {
    let (identity, mut publisher, mut subscriber, _) = group();
    publish_many(&mut publisher, 512);
    let seals = identity.sign(&mut publisher);
    for seal in &seals {
        identity.seal(&mut subscriber, seal).unwrap();
    }
    let genuine = subscriber.batches.kept[1].seal;
    let zeros = genuine.root;
    for seal in [
        Seal { root: zeros, previous: genuine.root, ..genuine },
        Seal { first: 100, count: 10, ..genuine },
        Seal { first: 512, count: 1, previous: zeros, ..genuine },
        Seal { first: 400, count: 200, ..genuine },
        Seal { first: 256, count: 0, last: true, ..genuine },
    ] {
        let packet = dishonest(&identity, &subscriber, seal);
        assert_eq!(identity.seal(&mut subscriber, &packet).err(), Some(SealError::Equivocation), "{seal:?}");
    }
    assert_eq!(subscriber.head, 512);
}

#[test]
fn a_key_is_the_one_committed_to() {
    let (identity, mut publisher, ..) = group();
    publisher.add(at(0), peer(3)).unwrap();
    let key = publisher.hand_out(&peer(3)).unwrap();
    let other = identity.publisher(SessionSuite::Hybrid, 99);
    let (gid, epoch) = (key.gid, key.epoch);
    let with = |change: &dyn Fn(&mut GroupKey)| {
        let mut changed = key.clone();
        change(&mut changed);
        Subscriber::new(default_backend(), identity.source(), &changed).err()
    };
    assert_eq!(with(&|_| {}), None);
    let mut other = other;
    other.add(at(0), peer(3)).unwrap();
    let secret = other.hand_out(&peer(3)).unwrap().secret.clone();
    assert_eq!(with(&|key| key.secret = secret.clone()), Some(KeyError::Commitment));
    assert_eq!(with(&|key| key.gid = GroupId([0; 7])), Some(KeyError::Commitment));
    assert_eq!(with(&|key| key.epoch = epoch + 1), Some(KeyError::Commitment));

    let mut all = Subscriptions::default();
    assert_eq!(all.accept(default_backend(), identity.source(), &key), Ok(Accepted::New { dropped: None }));
    assert_eq!(all.accept(default_backend(), identity.source(), &key), Ok(Accepted::Known));
    let mut second = other.hand_out(&peer(3)).unwrap();
    (second.gid, second.epoch) = (gid, epoch);
    let refused = all.accept(default_backend(), identity.source(), &second);
    assert_eq!(refused, Err(KeyError::Equivocation), "two keys for one group epoch");
}

/// The hash key of an AES-256-GCM key, and the mask of the tag for a nonce.
fn hash_key(key: &[u8; 32], iv: [u8; 12]) -> (u128, u128) {
    let encrypt = |input: [u8; 16]| {
        let mut input = input.into();
        Aes256::new(key.into()).encrypt_block(&mut input);
        u128::from_be_bytes(input.into())
    };
    let mut j0 = [0; 16];
    j0[..12].copy_from_slice(&iv);
    j0[15] = 1;
    (encrypt([0; 16]), encrypt(j0))
}

#[test]
fn one_ciphertext_under_two_keys_is_verified_by_those_with_the_sealed_key_only() {
    let (identity, mut publisher, ..) = group();
    publish(&mut publisher, b"");
    publisher.add(at(0), peer(3)).unwrap();
    publisher.tick(at(1000));
    let key = publisher.hand_out(&peer(3)).unwrap();
    assert_eq!(key.start, 1);
    // Later members have no seed to check: the publisher hands another chain key to one of them.
    let mut other = key.clone();
    other.secret = crate::crypto::secret::SecretBytes::new(alloc::vec![7; 32]);
    let subscribers = [&key, &other].map(|key| identity.subscriber(key));
    let header = Header { gid: key.gid, epoch: key.epoch, counter: BLOCK_LEN };
    let hash = topic_hash(key.suite);
    let aad = header.associated_data(hash.as_slice());
    let mut secrets = [([0; 32], [0; 12]); 2];
    for (subscriber, (key, iv)) in subscribers.iter().zip(&mut secrets) {
        let (_, chain) = subscriber.blocks.oldest().unwrap();
        let (seed, _) = chain.step().unwrap();
        let info = [crate::crypto::labels::GROUP_BLOCK.as_bytes(), subscriber.binding.as_slice()].concat();
        let mut okm = [0; 76];
        seed.expand(&info, &mut okm).unwrap();
        key.copy_from_slice(&okm[..32]);
        *iv = crate::session::nonce(okm[32..44].try_into().unwrap(), header.counter);
    }
    let [(key1, iv1), (key2, iv2)] = &secrets;
    let record =
        [aad.header(), &two_keyed([hash_key(key1, *iv1), hash_key(key2, *iv2)], aad.as_slice())].concat();
    let [mut honest, mut deceived] = subscribers;
    let said = [&mut honest, &mut deceived].map(|one| member_message(open(one, &record).unwrap()));
    assert_ne!(said[0].unattributed(), said[1].unattributed(), "one record, two plaintexts");
    assert_ne!(said[0].name().leaf, said[1].name().leaf, "and two leaves");

    let seal = Seal {
        gid: key.gid,
        epoch: key.epoch,
        first: BLOCK_LEN,
        count: 1,
        root: said[0].name().leaf,
        previous: key.last_seal,
        last: false,
    };
    let packet = dishonest(&identity, &honest, seal);
    assert_eq!(identity.seal(&mut honest, &packet).unwrap().upgrades.len(), 1);
    let outcome = identity.seal(&mut deceived, &packet).unwrap();
    assert!(outcome.upgrades.is_empty() && outcome.missing.is_some());
    let answer = Leaves { asked: outcome.missing.unwrap(), leaves: alloc::vec![said[0].name().leaf] };
    let outcome = deceived.receive_leaves(&answer).unwrap();
    assert_eq!((outcome.upgrades.len(), outcome.forged), (0, alloc::vec![BLOCK_LEN]));
}

#[test]
fn nobody_passes_anothers_chain_off_as_its_own() {
    let (_, mut publisher, mut genuine, _) = group();
    publish(&mut publisher, b"");
    publisher.add(at(0), peer(3)).unwrap();
    let key = publisher.hand_out(&peer(3)).unwrap();
    let thief = Identity::new("insider", 7);
    let mut misled = Subscriber::new(default_backend(), thief.source(), &key).unwrap();
    let record = publish(&mut publisher, b"mine");
    assert_eq!(open(&mut misled, &record).err(), Some(OpenError::Unauthentic));
    assert!(open(&mut genuine, &record).is_ok());
}

#[test]
fn a_record_before_its_key_is_held_and_a_foreign_group_of_the_same_id_does_not_hide_it() {
    let (identity, mut publisher, ..) = group();
    publisher.add(at(0), peer(3)).unwrap();
    let key = publisher.hand_out(&peer(3)).unwrap();
    let record = publish(&mut publisher, b"early");
    let header = Header::parse(&record).unwrap();
    let mut all = Subscriptions::default();
    assert_eq!(all.open(at(0), TOPIC, &header, &record).err(), Some(OpenError::UnknownGroup));
    // Members know the id: one of them hands out a group of its own with it.
    let thief = Identity::new("insider", 7);
    let mut squatter = thief.publisher(SessionSuite::Hybrid, 2);
    assert_eq!(squatter.gid(), key.gid, "the same random source");
    squatter.add(at(0), peer(3)).unwrap();
    all.accept(default_backend(), thief.source(), &squatter.hand_out(&peer(3)).unwrap()).unwrap();
    assert!(all.open(at(0), TOPIC, &header, &record).is_err());
    all.accept(default_backend(), identity.source(), &key).unwrap();
    assert_eq!(
        all.open(at(0), "plant/press/7/pressure", &header, &record).err(),
        Some(OpenError::UnknownGroup)
    );
    let other_topic = all.open(at(0), "plant/press/8/temperature", &header, &record);
    assert_eq!(other_topic.err(), Some(OpenError::Unauthentic), "the topic is bound");
    let opened = all.open(at(0), TOPIC, &header, &record).unwrap();
    assert_eq!(member_message(opened).name().publisher, identity.sender.fingerprint);
    publisher.tick(at(1000));
    let seal = identity.sign(&mut publisher).remove(0);
    let packet = SealPacket::parse(&seal).unwrap();
    assert_eq!(all.sources(TOPIC, &packet).len(), 2);
    assert_eq!(all.receive_seal(TOPIC, &identity.certificate, &packet).unwrap().upgrades.len(), 1);
    assert_eq!(all.receive_seal(TOPIC, &thief.certificate, &packet).err(), Some(SealError::BadSignature));
    all.remove_source(&thief.sender.fingerprint);
    assert_eq!(all.len(), 1);
}

#[test]
fn an_answer_that_does_not_suffice_is_followed_by_asking_for_all() {
    let (identity, mut publisher, mut subscriber, mut insider) = group();
    let records = publish_many(&mut publisher, 256);
    for record in &records[2..] {
        open(&mut subscriber, record).unwrap();
    }
    let forged = forge(&mut insider, 1, b"forged");
    open(&mut subscriber, &forged).unwrap();
    let seal = identity.sign(&mut publisher).remove(0);
    let asked = identity.seal(&mut subscriber, &seal).unwrap().missing.unwrap();
    assert!(asked.which.iter().eq([0]), "counter 1 has a candidate");
    let outcome = subscriber.receive_leaves(&publisher.leaves(&asked).unwrap()).unwrap();
    let asked = outcome.missing.unwrap();
    assert_eq!((asked.which.len(), outcome.upgrades.len()), (256, 0));
    assert_eq!(subscriber.missing(), [asked], "also on the caller's timer");
    let outcome = subscriber.receive_leaves(&publisher.leaves(&asked).unwrap()).unwrap();
    assert_eq!((outcome.upgrades.len(), outcome.forged), (254, alloc::vec![1]));
}

#[test]
fn contradictions_show_in_any_order_and_after_the_end() {
    let (identity, mut publisher, mut subscriber, _) = group();
    let records = publish_many(&mut publisher, 513);
    publisher.rotate(&mut Counting(3), at(0));
    let seals = identity.sign(&mut publisher);
    identity.seal(&mut subscriber, &seals[1]).unwrap();
    let later = subscriber.batches.kept[0].seal;
    let earlier = Seal { first: 0, previous: subscriber.batches.anchor.1, ..later };
    let packet = dishonest(&identity, &subscriber, earlier);
    assert_eq!(
        identity.seal(&mut subscriber, &packet).err(),
        Some(SealError::Equivocation),
        "not its predecessor"
    );
    let foreign = Seal { previous: later.root, ..earlier };
    let packet = dishonest(&identity, &subscriber, foreign);
    assert_eq!(
        identity.seal(&mut subscriber, &packet).err(),
        Some(SealError::Equivocation),
        "not the hand-out's"
    );
    identity.seal(&mut subscriber, &seals[0]).unwrap();
    open(&mut subscriber, &records[512]).unwrap();
    assert_eq!(identity.seal(&mut subscriber, &seals[2]).unwrap().upgrades.len(), 1);
    let after = Header { gid: subscriber.gid(), epoch: 0, counter: 513 };
    assert_eq!(subscriber.precheck(&after).err(), Some(OpenError::TooFar), "nothing follows the last");
    let more = Seal { first: 600, count: 1, ..later };
    let packet = dishonest(&identity, &subscriber, more);
    assert_eq!(identity.seal(&mut subscriber, &packet).err(), Some(SealError::Equivocation));
}

#[test]
fn what_publishers_hand_out_is_bounded() {
    let identity = Identity::new("press-7", 1);
    let mut all = Subscriptions::default();
    let mut take = |identity: &Identity, seed: u64, filter: &str| {
        let (me, filter) = (identity.sender.clone(), TopicFilter::new(filter).unwrap());
        let (backend, random) = (default_backend(), &mut Counting(seed));
        let mut publisher = Publisher::new(backend, random, SessionSuite::Hybrid, me, filter, at(0)).unwrap();
        publisher.add(at(0), peer(1)).unwrap();
        let key = publisher.hand_out(&peer(1)).unwrap();
        (all.accept(backend, identity.source(), &key), key.gid, all.len())
    };
    let (_, first, _) = take(&identity, 0, FILTER);
    assert_eq!(take(&identity, 1, FILTER).0, Ok(Accepted::New { dropped: None }));
    let (accepted, _, len) = take(&identity, 2, FILTER);
    let oldest = (identity.sender.fingerprint, first, 0);
    assert_eq!((accepted, len), (Ok(Accepted::New { dropped: Some(oldest) }), MAX_EPOCHS));
    let mut taken = MAX_EPOCHS;
    for n in 0..MAX_PER_SOURCE as u64 + 1 {
        let (accepted, ..) = take(&identity, 100 + n, &alloc::format!("many/{n}"));
        assert_eq!(accepted.is_ok(), n < (MAX_PER_SOURCE - MAX_EPOCHS) as u64, "{n}");
        taken += usize::from(accepted.is_ok());
    }
    assert_eq!(take(&identity, 1000, "many/x").2, taken);
    assert!(taken <= MAX_GROUPS);
}

/// Publishers that agree on an id occupy no other's.
#[test]
fn an_id_that_many_publishers_share_is_still_everyones_own() {
    let (_, mut publisher, ..) = group();
    publisher.add(at(0), peer(3)).unwrap();
    let key = publisher.hand_out(&peer(3)).unwrap();
    let record = publish(&mut publisher, b"genuine");
    let header = Header::parse(&record).unwrap();
    let mut all = Subscriptions::default();
    for n in 0..3 * MAX_SAME_ID as u64 {
        let thief = Identity::new(&alloc::format!("thief-{n}"), 50 + n);
        let mut squatter = thief.publisher(SessionSuite::Hybrid, 2);
        assert_eq!(squatter.gid(), key.gid, "the same random source");
        squatter.add(at(0), peer(3)).unwrap();
        let squatted = squatter.hand_out(&peer(3)).unwrap();
        all.accept(default_backend(), thief.source(), &squatted).unwrap();
    }
    let identity = Identity::new("press-7", 1);
    all.accept(default_backend(), identity.source(), &key).unwrap();
    let opened = all.open(at(0), TOPIC, &header, &record).unwrap();
    assert_eq!(member_message(opened).name().publisher, identity.sender.fingerprint);
    assert_eq!(all.sources_of(TOPIC, key.gid, 0).len(), 3 * MAX_SAME_ID + 1);
    all.prefer(&identity.sender.fingerprint, key.gid, 0);
    assert_eq!(all.sources_of(TOPIC, key.gid, 0)[0], identity.source(), "tried first from now on");
}

/// What one that did not make a record says of it is nobody's word: its window may be anywhere, and its counters full.
#[test]
fn a_publisher_of_the_same_id_does_not_refuse_anothers_records() {
    let (identity, mut publisher, ..) = group();
    publisher.add(at(0), peer(3)).unwrap();
    let key = publisher.hand_out(&peer(3)).unwrap();
    let records = publish_many(&mut publisher, 2);
    let thief = Identity::new("thief", 50);
    let mut squatter = thief.publisher(SessionSuite::Hybrid, 2);
    squatter.add(at(0), peer(3)).unwrap();
    let squatted = squatter.hand_out(&peer(3)).unwrap();
    let mut all = Subscriptions::default();
    all.accept(default_backend(), thief.source(), &squatted).unwrap();
    let one = all.get_mut(&thief.sender.fingerprint, key.gid, 0).unwrap();
    let first = Header::parse(&records[0]).unwrap();
    for n in 0..MAX_CANDIDATES {
        let forged = forge(one, first.counter, &[n as u8]);
        open(one, &forged).unwrap();
    }
    all.accept(default_backend(), identity.source(), &key).unwrap();
    assert!(all.open(at(0), TOPIC, &first, &records[0]).is_ok(), "its counter is full at the other's");
    let one = all.get_mut(&thief.sender.fingerprint, key.gid, 0).unwrap();
    (one.floor, one.head) = (2_000, 2_000);
    let second = Header::parse(&records[1]).unwrap();
    assert!(all.open(at(0), TOPIC, &second, &records[1]).is_ok(), "it is too old for the other");
    let forged = [&records[1][..records[1].len() - 1], &[!records[1][records[1].len() - 1]]].concat();
    assert!(all.open(at(0), TOPIC, &second, &forged).is_err());
}

/// Sixteen that take all they may leave none for anybody else, unless somebody gives way.
#[test]
fn publishers_with_much_give_way_to_those_with_less() {
    let mut all = Subscriptions::default();
    let take = |all: &mut Subscriptions, identity: &Identity, n: u64| {
        let (me, filter) = (identity.sender.clone(), TopicFilter::new(&alloc::format!("many/{n}")).unwrap());
        let (backend, random) = (default_backend(), &mut Counting(n + 1));
        let mut publisher = Publisher::new(backend, random, SessionSuite::Hybrid, me, filter, at(0)).unwrap();
        publisher.add(at(0), peer(1)).unwrap();
        all.accept(backend, identity.source(), &publisher.hand_out(&peer(1)).unwrap())
    };
    let greedy: Vec<_> = (0..16).map(|n| Identity::new(&alloc::format!("greedy-{n}"), 50 + n)).collect();
    for identity in &greedy {
        for n in 0..MAX_PER_SOURCE as u64 {
            assert_eq!(take(&mut all, identity, n), Ok(Accepted::New { dropped: None }));
        }
    }
    assert_eq!(all.len(), MAX_GROUPS);
    let modest = Identity::new("press-7", 1);
    for n in 0..3 {
        let Ok(Accepted::New { dropped: Some((of, ..)) }) = take(&mut all, &modest, n) else { panic!("{n}") };
        assert!(greedy.iter().any(|identity| identity.sender.fingerprint == of));
    }
    assert_eq!(all.len(), MAX_GROUPS);
    assert!(take(&mut all, &greedy[0], 999).is_err(), "for one with as many as any other there is none");
    assert_eq!(all.of_source(&modest.sender.fingerprint).count(), 3, "and nothing of the modest one's");
}
