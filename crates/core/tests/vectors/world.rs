//! The authority and the peers of the vectors, made from fixed seeds on the portable backend, which draws all its
//! randomness from the source it is handed.

use pqc_iiot_core::codec::signed::SignedObject;
use pqc_iiot_core::crypto::backend::{Backend, RandomSource};
use pqc_iiot_core::crypto::kem::DecapsulationKey;
use pqc_iiot_core::crypto::portable::PORTABLE;
use pqc_iiot_core::crypto::secret::SecretBytes;
use pqc_iiot_core::crypto::signature::SigningKey;
use pqc_iiot_core::crypto::suite::{Kem, SessionSuite, SignatureSet};
use pqc_iiot_core::identity::announcement::{KeyAnnouncement, PublishedBy, assemble_announcement};
use pqc_iiot_core::identity::authority::{Authority, AuthoritySeeds, RoleSigner};
use pqc_iiot_core::identity::certificate::{OperationalCertificate, Serial, Tier};
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::identity::keys::PublicIdentity;
use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::TopicFilter;
use shake::{ExtendableOutput, Shake256, Shake256Reader, Update, XofReader};

pub(crate) const BACKEND: Backend = &PORTABLE;
/// When the receivers of the vectors live.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const NOT_BEFORE: u64 = 1_790_000_000;
pub(crate) const NOT_AFTER: u64 = 1_830_000_000;

/// SHAKE-256 of a label, remembering what was drawn: those bytes stand in the files.
pub(crate) struct Draw {
    reader: Shake256Reader,
    pub(crate) drawn: Vec<u8>,
}

impl Draw {
    pub(crate) fn new(label: &str) -> Self {
        let mut shake = Shake256::default();
        shake.update(b"pqc-iiot vectors: ");
        shake.update(label.as_bytes());
        Self { reader: shake.finalize_xof(), drawn: Vec::new() }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        self.fill(&mut out);
        out
    }
}

impl RandomSource for Draw {
    fn fill(&mut self, out: &mut [u8]) {
        self.reader.read(out);
        self.drawn.extend_from_slice(out);
    }
}

fn seed(label: &str, length: usize) -> SecretBytes {
    SecretBytes::new(Draw::new(label).bytes(length))
}

/// A signed object with the randomness that made it.
pub(crate) struct Made {
    pub(crate) random: Vec<u8>,
    pub(crate) encoded: Vec<u8>,
}

pub(crate) fn sign<T: SignedObject>(
    signer: &RoleSigner,
    label: &str,
    object: &T,
    context: &T::Context<'_>,
) -> Made {
    let mut draw = Draw::new(label);
    let encoded = signer.sign(&mut draw, object, context).unwrap();
    Made { random: draw.drawn, encoded }
}

pub(crate) struct Ca {
    pub(crate) seeds: AuthoritySeeds,
    pub(crate) authority: Authority,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let set = SignatureSet::Ed25519MlDsa65;
        let seeds = AuthoritySeeds {
            set,
            root: seed("root", 64),
            issuer: seed("issuer", 64),
            control: seed("control", 64),
        };
        let authority = Authority::new(BACKEND, &seeds, &[]).unwrap();
        Self { seeds, authority }
    }
}

/// A root that joins in version 2 of the anchors.
pub(crate) fn second_root() -> (SecretBytes, RoleSigner) {
    let seeds = seed("second root", 64);
    let signer = RoleSigner::from_seeds(BACKEND, SignatureSet::Ed25519MlDsa65, &seeds).unwrap();
    (seeds, signer)
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) set: SignatureSet,
    pub(crate) signing_seeds: SecretBytes,
    pub(crate) kem_seed: SecretBytes,
    pub(crate) signer: RoleSigner,
    pub(crate) identity: PublicIdentity,
    pub(crate) certificate: Made,
    pub(crate) claims: OperationalCertificate,
}

pub(crate) struct Plan<'a> {
    /// Seeds derive from it; the same as `id` but for second identities of one peer.
    pub(crate) label: &'a str,
    pub(crate) id: &'a str,
    pub(crate) set: SignatureSet,
    pub(crate) kem: Kem,
    pub(crate) tier: Tier,
    pub(crate) epoch: u64,
    pub(crate) validity: (u64, u64),
    pub(crate) suites: &'a [SessionSuite],
    pub(crate) prekey_required: bool,
    pub(crate) grants: &'a [(Action, &'a str)],
}

impl Peer {
    pub(crate) fn new(ca: &Ca, plan: &Plan<'_>) -> Self {
        let label = plan.label;
        let seeds_len = plan.set.halves().iter().map(|half| half.seed_len()).sum();
        let signing_seeds = seed(&format!("{label} signing"), seeds_len);
        let kem_seed = seed(&format!("{label} kem"), plan.kem.seed_len());
        let key = SigningKey::from_seeds(BACKEND, plan.set, &signing_seeds).unwrap();
        let decapsulation = DecapsulationKey::from_seed(BACKEND, plan.kem, &kem_seed).unwrap();
        let identity = PublicIdentity {
            set: plan.set,
            signing_key: key.public_key().to_vec(),
            kem: plan.kem,
            encapsulation_key: decapsulation.encapsulation_key().to_vec(),
        };
        let serial: [u8; 16] = Draw::new(&format!("{label} serial")).bytes(16).try_into().unwrap();
        let grant =
            |&(action, filter): &(Action, &str)| Grant::new(action, TopicFilter::new(filter).unwrap());
        let claims = OperationalCertificate {
            issuer: ca.authority.issuer().fingerprint(),
            subject: PeerId::new(plan.id).unwrap(),
            serial: Serial(serial),
            not_before: UnixTime(plan.validity.0),
            not_after: UnixTime(plan.validity.1),
            keys: identity.clone(),
            key_epoch: plan.epoch,
            tier: plan.tier,
            suites: plan.suites.to_vec(),
            prekey_required: plan.prekey_required,
            grants: plan.grants.iter().map(grant).collect(),
        };
        let certificate = sign(ca.authority.issuer(), &format!("{label} certificate"), &claims, &());
        Self {
            id: claims.subject.clone(),
            set: plan.set,
            signer: RoleSigner::from_seeds(BACKEND, plan.set, &signing_seeds).unwrap(),
            signing_seeds,
            kem_seed,
            identity,
            certificate,
            claims,
        }
    }

    pub(crate) fn signing_key(&self) -> SigningKey {
        SigningKey::from_seeds(BACKEND, self.set, &self.signing_seeds).unwrap()
    }

    pub(crate) fn keys_topic(&self) -> String {
        format!("pqc/keys/{}", self.id)
    }

    pub(crate) fn prekeys_topic(&self) -> String {
        format!("pqc/prekeys/{}", self.id)
    }

    pub(crate) fn announcement(&self, label: &str) -> Made {
        let certificate = &self.certificate.encoded;
        let announcement = KeyAnnouncement::new(certificate, self.claims.key_epoch, self.identity.key_id());
        let topic = self.keys_topic();
        let context = PublishedBy { peer: &self.id, topic: &topic };
        let signed = sign(&self.signer, label, &announcement, &context);
        Made { encoded: assemble_announcement(certificate, &signed.encoded), ..signed }
    }

    /// The seed and the bundle of one of its prekeys.
    pub(crate) fn prekey(&self, seq: u64, id: u32) -> Prekey {
        let kem = self.identity.kem;
        let seed = seed(&format!("{} prekey {id}", self.id), kem.seed_len());
        let key = DecapsulationKey::from_seed(BACKEND, kem, &seed).unwrap();
        let bundle = PrekeyBundle {
            identity: self.identity.fingerprint(),
            bundle_seq: seq,
            prekey_id: PrekeyId(id),
            kem,
            encapsulation_key: key.encapsulation_key().to_vec(),
            not_after: UnixTime(NOW + 28 * 86_400),
        };
        let topic = self.prekeys_topic();
        let context = PublishedBy { peer: &self.id, topic: &topic };
        let made = sign(&self.signer, &format!("{} bundle {seq}", self.id), &bundle, &context);
        Prekey { id, seq, seed, encapsulation_key: bundle.encapsulation_key, made }
    }
}

pub(crate) struct Prekey {
    pub(crate) id: u32,
    pub(crate) seq: u64,
    pub(crate) seed: SecretBytes,
    pub(crate) encapsulation_key: Vec<u8>,
    pub(crate) made: Made,
}

/// Everybody in the vectors.
pub(crate) struct World {
    pub(crate) ca: Ca,
    pub(crate) press_7: Peer,
    pub(crate) gateway_1: Peer,
    pub(crate) vault: Peer,
    pub(crate) press_9: Peer,
    pub(crate) tpm_1: Peer,
}

pub(crate) const PRESS_7: Plan<'_> = Plan {
    label: "press-7",
    id: "press-7",
    set: SignatureSet::Ed25519MlDsa65,
    kem: Kem::XWing,
    tier: Tier::Device,
    epoch: 1,
    validity: (NOT_BEFORE, NOT_AFTER),
    suites: &[SessionSuite::Hybrid, SessionSuite::HybridChaCha],
    prekey_required: true,
    grants: &[(Action::Publish, "plant/7/#")],
};

impl World {
    pub(crate) fn new() -> Self {
        let ca = Ca::new();
        let press_7 = Peer::new(&ca, &PRESS_7);
        let gateway_1 = Peer::new(
            &ca,
            &Plan {
                label: "gateway-1",
                id: "gateway-1",
                tier: Tier::Gateway,
                validity: (1_780_000_000, 1_900_000_000),
                grants: &[(Action::Subscribe, "plant/#"), (Action::Publish, "set/#")],
                ..PRESS_7
            },
        );
        let high = Plan {
            label: "vault",
            id: "vault",
            set: SignatureSet::MlDsa87,
            kem: Kem::MlKem1024,
            tier: Tier::Service,
            suites: &[SessionSuite::Cnsa2],
            prekey_required: false,
            grants: &[(Action::Subscribe, "plant/#")],
            ..PRESS_7
        };
        let vault = Peer::new(&ca, &high);
        let press_9 = Peer::new(
            &ca,
            &Plan {
                label: "press-9",
                id: "press-9",
                tier: Tier::Device,
                grants: &[(Action::Publish, "plant/9/#")],
                ..high
            },
        );
        let tpm_1 = Peer::new(
            &ca,
            &Plan {
                label: "tpm-1",
                id: "tpm-1",
                set: SignatureSet::P256MlDsa65,
                grants: &[(Action::Publish, "plant/#")],
                ..PRESS_7
            },
        );
        Self { ca, press_7, gateway_1, vault, press_9, tpm_1 }
    }

    pub(crate) fn peers(&self) -> [&Peer; 5] {
        [&self.press_7, &self.gateway_1, &self.vault, &self.press_9, &self.tpm_1]
    }

    pub(crate) fn peer(&self, id: &str) -> &Peer {
        self.peers().into_iter().find(|peer| peer.id.as_str() == id).unwrap()
    }
}
