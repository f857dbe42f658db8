//! Log and metric injection: control characters, 10 kB names, a cardinality explosion.

use std::time::Duration;

use pqc_iiot_core::endpoint::{Event, RefusalReason};
use pqc_iiot_tests::{TOPIC, assert_all_flow, plant};

fn packet_from(name: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len().min(128)).unwrap();
    [&[length][..], name, &[1, 1], &[0; 5_000]].concat()
}

#[test]
fn hostile_names_reach_neither_log_nor_metrics() {
    let mut world = plant();
    let names = [
        "\n2026-01-01 root logged in".to_string(),
        "\u{1b}[2J\u{1b}[31m".into(),
        "a\"} 1\nevil_metric{x=\"".into(),
        "\u{202e}gateway".into(),
        "x".repeat(10_000),
        "../../etc/passwd".into(),
    ];
    for name in &names {
        for topic in [format!("pqc/keys/{name}"), format!("pqc/{name}"), format!("plant/{name}")] {
            world.broker.deliver_to("gateway", &topic, &packet_from(name.as_bytes()));
            world.broker.deliver_to("gateway", &topic, name.as_bytes());
        }
    }
    world.settle();
    let gateway = world.node("gateway");
    assert!(gateway.refusals().len() >= names.len() * 5);
    for event in gateway.audit() {
        let text = event.detail.as_str();
        assert!(text.len() <= 256 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
        assert!(!text.contains("passwd") && !text.contains("evil") && !text.contains("xxx"), "{text:?}");
        assert!(event.peer.as_ref().is_none_or(|peer| ["press", "lathe"].contains(&peer.as_str())));
    }
    assert_all_flow(&mut world);
}

#[test]
fn a_cardinality_explosion_grows_nothing() {
    let mut world = plant();
    let gateway = world.node("gateway");
    let (audit, state, peers) = (gateway.audit().len(), gateway.snapshot(), gateway.status().peers);
    let packets: Vec<_> = (0..10_000).map(|n| packet_from(format!("device-{n}").as_bytes())).collect();
    for (n, packet) in packets.iter().enumerate() {
        world.broker.deliver_to("gateway", TOPIC, packet);
        world.broker.deliver_to("gateway", &format!("pqc/keys/device-{n}"), b"x");
    }
    world.settle();
    world.advance(Duration::from_secs(60));
    let gateway = world.node("gateway");
    assert_eq!(gateway.refused(RefusalReason::UnknownPeer), 20_000);
    let told = |event: &Event| matches!(event, Event::Refused { peer: Some(_), .. });
    assert!(!gateway.events().iter().any(told), "no stranger's name becomes a dimension");
    assert!(gateway.status().refused.len() <= RefusalReason::ALL.len());
    assert_eq!(gateway.status().peers, peers);
    assert!(
        gateway.audit().len() <= audit + 2,
        "one entry at once, one sum: {}",
        gateway.audit().len() - audit
    );
    assert_eq!(gateway.audit().last().unwrap().count, 19_999);
    assert_eq!(gateway.snapshot(), state);
    assert_all_flow(&mut world);
}
