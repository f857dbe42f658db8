//! A plant of secure clients on a broker: one authority, enrolled identities, and what each client was told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pqc_iiot_core::codec::signed::{ToBeSigned, signer_fingerprint};
use pqc_iiot_core::control::revocation::{RevocationEntry, RevocationIssuer, RevocationReason};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::suite::{Kem, SessionSuite, SignatureSet};
use pqc_iiot_core::endpoint::{ControlTopics, Event as Protocol, Message, PeerLoss, RefusalReason};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::group::MessageName;
use pqc_iiot_core::identity::authority::{Authority, AuthoritySeeds, IssueParameters};
use pqc_iiot_core::identity::certificate::Tier;
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::identity::request::CertificateRequest;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::provider::{ProviderRequest, ProviderResponse};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::{Topic, TopicFilter};
use pqc_iiot_mqtt::client::{ClientConfig, Delivery, OpenError, PublishError, Storage};
use pqc_iiot_mqtt::transport::{Event, Outbound, ProtocolVersion, Qos, TransportOptions};
use pqc_iiot_mqtt::{ClientEvent, Events, SecureMqttClient};
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::datadir::{DataDir, DataFile};
use pqc_iiot_provider::random::SystemRandom;
use pqc_iiot_provider::software::{SoftwareProvider, Unlock};
use pqc_iiot_provider::store::Store;

use super::{Broker, Client, options, unique};

const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

pub fn peer(id: &str) -> PeerId {
    PeerId::new(id).unwrap()
}

/// An authority, and data directories of what it enrolled. Every plant has control and application topics of its own.
pub struct Plant {
    root: tempfile::TempDir,
    authority: Authority,
    anchors: Vec<u8>,
    revocations: RevocationIssuer,
    random: SystemRandom,
    pub prefix: String,
    /// Where the directories are that were moved.
    moved: BTreeMap<String, PathBuf>,
}

impl Plant {
    /// A `gateway` that hears the whole plant and tells it, and the devices `press` and `lathe`.
    pub fn new() -> Self {
        let mut random = SystemRandom::new().unwrap();
        let seeds = AuthoritySeeds::generate(SignatureSet::Ed25519MlDsa65, &mut random);
        let authority = Authority::new(default_backend(), &seeds, &[]).unwrap();
        let anchors = authority.first_anchors(&mut random, start(), start().plus(HOUR)).unwrap();
        let mut plant = Self {
            root: tempfile::tempdir().unwrap(),
            authority,
            anchors,
            revocations: RevocationIssuer::new(),
            random,
            prefix: unique("pqc").replace('/', "-"),
            moved: BTreeMap::new(),
        };
        for name in ["gateway", "press", "lathe"] {
            plant.enrol(name);
        }
        plant
    }

    /// A stranger's plant: its own authority, the other's topics.
    pub fn rogue(of: &Self) -> Self {
        Self { prefix: of.prefix.clone(), ..Self::new() }
    }

    pub fn enrol(&mut self, name: &str) {
        let directory = DataDir::create(self.directory(name)).unwrap();
        let set = SignatureSet::Ed25519MlDsa65;
        let provider = SoftwareProvider::create(&directory, &unlock(), set, Kem::XWing).unwrap();
        let keys = provider.identity().clone();
        let signer = signer_fingerprint(set, &keys.signing_key);
        let request = CertificateRequest { subject: peer(name), keys };
        let framed = ToBeSigned::new(&request, set, signer, &());
        let Ok(ProviderResponse::Signature(signature)) =
            provider.execute(ProviderRequest::Sign(framed.structure().clone()))
        else {
            panic!("the provider does not sign")
        };
        let encoded = framed.assemble(&signature).unwrap();
        let request = CertificateRequest::verify(default_backend(), &encoded).unwrap();
        let everything = TopicFilter::new(&format!("{}-plant/#", self.prefix)).unwrap();
        let parameters = IssueParameters {
            not_before: start(),
            not_after: start().plus(HOUR),
            tier: Tier::Device,
            suites: vec![SessionSuite::Hybrid],
            prekey_required: true,
            grants: vec![
                Grant::new(Action::Publish, everything.clone()),
                Grant::new(Action::Subscribe, everything),
            ],
        };
        let (certificate, _) = self.authority.issue(&mut self.random, &request, &parameters).unwrap();
        directory.write(DataFile::Certificate, &certificate).unwrap();
        directory.write(DataFile::Anchors, &self.anchors).unwrap();
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        self.moved.get(name).cloned().unwrap_or_else(|| self.root.path().join(name))
    }

    /// Moves an identity that was not used yet to another file system.
    pub fn relocate(&mut self, name: &str, to: &Path) {
        let (from, to) = (self.directory(name), to.join(name));
        drop(DataDir::create(&to).unwrap());
        for file in [DataFile::Identity, DataFile::Certificate, DataFile::Anchors] {
            let content = std::fs::read(from.join(file.name())).unwrap();
            DataDir::open(&to).unwrap().write(file, &content).unwrap();
        }
        std::fs::remove_dir_all(from).unwrap();
        self.moved.insert(name.to_owned(), to);
    }

    pub fn control(&self) -> ControlTopics {
        ControlTopics::new(&self.prefix)
    }

    /// A topic of the plant's, under everybody's grants.
    pub fn topic(&self, name: &str) -> Topic {
        Topic::new(&format!("{}-plant/{name}", self.prefix)).unwrap()
    }

    pub fn everything(&self) -> TopicFilter {
        TopicFilter::new(self.topic("x").as_str().replace("/x", "/#").as_str()).unwrap()
    }

    /// Every topic that a client which follows `peers` is subscribed to.
    pub fn subscribed(&self, peers: &[&str]) -> Vec<String> {
        let control = self.control();
        let mut topics = vec![
            control.anchors(),
            control.revocations(),
            control.checkpoint(),
            control.checkpoint_chunk(0),
            control.checkpoint_chunk(1),
            self.topic("giant").as_str().to_owned(),
        ];
        for id in peers {
            topics.extend([control.keys(&peer(id)), control.prekeys(&peer(id))]);
        }
        topics
    }

    pub fn transport(&self, name: &str, broker: &Broker, version: ProtocolVersion) -> TransportOptions {
        let mut settings = options(broker, version);
        settings.client_id = format!("{}-{name}", self.prefix);
        settings
    }

    /// Opens `name` without waiting for anything.
    pub async fn try_open(&self, name: &str, transport: TransportOptions) -> Result<Member, OpenError> {
        self.try_open_with(name, transport, |_| ()).await
    }

    async fn try_open_with(
        &self,
        name: &str,
        transport: TransportOptions,
        configure: impl FnOnce(&mut ClientConfig),
    ) -> Result<Member, OpenError> {
        let prefix = self.prefix.clone();
        let (client, events) =
            SecureMqttClient::new_with(self.directory(name), &unlock(), transport, |config| {
                config.endpoint.prefix = prefix;
                configure(config);
            })
            .await?;
        Ok(Member { name: name.to_owned(), client, events, told: Told::default() })
    }

    /// Opens `name`, subscribed to the whole plant and following `peers`.
    pub async fn open(
        &self,
        name: &str,
        peers: &[&str],
        broker: &Broker,
        version: ProtocolVersion,
    ) -> Member {
        self.open_with(name, peers, broker, version, |_| ()).await
    }

    /// As [`Plant::open`], configured otherwise.
    pub async fn open_with(
        &self,
        name: &str,
        peers: &[&str],
        broker: &Broker,
        version: ProtocolVersion,
        configure: impl FnOnce(&mut ClientConfig),
    ) -> Member {
        let transport = self.transport(name, broker, version);
        let member = self.try_open_with(name, transport, configure).await.unwrap();
        member.follow(self, peers).await;
        member
    }

    /// As [`Plant::open`], on what `wrap` makes of the store.
    pub async fn open_wrapped(
        &self,
        name: &str,
        peers: &[&str],
        broker: &Broker,
        wrap: impl FnOnce(Box<dyn Store>) -> Box<dyn Store>,
    ) -> Member {
        let directory = DataDir::open(self.directory(name)).unwrap();
        let provider: Arc<dyn SecurityProvider> =
            Arc::new(SoftwareProvider::open(&directory, &unlock()).unwrap());
        let certificate = directory.read(DataFile::Certificate, 1 << 16).unwrap().unwrap();
        let transport = self.transport(name, broker, ProtocolVersion::V5);
        let mut config = ClientConfig::new(&*provider, certificate, self.anchors.clone(), transport).unwrap();
        config.endpoint.prefix = self.prefix.clone();
        let mut storage = Storage::open(directory, &provider, &config.endpoint).unwrap();
        storage.store = wrap(storage.store);
        let opened = SecureMqttClient::new_with_provider(provider, storage, config).await.unwrap();
        let member =
            Member { name: name.to_owned(), client: opened.0, events: opened.1, told: Told::default() };
        member.follow(self, peers).await;
        member
    }

    /// Opens `gateway` and `press`, and waits until they can send to each other.
    pub async fn pair(&self, broker: &Broker, version: ProtocolVersion) -> (Member, Member) {
        self.pair_with(broker, version, |_| ()).await
    }

    /// The same without sessions: everything goes in envelopes.
    pub async fn pair_with_envelopes(&self, broker: &Broker, version: ProtocolVersion) -> (Member, Member) {
        self.pair_with(broker, version, |config| config.endpoint.sessions.enabled = false).await
    }

    async fn pair_with(
        &self,
        broker: &Broker,
        version: ProtocolVersion,
        configure: impl Fn(&mut ClientConfig),
    ) -> (Member, Member) {
        let mut gateway = self.open_with("gateway", &["press"], broker, version, &configure).await;
        let mut press = self.open_with("press", &["gateway"], broker, version, &configure).await;
        gateway.until("the press is ready", |told| told.ready.contains("press")).await;
        press.until("the gateway is ready", |told| told.ready.contains("gateway")).await;
        (gateway, press)
    }

    /// The signed update that revokes `name`, as it is published.
    pub fn revoke(&mut self, name: &str) -> Outbound {
        let (issued, _) = self.authority.mark_revoked(&peer(name)).unwrap();
        let entry =
            RevocationEntry::new(&peer(name), &issued.key_id, RevocationReason::LOST, issued.not_after);
        let update = self.revocations.revoke(&[entry], now()).unwrap();
        let topic = self.control().revocations();
        let signed = self.authority.control().sign(&mut self.random, &update, &topic.as_str()).unwrap();
        Outbound { retain: true, ..Outbound::new(topic, signed) }
    }
}

fn unlock() -> Unlock {
    Unlock::KeyFile(Secret::new([7; 32]))
}

fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn start() -> UnixTime {
    UnixTime(now().0 - 60)
}

/// What a client was told so far.
#[derive(Default)]
pub struct Told {
    pub messages: Vec<Message>,
    pub ready: BTreeSet<String>,
    pub lost: BTreeMap<String, PeerLoss>,
    pub self_revoked: bool,
    pub refused: BTreeMap<RefusalReason, u64>,
    pub connections: u32,
    pub disconnections: u32,
    /// How often the disk was full, and how often there was room again.
    pub store_waits: Vec<String>,
    pub store_resumed: usize,
    /// Why the store failed, of a plant where it may.
    pub store_failed: Option<String>,
    pub store_may_fail: bool,
    /// Messages to groups, and their names.
    pub group: Vec<(String, MessageName)>,
    /// Which of them are the publisher's for certain.
    pub group_verified: Vec<MessageName>,
}

impl Told {
    pub fn texts(&self) -> Vec<String> {
        self.messages
            .iter()
            .map(|message| String::from_utf8_lossy(&message.content.payload).into_owned())
            .collect()
    }

    pub fn count(&self, reason: RefusalReason) -> u64 {
        self.refused.get(&reason).copied().unwrap_or_default()
    }

    fn note(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Connected { .. } => self.connections += 1,
            ClientEvent::Disconnected { .. } => self.disconnections += 1,
            ClientEvent::Protocol(Protocol::Message(message)) => self.messages.push(message),
            ClientEvent::Protocol(Protocol::GroupMessage { payload, name, verified, .. }) => {
                self.group.push((String::from_utf8_lossy(&payload).into_owned(), name));
                self.group_verified.extend(verified.then_some(name));
            }
            ClientEvent::Protocol(Protocol::GroupVerified { name, .. }) => self.group_verified.push(name),
            ClientEvent::Protocol(Protocol::PeerReady { peer, .. }) => {
                self.ready.insert(peer.as_str().to_owned());
            }
            ClientEvent::Protocol(Protocol::PeerLost { peer, reason }) => {
                self.ready.remove(peer.as_str());
                self.lost.insert(peer.as_str().to_owned(), reason);
            }
            ClientEvent::Protocol(Protocol::SelfRevoked) => self.self_revoked = true,
            ClientEvent::Protocol(Protocol::Refused { reason, .. }) => {
                *self.refused.entry(reason).or_default() += 1;
            }
            ClientEvent::StoreWaits { reason } => self.store_waits.push(reason),
            ClientEvent::StoreResumed => self.store_resumed += 1,
            ClientEvent::StoreFailed { reason } if self.store_may_fail => self.store_failed = Some(reason),
            ClientEvent::StoreFailed { reason } => panic!("the store failed: {reason}"),
            ClientEvent::SubscriptionRefused { filter, error } => panic!("{filter}: {error}"),
            _ => {}
        }
    }
}

/// A client and what it was told.
pub struct Member {
    name: String,
    pub client: SecureMqttClient,
    pub events: Events,
    pub told: Told,
}

impl Member {
    /// Gets to know `peers`, and subscribes to the whole plant.
    async fn follow(&self, plant: &Plant, peers: &[&str]) {
        for id in peers {
            self.client.add_peer(peer(id)).await.unwrap();
        }
        self.client.subscribe(&plant.everything()).await.unwrap();
    }

    /// Takes events until `done`.
    pub async fn until(&mut self, what: &str, mut done: impl FnMut(&Told) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !done(&self.told) {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) => self.told.note(event),
                Ok(None) => panic!("{} closed while waiting: {what}", self.name),
                Err(_) => panic!(
                    "{} waited in vain: {what}; {} messages, refused {:?}, {} connections",
                    self.name,
                    self.told.messages.len(),
                    self.told.refused,
                    self.told.connections
                ),
            }
        }
    }

    /// Takes what is there already, and what comes within `pause`.
    pub async fn settle(&mut self, pause: Duration) {
        while let Ok(Some(event)) = tokio::time::timeout(pause, self.events.recv()).await {
            self.told.note(event);
        }
    }

    /// Waits for exactly these messages after those before.
    pub async fn receives(&mut self, expected: &[String]) {
        let before = self.told.messages.len();
        self.until("messages", |told| told.messages.len() >= before + expected.len()).await;
        assert_eq!(self.told.texts()[before..], *expected, "{}", self.name);
    }

    pub async fn publish(&self, topic: &Topic, to: &str, text: &str) -> Result<(), PublishError> {
        let to = peer(to);
        let accepted = self.client.publish_encrypted(topic, &to, Content::telemetry(text));
        tokio::time::timeout(PATIENCE, accepted).await.expect("the disk does not take it").map(|_| ())
    }

    pub async fn queue(&self, topic: &Topic, to: &str, text: &str) -> Delivery {
        let (to, content) = (peer(to), Content::telemetry(text));
        let queued = self.client.queue_encrypted(topic, &to, StreamId::default(), content);
        tokio::time::timeout(PATIENCE, queued).await.expect("publishing is stuck").unwrap()
    }

    /// What `status` counts for a reason.
    pub async fn refused(&self, reason: RefusalReason) -> u64 {
        let status = self.client.status().await.unwrap();
        status.endpoint.refused.iter().find(|(found, _)| *found == reason).map_or(0, |(_, count)| *count)
    }

    /// Shuts down, and takes what it was still told.
    pub async fn shutdown(mut self) -> Told {
        self.events.done();
        self.client.shutdown().await;
        while let Some(event) = self.events.recv().await {
            self.told.note(event);
        }
        self.told
    }
}

/// Sends `count` messages from one to the other and requires that exactly they arrive, in order.
pub async fn flows(plant: &Plant, from: &Member, to: &mut Member, label: &str, count: usize) {
    let topic = plant.topic(&format!("{}/state", from.name));
    let texts: Vec<String> = (0..count).map(|number| format!("{label} {number}")).collect();
    for text in &texts {
        from.publish(&topic, &to.name, text).await.unwrap();
    }
    to.receives(&texts).await;
}

/// Whoever reaches the broker: no keys, no limits.
pub struct Attacker(Client);

impl Attacker {
    pub async fn new(broker: &Broker, version: ProtocolVersion) -> Self {
        let mut settings = options(broker, version);
        settings.max_packet = 20 << 20;
        settings.clean_start = true;
        settings.inbound_queue = 10_000;
        let mut client = Client::new(settings);
        client.connected().await;
        Self(client)
    }

    pub async fn send(&self, topic: &str, payload: impl Into<Bytes>) {
        self.deliver(Outbound::new(topic, payload)).await;
    }

    pub async fn retain(&self, topic: &str, payload: impl Into<Bytes>) {
        self.deliver(Outbound { retain: true, ..Outbound::new(topic, payload) }).await;
    }

    pub async fn deliver(&self, message: Outbound) {
        self.0.transport.publish(message).await.unwrap().await.unwrap();
    }

    pub async fn listen(&self, filter: &TopicFilter) {
        self.0.transport.subscribe(filter.as_str(), Qos::AtLeastOnce).await.unwrap();
    }

    /// The next `count` packets that it overhears, with their topics.
    pub async fn overhear(&mut self, count: usize) -> Vec<(String, Bytes)> {
        let mut heard = Vec::new();
        while heard.len() < count {
            match self.0.next().await {
                Event::Message(message) => {
                    self.0.transport.acknowledge(message.token);
                    heard.push((message.topic, message.payload));
                }
                Event::Oversized { token, .. } => self.0.transport.acknowledge(token),
                _ => {}
            }
        }
        heard
    }
}
