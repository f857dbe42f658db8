//! The demo's authority and identities, each in a data directory of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pqc_iiot_core::codec::signed::ToBeSigned;
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::suite::{Kem, SessionSuite, SignatureSet};
use pqc_iiot_core::endpoint::ControlTopics;
use pqc_iiot_core::identity::authority::{Authority, AuthoritySeeds, IssueParameters};
use pqc_iiot_core::identity::certificate::Tier;
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::identity::request::CertificateRequest;
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::provider::{ProviderRequest, ProviderResponse};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_mqtt::client::{ClientEvent, Events, SecureMqttClient};
use pqc_iiot_mqtt::transport::{TlsInfo, TransportOptions};
use pqc_iiot_provider::audit::{VerifyOptions, export_json_lines};
use pqc_iiot_provider::datadir::{DataDir, DataFile};
use pqc_iiot_provider::software::SoftwareProvider;
use pqc_iiot_provider::{SecurityProvider, datadir::DataDirError};
use tempfile::TempDir;

use crate::error::{CliError, ErrorKind, Result};
use crate::unlock::{Source, random};

use super::client::Device;
use super::report::Audit;
use super::thief::{self, Loot};

/// How long the demo's certificates and anchors hold.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);
const GATEWAY: &str = "gateway";
/// The device that is revoked.
pub(super) const TO_BE_REVOKED: &str = "press-stolen";
/// The device whose session is copied from the gateway's disk.
pub(super) const WATCHED: &str = "press-watched";
/// What shows in the hall what the first device tells it.
const DISPLAYS: usize = 3;

fn failed(what: &str, error: impl std::fmt::Display) -> CliError {
    CliError::new(ErrorKind::Failed, format!("the demo's {what} failed")).because(error)
}

/// Records after which the demo's sessions change their keys.
const REKEY_RECORDS: u64 = 200;

/// Everybody in the demo.
pub(super) struct Fleet {
    root: PathBuf,
    authority: std::sync::Mutex<Authority>,
    anchors: Vec<u8>,
    gateway: PeerId,
    devices: Vec<PeerId>,
    stolen: PeerId,
    watched: PeerId,
    displays: Vec<PeerId>,
    transport: TransportOptions,
    prefix: String,
}

impl Fleet {
    /// Makes the authority, the keys and the certificates. A temporary directory for them goes into `temporary`.
    pub(super) fn create(
        root: Option<&Path>,
        temporary: &mut Option<TempDir>,
        devices: usize,
        transport: &TransportOptions,
    ) -> Result<Self> {
        let root = directory(root, temporary)?;
        let mut random = random()?;
        let seeds = AuthoritySeeds::generate(SignatureSet::Ed25519MlDsa65, &mut random);
        let authority =
            Authority::new(default_backend(), &seeds, &[]).map_err(|error| failed("authority", error))?;
        let from = UnixTime(crate::time::now().0.saturating_sub(60));
        let anchors = authority
            .first_anchors(&mut random, from, from.plus(VALIDITY))
            .map_err(|error| failed("authority", error))?;
        let id = |text: &str| PeerId::new(text).map_err(|error| failed("peer id", error));
        let mut run = [0; 4];
        pqc_iiot_core::crypto::backend::RandomSource::fill(&mut random, &mut run);
        let fleet = Self {
            root,
            authority: authority.into(),
            anchors,
            gateway: id(GATEWAY)?,
            devices: (1..=devices).map(|number| id(&format!("press-{number}"))).collect::<Result<_>>()?,
            stolen: id(TO_BE_REVOKED)?,
            watched: id(WATCHED)?,
            displays: (1..=DISPLAYS).map(|number| id(&format!("display-{number}"))).collect::<Result<_>>()?,
            transport: transport.clone(),
            // Retained messages of another run on the same broker must not get in the way.
            prefix: format!("pqc-demo-{:08x}", u32::from_be_bytes(run)),
        };
        fleet.enrol(
            &fleet.gateway,
            Tier::Gateway,
            &[(Action::Subscribe, "plant/#"), (Action::Subscribe, "workshop/#")],
        )?;
        for device in fleet.devices.iter().chain([&fleet.stolen, &fleet.watched]) {
            let own = ["plant", "workshop", "hall"].map(|place| format!("{place}/{device}/#"));
            fleet.enrol(device, Tier::Device, &own.each_ref().map(|own| (Action::Publish, own.as_str())))?;
        }
        for display in &fleet.displays {
            fleet.enrol(display, Tier::Service, &[(Action::Subscribe, "hall/#")])?;
        }
        Ok(fleet)
    }

    fn enrol(&self, id: &PeerId, tier: Tier, grants: &[(Action, &str)]) -> Result<()> {
        let directory = DataDir::create(self.root.join(id.as_str())).map_err(identity)?;
        let unlock = self.key(id).read_or_generate()?.unlock;
        let provider =
            SoftwareProvider::create(&directory, &unlock, SignatureSet::Ed25519MlDsa65, Kem::XWing)
                .map_err(identity)?;
        let keys = provider.identity().clone();
        let signer = pqc_iiot_core::codec::signed::signer_fingerprint(keys.set, &keys.signing_key);
        let set = keys.set;
        let request = CertificateRequest { subject: id.clone(), keys };
        let framed = ToBeSigned::new(&request, set, signer, &());
        let encoded = match provider.execute(ProviderRequest::Sign(framed.structure().clone())) {
            Ok(ProviderResponse::Signature(signature)) => framed.assemble(&signature),
            _ => None,
        };
        let encoded = encoded.ok_or_else(|| failed("certificate request", "the provider did not sign"))?;
        let request = CertificateRequest::verify(default_backend(), &encoded).map_err(identity)?;
        let from = UnixTime(crate::time::now().0.saturating_sub(60));
        let grants = grants
            .iter()
            .map(|(action, filter)| Ok(Grant::new(*action, TopicFilter::new(filter).map_err(identity)?)))
            .collect::<Result<_>>()?;
        let parameters = IssueParameters {
            not_before: from,
            not_after: from.plus(VALIDITY),
            tier,
            suites: vec![SessionSuite::Hybrid],
            prekey_required: true,
            grants,
        };
        let (certificate, _) =
            self.authority().issue(&mut random()?, &request, &parameters).map_err(identity)?;
        directory.write(DataFile::Certificate, &certificate).map_err(identity)?;
        directory.write(DataFile::Anchors, &self.anchors).map_err(identity)
    }

    fn key(&self, id: &PeerId) -> Source {
        Source::KeyFile(self.root.join(format!("{id}.key")))
    }

    async fn open(&self, id: &PeerId) -> Result<(SecureMqttClient, Events)> {
        let mut transport = self.transport.clone();
        transport.client_id = format!("{}-{id}", self.prefix);
        // Long enough for a reconnect; a broker of yours then forgets this run.
        transport.session_expiry_secs = 300;
        let unlock = self.key(id).read()?;
        let prefix = self.prefix.clone();
        SecureMqttClient::new_with(self.root.join(id.as_str()), &unlock, transport, |config| {
            config.endpoint.prefix = prefix;
            // Often enough to be seen in a short run.
            config.endpoint.sessions.rekey_records = REKEY_RECORDS;
        })
        .await
        .map_err(|error| failed("client", error))
    }

    /// The gateway: it follows every device and subscribes to the plant. What its connection agreed on comes with it.
    pub(super) async fn open_gateway(&self) -> Result<(SecureMqttClient, Events, Option<TlsInfo>)> {
        let (client, mut events) = self.open(&self.gateway).await?;
        let tls = self.connected(&mut events).await?;
        for peer in self.devices.iter().chain([&self.stolen, &self.watched]) {
            client.add_peer(peer.clone()).await.map_err(super::client::publish_failed)?;
        }
        let plant = TopicFilter::new("plant/#").map_err(identity)?;
        let subscribe = tokio::time::timeout(super::CONNECT_PATIENCE, client.subscribe(&plant)).await;
        match subscribe {
            Ok(Ok(())) => Ok((client, events, tls)),
            Ok(Err(error)) => Err(failed("subscription", error)),
            Err(_) => Err(self.unreachable("the broker did not answer a subscription within 15 s")),
        }
    }

    /// Waits for the first connection. An attempt that is under way may take its time; one that failed would fail again.
    async fn connected(&self, events: &mut Events) -> Result<Option<TlsInfo>> {
        let first = async {
            loop {
                match events.recv().await {
                    Some(ClientEvent::Connected { tls }) => return Ok(tls),
                    Some(ClientEvent::Disconnected { error }) => return Err(self.unreachable(error)),
                    Some(_) => {}
                    None => return Err(self.unreachable("the client ended")),
                }
            }
        };
        let late = || Err(self.unreachable("no answer within 15 s"));
        tokio::time::timeout(super::CONNECT_PATIENCE, first).await.unwrap_or_else(|_| late())
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> CliError {
        let why = crate::output::harmless(&why.to_string());
        CliError::new(ErrorKind::Broker, format!("no connection to {}", self.transport.url)).because(why).fix(
            "start the broker, or leave --broker out: the demo has one of its own. For address, TLS and credentials: \
             pqc-iiot doctor --broker URL",
        )
    }

    pub(super) async fn open_devices(&self) -> Result<Vec<Device>> {
        let mut devices = Vec::new();
        for id in &self.devices {
            let (client, events) = self.open(id).await?;
            devices.push(Device::start(client, events, self.gateway.clone()).await?);
        }
        Ok(devices)
    }

    /// The device whose session is copied.
    pub(super) async fn open_watched(&self) -> Result<Device> {
        let (client, events) = self.open(&self.watched).await?;
        Device::start(client, events, self.gateway.clone()).await
    }

    /// Those who read what the first device tells the hall.
    pub(super) async fn open_displays(&self) -> Result<Vec<(SecureMqttClient, Events)>> {
        let mut displays = Vec::new();
        for id in &self.displays {
            displays.push(self.open(id).await?);
        }
        Ok(displays)
    }

    /// The session with `device` as somebody takes it who copies the gateway's directory and its key now.
    pub(super) async fn rob(&self, device: &PeerId) -> Result<Loot> {
        let directory = self.root.join(self.gateway.as_str());
        thief::rob(directory, self.root.join(format!("{}.key", self.gateway)), device.clone()).await
    }

    /// The stolen device's keys, outside any client: whoever holds them writes what it likes.
    pub(super) fn stolen_keys(&self) -> Result<(PeerId, SoftwareProvider, Vec<u8>)> {
        let directory = DataDir::open(self.root.join(self.stolen.as_str())).map_err(identity)?;
        let provider =
            SoftwareProvider::open(&directory, &self.key(&self.stolen).read()?).map_err(identity)?;
        let certificate =
            directory.read(DataFile::Certificate, 65_536).map_err(identity)?.unwrap_or_default();
        Ok((self.stolen.clone(), provider, certificate))
    }

    pub(super) fn authority(&self) -> std::sync::MutexGuard<'_, Authority> {
        self.authority.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn topics(&self) -> ControlTopics {
        ControlTopics::new(&self.prefix)
    }

    pub(super) fn gateway(&self) -> &PeerId {
        &self.gateway
    }

    pub(super) fn devices(&self) -> &[PeerId] {
        &self.devices
    }

    /// Everybody who opens a client, the gateway last.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &PeerId> {
        self.devices.iter().chain(&self.displays).chain([&self.watched, &self.gateway])
    }

    /// Whether a certificate of the authority's gives `key` to `id`.
    fn certified(&self, id: &PeerId, certificate: Option<&[u8]>, key: &[u8]) -> bool {
        let anchors = PinnedAnchors::pin(default_backend(), &self.anchors).ok();
        let verified = anchors.zip(certificate).and_then(|(anchors, certificate)| {
            anchors.verify_certificate(certificate, crate::time::now()).ok()
        });
        verified.is_some_and(|certificate| {
            let claims = certificate.claims();
            claims.subject == *id && claims.keys.signing_key == key
        })
    }

    /// Verifies every log under the anchors; the refusals are those of the gateway's log.
    pub(super) fn verify_logs(&self) -> Result<Audit> {
        let mut audit = Audit { verified: true, ..Audit::default() };
        for id in self.everybody() {
            let path = self.root.join(id.as_str()).join("audit");
            let trusted = |certificate: Option<&[u8]>, key: &[u8]| self.certified(id, certificate, key);
            let mut lines = Vec::new();
            match export_json_lines(&path, trusted, VerifyOptions::default(), &mut lines) {
                Ok(report) => audit.entries += report.entries,
                Err(error) => {
                    audit.verified = false;
                    audit.problem.get_or_insert_with(|| error.to_string());
                }
            }
            if *id == self.gateway {
                audit.count_refusals(&lines);
            }
        }
        Ok(audit)
    }
}

fn identity(error: impl std::fmt::Display) -> CliError {
    failed("enrolment", error)
}

fn directory(root: Option<&Path>, temporary: &mut Option<TempDir>) -> Result<PathBuf> {
    let Some(root) = root else {
        let made = TempDir::with_prefix("pqc-iiot-demo-").map_err(|error| failed("directory", error))?;
        return Ok(temporary.insert(made).path().into());
    };
    let used = std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some());
    if used {
        return Err(CliError::new(ErrorKind::Usage, format!("{} is not empty", root.display()))
            .because("the demo makes a new authority and new identities each time")
            .fix("name a directory that does not exist yet: --data-dir DIR"));
    }
    DataDir::create(root).map_err(|error: DataDirError| identity(error))?;
    Ok(root.into())
}
