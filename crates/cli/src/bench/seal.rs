//! `envelope_seal`: from content to a signed packet.

use std::hint::black_box;

use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::crypto::signature::{SigningKey, generate_seeds};
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::envelope::{Content, PendingSeal, Recipient, SealError, Sender};
use pqc_iiot_core::ids::{KeyId, StreamId};
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_provider::random::SystemRandom;

use super::fleet::{Fleet, TOPIC, random, set_of};
use super::primitives::{Signers, Symmetric, encapsulate_and_seal, stamp};
use super::{BenchError, Workload};

const FAILED: BenchError = BenchError::Outcome("an envelope was not sealed");

/// Baseline: encapsulation, each half's signature, HKDF and AEAD.
pub(super) struct EnvelopeSeal {
    suite: SessionSuite,
    backend: Backend,
    random: SystemRandom,
    sender: Sender,
    signing: SigningKey,
    recipient: KeyId,
    encapsulation_key: EncapsulationKey,
    content: Content,
    sequence: u64,
    signers: Signers,
    symmetric: Symmetric,
}

impl EnvelopeSeal {
    pub(super) fn new(suite: SessionSuite, backend: Backend, bytes: usize) -> Result<Self, BenchError> {
        const FAILED: BenchError = BenchError::Setup("a sender and a recipient");
        let mut random = random()?;
        let mut fleet = Fleet::new(suite)?;
        let (member, recipient) = (fleet.enrol("press-7")?, fleet.enrol("gateway")?);
        let encapsulation_key =
            EncapsulationKey::parse(backend, suite.kem(), recipient.kem.encapsulation_key())
                .map_err(|_| FAILED)?;
        // The member signs on AWS-LC; what is measured signs on `backend`, so with keys of its own.
        let seeds = generate_seeds(set_of(suite), &mut random);
        let signing = SigningKey::from_seeds(backend, set_of(suite), &seeds).map_err(|_| FAILED)?;
        let (sender, recipient) = (member.sender(), recipient.certificate.key_id());
        let content = Content::telemetry(vec![0x42; bytes]);
        let first = seal(suite, backend, &mut random, &sender, recipient, &encapsulation_key, 1, &content);
        let signers = Signers::new(backend, &mut random, first.map_err(|_| FAILED)?.structure())?;
        let symmetric = Symmetric::new(suite, backend, bytes)?;
        Ok(Self {
            suite,
            backend,
            random,
            sender,
            signing,
            recipient,
            encapsulation_key,
            content,
            sequence: 1,
            signers,
            symmetric,
        })
    }
}

#[allow(clippy::too_many_arguments, reason = "what PendingSeal::new takes")]
fn seal(
    suite: SessionSuite,
    backend: Backend,
    random: &mut SystemRandom,
    sender: &Sender,
    key_id: KeyId,
    encapsulation_key: &EncapsulationKey,
    sequence: u64,
    content: &Content,
) -> Result<PendingSeal, SealError> {
    let recipient = Recipient { key_id, prekey: PrekeyId::STATIC, encapsulation_key, suite };
    PendingSeal::new(
        backend,
        random,
        sender,
        &recipient,
        TOPIC,
        StreamId::default(),
        sequence,
        &content.clone().into(),
    )
}

impl Workload for EnvelopeSeal {
    fn bytes(&self) -> usize {
        self.content.payload.len()
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        self.sequence += 1;
        stamp(&mut self.content.payload, self.sequence);
        self.signers.number(self.sequence);
        self.symmetric.load_plain();
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let Self { suite, backend, random, sender, recipient, encapsulation_key, sequence, content, .. } =
            self;
        let pending =
            seal(*suite, *backend, random, sender, *recipient, encapsulation_key, *sequence, content)
                .map_err(|_| FAILED)?;
        let message = |algorithm| pending.structure().message(algorithm);
        let signature = self.signing.sign(random, &message).map_err(|_| FAILED)?;
        black_box(pending.finish(&signature).ok_or(FAILED)?);
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        encapsulate_and_seal(&self.encapsulation_key, &mut self.random, &mut self.symmetric)?;
        self.signers.sign(&mut self.random)
    }
}
