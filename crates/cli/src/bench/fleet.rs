//! An authority, its peers and a gateway that trusts them: what the workloads stand on.

use std::sync::Arc;
use std::time::Duration;

use pqc_iiot_core::codec::signed::{SignedObject, ToBeSigned, signer_fingerprint};
use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kem::{DecapsulationKey, generate_seed};
use pqc_iiot_core::crypto::signature::{SigningKey, generate_seeds};
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureSet};
use pqc_iiot_core::endpoint::{DeliveryId, Endpoint, EndpointConfig, Event, Input, Output};
use pqc_iiot_core::envelope::Sender;
use pqc_iiot_core::identity::announcement::{KeyAnnouncement, PublishedBy, assemble_announcement};
use pqc_iiot_core::identity::authority::{Authority, AuthoritySeeds};
use pqc_iiot_core::identity::certificate::{OperationalCertificate, Serial, Tier, VerifiedCertificate};
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::identity::keys::PublicIdentity;
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::store::Row;
use pqc_iiot_core::time::{Monotonic, Now, UnixTime};
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_provider::random::{SeededRandom, SystemRandom};
use pqc_iiot_provider::{SecurityProvider, SoftwareProvider};

use super::BenchError;

/// Where telemetry is published.
pub(super) const TOPIC: &str = "plant/line-4/press-7/telemetry";
/// The moment of every measurement.
pub(super) const NOW: UnixTime = UnixTime(1_780_000_000);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const FAILED: BenchError = BenchError::Setup("an authority with peers");

/// A peer's secrets.
pub(super) fn keys(
    suite: SessionSuite,
    random: &mut SeededRandom,
) -> Result<(SigningKey, DecapsulationKey), BenchError> {
    let set = set_of(suite);
    let seeds = generate_seeds(set, random);
    let signing = SigningKey::from_seeds(&AWS_LC, set, &seeds).map_err(|_| FAILED)?;
    let seed = generate_seed(suite.kem(), random);
    let kem = DecapsulationKey::from_seed(&AWS_LC, suite.kem(), &seed).map_err(|_| FAILED)?;
    Ok((signing, kem))
}

/// The signature set that goes with a suite.
pub(super) fn set_of(suite: SessionSuite) -> SignatureSet {
    match suite {
        SessionSuite::Cnsa2 => SignatureSet::MlDsa87,
        _ => SignatureSet::Ed25519MlDsa65,
    }
}

/// The moment of every measurement, as an endpoint wants it.
pub(super) fn now() -> Now {
    Now { monotonic: Monotonic(Duration::from_secs(1)), wall: NOW }
}

/// A generator for what is measured: the one that clients use.
pub(super) fn random() -> Result<SystemRandom, BenchError> {
    SystemRandom::new().map_err(|_| BenchError::Setup("randomness"))
}

/// An authority whose peers all speak one suite. Its keys and its peers' work on AWS-LC, whatever is measured.
pub(super) struct Fleet {
    pub(super) suite: SessionSuite,
    pub(super) anchors: Vec<u8>,
    authority: Authority,
    random: SeededRandom,
    now: UnixTime,
}

/// A peer with its secrets and its certificate.
pub(super) struct Member {
    pub(super) id: PeerId,
    pub(super) signing: SigningKey,
    pub(super) kem: DecapsulationKey,
    pub(super) certificate: OperationalCertificate,
    pub(super) encoded: Vec<u8>,
}

impl Fleet {
    pub(super) fn new(suite: SessionSuite) -> Result<Self, BenchError> {
        Self::at(suite, NOW)
    }

    /// As [`Fleet::new`], for clients that go by the machine's clock.
    pub(super) fn at(suite: SessionSuite, now: UnixTime) -> Result<Self, BenchError> {
        let mut random = SeededRandom::new(u64::from(suite.id()));
        let seeds = AuthoritySeeds::generate(set_of(suite), &mut random);
        let authority = Authority::new(&AWS_LC, &seeds, &[]).map_err(|_| FAILED)?;
        let anchors =
            authority.first_anchors(&mut random, UnixTime(0), now.plus(YEAR)).map_err(|_| FAILED)?;
        Ok(Self { suite, anchors, authority, random, now })
    }

    /// A certificate for keys that a provider holds.
    pub(super) fn certify_device(&mut self, id: &str, keys: PublicIdentity) -> Result<Vec<u8>, BenchError> {
        self.certify(id, keys, Tier::Device).map(|(_, encoded)| encoded)
    }

    /// A new peer that may publish and subscribe anywhere under `plant`.
    pub(super) fn enrol(&mut self, id: &str) -> Result<Member, BenchError> {
        let keys = keys(self.suite, &mut self.random)?;
        self.enrol_with(id, keys)
    }

    /// As [`Fleet::enrol`], with keys that were made before.
    pub(super) fn enrol_with(
        &mut self,
        id: &str,
        (signing, kem): (SigningKey, DecapsulationKey),
    ) -> Result<Member, BenchError> {
        let set = set_of(self.suite);
        let keys = PublicIdentity {
            set,
            signing_key: signing.public_key().to_vec(),
            kem: kem.kem(),
            encapsulation_key: kem.encapsulation_key().to_vec(),
        };
        let (certificate, encoded) = self.certify(id, keys, Tier::Device)?;
        Ok(Member { id: certificate.subject.clone(), signing, kem, certificate, encoded })
    }

    fn certify(
        &mut self,
        id: &str,
        keys: PublicIdentity,
        tier: Tier,
    ) -> Result<(OperationalCertificate, Vec<u8>), BenchError> {
        let filter = TopicFilter::new("plant/#").map_err(|_| FAILED)?;
        let certificate = OperationalCertificate {
            issuer: self.authority.issuer().fingerprint(),
            subject: PeerId::new(id).map_err(|_| FAILED)?,
            serial: Serial([7; 16]),
            not_before: UnixTime(self.now.0.saturating_sub(60)),
            not_after: self.now.plus(YEAR),
            keys,
            key_epoch: 1,
            tier,
            suites: vec![self.suite],
            prekey_required: false,
            grants: [Action::Publish, Action::Subscribe]
                .map(|action| Grant::new(action, filter.clone()))
                .into(),
        };
        let issuer = self.authority.issuer();
        let encoded = issuer.sign(&mut self.random, &certificate, &()).map_err(|_| FAILED)?;
        Ok((certificate, encoded))
    }

    /// What `member` publishes retained.
    pub(super) fn announcement(&mut self, member: &Member) -> Result<Vec<u8>, BenchError> {
        let topic = format!("pqc/keys/{}", member.id);
        let context = PublishedBy { peer: &member.id, topic: &topic };
        let signed = member.sign(&mut self.random, &member.announcement(), &context)?;
        Ok(assemble_announcement(&member.encoded, &signed))
    }

    /// `member`'s certificate as a receiver on `backend` holds it.
    pub(super) fn verified(
        &self,
        member: &Member,
        backend: Backend,
    ) -> Result<VerifiedCertificate, BenchError> {
        self.verify(&member.encoded, backend)
    }

    /// Any certificate of this authority's as an endpoint on `backend` holds it.
    pub(super) fn verify(&self, encoded: &[u8], backend: Backend) -> Result<VerifiedCertificate, BenchError> {
        let anchors = PinnedAnchors::pin(backend, &self.anchors).map_err(|_| FAILED)?;
        anchors.verify_certificate(encoded, NOW).map_err(|_| FAILED)
    }
}

impl Member {
    /// What it signs about its certificate.
    pub(super) fn announcement(&self) -> KeyAnnouncement {
        KeyAnnouncement::new(&self.encoded, self.certificate.key_epoch, self.certificate.key_id())
    }

    /// Its identity as an envelope needs it.
    pub(super) fn sender(&self) -> Sender {
        let keys = &self.certificate.keys;
        Sender {
            id: self.id.clone(),
            fingerprint: keys.fingerprint(),
            set: keys.set,
            signer: signer_fingerprint(keys.set, &keys.signing_key),
        }
    }

    fn sign<T: SignedObject>(
        &self,
        random: &mut SeededRandom,
        object: &T,
        context: &T::Context<'_>,
    ) -> Result<Vec<u8>, BenchError> {
        let framed = ToBeSigned::new(object, self.signing.set(), self.sender().signer, context);
        let message = |algorithm| framed.structure().message(algorithm);
        let signature = self.signing.sign(random, &message).map_err(|_| FAILED)?;
        framed.assemble(&signature).ok_or(FAILED)
    }
}

/// A receiving endpoint with its provider. Nothing is stored: persists are answered at once.
pub(super) struct Gateway {
    pub(super) endpoint: Endpoint,
    pub(super) certificate: OperationalCertificate,
    provider: Arc<SoftwareProvider>,
    config: EndpointConfig,
    backend: Backend,
}

impl Gateway {
    pub(super) fn start(fleet: &mut Fleet, backend: Backend) -> Result<Self, BenchError> {
        Self::start_with(fleet, backend, |_| {})
    }

    /// As [`Gateway::start`], configured otherwise.
    pub(super) fn start_with(
        fleet: &mut Fleet,
        backend: Backend,
        configure: impl FnOnce(&mut EndpointConfig),
    ) -> Result<Self, BenchError> {
        const FAILED: BenchError = BenchError::Setup("a gateway");
        let suite = fleet.suite;
        let random = Box::new(random()?);
        let provider = SoftwareProvider::ephemeral(backend, set_of(suite), suite.kem(), random);
        let provider = Arc::new(provider.map_err(|_| FAILED)?);
        let identity = provider.identity();
        let keys = PublicIdentity {
            set: identity.set,
            signing_key: identity.signing_key.clone(),
            kem: identity.kem,
            encapsulation_key: identity.encapsulation_key.clone(),
        };
        let (certificate, encoded) = fleet.certify("gateway", keys.clone(), Tier::Gateway)?;
        let id = certificate.subject.clone();
        let mut config = EndpointConfig::new(id, keys, encoded, fleet.anchors.clone());
        configure(&mut config);
        let random = Box::new(self::random()?);
        let endpoint = Endpoint::new(config.clone(), backend, random, &[], now()).map_err(|_| FAILED)?;
        let mut gateway = Self { endpoint, certificate, provider, config, backend };
        gateway.settle(Input::Connected { session_present: false });
        Ok(gateway)
    }

    /// Its certificate as its peers hold it.
    pub(super) fn verified(&self, fleet: &Fleet) -> Result<VerifiedCertificate, BenchError> {
        fleet.verify(&self.config.certificate, self.backend)
    }

    /// Its keeper of keys.
    pub(super) fn provider(&self) -> Arc<SoftwareProvider> {
        Arc::clone(&self.provider)
    }

    /// The same gateway started from `rows`.
    pub(super) fn restarted(&self, rows: &[Row]) -> Result<Endpoint, BenchError> {
        let random = Box::new(self::random()?);
        Endpoint::new(self.config.clone(), self.backend, random, rows, now())
            .map_err(|_| BenchError::Outcome("a gateway did not start from its store"))
    }

    /// Takes `input` and does all that comes of it.
    pub(super) fn settle(&mut self, input: Input) -> Vec<Event> {
        self.endpoint.handle(now(), input);
        let mut events = Vec::new();
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Persist { seq, .. } => self.endpoint.handle(now(), Input::Persisted(seq)),
                Output::Provider(id, request) => {
                    let response = self.provider.execute(request);
                    self.endpoint.handle(now(), Input::Provided(id, response));
                }
                Output::Event(event) => events.push(event),
                _ => {}
            }
        }
        events
    }
}

/// A delivery of the broker's.
pub(super) fn receive(topic: impl Into<String>, payload: Vec<u8>) -> Input {
    Input::Receive { delivery: DeliveryId(1), topic: topic.into(), payload }
}
