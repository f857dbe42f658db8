//! `handshake_total`: both sides of a handshake, from nothing to two sessions.

use std::hint::black_box;

use pqc_iiot_core::codec::signed::{SigStructure, signer_fingerprint};
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kem::{DecapsulationKey, EncapsulationKey, generate_seed};
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureSet};
use pqc_iiot_core::envelope::Sender;
use pqc_iiot_core::identity::certificate::VerifiedCertificate;
use pqc_iiot_core::ids::SessionId;
use pqc_iiot_core::provider::{PrekeyId, ProviderRequest, ProviderResponse};
use pqc_iiot_core::session::handshake::{Established, Initiate, Initiation, M1, Responder};
use pqc_iiot_core::session::{Role, Session};
use pqc_iiot_provider::random::SystemRandom;
use pqc_iiot_provider::{SecurityProvider, SoftwareProvider};

use super::boot;
use crate::bench::fleet::{Fleet, random, set_of};
use crate::bench::primitives::{Signers, Verifiers};
use crate::bench::{BenchError, Workload};

const SETUP: BenchError = BenchError::Setup("two identities");
const FAILED: BenchError = BenchError::Outcome("a handshake did not complete");

/// Both sides' keys and certificates.
pub(super) struct Ends {
    suite: SessionSuite,
    backend: Backend,
    random: SystemRandom,
    initiator: End,
    responder: End,
    attempt: u64,
}

struct End {
    provider: SoftwareProvider,
    sender: Sender,
    certificate: VerifiedCertificate,
}

/// What a handshake leaves.
pub(super) struct Completed {
    pub(super) sides: [Established; 2],
    /// The packets' lengths; m1's without the initiator's id.
    pub(super) m1: usize,
    pub(super) m2: usize,
}

impl Ends {
    pub(super) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let mut fleet = Fleet::new(suite)?;
        let (initiator, responder) =
            (End::new(&mut fleet, backend, "press-7")?, End::new(&mut fleet, backend, "gateway")?);
        Ok(Self { suite, backend, random: random()?, initiator, responder, attempt: 0 })
    }

    /// One handshake over the responder's static key: a prekey costs the same.
    pub(super) fn handshake(&mut self) -> Result<Completed, BenchError> {
        let Self { suite, backend, random, initiator, responder, attempt } = self;
        *attempt += 1;
        let with = Initiation {
            us: &initiator.sender,
            boot: boot(Role::Initiator),
            sid: SessionId([1; 4]),
            peer: &responder.certificate,
            prekey: PrekeyId::STATIC,
            encapsulation_key: responder.certificate.encapsulation_key(),
            suite: *suite,
            revocation_seq: 0,
            attempt: *attempt,
            gate: None,
        };
        let initiate = Initiate::new(*backend, random, &with).map_err(|_| FAILED)?;
        let signature = initiator.sign(initiate.structure())?;
        let expect = initiate.signed(&signature).map_err(|_| FAILED)?;

        let m1 = M1::parse(expect.m1()).map_err(|_| FAILED)?;
        let suites = [*suite];
        let we = Responder {
            us: &responder.sender,
            accepted: &suites,
            allowed: &suites,
            prekey_required: false,
            encapsulation_key: responder.certificate.encapsulation_key().as_bytes(),
        };
        let checked = m1.check(*backend, &we, &initiator.certificate).map_err(|_| FAILED)?;
        let shared = match responder.provider.execute(checked.request().ok_or(FAILED)?) {
            Ok(ProviderResponse::SharedSecret(shared)) => shared,
            _ => return Err(FAILED),
        };
        let authentic = checked.decapsulated(&shared, &initiator.certificate).map_err(|_| FAILED)?;
        let answer = authentic.answer(random, &responder.sender, SessionId([2; 4]), boot(Role::Responder));
        let answer = answer.map_err(|_| FAILED)?;
        let signature = responder.sign(answer.structure())?;
        let (m2, theirs) = answer.signed(&signature).map_err(|_| FAILED)?;

        let ours = expect.receive_m2(&m2, &responder.certificate).map_err(|_| FAILED)?;
        let m1 = expect.m1().len() - initiator.sender.id.as_str().len();
        Ok(Completed { sides: [ours, theirs], m1, m2: m2.len() })
    }
}

impl End {
    fn new(fleet: &mut Fleet, backend: Backend, name: &str) -> Result<Self, BenchError> {
        let suite = fleet.suite;
        let random = Box::new(random()?);
        let provider = SoftwareProvider::ephemeral(backend, set_of(suite), suite.kem(), random);
        let provider = provider.map_err(|_| SETUP)?;
        let identity = provider.identity().clone();
        let encoded = fleet.certify_device(name, identity.clone())?;
        let certificate = fleet.verify(&encoded, backend)?;
        let sender = Sender {
            id: certificate.claims().subject.clone(),
            fingerprint: certificate.fingerprint(),
            set: identity.set,
            signer: signer_fingerprint(identity.set, &identity.signing_key),
        };
        Ok(Self { provider, sender, certificate })
    }

    fn sign(&self, structure: &SigStructure) -> Result<Vec<u8>, BenchError> {
        match self.provider.execute(ProviderRequest::Sign(structure.clone())) {
            Ok(ProviderResponse::Signature(signature)) => Ok(signature),
            _ => Err(FAILED),
        }
    }
}

/// Baseline: the ephemeral key and its parsing, two encapsulations and decapsulations, and two signatures made and verified.
pub(in crate::bench) struct HandshakeTotal {
    ends: Ends,
    bytes: usize,
    done: Option<[Session; 2]>,
    agreed: bool,
    signers: [Signers; 2],
    verifiers: Verifiers,
}

impl HandshakeTotal {
    pub(in crate::bench) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let mut ends = Ends::new(suite, backend)?;
        let Completed { m1, m2, .. } = ends.handshake()?;
        let structure = structure(&ends.initiator, &ends.responder, suite)?;
        let signature = ends.initiator.sign(&structure)?;
        let set: SignatureSet = ends.initiator.sender.set;
        let public_key = ends.initiator.provider.identity().signing_key.clone();
        let mut verifiers = Verifiers::new(backend, set, &public_key)?;
        verifiers.load(&structure, &signature)?;
        let signers = [
            Signers::new(backend, &mut ends.random, &structure)?,
            Signers::new(backend, &mut ends.random, &structure)?,
        ];
        Ok(Self { ends, bytes: m1 + m2, done: None, agreed: true, signers, verifiers })
    }
}

/// As long as what m1 signs.
fn structure(us: &End, peer: &End, suite: SessionSuite) -> Result<SigStructure, BenchError> {
    let with = Initiation {
        us: &us.sender,
        boot: boot(Role::Initiator),
        sid: SessionId([1; 4]),
        peer: &peer.certificate,
        prekey: PrekeyId::STATIC,
        encapsulation_key: peer.certificate.encapsulation_key(),
        suite,
        revocation_seq: 0,
        attempt: 1,
        gate: None,
    };
    let backend = &pqc_iiot_core::crypto::aws_lc::AWS_LC;
    let initiate = Initiate::new(backend, &mut random()?, &with).map_err(|_| SETUP)?;
    Ok(initiate.structure().clone())
}

impl Workload for HandshakeTotal {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        self.done = None;
        for signers in &mut self.signers {
            signers.number(self.ends.attempt);
        }
        if self.agreed { Ok(()) } else { Err(FAILED) }
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let Completed { sides, .. } = self.ends.handshake()?;
        self.agreed = sides[0].th2 == sides[1].th2;
        let [ours, theirs] = sides.map(|side| Session::new(self.ends.backend, &side.start()));
        self.done = Some([ours.ok_or(FAILED)?, theirs.ok_or(FAILED)?]);
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        const FAILED: BenchError = BenchError::Outcome("a primitive of the baseline failed");
        let Ends { suite, backend, random, responder, .. } = &mut self.ends;
        let kem = suite.kem();
        let seed = generate_seed(kem, random);
        let key = DecapsulationKey::from_seed(*backend, kem, &seed).map_err(|_| FAILED)?;
        let to_static = responder.certificate.encapsulation_key().encapsulate(random);
        let (ciphertext, _) = to_static.map_err(|_| FAILED)?;
        let request = ProviderRequest::Decapsulate { key: PrekeyId::STATIC, ciphertext };
        black_box(responder.provider.execute(request).map_err(|_| FAILED)?);
        let parsed = EncapsulationKey::parse(*backend, kem, key.encapsulation_key()).map_err(|_| FAILED)?;
        let (ciphertext, _) = parsed.encapsulate(random).map_err(|_| FAILED)?;
        black_box(key.decapsulate(&ciphertext).map_err(|_| FAILED)?);
        for signers in &self.signers {
            signers.sign(random)?;
            self.verifiers.verify()?;
        }
        Ok(())
    }
}
