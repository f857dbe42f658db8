//! `group_*`: one record for all members, and what a seal over 256 of them adds to each.

use std::hint::black_box;

use pqc_iiot_core::crypto::backend::{Backend, RandomSource};
use pqc_iiot_core::crypto::kdf::{HashOutput, hash};
use pqc_iiot_core::crypto::signature::SigningKey;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::group::{
    Delivery, GroupKey, Header, MAX_BATCH, MAX_MESSAGES, Outcome, Publisher, SealPacket, Source, Subscriber,
};
use pqc_iiot_core::identity::certificate::VerifiedCertificate;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_provider::random::SystemRandom;

use super::fleet::{Fleet, TOPIC, now, random, set_of};
use super::primitives::{BareAead, Verifiers, stamp};
use super::report::Row;
use super::{BenchError, Workload};

/// A telemetry reading.
const PAYLOAD: usize = 256;
const FILTER: &str = "plant/+/+/telemetry";

const SETUP: BenchError = BenchError::Setup("a topic group");
const NOT_SEALED: BenchError = BenchError::Outcome("a group record was not sealed");
const NOT_OPENED: BenchError = BenchError::Outcome("a genuine group record was not opened");
const NOT_PROVED: BenchError = BenchError::Outcome("a seal did not prove its batch");

/// A publisher and one member.
struct Group {
    backend: Backend,
    random: SystemRandom,
    signing: SigningKey,
    certificate: VerifiedCertificate,
    source: Source,
    publisher: Publisher,
    member: Subscriber,
    topic: HashOutput,
    sent: u32,
}

impl Group {
    fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let mut random = random()?;
        let mut fleet = Fleet::new(suite)?;
        let press = fleet.enrol("press-7")?;
        let certificate = fleet.verified(&press, backend)?;
        let me = press.sender();
        let source = Source { id: me.id.clone(), fingerprint: me.fingerprint };
        let filter = TopicFilter::new(FILTER).map_err(|_| SETUP)?;
        let at = now().monotonic;
        let mut publisher = Publisher::new(backend, &mut random, suite, me, filter, at).ok_or(SETUP)?;
        // Any identity: only its session would be of importance.
        publisher.add(at, certificate.fingerprint()).map_err(|_| SETUP)?;
        let member = join(&mut publisher, backend, &source, &certificate)?;
        let topic = hash(suite.hash(), &[TOPIC.as_bytes()]);
        let signing = press.signing;
        Ok(Self { backend, random, signing, certificate, source, publisher, member, topic, sent: 0 })
    }

    /// Another epoch before this one ends within a batch.
    fn make_room(&mut self) -> Result<(), BenchError> {
        self.sent += MAX_BATCH as u32;
        if self.sent <= MAX_MESSAGES {
            return Ok(());
        }
        self.sent = MAX_BATCH as u32;
        if !self.publisher.rotate(&mut self.random, now().monotonic) {
            return Err(SETUP);
        }
        self.sign()?;
        self.member = join(&mut self.publisher, self.backend, &self.source, &self.certificate)?;
        Ok(())
    }

    fn publish(&mut self, payload: &[u8]) -> Result<Vec<u8>, BenchError> {
        let published = self.publisher.publish(now().monotonic, self.topic.as_slice(), payload);
        published.map(|published| published.record).map_err(|_| NOT_SEALED)
    }

    /// The last of the seals that wait for their signature.
    fn sign(&mut self) -> Result<Option<Vec<u8>>, BenchError> {
        let mut last = None;
        while let Some(structure) = self.publisher.to_sign() {
            let message = |algorithm| structure.message(algorithm);
            let random: &mut dyn RandomSource = &mut self.random;
            let signature = self.signing.sign(random, &message).map_err(|_| NOT_PROVED)?;
            last = Some(self.publisher.signed(&signature).ok_or(NOT_PROVED)?);
        }
        Ok(last)
    }

    fn batch(&mut self, payload: &[u8]) -> Result<Vec<Vec<u8>>, BenchError> {
        self.make_room()?;
        (0..MAX_BATCH).map(|_| self.publish(payload)).collect()
    }

    fn open(&mut self, record: Vec<u8>) -> Result<Delivery, BenchError> {
        let header = Header::parse(&record).ok_or(NOT_OPENED)?;
        let opened = self.member.open(now().monotonic, &header, self.topic.as_slice(), record);
        opened.map(|opened| opened.delivery).map_err(|_| NOT_OPENED)
    }

    fn prove(&mut self, packet: &[u8]) -> Result<Outcome, BenchError> {
        let packet = SealPacket::parse(packet).ok_or(NOT_PROVED)?;
        self.member.receive_seal(&self.certificate, &packet).map_err(|_| NOT_PROVED)
    }
}

fn join(
    publisher: &mut Publisher,
    backend: Backend,
    source: &Source,
    certificate: &VerifiedCertificate,
) -> Result<Subscriber, BenchError> {
    let key: GroupKey = publisher.hand_out(&certificate.fingerprint()).ok_or(SETUP)?;
    publisher.handed(&certificate.fingerprint());
    Subscriber::new(backend, source.clone(), &key).map_err(|_| SETUP)
}

/// Baseline: the AEAD of as many bytes under a ready key, in place.
pub(super) struct GroupSeal {
    group: Group,
    payload: Vec<u8>,
    sealed: Vec<Vec<u8>>,
    aead: BareAead,
}

impl GroupSeal {
    pub(super) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let (group, aead) = (Group::new(suite, backend)?, BareAead::new(suite, backend, PAYLOAD)?);
        Ok(Self { group, payload: vec![0x42; PAYLOAD], sealed: Vec::with_capacity(MAX_BATCH), aead })
    }
}

impl Workload for GroupSeal {
    fn operations(&self) -> usize {
        MAX_BATCH
    }

    fn bytes(&self) -> usize {
        PAYLOAD
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        if let Some(record) = self.sealed.pop() {
            check(&self.group.open(record)?, &self.payload)?;
            if let Some(seal) = self.group.sign()? {
                self.group.prove(&seal)?;
            }
        }
        self.sealed.clear();
        stamp(&mut self.payload, u64::from(self.group.sent));
        self.group.make_room()
    }

    fn run(&mut self) -> Result<(), BenchError> {
        for _ in 0..MAX_BATCH {
            self.sealed.push(black_box(self.group.publish(&self.payload)?));
        }
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        (0..MAX_BATCH).try_for_each(|_| self.aead.seal())
    }
}

/// Baseline: the AEAD of as many bytes under a ready key, in place.
pub(super) struct GroupOpen {
    group: Group,
    payload: Vec<u8>,
    records: Vec<Vec<u8>>,
    last: Option<Delivery>,
    aead: BareAead,
}

impl GroupOpen {
    pub(super) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let (group, aead) = (Group::new(suite, backend)?, BareAead::new(suite, backend, PAYLOAD)?);
        Ok(Self { group, payload: vec![0x42; PAYLOAD], records: Vec::new(), last: None, aead })
    }
}

impl Workload for GroupOpen {
    fn operations(&self) -> usize {
        MAX_BATCH
    }

    fn bytes(&self) -> usize {
        PAYLOAD
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        if let Some(delivery) = self.last.take() {
            check(&delivery, &self.payload)?;
        }
        // What the batch before came to: the window moves with its seal.
        if let Some(seal) = self.group.sign()? {
            self.group.prove(&seal)?;
        }
        stamp(&mut self.payload, u64::from(self.group.sent));
        self.records = self.group.batch(&self.payload)?;
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        for record in self.records.drain(..) {
            self.last = Some(black_box(self.group.open(record)?));
        }
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        (0..MAX_BATCH).try_for_each(|_| self.aead.open())
    }
}

/// From a seal to the proof of its 256 records, per record. Baseline: the two halves' verification.
pub(super) struct GroupProve {
    group: Group,
    payload: Vec<u8>,
    seal: Vec<u8>,
    verifiers: Verifiers,
}

impl GroupProve {
    pub(super) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let group = Group::new(suite, backend)?;
        let verifiers = Verifiers::new(backend, set_of(suite), group.signing.public_key())?;
        Ok(Self { group, payload: vec![0x42; PAYLOAD], seal: Vec::new(), verifiers })
    }
}

impl Workload for GroupProve {
    fn operations(&self) -> usize {
        MAX_BATCH
    }

    fn bytes(&self) -> usize {
        PAYLOAD
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        // A baseline leaves its seal, and the window moves with it.
        let left = std::mem::take(&mut self.seal);
        if !left.is_empty() {
            self.group.prove(&left)?;
        }
        stamp(&mut self.payload, u64::from(self.group.sent));
        for record in self.group.batch(&self.payload)? {
            self.group.open(record)?;
        }
        let structure = self.group.publisher.to_sign().ok_or(NOT_PROVED)?;
        self.seal = self.group.sign()?.ok_or(NOT_PROVED)?;
        let signature = self.seal.len().checked_sub(set_of(self.group.publisher.suite()).signature_len());
        let signature = signature.and_then(|at| self.seal.get(at..)).ok_or(NOT_PROVED)?;
        self.verifiers.load(&structure, signature)
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let seal = std::mem::take(&mut self.seal);
        let outcome = black_box(self.group.prove(&seal)?);
        if outcome.upgrades.len() == MAX_BATCH { Ok(()) } else { Err(NOT_PROVED) }
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        self.verifiers.verify()
    }
}

fn check(delivery: &Delivery, expected: &[u8]) -> Result<(), BenchError> {
    match delivery {
        Delivery::Member(message) if message.unattributed() == expected => Ok(()),
        _ => Err(NOT_OPENED),
    }
}

/// What groups add to a message on the wire, in bytes: to each record, and by a full batch's seal.
pub(super) fn sizes(suite: SessionSuite, targets: bool) -> Result<[Row; 2], BenchError> {
    let mut group = Group::new(suite, &pqc_iiot_core::crypto::aws_lc::AWS_LC)?;
    let records = group.batch(&[0x42; PAYLOAD])?;
    let overhead = records.first().ok_or(NOT_SEALED)?.len() - PAYLOAD;
    let seal = group.sign()?.ok_or(NOT_PROVED)?.len();
    let signature = set_of(suite).signature_len();
    let per_message = |bytes: usize| bytes as f64 / MAX_BATCH as f64;
    let target = |target| Some(target).filter(|_| targets);
    Ok([
        Row::size("group_overhead_bytes", suite, PAYLOAD, overhead as f64, 16.0, target(31.0)),
        Row::size(
            "group_seal_bytes",
            suite,
            PAYLOAD,
            per_message(seal),
            per_message(signature),
            target(16.0),
        ),
    ])
}
