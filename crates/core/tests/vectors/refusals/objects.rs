//! Objects that are well made and must be refused all the same.

use super::other_identities;
use crate::generate::{
    CHECKPOINT_TOPIC, CONTROL_TOPIC, Collector, MESSAGE_TOPIC, UPDATES_TOPIC, origin, receipt, revoked,
};
use crate::json::{Json, hex_text, object, text};
use crate::sealing::{Order, sign_again};
use crate::world::{NOW, Peer, Prekey, World, sign};
use pqc_iiot_core::control::revocation::RevocationIssuer;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::delivery::{Loss, LossReason};
use pqc_iiot_core::envelope::{Body, Content, MessageClass, Tracking};
use pqc_iiot_core::time::UnixTime;

/// Objects that are well made and must be refused all the same.
pub(super) fn hostile_objects(world: &World, prekey: &Prekey, collector: &mut Collector) -> Vec<Json> {
    let mut objects = Vec::new();
    let honest = Order {
        name: "",
        from: &world.press_7,
        to: &world.gateway_1,
        prekey: Some(prekey),
        suite: SessionSuite::Hybrid,
        topic: MESSAGE_TOPIC,
        stream: 0,
        sequence: 2,
        body: Content::default().into(),
    };
    let mut command = Content::telemetry(*b"open the valve");
    command.class = MessageClass::Command;
    let mut late = Content::telemetry(*b"23.5");
    late.expires = Some(UnixTime(NOW));
    let telemetry = Content::telemetry(*b"23.5");
    let mut twice = receipt();
    twice.streams.extend(receipt().streams);
    for order in [
        Order { name: "envelope/command", body: command.into(), ..honest.clone() },
        Order { name: "envelope/expired", body: late.into(), ..honest.clone() },
        Order {
            name: "envelope/outside-grant",
            topic: "plant/9/temperature",
            body: telemetry.clone().into(),
            ..honest.clone()
        },
        Order { name: "envelope/message-on-stream-7", stream: 7, ..honest.clone() },
        Order { name: "envelope/message-at-control", topic: CONTROL_TOPIC, ..honest.clone() },
        Order {
            name: "envelope/receipt-on-stream-0",
            topic: CONTROL_TOPIC,
            body: Body::Receipt(receipt()),
            ..honest.clone()
        },
        Order {
            name: "envelope/report-on-stream-7",
            topic: CONTROL_TOPIC,
            stream: 7,
            body: report(1, 1),
            ..honest.clone()
        },
        Order { name: "envelope/report-among-messages", body: report(1, 1), ..honest.clone() },
        Order {
            name: "envelope/number-0",
            body: Body::Message { content: telemetry, tracking: Tracking::Durable(origin(0)) },
            ..honest.clone()
        },
        Order { name: "envelope/no-loss", topic: CONTROL_TOPIC, body: report(2, 1), ..honest.clone() },
        Order {
            name: "envelope/loss-of-number-0",
            topic: CONTROL_TOPIC,
            body: report(0, 1),
            ..honest.clone()
        },
        Order {
            name: "envelope/receipt-of-one-stream-twice",
            topic: CONTROL_TOPIC,
            stream: 7,
            body: Body::Receipt(twice),
            ..honest
        },
    ] {
        let sealed = collector.envelope(&order);
        objects.push(object([
            ("name", text(order.name)),
            ("topic", text(order.topic)),
            ("packet", text(&hex_text(&sealed.packet))),
        ]));
    }
    // The blob of press-7's genuine message under the signature of another member.
    let genuine = &collector.objects["envelope/suite-1"].1;
    let blob = &genuine[1 + "press-7".len()..genuine.len() - world.press_7.set.signature_len()];
    let stolen = sign_again(&world.tpm_1, blob, MESSAGE_TOPIC);
    objects.push(collector.raw("envelope/stolen-blob", MESSAGE_TOPIC, &stolen));

    let [successor, rival] = other_identities(world);
    for (name, peer) in [("announcement/epoch-2", &successor), ("announcement/other-keys", &rival)] {
        objects.push(collector.signed(name, &peer.keys_topic(), &peer.announcement(name)));
    }

    let (issuer, control) = (world.ca.authority.issuer(), world.ca.authority.control());
    let revoke = |history: &mut RevocationIssuer, peer: &Peer| {
        history.revoke(&[revoked(peer)], UnixTime(NOW)).unwrap()
    };
    let other = revoke(&mut RevocationIssuer::new(), &world.vault);
    let name = "revocation/wrong-role";
    objects.push(collector.signed(name, UPDATES_TOPIC, &sign(issuer, name, &other, &UPDATES_TOPIC)));
    let name = "revocation/fork";
    objects.push(collector.signed(name, UPDATES_TOPIC, &sign(control, name, &other, &UPDATES_TOPIC)));
    // A history of its own, further along, that never revoked press-7.
    let mut history = RevocationIssuer::new();
    for peer in [&world.vault, &world.press_9, &world.tpm_1] {
        let _ = revoke(&mut history, peer);
    }
    let omitting = history.checkpoint(UnixTime(NOW));
    let name = "revocation/omitting-checkpoint";
    let made = sign(control, name, &omitting.manifest, &CHECKPOINT_TOPIC);
    objects.push(collector.signed(name, CHECKPOINT_TOPIC, &made));
    let topic = format!("{CHECKPOINT_TOPIC}/0");
    objects.push(collector.raw("revocation/omitting-chunk", &topic, &omitting.chunks[0]));
    objects
}

fn report(first: u64, last: u64) -> Body {
    Body::Lost(Loss { boot: origin(1).boot, first, last, reason: LossReason::Aged })
}
