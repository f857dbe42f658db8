//! An authority, three certified peers, and the exchange between two of them.

use std::collections::BTreeMap;

use pqc_iiot_core::codec::signed::SigStructure;
use pqc_iiot_core::crypto::backend::{Backend, RandomSource};
use pqc_iiot_core::crypto::kem::{DecapsulationKey, EncapsulationKey, generate_seed};
use pqc_iiot_core::crypto::portable::PORTABLE;
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::signature::{SigningKey, generate_seeds};
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureSet};
use pqc_iiot_core::envelope::Sender;
use pqc_iiot_core::identity::authority::{Authority, AuthoritySeeds};
use pqc_iiot_core::identity::certificate::{OperationalCertificate, Serial, Tier, VerifiedCertificate};
use pqc_iiot_core::identity::keys::PublicIdentity;
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::ids::{BootId, PeerId, SessionId};
use pqc_iiot_core::provider::{PrekeyId, ProviderRequest};
use pqc_iiot_core::session::handshake::{
    Authentic, CheckedM1, Established, ExpectM2, Initiate, Initiation, M1, M1Refusal, M2Refusal, Responder,
};
use pqc_iiot_core::time::UnixTime;
use shake::{ExtendableOutput, Shake256, Shake256Reader, Update, XofReader};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const PREKEY: PrekeyId = PrekeyId(7);
pub(crate) const OTHER_PREKEY: PrekeyId = PrekeyId(8);

/// Every backend of this build.
pub(crate) fn backends() -> Vec<Backend> {
    vec![
        &PORTABLE,
        #[cfg(feature = "aws-lc")]
        &pqc_iiot_core::crypto::aws_lc::AWS_LC,
    ]
}

/// The build's own.
pub(crate) fn backend() -> Backend {
    pqc_iiot_core::crypto::default_backend()
}

/// SHAKE-256 of a label: the same bytes in every run.
pub(crate) struct Stream(Shake256Reader);

impl Stream {
    pub(crate) fn new(label: &str) -> Self {
        let mut shake = Shake256::default();
        shake.update(label.as_bytes());
        Self(shake.finalize_xof())
    }
}

impl RandomSource for Stream {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.read(out);
    }
}

/// A certified peer with its secrets.
pub(crate) struct Peer {
    pub(crate) backend: Backend,
    pub(crate) sender: Sender,
    pub(crate) signing: SigningKey,
    pub(crate) certificate: VerifiedCertificate,
    pub(crate) prekeys: BTreeMap<PrekeyId, (DecapsulationKey, EncapsulationKey)>,
    pub(crate) sid: SessionId,
    pub(crate) boot: BootId,
    claims: OperationalCertificate,
}

impl Peer {
    pub(crate) fn sign(&self, structure: &SigStructure) -> Vec<u8> {
        let mut random = Stream::new("signing");
        self.signing.sign(&mut random, &|algorithm| structure.message(algorithm)).unwrap()
    }

    pub(crate) fn prekey(&self, id: PrekeyId) -> &EncapsulationKey {
        &self.prekeys[&id].1
    }

    pub(crate) fn decapsulate(&self, id: PrekeyId, ciphertext: &[u8]) -> Secret<32> {
        self.prekeys[&id].0.decapsulate(ciphertext).unwrap()
    }

    pub(crate) fn accepted(&self) -> &[SessionSuite] {
        &self.claims.suites
    }
}

/// The authority of all peers.
pub(crate) struct World {
    authority: Authority,
    anchors: PinnedAnchors,
    backend: Backend,
}

impl World {
    pub(crate) fn new(backend: Backend) -> Self {
        let mut random = Stream::new("world");
        let seeds = AuthoritySeeds::generate(SignatureSet::Ed25519MlDsa65, &mut random);
        let authority = Authority::new(backend, &seeds, &[]).unwrap();
        let anchors = authority.first_anchors(&mut random, UnixTime(1), UnixTime(u64::MAX)).unwrap();
        let anchors = PinnedAnchors::pin(backend, &anchors).unwrap();
        Self { authority, anchors, backend }
    }

    pub(crate) fn peer(
        &self,
        id: &str,
        set: SignatureSet,
        suites: &[SessionSuite],
        prekey_required: bool,
    ) -> Peer {
        let (backend, kem) = (self.backend, suites[0].kem());
        let mut random = Stream::new(&format!("peer {id}"));
        let seeds = generate_seeds(set, &mut random);
        let signing = SigningKey::from_seeds(backend, set, &seeds).unwrap();
        let mut key = || {
            let key = DecapsulationKey::from_seed(backend, kem, &generate_seed(kem, &mut random)).unwrap();
            let public = EncapsulationKey::parse(backend, kem, key.encapsulation_key()).unwrap();
            (key, public)
        };
        let prekeys: BTreeMap<_, _> =
            [(PrekeyId::STATIC, key()), (PREKEY, key()), (OTHER_PREKEY, key())].into();
        let claims = OperationalCertificate {
            issuer: self.authority.issuer().fingerprint(),
            subject: PeerId::new(id).unwrap(),
            serial: Serial([1; 16]),
            not_before: UnixTime(1),
            not_after: UnixTime(u64::MAX),
            keys: PublicIdentity {
                set,
                signing_key: signing.public_key().to_vec(),
                kem,
                encapsulation_key: prekeys[&PrekeyId::STATIC].1.as_bytes().to_vec(),
            },
            key_epoch: 1,
            tier: Tier::Device,
            suites: suites.to_vec(),
            prekey_required,
            grants: Vec::new(),
        };
        let certificate = self.certify(&claims);
        let sender = Sender {
            id: claims.subject.clone(),
            fingerprint: certificate.fingerprint(),
            set,
            signer: certificate.signer().fingerprint(),
        };
        let (mut sid, mut boot) = (SessionId([0; 4]), BootId([0; 8]));
        random.fill(&mut sid.0);
        random.fill(&mut boot.0);
        Peer { backend, sender, signing, certificate, prekeys, sid, boot, claims }
    }

    fn certify(&self, claims: &OperationalCertificate) -> VerifiedCertificate {
        let signed = self.authority.issuer().sign(&mut Stream::new("certificate"), claims, &()).unwrap();
        self.anchors.verify_certificate(&signed, NOW).unwrap()
    }

    /// The same keys under a certificate that lists other suites.
    pub(crate) fn relisted(&self, peer: &Peer, suites: &[SessionSuite]) -> VerifiedCertificate {
        self.certify(&OperationalCertificate { suites: suites.to_vec(), ..peer.claims.clone() })
    }
}

/// Three peers of one kind: press, gateway and eve.
pub(crate) struct Trio {
    pub(crate) world: World,
    pub(crate) press: Peer,
    pub(crate) gateway: Peer,
    pub(crate) eve: Peer,
}

impl Trio {
    pub(crate) fn new() -> Self {
        let world = World::new(backend());
        let peer = |id| {
            let suites = [SessionSuite::Hybrid, SessionSuite::HybridChaCha];
            world.peer(id, SignatureSet::Ed25519MlDsa65, &suites, true)
        };
        let (press, gateway, eve) = (peer("press-7"), peer("gateway-1"), peer("eve"));
        Self { world, press, gateway, eve }
    }

    /// A fresh m1 from press to gateway.
    pub(crate) fn begin(&self, attempt: u64) -> ExpectM2 {
        begin(&self.press, &self.gateway, SessionSuite::Hybrid, attempt)
    }

    /// The genuine m1 is still accepted, its m2 too, and both sides agree.
    pub(crate) fn still_works(&self, expect: &ExpectM2) {
        let (m2, theirs) = answer(&self.gateway, &self.press, expect.m1()).unwrap();
        assert_agree(&finish(expect, &m2, &self.gateway).unwrap(), &theirs);
    }
}

pub(crate) fn initiation<'a>(
    us: &'a Peer,
    peer: &'a Peer,
    suite: SessionSuite,
    attempt: u64,
) -> Initiation<'a> {
    Initiation {
        us: &us.sender,
        boot: us.boot,
        sid: us.sid,
        peer: &peer.certificate,
        prekey: PREKEY,
        encapsulation_key: peer.prekey(PREKEY),
        suite,
        revocation_seq: 4,
        attempt,
        gate: None,
    }
}

pub(crate) fn begin(us: &Peer, peer: &Peer, suite: SessionSuite, attempt: u64) -> ExpectM2 {
    begin_with(us, &initiation(us, peer, suite, attempt))
}

pub(crate) fn begin_with(us: &Peer, with: &Initiation<'_>) -> ExpectM2 {
    let mut random = Stream::new(&format!("initiate {}", with.attempt));
    let initiate = Initiate::new(us.backend, &mut random, with).unwrap();
    let signature = us.sign(initiate.structure());
    initiate.signed(&signature).unwrap()
}

/// As an endpoint would: the prekey is looked up, and an unknown one refused.
pub(crate) fn check(us: &Peer, peer: &Peer, m1: &[u8]) -> Result<CheckedM1, M1Refusal> {
    let m1 = M1::parse(m1).map_err(|_| M1Refusal::Recipient)?;
    let (_, encapsulation_key) = us.prekeys.get(&m1.prekey()).ok_or(M1Refusal::Prekey)?;
    let responder = Responder {
        us: &us.sender,
        accepted: us.accepted(),
        allowed: &SessionSuite::ALL,
        prekey_required: us.claims.prekey_required,
        encapsulation_key: encapsulation_key.as_bytes(),
    };
    m1.check(us.backend, &responder, &peer.certificate)
}

pub(crate) fn authenticate(us: &Peer, peer: &Peer, m1: &[u8]) -> Result<Authentic, M1Refusal> {
    let checked = check(us, peer, m1)?;
    let Some(ProviderRequest::Decapsulate { key, ciphertext }) = checked.request() else {
        panic!("no request")
    };
    let shared = us.prekeys[&key].0.decapsulate(&ciphertext).map_err(|_| M1Refusal::Ciphertext)?;
    checked.decapsulated(&shared, &peer.certificate)
}

pub(crate) fn answer(us: &Peer, peer: &Peer, m1: &[u8]) -> Result<(Vec<u8>, Established), M1Refusal> {
    let mut random = Stream::new("answer");
    let answer = authenticate(us, peer, m1)?.answer(&mut random, &us.sender, us.sid, us.boot).unwrap();
    let signature = us.sign(answer.structure());
    Ok(answer.signed(&signature).unwrap())
}

pub(crate) fn finish(expect: &ExpectM2, m2: &[u8], peer: &Peer) -> Result<Established, M2Refusal> {
    expect.receive_m2(m2, &peer.certificate)
}

pub(crate) fn assert_agree(ours: &Established, theirs: &Established) {
    assert_eq!(ours.suite, theirs.suite);
    assert_ne!(ours.role, theirs.role);
    assert_eq!(ours.th2, theirs.th2);
    for (a, b) in [(&ours.root, &theirs.root), (&ours.gate, &theirs.gate)] {
        assert!(a.expose() == b.expose(), "a secret differs");
    }
    assert!(ours.root.expose() != ours.gate.expose());
    assert_eq!((ours.sid_in, ours.sid_out), (theirs.sid_out, theirs.sid_in));
    assert_eq!((ours.boot_in, ours.boot_out), (theirs.boot_out, theirs.boot_in));
    assert_eq!((ours.initiator, ours.responder), (theirs.initiator, theirs.responder));
    assert_eq!((ours.attempt, ours.prekey_used), (theirs.attempt, theirs.prekey_used));
}

/// The error of a result whose value has no `Debug`.
pub(crate) fn refusal<T, E>(result: Result<T, E>) -> E {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    }
}
