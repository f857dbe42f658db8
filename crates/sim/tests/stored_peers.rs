//! Peers whose certificates are in the store and not in memory: everything holds as if they were at hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::endpoint::{
    Command, Durability, Event, Input, MAX_WAITING_PUBLISHES, PeerLoss, Priority, Publish, RefusalReason,
    SendFailure, Ticket,
};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::store::{Change, RecordKind};
use pqc_iiot_core::topic::Topic;
use pqc_iiot_provider::store::Store;
use pqc_iiot_sim::{EPOCH, NodeOptions, World, peer, publish, subscribe};

const TOPIC: &str = "plant/line/temperature";
const HOUR: Duration = Duration::from_secs(3_600);

fn grants() -> [pqc_iiot_core::identity::grants::Grant; 2] {
    [publish("plant/#"), subscribe("plant/#")]
}

/// A gateway that knows a press and a lathe, started again, so that it has nothing but their rows.
fn restarted(gateway: NodeOptions) -> World {
    let mut world = World::default();
    world.enrol_with(gateway);
    world.enrol_with(NodeOptions::new("press", &grants()).valid_until(EPOCH.plus(2 * HOUR)));
    world.enrol("lathe", &grants());
    for name in ["gateway", "press", "lathe"] {
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    world.restart("gateway");
    world.settle();
    assert_eq!(world.node("gateway").loads(), 0, "a start loads nothing");
    world
}

fn plant() -> World {
    restarted(NodeOptions::new("gateway", &grants()))
}

/// Sends one message from `from`, which must arrive.
fn flows(world: &mut World, from: &str, to: &str) {
    let text = format!("{from} {}", world.broker.captured().len());
    let ticket = world.node(from).publish(to, TOPIC, text.as_bytes());
    world.settle();
    assert_eq!(world.node(from).send_failure(ticket), None);
    assert_eq!(world.node(to).received().last(), Some(&text));
}

/// A message of the press that the broker took out of the way.
fn intercepted(world: &mut World, text: &str) -> Vec<u8> {
    world.broker.withhold(TOPIC);
    world.node("press").publish("gateway", TOPIC, text);
    world.settle();
    world.broker.withhold_nothing();
    world.broker.last_on(TOPIC)
}

fn ready(world: &mut World, name: &str) -> usize {
    let ready = |event: &&Event| matches!(event, Event::PeerReady { peer, forward_secret: true } if peer.as_str() == name);
    world.node("gateway").events().iter().filter(ready).count()
}

#[test]
fn peers_are_ready_at_once_and_loaded_when_they_are_needed() {
    let mut world = plant();
    assert_eq!(world.node("gateway").status().ready, 2);
    let before = ready(&mut world, "press");
    world.node("gateway").add_peer("press");
    world.settle();
    assert_eq!(ready(&mut world, "press"), before + 1);
    assert_eq!(world.node("gateway").loads(), 0, "what is known of a peer is in its row");
    // Incoming, then outgoing: each loads its peer once.
    flows(&mut world, "press", "gateway");
    flows(&mut world, "press", "gateway");
    flows(&mut world, "gateway", "press");
    assert_eq!(world.node("gateway").loads(), 1);
    flows(&mut world, "gateway", "lathe");
    flows(&mut world, "lathe", "gateway");
    assert_eq!(world.node("gateway").loads(), 2);
}

#[test]
fn what_waits_for_a_load_keeps_its_order() {
    let mut world = plant();
    world.node("gateway").hold_persists(true);
    for n in 0..20 {
        world.node("press").publish("gateway", TOPIC, format!("in {n}"));
        world.node("gateway").publish("press", TOPIC, format!("out {n}"));
    }
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.loads(), 1);
    assert_eq!((gateway.received().len(), gateway.status().held), (0, 20));
    world.node("gateway").hold_persists(false);
    world.settle();
    let numbered = |word: &str| (0..20).map(|n| format!("{word} {n}")).collect::<Vec<_>>();
    assert_eq!(world.node("gateway").received(), numbered("in"));
    assert_eq!(world.node("press").received(), numbered("out"));
    assert_eq!(world.node("gateway").status().held, 0);
    assert_eq!(world.broker.unacknowledged("gateway"), 0);
}

#[test]
fn volatile_messages_wait_for_a_load_within_a_bound() {
    let mut world = plant();
    world.node("gateway").hold_persists(true);
    for n in 0..=MAX_WAITING_PUBLISHES as u64 {
        let publish = Publish {
            ticket: Ticket(1_000 + n),
            peer: peer("press"),
            topic: Topic::new(TOPIC).unwrap(),
            stream: StreamId::default(),
            content: Content::telemetry(n.to_string()),
            durability: Durability::Volatile,
            priority: Priority::Normal,
            effects: Vec::new(),
        };
        world.node("gateway").input(Input::Command(Command::Publish(publish)));
    }
    let gateway = world.node("gateway");
    assert_eq!(gateway.loads(), 1);
    assert!(gateway.endpoint().backlog() > MAX_WAITING_PUBLISHES);
    let last = Ticket(1_000 + MAX_WAITING_PUBLISHES as u64);
    assert_eq!(gateway.send_failure(last), Some(SendFailure::Busy));
    assert_eq!(gateway.send_failure(Ticket(1_000)), None);
    world.node("gateway").hold_persists(false);
    world.settle();
    let received = world.node("press").received();
    assert_eq!(received.first().map(String::as_str), Some("0"));
    assert!(received.is_sorted_by_key(|text| text.parse::<u64>().unwrap()));
}

#[test]
fn a_receipt_is_sent_although_its_peer_was_dropped_meanwhile() {
    let mut world =
        restarted(NodeOptions::new("gateway", &grants()).configure(|config| config.parsed_peers = 1));
    for name in ["press", "lathe"] {
        flows(&mut world, name, "gateway");
    }
    world.advance(Duration::from_secs(5));
    for name in ["press", "lathe"] {
        assert_eq!(world.node(name).status().outbox.messages, 0, "{name} waits for a receipt");
    }
}

#[test]
fn few_certificates_are_kept_and_the_others_loaded_again() {
    let mut world =
        restarted(NodeOptions::new("gateway", &grants()).configure(|config| config.parsed_peers = 1));
    for round in 1..=3 {
        for name in ["press", "lathe"] {
            flows(&mut world, name, "gateway");
            flows(&mut world, "gateway", name);
        }
        assert_eq!(world.node("gateway").loads(), 2 * round);
    }
    assert_eq!(world.node("gateway").status().ready, 2);
}

#[test]
fn the_least_recently_used_is_dropped() {
    let mut world =
        restarted(NodeOptions::new("gateway", &grants()).configure(|config| config.parsed_peers = 2));
    world.enrol("saw", &grants());
    world.subscribe("saw", "plant/#");
    world.introduce("gateway", "saw");
    // The saw is at hand; with the press there is no room left for a third.
    flows(&mut world, "press", "gateway");
    flows(&mut world, "saw", "gateway");
    flows(&mut world, "lathe", "gateway");
    assert_eq!(world.node("gateway").loads(), 2);
    flows(&mut world, "gateway", "saw");
    assert_eq!(world.node("gateway").loads(), 2, "the saw was used after the press");
    flows(&mut world, "gateway", "press");
    assert_eq!(world.node("gateway").loads(), 3);
}

#[test]
fn a_revocation_ends_trust_in_what_is_not_loaded() {
    let mut world = plant();
    let unseen = intercepted(&mut world, "late");
    world.revoke(&["press"]);
    let gateway = world.node("gateway");
    let lost = |node: &pqc_iiot_sim::Node| {
        let is = |event: &&Event| matches!(event, Event::PeerLost { reason: PeerLoss::Revoked, .. });
        node.events().iter().filter(is).count()
    };
    assert_eq!(lost(gateway), 1);
    assert_eq!(gateway.status().ready, 1);
    for _ in 0..2 {
        world.broker.deliver_to("gateway", TOPIC, &unseen);
        world.settle();
        let gateway = world.node("gateway");
        assert_eq!(gateway.refusals().last(), Some(&RefusalReason::Revoked));
        let ticket = gateway.publish("press", TOPIC, "x");
        assert_eq!(gateway.send_failure(ticket), Some(SendFailure::Revoked));
        gateway.add_peer("press");
        assert_eq!(gateway.loads(), 0, "nothing revoked is loaded");
        world.restart("gateway");
        world.settle();
    }
    assert_eq!(lost(world.node("gateway")), 1);
    flows(&mut world, "lathe", "gateway");
    flows(&mut world, "gateway", "lathe");
}

#[test]
fn a_revocation_between_question_and_answer_wins() {
    let mut world = plant();
    world.node("gateway").hold_persists(true);
    world.node("press").publish("gateway", TOPIC, "late");
    let ticket = world.node("gateway").publish("press", TOPIC, "to the revoked");
    world.settle();
    assert_eq!(world.node("gateway").loads(), 1);
    world.revoke(&["press"]);
    world.node("gateway").hold_persists(false);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.received(), Vec::<String>::new());
    assert_eq!(gateway.send_failure(ticket), Some(SendFailure::Revoked));
    assert_eq!(gateway.refused(RefusalReason::Revoked), 1);
    assert_eq!(world.node("press").received(), Vec::<String>::new());
}

#[test]
fn a_dropped_issuer_ends_trust_in_what_is_not_loaded() {
    let mut world = plant();
    let unseen = intercepted(&mut world, "late");
    world.authority.replace_issuer();
    let anchors = world.authority.next_anchors(|_| {});
    let topic = world.topics.anchors();
    world.publish_control(topic, anchors);
    world.settle();
    let gateway = world.node("gateway");
    let dropped = |event: &&Event| matches!(event, Event::PeerLost { reason: PeerLoss::IssuerDropped, .. });
    assert_eq!(gateway.events().iter().filter(dropped).count(), 2);
    assert_eq!(gateway.status().ready, 0);
    gateway.publish("press", TOPIC, "x");
    world.broker.deliver_to("gateway", TOPIC, &unseen);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!((gateway.received().len(), gateway.loads()), (0, 0));
    assert_eq!(world.node("press").received(), Vec::<String>::new());
}

#[test]
fn a_certificate_that_expires_in_the_store_is_not_used() {
    let mut world = plant();
    let unseen = intercepted(&mut world, "late");
    // Nor what the press sends again meanwhile.
    world.broker.withhold(TOPIC);
    world.advance(2 * HOUR);
    world.broker.deliver_to("gateway", TOPIC, &unseen);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.refusals().last(), Some(&RefusalReason::Expired));
    let ticket = gateway.publish("press", TOPIC, "x");
    assert_eq!(gateway.send_failure(ticket), Some(SendFailure::Expired));
    assert_eq!(gateway.loads(), 0);
    // After a start it is no longer ready, nor told to be.
    world.restart("gateway");
    world.settle();
    let before = ready(&mut world, "press");
    world.node("gateway").add_peer("press");
    assert_eq!(ready(&mut world, "press"), before);
    assert_eq!(world.node("gateway").status().ready, 1);
}

/// Puts another row of the same table in place of the press's, and starts again.
fn exchange(world: &mut World, kind: RecordKind) {
    let mut disk = world.node("gateway").disk();
    let value = disk.read(kind, b"lathe").unwrap().unwrap();
    disk.commit(&[Change::Put { kind, key: b"press".to_vec(), value }]).unwrap();
    world.node("gateway").replace_disk(disk);
    world.restart("gateway");
    world.settle();
}

#[test]
fn a_loaded_certificate_that_was_not_pinned_is_refused_and_fetched_anew() {
    let mut world = plant();
    exchange(&mut world, RecordKind::Certificate);
    world.node("press").publish("gateway", TOPIC, "waits");
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.refusals().last(), Some(&RefusalReason::BadCertificate));
    assert_eq!(gateway.received(), Vec::<String>::new());
    assert_eq!(gateway.status().ready, 1);
    // The retained announcement puts it right, and what waited is opened.
    world.advance(Duration::from_secs(2));
    assert_eq!(world.node("gateway").received(), ["waits"]);
    flows(&mut world, "lathe", "gateway");
}

#[test]
fn a_loaded_bundle_that_was_not_pinned_is_not_used() {
    let mut world = plant();
    exchange(&mut world, RecordKind::Bundle);
    world.node("gateway").publish("press", TOPIC, "x");
    world.settle();
    assert_eq!(world.node("gateway").loads(), 1);
    assert_eq!(world.node("press").received(), Vec::<String>::new());
}

#[test]
fn a_prekey_rotated_while_its_peer_is_not_loaded_is_adopted() {
    let mut world = World::default();
    let fast = |config: &mut pqc_iiot_core::endpoint::EndpointConfig| config.prekeys.rotate_after = HOUR;
    world.enrol_with(NodeOptions::new("gateway", &grants()));
    world.enrol_with(NodeOptions::new("press", &grants()).configure(fast));
    world.subscribe("press", "plant/#");
    world.introduce("gateway", "press");
    world.restart("gateway");
    world.advance(HOUR + Duration::from_secs(2));
    assert_eq!(world.node("gateway").loads(), 1, "the new bundle is verified");
    world.node("gateway").publish("press", TOPIC, "x");
    world.settle();
    assert_eq!(world.node("press").received(), ["x"]);
    // The row has it too.
    world.restart("gateway");
    world.settle();
    world.node("gateway").publish("press", TOPIC, "y");
    // The first message's receipt comes before the next leaves.
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("press").received(), ["x", "y"]);
}

#[test]
fn an_older_bundle_of_the_same_peer_is_not_used_when_it_is_loaded() {
    let mut world = World::default();
    let fast = |config: &mut pqc_iiot_core::endpoint::EndpointConfig| config.prekeys.rotate_after = HOUR;
    world.enrol_with(NodeOptions::new("gateway", &grants()));
    world.enrol_with(NodeOptions::new("press", &grants()).configure(fast));
    world.subscribe("press", "plant/#");
    world.introduce("gateway", "press");
    let older = world.node("gateway").disk().read(RecordKind::Bundle, b"press").unwrap().unwrap();
    world.advance(HOUR + Duration::from_secs(2));
    let mut disk = world.node("gateway").disk();
    assert!(disk.read(RecordKind::Bundle, b"press").unwrap().unwrap() != older);
    disk.commit(&[Change::Put { kind: RecordKind::Bundle, key: b"press".to_vec(), value: older }]).unwrap();
    world.node("gateway").replace_disk(disk);
    world.restart("gateway");
    world.settle();
    // Genuine and in time, and still not the newest: its secret may be erased already.
    world.node("gateway").publish("press", TOPIC, "x");
    world.settle();
    assert_eq!(world.node("gateway").loads(), 1);
    assert_eq!(world.node("press").received(), Vec::<String>::new());
}

#[test]
fn a_certificate_renewed_while_its_peer_is_not_loaded_keeps_the_bundle() {
    let mut world = plant();
    let identity = world.node("press").identity().clone();
    let mut options = NodeOptions::new("press", &grants());
    options.not_before = EPOCH.plus(Duration::from_secs(1));
    world.advance(Duration::from_secs(5));
    let renewed = world.authority.issue(&identity.request(), &options.parameters()).unwrap();
    world.node("press").install_certificate(renewed);
    world.restart("press");
    world.settle();
    flows(&mut world, "gateway", "press");
    assert_eq!(world.node("gateway").loads(), 1, "certificate and bundle come together");
    flows(&mut world, "press", "gateway");
    // Past the end of the first certificate.
    world.advance(3 * HOUR);
    flows(&mut world, "gateway", "press");
    flows(&mut world, "press", "gateway");
}

/// A packet in the name of `sender` that passes every check before the certificate's.
fn junk(genuine: &[u8]) -> Vec<u8> {
    let mut packet = genuine.to_vec();
    let last = packet.len() - 1;
    packet[last] ^= 1;
    packet
}

#[test]
fn strangers_cause_no_more_loads_than_the_budget_pays_for() {
    let spare = |config: &mut pqc_iiot_core::endpoint::EndpointConfig| {
        config.parsed_peers = 1;
        config.budgets.messages.burst = 10;
        config.budgets.messages.per_second = 1;
    };
    let mut world = restarted(NodeOptions::new("gateway", &grants()).configure(spare));
    world.broker.withhold(TOPIC);
    let mut forged = vec![];
    for name in ["press", "lathe"] {
        world.node(name).publish("gateway", TOPIC, "never seen");
        world.settle();
        forged.push(junk(&world.broker.last_on(TOPIC)));
    }
    world.broker.withhold_nothing();
    for n in 0..200 {
        world.broker.deliver_to("gateway", TOPIC, &forged[n % 2]);
    }
    world.settle();
    let loads = world.node("gateway").loads();
    assert!((1..=10).contains(&loads), "{loads} loads for ten tokens");
    // What is genuine costs nothing in the end, loaded or not.
    world.advance(Duration::from_secs(600));
    for _ in 0..30 {
        flows(&mut world, "press", "gateway");
        flows(&mut world, "lathe", "gateway");
    }
}
