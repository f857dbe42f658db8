//! `envelope_open`: from a packet to verified content.

use std::hint::black_box;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kem::{DecapsulationKey, EncapsulationKey, generate_seed};
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::envelope::{Content, Packet, PendingOpen, PendingSeal, Recipient};
use pqc_iiot_core::identity::certificate::VerifiedCertificate;
use pqc_iiot_core::ids::{KeyId, StreamId};
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_provider::random::SystemRandom;

use super::fleet::{Fleet, Member, TOPIC, random, set_of};
use super::primitives::{Symmetric, Verifiers, stamp};
use super::{BenchError, Workload};

const FAILED: BenchError = BenchError::Outcome("a genuine envelope was not opened");

/// Baseline: each half's verification, decapsulation, HKDF and AEAD.
pub(super) struct EnvelopeOpen {
    backend: Backend,
    decapsulation_key: DecapsulationKey,
    certificate: VerifiedCertificate,
    source: Source,
    packet: Vec<u8>,
    ciphertext: Vec<u8>,
    verifiers: Verifiers,
    symmetric: Symmetric,
}

/// A device that seals the packets to open, on AWS-LC whatever opens them.
struct Source {
    suite: SessionSuite,
    random: SystemRandom,
    member: Member,
    recipient: KeyId,
    encapsulation_key: EncapsulationKey,
    content: Content,
    sequence: u64,
}

impl EnvelopeOpen {
    pub(super) fn new(suite: SessionSuite, backend: Backend, bytes: usize) -> Result<Self, BenchError> {
        const FAILED: BenchError = BenchError::Setup("a sender and a recipient");
        let mut random = random()?;
        let mut fleet = Fleet::new(suite)?;
        let member = fleet.enrol("press-7")?;
        let seed = generate_seed(suite.kem(), &mut random);
        let decapsulation_key =
            DecapsulationKey::from_seed(backend, suite.kem(), &seed).map_err(|_| FAILED)?;
        let encapsulation_key =
            EncapsulationKey::parse(&AWS_LC, suite.kem(), decapsulation_key.encapsulation_key())
                .map_err(|_| FAILED)?;
        let certificate = fleet.verified(&member, backend)?;
        let verifiers = Verifiers::new(backend, set_of(suite), member.signing.public_key())?;
        let source = Source {
            suite,
            random,
            member,
            recipient: KeyId([9; KeyId::LEN]),
            encapsulation_key,
            content: Content::telemetry(vec![0x42; bytes]),
            sequence: 0,
        };
        Ok(Self {
            backend,
            decapsulation_key,
            certificate,
            source,
            packet: Vec::new(),
            ciphertext: Vec::new(),
            verifiers,
            symmetric: Symmetric::new(suite, backend, bytes)?,
        })
    }
}

impl Source {
    fn seal(&mut self, verifiers: &mut Verifiers) -> Result<Vec<u8>, BenchError> {
        const FAILED: BenchError = BenchError::Setup("an envelope to open");
        self.sequence += 1;
        stamp(&mut self.content.payload, self.sequence);
        let recipient = Recipient {
            key_id: self.recipient,
            prekey: PrekeyId::STATIC,
            encapsulation_key: &self.encapsulation_key,
            suite: self.suite,
        };
        let pending = PendingSeal::new(
            &AWS_LC,
            &mut self.random,
            &self.member.sender(),
            &recipient,
            TOPIC,
            StreamId::default(),
            self.sequence,
            &self.content.clone().into(),
        )
        .map_err(|_| FAILED)?;
        let message = |algorithm| pending.structure().message(algorithm);
        let signature = self.member.signing.sign(&mut self.random, &message).map_err(|_| FAILED)?;
        verifiers.load(pending.structure(), &signature)?;
        pending.finish(&signature).ok_or(FAILED)
    }
}

impl Workload for EnvelopeOpen {
    fn bytes(&self) -> usize {
        self.source.content.payload.len()
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        self.packet = self.source.seal(&mut self.verifiers)?;
        let packet = Packet::parse(&self.packet).map_err(|_| FAILED)?;
        let pending = PendingOpen::verify(&packet, &self.certificate, TOPIC).map_err(|_| FAILED)?;
        self.ciphertext = pending.kem_ciphertext().to_vec();
        self.symmetric.load_sealed();
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let packet = Packet::parse(&self.packet).map_err(|_| FAILED)?;
        let pending = PendingOpen::verify(&packet, &self.certificate, TOPIC).map_err(|_| FAILED)?;
        let shared = self.decapsulation_key.decapsulate(pending.kem_ciphertext()).map_err(|_| FAILED)?;
        let key = self.decapsulation_key.encapsulation_key();
        let opened = pending.finish(self.backend, &shared, key, TOPIC).map_err(|_| FAILED)?;
        black_box(&opened);
        if opened.body == pqc_iiot_core::envelope::Body::from(self.source.content.clone()) {
            Ok(())
        } else {
            Err(FAILED)
        }
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        self.verifiers.verify()?;
        let shared = self.decapsulation_key.decapsulate(&self.ciphertext).map_err(|_| FAILED)?;
        self.symmetric.open(&shared)
    }
}
