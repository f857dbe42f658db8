//! A world: nodes around one broker, under one authority, at one time.

use std::collections::BTreeMap;
use std::time::Duration;

use pqc_iiot_core::codec::signed::Unverified;
use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::portable::PORTABLE;
use pqc_iiot_core::crypto::suite::SignatureSet;
use pqc_iiot_core::endpoint::{ControlTopics, EndpointConfig, Input, StartError};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::identity::certificate::{MAX_CERTIFICATE, OperationalCertificate};
use pqc_iiot_core::identity::grants::Grant;
use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_core::time::Monotonic;
use pqc_iiot_provider::store::MemoryStore;

use crate::authority::SimAuthority;
use crate::broker::{HostileBroker, Packet};
use crate::chaos::{Blow, Misfortune};
use crate::clock::SimClock;
use crate::identity::{Identity, SealSpec};
use crate::node::{Node, ToBroker};
use crate::node_options::NodeOptions;
use crate::peer;

/// The environment variable that sets the seed.
const SEED: &str = "PQC_IIOT_SIM_SEED";

/// Deliveries after which a world that does not come to rest is given up.
const RESTLESS: usize = 1_000_000;

/// How a world is made.
pub struct WorldOptions {
    /// What all randomness comes from.
    pub seed: u64,
    /// The cryptographic library of every node.
    pub backend: Backend,
    /// The signature set of the authority.
    pub authority_set: SignatureSet,
    /// Whether nodes send in sessions where they can; otherwise all goes in envelopes.
    pub sessions: bool,
}

impl Default for WorldOptions {
    /// The seed of `PQC_IIOT_SIM_SEED`, or 7; the portable backend; set 1; envelopes.
    fn default() -> Self {
        let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(7);
        Self { seed, backend: &PORTABLE, authority_set: SignatureSet::Ed25519MlDsa65, sessions: false }
    }
}

/// Nodes, authority, broker and clock.
pub struct World {
    /// The time of everybody.
    pub clock: SimClock,
    /// Whom the nodes trust.
    pub authority: SimAuthority,
    /// Whom nobody trusts.
    pub broker: HostileBroker,
    /// The protocol's topics.
    pub topics: ControlTopics,
    /// The transports' packet limit in bytes: of larger publishes endpoints only hear that there was one.
    pub packet_limit: usize,
    backend: Backend,
    sessions: bool,
    seed: u64,
    made: u64,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) misfortune: Misfortune,
    pub(crate) subscriptions: BTreeMap<String, Vec<String>>,
}

impl Default for World {
    fn default() -> Self {
        Self::new(WorldOptions::default())
    }
}

impl World {
    /// An empty world; prints its seed.
    pub fn new(options: WorldOptions) -> Self {
        let WorldOptions { seed, backend, authority_set, sessions } = options;
        println!("{SEED}={seed}");
        Self {
            clock: SimClock::default(),
            authority: SimAuthority::new(backend, authority_set, seed),
            broker: HostileBroker::new(seed),
            topics: ControlTopics::new("pqc"),
            packet_limit: usize::MAX,
            backend,
            sessions,
            seed,
            made: 0,
            nodes: BTreeMap::new(),
            misfortune: Misfortune::default(),
            subscriptions: BTreeMap::new(),
        }
    }

    /// An empty world whose nodes use sessions, on the fast backend.
    pub fn with_sessions() -> Self {
        Self::new(WorldOptions { backend: &AWS_LC, sessions: true, ..WorldOptions::default() })
    }

    /// The cryptographic library in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    pub(crate) fn next_seed(&mut self) -> u64 {
        self.made += 1;
        self.seed.wrapping_mul(1_000_003).wrapping_add(self.made << 20)
    }

    /// Fresh keys under a name, without a certificate: a stranger.
    pub fn stranger(&mut self, name: &str) -> Identity {
        let options = NodeOptions::new(name, &[]);
        let seed = self.next_seed();
        Identity::generate(self.backend, peer(name), options.set, options.kem(), seed)
    }

    /// Certifies a device with these grants, starts it and connects it.
    pub fn enrol(&mut self, name: &str, grants: &[Grant]) -> &mut Node {
        self.enrol_with(NodeOptions::new(name, grants))
    }

    /// Certifies, starts and connects a node.
    pub fn enrol_with(&mut self, options: NodeOptions) -> &mut Node {
        let identity = self.certify(&options);
        let name = options.name.clone();
        self.start(identity, options).expect("a certified node starts");
        self.node(&name)
    }

    /// Fresh keys with a certificate, not started.
    pub fn certify(&mut self, options: &NodeOptions) -> Identity {
        let seed = self.next_seed();
        let mut identity =
            Identity::generate(self.backend, peer(&options.name), options.set, options.kem(), seed);
        identity.certificate =
            self.authority.issue(&identity.request(), &options.parameters()).expect("issuable");
        identity
    }

    /// Starts and connects a node with the identity given, replacing any of that name.
    pub fn start(&mut self, identity: Identity, mut options: NodeOptions) -> Result<(), StartError> {
        let mut config = EndpointConfig::new(
            identity.peer.clone(),
            identity.public(),
            identity.certificate.clone(),
            self.authority.anchors().to_vec(),
        );
        config.sessions.enabled = self.sessions;
        if let Some(configure) = options.configure.take() {
            configure(&mut config);
        }
        let seed = self.next_seed();
        let (clock, store) = (self.clock.clone(), MemoryStore::new());
        let node = Node::start(identity, config, self.backend, clock, seed, store)?;
        self.nodes.insert(options.name.clone(), node);
        self.connect(&options.name, false);
        Ok(())
    }

    /// A node.
    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// Makes each of two nodes follow the other, and settles.
    pub fn introduce(&mut self, a: &str, b: &str) {
        self.node(a).add_peer(b);
        self.node(b).add_peer(a);
        self.settle();
    }

    /// Connects a node. With `keep_session` the broker remembers subscriptions and what was not acknowledged.
    /// True if it did.
    pub fn connect(&mut self, name: &str, keep_session: bool) -> bool {
        self.misfortune.is_back(name);
        let session_present = self.broker.connect(name, keep_session);
        let node = self.node(name);
        node.online = true;
        // As in the client: only a new process makes its subscriptions whatever the broker says.
        let known = std::mem::replace(&mut node.connected_before, true);
        node.input(Input::Connected { session_present: session_present && known });
        session_present
    }

    /// Cuts a node off.
    pub fn disconnect(&mut self, name: &str) {
        self.broker.disconnect(name);
        let node = self.node(name);
        node.online = false;
        node.input(Input::Disconnected);
    }

    /// Crashes a node, starts it again from its store, and reconnects it to its broker session.
    pub fn restart(&mut self, name: &str) {
        self.broker.disconnect(name);
        self.node(name).restart().expect("the store starts again");
        self.reconnect(name);
    }

    /// As [`World::restart`], where the store may be one that no endpoint starts from.
    ///
    /// # Errors
    ///
    /// It does not start; it stays without a link, and starts again once its disk is replaced.
    pub fn try_restart(&mut self, name: &str) -> Result<(), StartError> {
        self.broker.disconnect(name);
        self.node(name).restart()?;
        self.reconnect(name);
        Ok(())
    }

    /// Crashes a node and starts it again from its store, without a link.
    pub fn restart_offline(&mut self, name: &str) {
        self.broker.disconnect(name);
        self.node(name).restart().expect("the store starts again");
    }

    /// Subscribes a node to application topics.
    pub fn subscribe(&mut self, name: &str, filter: &str) {
        self.subscriptions.entry(name.into()).or_default().push(filter.into());
        self.broker.subscribe(name, filter);
    }

    /// Carries messages until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..RESTLESS {
            if !self.step() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// One round: everything the nodes have to say, and one delivery to each. False if nothing moved.
    pub fn step(&mut self) -> bool {
        let mut moved = self.broker.release(self.clock.now().monotonic);
        moved |= self.return_absent();
        for name in self.names().collect::<Vec<_>>() {
            while self.is_online(&name)
                && let Some(message) = self.node(&name).outbox.pop_front()
            {
                moved = true;
                match self.strike(&name, matches!(message, ToBroker::Publish(..))) {
                    Blow::Missed => {}
                    Blow::CutOff => {
                        self.node(&name).outbox.push_front(message);
                        continue;
                    }
                    Blow::Killed => continue,
                }
                self.carry(&name, message);
            }
            if self.is_online(&name)
                && let Some((delivery, Packet { topic, payload, .. })) = self.broker.next(&name)
            {
                moved = true;
                if self.strike(&name, false) != Blow::Missed {
                    continue;
                }
                let oversized = payload.len() > self.packet_limit;
                self.node(&name).input(if oversized {
                    Input::Oversized { delivery, topic }
                } else {
                    Input::Receive { delivery, topic, payload }
                });
            }
        }
        moved
    }

    fn carry(&mut self, name: &str, message: ToBroker) {
        match message {
            ToBroker::Publish(_, packet) => self.publish(packet),
            ToBroker::Subscribe(filter) => self.broker.subscribe(name, &filter),
            ToBroker::Refetch(filter) => self.broker.refetch(name, &filter),
            ToBroker::Acknowledge(id) => self.broker.acknowledge(name, id),
        }
    }

    fn publish(&mut self, packet: Packet) {
        let Self { broker, misfortune, clock, .. } = self;
        broker.publish(packet, clock.now().monotonic, &mut || misfortune.arrivals());
    }

    /// Lets time pass, firing every timeout at its moment, and settles.
    pub fn advance(&mut self, by: Duration) {
        let end = self.clock.now().monotonic.plus(by);
        self.settle();
        while let Some(at) = self.next_moment().filter(|at| *at <= end) {
            self.move_to(at);
            for node in self.nodes.values_mut().filter(|node| node.due().is_some_and(|due| due <= at)) {
                node.fire();
            }
            self.settle();
        }
        self.move_to(end);
    }

    fn move_to(&mut self, at: Monotonic) {
        self.clock.advance(at.since(self.clock.now().monotonic));
    }

    /// Revokes nodes' keys and publishes update and checkpoint, as the authority does.
    pub fn revoke(&mut self, names: &[&str]) {
        let update = self.revocation(names);
        let topic = self.topics.revocations();
        self.publish_control(topic, update);
        self.publish_checkpoint();
        self.settle();
    }

    /// Revokes nodes' keys: the signed update, not published.
    pub fn revocation(&mut self, names: &[&str]) -> Vec<u8> {
        let peers: Vec<_> = names.iter().map(|name| peer(name)).collect();
        let update = self.authority.revoke(&peers, self.clock.wall());
        let topic = self.topics.revocations();
        self.authority.control(&update, &topic.as_str())
    }

    /// Publishes the present checkpoint: chunks first, then the manifest, all retained.
    pub fn publish_checkpoint(&mut self) {
        for (topic, payload) in self.checkpoint() {
            self.publish_control(topic, payload);
        }
    }

    /// The present checkpoint as it is published.
    pub fn checkpoint(&mut self) -> Vec<(String, Vec<u8>)> {
        let checkpoint = self.authority.checkpoint(self.clock.wall());
        let topic = self.topics.checkpoint();
        let manifest = self.authority.control(&checkpoint.manifest, &topic.as_str());
        let chunks = (0..).zip(checkpoint.chunks);
        let mut messages: Vec<_> =
            chunks.map(|(index, chunk)| (self.topics.checkpoint_chunk(index), chunk)).collect();
        messages.push((topic, manifest));
        messages
    }

    /// Publishes as the authority does: retained.
    pub fn publish_control(&mut self, topic: String, payload: Vec<u8>) {
        self.publish(Packet { topic, payload, retain: true });
    }

    /// What an honest sender would seal to `recipient` as its first message on `topic`, to be altered.
    pub fn seal_spec(&mut self, recipient: &str, topic: &str, payload: &str) -> SealSpec {
        let certificate = self.node(recipient).identity().certificate.clone();
        let certificate = Unverified::<OperationalCertificate>::decode(&certificate, MAX_CERTIFICATE)
            .expect("a certificate");
        let claims = certificate.unverified();
        let bundle = self.broker.retained(&self.topics.prekeys(&peer(recipient)));
        let bundle = bundle.map(|bytes| {
            Unverified::<PrekeyBundle>::decode(bytes, usize::MAX).expect("a bundle").unverified().clone()
        });
        let (prekey, encapsulation_key) = match bundle {
            Some(bundle) => (bundle.prekey_id, bundle.encapsulation_key),
            None => (PrekeyId::STATIC, claims.keys.encapsulation_key.clone()),
        };
        SealSpec {
            recipient: claims.key_id(),
            prekey,
            encapsulation_key,
            suite: *claims.suites.first().expect("at least one suite"),
            topic: topic.into(),
            stream: StreamId::default(),
            sequence: 1,
            body: Content::telemetry(payload).into(),
        }
    }
}
