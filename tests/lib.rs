//! The driver that the tests beside this file share: a small plant, and proof that honest traffic still flows.

pub mod sessions;

use std::collections::BTreeMap;

use pqc_iiot_core::codec::signed::{ContextItem, SignedObject, Unverified};
use pqc_iiot_core::codec::{DecodeError, Reader, Writer};
use pqc_iiot_core::endpoint::{Event, RefusalReason};
use pqc_iiot_core::envelope::Packet;
use pqc_iiot_core::identity::announcement::PublishedBy;
use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_sim::{HostileBroker, Identity, SealSpec, World, WorldOptions, peer, publish, subscribe};

/// Where the press reports.
pub const TOPIC: &str = "plant/press/temperature";

/// Announces in the names the protocol uses.
pub fn keys_topic(id: &str) -> String {
    format!("pqc/keys/{id}")
}

/// Where a peer's prekeys are retained.
pub fn prekeys_topic(id: &str) -> String {
    format!("pqc/prekeys/{id}")
}

/// A gateway that hears everything below `plant/`, a press and a lathe, all of which trust each other.
pub fn plant() -> World {
    let mut world = World::default();
    populate(&mut world);
    world
}

/// As [`plant`], on the faster backend: for attacks that take thousands of messages.
pub fn fast_plant() -> World {
    let backend = pqc_iiot_core::crypto::default_backend();
    let mut world = World::new(WorldOptions { backend, ..WorldOptions::default() });
    populate(&mut world);
    world
}

/// As [`plant`], in a world that was prepared.
pub fn populate(world: &mut World) {
    for name in ["gateway", "press", "lathe"] {
        world.enrol(name, &everything());
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    world.introduce("press", "lathe");
}

/// Publish and subscribe below `plant/`.
pub fn everything() -> [pqc_iiot_core::identity::grants::Grant; 2] {
    [publish("plant/#"), subscribe("plant/#")]
}

/// Sends one message and requires that exactly it arrives, exactly once.
pub fn assert_flows(world: &mut World, from: &str, to: &str) {
    let text = format!("honest {} {}", from, world.broker.captured().len());
    let before = world.node(to).inbox().len();
    let ticket = world.node(from).publish(to, TOPIC, text.as_bytes());
    world.settle();
    assert_eq!(world.node(from).send_failure(ticket), None, "honest traffic from {from} to {to}");
    let received = world.node(to).received();
    assert_eq!(received[before..], [text], "honest traffic from {from} to {to}");
}

/// A message is accepted, and waits: nothing of it reaches the network.
pub fn assert_waits(world: &mut World, from: &str, to: &str) {
    let (waiting, sent) = (world.node(from).status().outbox.messages, world.broker.captured_on(TOPIC).len());
    let ticket = world.node(from).publish(to, TOPIC, "waits");
    world.settle();
    assert_eq!(world.node(from).send_failure(ticket), None);
    assert_eq!(world.node(from).status().outbox.messages, waiting + 1);
    assert_eq!(world.broker.captured_on(TOPIC).len(), sent, "{from} sent something to {to}");
}

/// Every pair of the plant exchanges messages, both ways.
pub fn assert_all_flow(world: &mut World) {
    for (a, b) in [("gateway", "press"), ("gateway", "lathe"), ("press", "lathe")] {
        assert_flows(world, a, b);
        assert_flows(world, b, a);
    }
}

/// A message of the press to the gateway that the broker took out of the way.
pub fn intercept(world: &mut World, topic: &str, text: &str) -> Vec<u8> {
    world.broker.withhold(topic);
    world.node("press").publish("gateway", topic, text);
    world.settle();
    world.broker.withhold_nothing();
    world.broker.last_on(topic)
}

/// Injects at a topic, settles, and requires exactly one refusal by the gateway, for `reason`, that changes nothing
/// durable and delivers nothing.
pub fn assert_refused(world: &mut World, topic: &str, payload: &[u8], reason: RefusalReason) {
    let gateway = world.node("gateway");
    let (state, inbox) = (gateway.snapshot(), gateway.inbox().len());
    let refusals = gateway.refusals().len();
    world.broker.deliver_to("gateway", topic, payload);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.refusals()[refusals..], [reason], "at {topic}");
    assert_eq!(gateway.inbox().len(), inbox, "something was delivered");
    assert_eq!(gateway.snapshot(), state, "trusted state changed");
    assert_eq!(world.broker.unacknowledged("gateway"), 0, "a refused delivery is acknowledged");
}

/// No sender ever used a sequence for two different packets: what the broker saw twice was the same byte for byte.
pub fn assert_no_sequence_twice(world: &World) {
    let mut seen = BTreeMap::new();
    for captured in world.broker.captured() {
        let Ok(packet) = Packet::parse(&captured.payload) else { continue };
        let name = (packet.sender(), packet.recipient(), packet.stream(), packet.sequence());
        let first = seen.entry(name).or_insert(captured);
        let again = (&captured.topic, &captured.payload);
        assert!((&first.topic, &first.payload) == again, "{name:?} was used for two packets");
    }
}

/// The texts that a node told its application for the first time, in order; those told again after a restart are left out.
pub fn first_told(world: &mut World, name: &str) -> Vec<String> {
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    let inbox = world.node(name).inbox().into_iter();
    inbox.filter(|message| !message.redelivered).map(|message| text(&message.content.payload)).collect()
}

/// Every different text that a node told its application, in the order in which it was told first.
pub fn told_once(world: &mut World, name: &str) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for text in world.node(name).received() {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// Whether a message of this ticket is in its sender's outbox, or was.
pub fn was_accepted(world: &mut World, name: &str, of: pqc_iiot_core::endpoint::Ticket) -> bool {
    let accepted = |event: &Event| matches!(event, Event::Accepted { ticket, .. } if *ticket == of);
    world.node(name).events().iter().any(accepted)
}

/// An attacker who holds a member's keys and seals whatever it likes to the gateway.
pub fn insider_spec(world: &mut World, topic: &str, text: &str, sequence: u64) -> SealSpec {
    SealSpec { sequence, ..world.seal_spec("gateway", topic, text) }
}

/// A stolen copy of a node's keys.
pub fn thief_of(world: &mut World, name: &str) -> Identity {
    world.node(name).identity().clone()
}

/// The prekey bundle retained for a peer.
pub fn retained_bundle(broker: &HostileBroker, id: &str) -> PrekeyBundle {
    let bytes = broker.retained(&prekeys_topic(id)).unwrap_or_else(|| no_bundle(id));
    match Unverified::<PrekeyBundle>::decode(bytes, usize::MAX) {
        Ok(bundle) => bundle.unverified().clone(),
        Err(_) => no_bundle(id),
    }
}

#[allow(clippy::panic, reason = "only tests call this")]
fn no_bundle(id: &str) -> ! {
    panic!("no bundle of {id} is retained")
}

/// Signs a bundle as its owner would, with whatever it says.
pub fn signed_bundle(identity: &Identity, bundle: &PrekeyBundle) -> Vec<u8> {
    let topic = prekeys_topic(identity.peer.as_str());
    identity.sign(bundle, &PublishedBy { peer: &identity.peer, topic: &topic })
}

/// The next bundle of a malicious member, with a key of its choice.
pub fn next_bundle(broker: &HostileBroker, id: &str, encapsulation_key: Vec<u8>) -> PrekeyBundle {
    let last = retained_bundle(broker, id);
    let (bundle_seq, prekey_id) = (last.bundle_seq + 1, PrekeyId(last.prekey_id.0 + 1));
    PrekeyBundle { bundle_seq, prekey_id, encapsulation_key, ..last }
}

/// An announcement's certificate and the signed object about it.
pub fn announcement_parts(announcement: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let parts = Reader::new(announcement).and_then(|mut reader| {
        reader.array_of(2)?;
        Ok((reader.bytes()?.to_vec(), reader.bytes()?.to_vec()))
    });
    parts.unwrap_or_default()
}

/// `payload` with one bit flipped.
pub fn flipped(payload: &[u8], at: usize) -> Vec<u8> {
    let mut copy = payload.to_vec();
    if let Some(byte) = copy.get_mut(at) {
        *byte ^= 1;
    }
    copy
}

/// An object whose payload breaks the rules although a genuine key signs it.
pub struct Freely {
    /// Writes the payload.
    pub write: fn(&mut Writer) -> &mut Writer,
}

/// As an announcement of `press`.
impl SignedObject for Freely {
    const TAG: &'static str = pqc_iiot_core::crypto::labels::KEY_ANNOUNCEMENT;
    type Context<'a> = (&'a PeerId, &'a str);

    fn context<'a>(context: &'a Self::Context<'_>) -> Vec<ContextItem<'a>> {
        vec![ContextItem::Text(context.0.as_str()), ContextItem::Text(context.1)]
    }

    fn encode(&self, writer: &mut Writer) {
        (self.write)(writer);
    }

    fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::Shape)
    }
}

/// A peer id from text.
pub fn id(text: &str) -> PeerId {
    peer(text)
}

/// The filter of the group in [`group_plant`].
pub const GROUP: &str = "plant/+/temperature";

/// As [`plant`] with sessions: the press publishes to a group, the gateway and the lathe have its key.
pub fn group_plant() -> World {
    let mut world = World::with_sessions();
    populate(&mut world);
    world.node("press").create_group(GROUP);
    for member in ["gateway", "lathe"] {
        world.node("press").add_subscriber(GROUP, member);
    }
    world.advance(core::time::Duration::from_secs(10));
    world
}

/// Publishes to the group and settles.
pub fn tell_group(world: &mut World, text: &str) {
    let ticket = world.node("press").publish_topic(TOPIC, text);
    assert_eq!(world.node("press").send_failure(ticket), None);
    world.settle();
}

/// Publishes to the group and requires that the gateway hears it once, and after the seal that it is the press's.
pub fn assert_group_flows(world: &mut World) {
    let text = format!("honest {}", world.broker.captured().len());
    tell_group(world, &text);
    world.advance(core::time::Duration::from_secs(301));
    let gateway = world.node("gateway");
    let times = |texts: Vec<String>| texts.into_iter().filter(|told| *told == text).count();
    assert_eq!(
        (times(gateway.group_texts()), times(gateway.group_verified())),
        (1, 1),
        "honest group traffic"
    );
}
