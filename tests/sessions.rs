//! What the session attacks share: a plant whose pairs have sessions, and a certified peer that does as it likes in one.

use std::collections::BTreeMap;
use std::time::Duration;

use pqc_iiot_core::codec::Writer;
use pqc_iiot_core::crypto::kdf;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::endpoint::{Command, Durability, Input, Priority, Protection, Publish, Ticket};
use pqc_iiot_core::envelope::{Content, MessageClass, Sender};
use pqc_iiot_core::identity::certificate::VerifiedCertificate;
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::ids::{BootId, SessionId, StreamId};
use pqc_iiot_core::provider::ProviderResponse;
use pqc_iiot_core::session::handshake::{Established, ExpectM2, Initiate, Initiation, M1, Responder};
use pqc_iiot_core::session::{Class, Control, Header, SealError, Session, Settled, Text};
use pqc_iiot_core::time::Monotonic;
use pqc_iiot_core::topic::{Topic, TopicFilter};
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_sim::{Identity, NodeOptions, World, publish, subscribe};

use crate::{TOPIC, assert_flows, id, retained_bundle};

/// Where a peer's m1s arrive.
pub fn init_topic(name: &str) -> String {
    format!("pqc/session/init/{name}")
}

/// Where the answers to a peer's m1s arrive.
pub fn resp_topic(name: &str) -> String {
    format!("pqc/session/resp/{name}")
}

/// Where a peer's receipts and control records arrive.
pub fn control_topic(name: &str) -> String {
    format!("pqc/control/{name}")
}

/// A grant to command.
pub fn command_grant(filter: &str) -> Grant {
    let filter = TopicFilter::new(filter).unwrap_or_else(|_| unreachable_filter());
    Grant::new(Action::Command, filter)
}

#[allow(clippy::panic, reason = "only tests call this")]
fn unreachable_filter() -> ! {
    panic!("not a filter")
}

/// Publish, subscribe and command below `plant/`.
pub fn all_grants() -> [Grant; 3] {
    [publish("plant/#"), subscribe("plant/#"), command_grant("plant/#")]
}

/// As [`crate::plant`], with a session between each two.
pub fn session_plant() -> World {
    session_plant_with(u64::MAX)
}

/// As [`session_plant`], with a new epoch after so many records.
pub fn session_plant_with(rekey_records: u64) -> World {
    let mut world = World::with_sessions();
    for name in ["gateway", "press", "lathe"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), rekey_records);
    }
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    world.introduce("press", "lathe");
    // The press and the lathe begin with the gateway.
    for name in ["press", "lathe"] {
        assert_in_session(&mut world, name, "gateway");
    }
    assert_all_in_sessions(&mut world);
    world
}

/// Enrols a node that hears everything below `plant/`.
pub fn enrol(world: &mut World, options: NodeOptions, rekey_records: u64) {
    let name = options.name.clone();
    world.enrol_with(options.configure(move |config| config.sessions.rekey_records = rekey_records));
    world.subscribe(&name, "plant/#");
}

/// Sends one message, and requires that exactly it arrives, exactly once, in a session.
pub fn assert_in_session(world: &mut World, from: &str, to: &str) {
    assert_flows(world, from, to);
    let last = world.node(to).inbox().last().map(|message| message.protection);
    assert!(matches!(last, Some(Protection::Session { .. })), "{from} to {to} came in an envelope");
}

/// As [`crate::assert_all_flow`], in sessions.
pub fn assert_all_in_sessions(world: &mut World) {
    for (a, b) in [("gateway", "press"), ("gateway", "lathe"), ("press", "lathe")] {
        assert_in_session(world, a, b);
        assert_in_session(world, b, a);
    }
}

/// How many m1s were published to anybody.
pub fn handshakes(world: &World) -> usize {
    world.broker.captured().iter().filter(|packet| packet.topic.starts_with("pqc/session/init/")).count()
}

/// A command's content.
pub fn command(payload: &str) -> Content {
    Content { class: MessageClass::Command, ..Content::telemetry(payload) }
}

/// Publishes whatever way.
pub fn publish_as(
    world: &mut World,
    from: &str,
    to: &str,
    stream: u8,
    content: Content,
    durability: Durability,
) -> Ticket {
    let ticket = Ticket(1_000_000 + world.broker.captured().len() as u64);
    let (topic, stream) = (Topic::new(TOPIC), StreamId::new(stream));
    let (Ok(topic), Some(stream)) = (topic, stream) else { return ticket };
    let publish = Publish {
        ticket,
        peer: id(to),
        topic,
        stream,
        content,
        durability,
        priority: Priority::Normal,
        effects: Vec::new(),
    };
    world.node(from).input(Input::Command(Command::Publish(publish)));
    ticket
}

/// Delivers to the gateway, which neither believes nor keeps anything of it.
pub fn assert_no_effect(world: &mut World, topic: &str, payload: &[u8]) {
    let gateway = world.node("gateway");
    let (state, inbox, sessions) = (gateway.snapshot(), gateway.inbox().len(), gateway.status().sessions);
    world.broker.deliver_to("gateway", topic, payload);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.inbox().len(), inbox, "something was delivered");
    assert_eq!(gateway.snapshot(), state, "trusted state changed");
    assert_eq!(gateway.status().sessions, sessions);
    assert_eq!(world.broker.unacknowledged("gateway"), 0, "it is acknowledged");
}

/// No counter of any epoch, class and session was used for two records: no key and nonce serves twice.
pub fn assert_no_counter_twice(world: &World) {
    let mut seen = BTreeMap::new();
    for captured in world.broker.captured() {
        let Some(header) = Header::parse(&captured.payload) else { continue };
        let name = (header.sid, header.epoch, header.class, header.counter);
        let first = seen.entry(name).or_insert((captured, header.salt));
        let same = (&first.0.topic, &first.0.payload) == (&captured.topic, &captured.payload);
        // In another boot of the sender's the key is another.
        assert!(same || first.1 != header.salt, "{name:?} was used for two records");
    }
}

/// A certified peer whose keys do as a test likes. Its node is cut off.
pub struct Insider {
    /// Its keys.
    pub identity: Identity,
    /// Its session with the target, once there is one.
    pub session: Option<Session>,
    sender: Sender,
    name: String,
    target: String,
    certificate: VerifiedCertificate,
    random: SeededRandom,
    boot: BootId,
    number: u64,
    /// What its m1s say of the revocations that it holds.
    pub revocation_seq: u64,
    /// What it takes for confirmed of its telemetry.
    pub confirmed: Settled,
}

/// The stream of control records.
const CONTROL: u8 = 7;

impl Insider {
    /// Takes a node's place towards `target`.
    #[allow(clippy::expect_used, reason = "only tests call this")]
    pub fn instead_of(world: &mut World, name: &str, target: &str) -> Self {
        world.disconnect(name);
        let identity = world.node(name).identity().clone();
        let keys = identity.public();
        let sender = Sender {
            id: identity.peer.clone(),
            fingerprint: keys.fingerprint(),
            set: keys.set,
            signer: identity.signer(),
        };
        let anchors = PinnedAnchors::pin(world.backend(), world.authority.anchors()).expect("anchors");
        let encoded = world.node(target).identity().certificate.clone();
        let certificate = anchors.verify_certificate(&encoded, world.clock.wall()).expect("certified");
        Self {
            identity,
            session: None,
            sender,
            name: name.into(),
            target: target.into(),
            certificate,
            random: SeededRandom::new(99),
            boot: BootId([0x66; 8]),
            number: 0,
            revocation_seq: 0,
            confirmed: Settled::default(),
        }
    }

    /// A signed m1 to the target's newest prekey, with whatever attempt.
    #[allow(clippy::expect_used, reason = "only tests call this")]
    pub fn m1(&mut self, world: &World, attempt: u64) -> ExpectM2 {
        let bundle = retained_bundle(&world.broker, &self.target);
        let (prekey, key) = (bundle.prekey_id, &bundle.encapsulation_key);
        let suite = SessionSuite::Hybrid;
        let key = EncapsulationKey::parse(world.backend(), suite.kem(), key).expect("a valid key");
        let mut sid = SessionId([0; 4]);
        pqc_iiot_core::crypto::backend::RandomSource::fill(&mut self.random, &mut sid.0);
        let initiation = Initiation {
            us: &self.sender,
            boot: self.boot,
            sid,
            peer: &self.certificate,
            prekey,
            encapsulation_key: &key,
            suite,
            revocation_seq: self.revocation_seq,
            attempt,
            gate: self.session.as_ref().map(Session::gate),
        };
        let initiate = Initiate::new(world.backend(), &mut self.random, &initiation).expect("an m1");
        let signature = self.identity.sign_structure(initiate.structure());
        initiate.signed(&signature).expect("signed")
    }

    /// A STALE in answer to an m1 of the target's, with whatever attempt.
    pub fn stale(&mut self, world: &mut World, m1: &[u8], highest: u64) -> Option<Vec<u8>> {
        let parsed = M1::parse(m1).ok()?;
        let bundle = retained_bundle(&world.broker, &self.name);
        let suites = [SessionSuite::Hybrid, SessionSuite::HybridChaCha];
        let we = Responder {
            us: &self.sender,
            accepted: &suites,
            allowed: &suites,
            prekey_required: true,
            encapsulation_key: &bundle.encapsulation_key,
        };
        let checked = parsed.check(world.backend(), &we, &self.certificate).ok()?;
        let shared = self.identity.provider().execute(checked.request()?);
        let Ok(ProviderResponse::SharedSecret(shared)) = shared else { return None };
        checked.decapsulated(&shared, &self.certificate).ok()?.stale(highest).ok()
    }

    /// Makes a session with the target.
    #[allow(clippy::expect_used, reason = "only tests call this")]
    pub fn shake(&mut self, world: &mut World, attempt: u64) -> Established {
        // One peer is answered once a second.
        world.advance(Duration::from_secs(2));
        let expect = self.m1(world, attempt);
        world.broker.deliver_to(&self.target, &init_topic(&self.target), expect.m1());
        world.settle();
        let m2 = world.broker.last_on(&resp_topic(&self.name));
        let established = expect.receive_m2(&m2, &self.certificate).expect("an answer");
        self.session = Session::new(world.backend(), &established.start());
        self.say(world, &Control::Confirm);
        established
    }

    /// Seals anything as a record for `topic`.
    #[allow(clippy::expect_used, reason = "only tests call this")]
    pub fn record(&mut self, class: Class, stream: u8, topic: &str, text: Text<'_>) -> Vec<u8> {
        let stream = StreamId::new(stream).expect("a stream");
        let session = self.session.as_mut().expect("a session");
        let hash = kdf::hash(session.suite().hash(), &[topic.as_bytes()]);
        loop {
            match session.seal(self.boot, Monotonic::default(), class, stream, hash.as_slice(), text) {
                Err(SealError::Reserve) => {
                    session.reserve(class);
                    session.written(1);
                }
                sealed => return sealed.expect("sealed").record,
            }
        }
    }

    /// Sends a control record.
    pub fn say(&mut self, world: &mut World, control: &Control) {
        self.say_body(world, &control.encode());
    }

    /// Sends whatever as a control record.
    pub fn say_body(&mut self, world: &mut World, body: &[u8]) {
        let topic = control_topic(&self.target);
        let record = self.record(Class::Control, CONTROL, &topic, Text::Body(body));
        world.broker.deliver_to(&self.target, &topic, &record);
        world.settle();
    }

    /// A record of plain telemetry with this number.
    pub fn telemetry(&mut self, topic: &str, number: u64, payload: &str) -> Vec<u8> {
        let text = Text::Telemetry { number, confirmed: self.confirmed, payload: payload.as_bytes() };
        self.record(Class::Telemetry, 0, topic, text)
    }

    /// A record of a message that nobody follows.
    pub fn untracked(&mut self, class: Class, topic: &str, content: Content) -> Vec<u8> {
        let mut body = Writer::new();
        body.map(2).int(1).uint(content.class as u64).int(2).bytes(&content.payload);
        self.record(class, 0, topic, Text::Body(&body.finish()))
    }

    /// Sends the next message, and requires that it is delivered.
    pub fn assert_heard(&mut self, world: &mut World) {
        self.number += 1;
        let text = format!("insider {}", self.number);
        let record = self.telemetry(TOPIC, self.number, &text);
        world.broker.deliver_to(&self.target, TOPIC, &record);
        world.settle();
        assert_eq!(world.node(&self.target).received().last(), Some(&text));
    }
}
