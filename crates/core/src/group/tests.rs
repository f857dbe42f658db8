#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod gcm;
mod insiders;
mod network;
mod wire;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::codec::signed::{ToBeSigned, Unverified, signer_fingerprint};
use crate::crypto::backend::RandomSource;
use crate::crypto::default_backend;
use crate::crypto::kdf::HashOutput;
use crate::crypto::kem;
use crate::crypto::signature::{self, SigningKey};
use crate::crypto::suite::{Kem, SessionSuite, SignatureSet};
use crate::envelope::Sender;
use crate::identity::certificate::{
    MAX_CERTIFICATE, OperationalCertificate, Serial, Tier, VerifiedCertificate,
};
use crate::identity::keys::PublicIdentity;
use crate::time::{Monotonic, UnixTime};
use crate::topic::TopicFilter;

const TOPIC: &str = "plant/press/7/temperature";
const FILTER: &str = "plant/press/+/temperature";

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

fn peer(n: u8) -> Fingerprint {
    Fingerprint([n; 32])
}

fn topic_hash(suite: SessionSuite) -> HashOutput {
    crate::crypto::kdf::hash(suite.hash(), &[TOPIC.as_bytes()])
}

/// A publishing identity.
struct Identity {
    key: SigningKey,
    certificate: VerifiedCertificate,
    sender: Sender,
}

impl Identity {
    fn new(id: &str, seed: u64) -> Self {
        let (set, mut random) = (SignatureSet::Ed25519MlDsa65, Counting(seed));
        let seeds = signature::generate_seeds(set, &mut random);
        let key = SigningKey::from_seeds(default_backend(), set, &seeds).unwrap();
        let kem_seed = kem::generate_seed(Kem::XWing, &mut random);
        let kem_key = kem::DecapsulationKey::from_seed(default_backend(), Kem::XWing, &kem_seed).unwrap();
        let signer = signer_fingerprint(set, key.public_key());
        let claims = OperationalCertificate {
            issuer: signer,
            subject: PeerId::new(id).unwrap(),
            serial: Serial([0; 16]),
            not_before: UnixTime(0),
            not_after: UnixTime(u64::MAX),
            keys: PublicIdentity {
                set,
                signing_key: key.public_key().to_vec(),
                kem: Kem::XWing,
                encapsulation_key: kem_key.encapsulation_key().to_vec(),
            },
            key_epoch: 1,
            tier: Tier::Device,
            suites: alloc::vec![SessionSuite::Hybrid],
            prekey_required: true,
            grants: Vec::new(),
        };
        let to_sign = ToBeSigned::new(&claims, set, signer, &());
        let signature = key.sign(&mut random, &|half| to_sign.structure().message(half)).unwrap();
        let encoded = to_sign.assemble(&signature).unwrap();
        let decoded = Unverified::<OperationalCertificate>::decode(&encoded, MAX_CERTIFICATE).unwrap();
        let issuer =
            crate::codec::signed::SignerKey::parse(default_backend(), set, key.public_key()).unwrap();
        let signed = decoded.verify(&issuer, &()).unwrap();
        let certificate = VerifiedCertificate::self_issued(default_backend(), signed).unwrap();
        let sender =
            Sender { id: PeerId::new(id).unwrap(), fingerprint: certificate.fingerprint(), set, signer };
        Self { key, certificate, sender }
    }

    fn source(&self) -> Source {
        Source { id: self.sender.id.clone(), fingerprint: self.sender.fingerprint }
    }

    fn publisher(&self, suite: SessionSuite, seed: u64) -> Publisher {
        let (me, filter) = (self.sender.clone(), TopicFilter::new(FILTER).unwrap());
        Publisher::new(default_backend(), &mut Counting(seed), suite, me, filter, at(0)).unwrap()
    }

    /// All seals that wait for their signature.
    fn sign(&self, publisher: &mut Publisher) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while let Some(structure) = publisher.to_sign() {
            let signature = self.key.sign(&mut Counting(1), &|half| structure.message(half)).unwrap();
            packets.push(publisher.signed(&signature).unwrap());
        }
        packets
    }

    fn subscriber(&self, key: &GroupKey) -> Subscriber {
        // Over the wire, as the pairwise session carries it.
        let key = GroupKey::decode(key.encode().expose()).unwrap();
        Subscriber::new(default_backend(), self.source(), &key).unwrap()
    }

    fn seal(&self, subscriber: &mut Subscriber, packet: &[u8]) -> Result<Outcome, SealError> {
        subscriber.receive_seal(&self.certificate, &SealPacket::parse(packet).unwrap())
    }
}

fn join(publisher: &mut Publisher, identity: &Identity, n: u8) -> Subscriber {
    publisher.add(at(0), peer(n)).unwrap();
    let key = publisher.hand_out(&peer(n)).unwrap();
    publisher.handed(&peer(n));
    identity.subscriber(&key)
}

fn publish(publisher: &mut Publisher, payload: &[u8]) -> Vec<u8> {
    let hash = topic_hash(publisher.suite);
    publisher.publish(at(0), hash.as_slice(), payload).unwrap().record
}

fn publish_many(publisher: &mut Publisher, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| publish(publisher, &(n as u32).to_be_bytes())).collect()
}

fn open(subscriber: &mut Subscriber, record: &[u8]) -> Result<Opened, OpenError> {
    let header = Header::parse(record).unwrap();
    let hash = topic_hash(subscriber.suite());
    subscriber.open(at(0), &header, hash.as_slice(), record.to_vec())
}

fn member_message(opened: Opened) -> FromMember<Vec<u8>> {
    let Delivery::Member(message) = opened.delivery else { panic!("verified") };
    message
}

fn crash(subscriber: &Subscriber) -> Subscriber {
    Subscriber::from_row(default_backend(), subscriber.to_row().expose()).unwrap()
}

#[test]
fn three_subscribers_read_one_record_and_its_seal_proves_the_publisher() {
    let identity = Identity::new("press-7", 1);
    for suite in SessionSuite::ALL {
        let mut publisher = identity.publisher(suite, 2);
        let mut subscribers: Vec<_> = (1..=3).map(|n| join(&mut publisher, &identity, n)).collect();
        let records = publish_many(&mut publisher, MAX_BATCH);
        assert!(records.iter().all(|record| record.len() == 4 + 31), "31 bytes of overhead");
        let seals = identity.sign(&mut publisher);
        assert_eq!(seals.len(), 1);
        for subscriber in &mut subscribers {
            let mut messages = BTreeMap::new();
            for (n, record) in (0u32..).zip(&records) {
                let message = member_message(open(subscriber, record).unwrap());
                assert_eq!(message.unattributed(), &n.to_be_bytes());
                messages.insert(n, message);
                assert_eq!(open(subscriber, record).err(), Some(OpenError::Replay));
            }
            let outcome = identity.seal(subscriber, &seals[0]).unwrap();
            assert_eq!((outcome.upgrades.len(), outcome.forged.len(), outcome.missing), (256, 0, None));
            let mut before = None;
            for upgrade in &outcome.upgrades {
                let message = messages.remove(&upgrade.name().counter).unwrap();
                let message = match before.replace(*upgrade) {
                    Some(other) => message.upgrade(&other).expect_err("another's upgrade"),
                    None => message,
                };
                let verified = message.upgrade(upgrade).unwrap();
                assert_eq!(verified.get(), &upgrade.name().counter.to_be_bytes());
            }
            assert!(messages.is_empty());
            assert_eq!(identity.seal(subscriber, &seals[0]).err(), Some(SealError::Replay));
            assert_eq!(open(subscriber, &records[7]).err(), Some(OpenError::Replay), "after the seal too");
        }
    }
}

#[test]
fn a_seal_costs_at_most_sixteen_bytes_a_message() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    publish_many(&mut publisher, MAX_BATCH);
    let seal = &identity.sign(&mut publisher)[0];
    let per_message = seal.len() as f64 / MAX_BATCH as f64;
    assert!(per_message <= 16.0, "{per_message} bytes");
    publisher.add(at(0), peer(1)).unwrap();
    let key = publisher.hand_out(&peer(1)).unwrap().encode();
    assert_eq!(key.expose().len(), 109 + FILTER.len());
}

#[test]
fn a_batch_closes_when_its_time_has_come() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    assert_eq!(publisher.deadline(), None);
    assert!(!publisher.tick(at(1000)), "nothing to seal");
    let record = publish(&mut publisher, b"1");
    let deadline = publisher.deadline().unwrap();
    assert_eq!(deadline, Monotonic(MIN_INTERVAL));
    assert!(!publisher.tick(at(4)) && publisher.tick(deadline));
    open(&mut subscriber, &record).unwrap();
    let seals = identity.sign(&mut publisher);
    assert_eq!(identity.seal(&mut subscriber, &seals[0]).unwrap().upgrades.len(), 1);
    publish(&mut publisher, b"2");
    assert!(publisher.deadline().unwrap() > Monotonic(MIN_INTERVAL), "slow telemetry waits longer");
}

#[test]
fn a_member_that_joins_reads_nothing_earlier_and_one_that_is_removed_nothing_later() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut first = join(&mut publisher, &identity, 1);
    let earlier = publish_many(&mut publisher, 70);
    let mut second = join(&mut publisher, &identity, 2);
    let later = publish_many(&mut publisher, 3);
    assert_eq!(Header::parse(&later[0]).unwrap().counter, 128, "the next block");
    for record in &earlier {
        open(&mut first, record).unwrap();
        assert_eq!(open(&mut second, record).err(), Some(OpenError::TooOld));
    }
    for record in &later {
        open(&mut first, record).unwrap();
        open(&mut second, record).unwrap();
    }
    assert!(publisher.remove(&mut Counting(9), at(0), &peer(1)));
    let seals = identity.sign(&mut publisher);
    assert_eq!(seals.len(), 2, "up to the join, and the last of the epoch");
    for (seal, upgraded) in seals.iter().zip([70, 3]) {
        assert_eq!(identity.seal(&mut first, seal).unwrap().upgrades.len(), upgraded);
    }
    assert_eq!(identity.seal(&mut second, &seals[0]).err(), Some(SealError::TooOld));
    assert_eq!(identity.seal(&mut second, &seals[1]).unwrap().upgrades.len(), 3);
    assert!(first.is_over() && second.is_over());

    let new = publish(&mut publisher, b"secret");
    let header = Header::parse(&new).unwrap();
    assert_eq!((header.epoch, header.counter), (1, 0));
    assert_eq!(open(&mut first, &new).err(), Some(OpenError::UnknownGroup));
    first.epoch = 1;
    first.floor = 0;
    first.batches.kept.clear();
    assert_eq!(open(&mut first, &new).err(), Some(OpenError::Unauthentic), "the old key is of no use");
    assert_eq!(publisher.hand_out(&peer(1)).map(|_| ()), None);
    let mut second = identity.subscriber(&publisher.hand_out(&peer(2)).unwrap());
    assert_eq!(member_message(open(&mut second, &new).unwrap()).unattributed(), b"secret");
}

#[test]
fn a_publisher_rotates_by_messages_age_and_boot() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let hash = topic_hash(publisher.suite);
    publisher.add(at(0), peer(1)).unwrap();
    assert!(!publisher.wants_rotation(at(24 * 3600 - 1)) && publisher.wants_rotation(at(24 * 3600)));
    for n in 0..MAX_MESSAGES {
        assert!(!publisher.wants_rotation(at(0)), "after {n}");
        publish(&mut publisher, b"");
        identity.sign(&mut publisher);
    }
    assert!(publisher.wants_rotation(at(0)));
    assert_eq!(publisher.publish(at(0), hash.as_slice(), b"").err(), Some(PublishError::Rotate));
    let gid = publisher.gid();
    assert!(publisher.rotate(&mut Counting(3), at(0)));
    assert_eq!((publisher.gid(), publisher.epoch()), (gid, 1));
    publish(&mut publisher, b"");

    let row = publisher.to_row();
    let backend = default_backend();
    let booted =
        Publisher::from_row(backend, &mut Counting(4), identity.sender.clone(), &row, at(0)).unwrap();
    assert_ne!(booted.gid(), gid, "a restored image repeats no group epoch");
    assert!(booted.members().pending().eq([&peer(1)]), "members wait for the new key");
}

#[test]
fn signatures_that_do_not_come_stop_publishing_and_not_memory() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let hash = topic_hash(publisher.suite);
    let mut sealed = 0;
    while publisher.publish(at(0), hash.as_slice(), b"").is_ok() {
        sealed += 1;
    }
    assert_eq!(sealed, MAX_UNSIGNED * MAX_BATCH);
    assert_eq!(publisher.publish(at(0), hash.as_slice(), b"").err(), Some(PublishError::Unsigned));
    for _ in 0..100 {
        publisher.rotate(&mut Counting(1), at(0));
        publisher.tick(at(10_000));
    }
    assert_eq!(identity.sign(&mut publisher).len(), MAX_UNSIGNED + 1);
    assert!(publisher.publish(at(0), hash.as_slice(), b"").is_ok());
}

#[test]
fn membership_is_bounded_and_a_waiting_member_keeps_its_claim() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    publisher.add(at(0), peer(1)).unwrap();
    let record = publish(&mut publisher, b"1");
    publisher.add(at(0), peer(1)).unwrap();
    let mut subscriber = identity.subscriber(&publisher.hand_out(&peer(1)).unwrap());
    assert!(open(&mut subscriber, &record).is_ok(), "admitted before the record");
    publisher.handed(&peer(1));
    assert!(publisher.hand_out(&peer(1)).is_none());
    publisher.add(at(0), peer(1)).unwrap();
    let again = publisher.hand_out(&peer(1)).unwrap();
    assert_eq!(again.start, 1, "a member that lost its key starts at the next block");
    for n in 1..MAX_MEMBERS as u32 {
        let mut other = [0; 32];
        other[..4].copy_from_slice(&n.to_be_bytes());
        publisher.add(at(0), Fingerprint(other)).unwrap();
    }
    assert_eq!(publisher.add(at(0), Fingerprint([0xff; 32])), Err(MembersFull));
    assert_eq!(publisher.members().len(), MAX_MEMBERS);
    assert!(!publisher.remove(&mut Counting(1), at(0), &Fingerprint([0xff; 32])), "no member");
    assert_eq!(publisher.epoch(), 0, "nobody left");
}

#[test]
fn a_block_ends_after_an_hour_and_its_batch_with_it() {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    let hash = topic_hash(publisher.suite);
    let first = publish(&mut publisher, b"1");
    let later = publisher.publish(Monotonic(BLOCK_AGE), hash.as_slice(), b"2").unwrap();
    assert!(later.sign && later.counter == BLOCK_LEN);
    assert!(publisher.tick(Monotonic(2 * BLOCK_AGE)));
    for record in [&first, &later.record] {
        open(&mut subscriber, record).unwrap();
    }
    for seal in identity.sign(&mut publisher) {
        assert_eq!(identity.seal(&mut subscriber, &seal).unwrap().upgrades.len(), 1);
    }
    assert_eq!(subscriber.head, BLOCK_LEN + 1);
}
