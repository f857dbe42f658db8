//! The secure client through its life: exchange, restarts of broker and client, revocation, pressure, shutdown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::plant::{Attacker, Plant, flows, peer};
use common::{BOTH, Broker};
use pqc_iiot_core::endpoint::{PeerLoss, RefusalReason, SendFailure};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::topic::Topic;
use pqc_iiot_mqtt::ClientEvent;
use pqc_iiot_mqtt::client::{ClientStatus, OpenError, PublishError};
use pqc_iiot_mqtt::transport::{Outbound, ProtocolVersion, Qos, TransportOptions};
use pqc_iiot_provider::datadir::DataDirError;

fn numbered(label: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{label} {number}")).collect()
}

#[tokio::test]
async fn messages_go_both_ways_and_only_where_grants_allow() {
    for broker in Broker::both() {
        for version in BOTH {
            let plant = Plant::new();
            let (mut gateway, mut press) = plant.pair(&broker, version).await;
            flows(&plant, &press, &mut gateway, "up", 20).await;
            flows(&plant, &gateway, &mut press, "down", 20).await;

            let topic = plant.topic("press/properties");
            let content = Content {
                content_type: Some("text/plain".into()),
                response_topic: Some(plant.topic("answers").as_str().into()),
                correlation_data: Some(vec![1, 2, 3]),
                ..Content::telemetry("with properties")
            };
            press.client.publish_encrypted(&topic, &peer("gateway"), content.clone()).await.unwrap();
            gateway.receives(&["with properties".to_owned()]).await;
            let message = gateway.told.messages.last().unwrap();
            assert_eq!((&message.peer, message.topic.as_str()), (&peer("press"), topic.as_str()));
            assert_eq!(message.content, content);

            let control = Topic::new(&plant.control().revocations()).unwrap();
            for (topic, to, why) in [
                (Topic::new("elsewhere").unwrap(), "gateway", SendFailure::NoGrant),
                (control, "gateway", SendFailure::ControlTopic),
                (topic.clone(), "lathe", SendFailure::UnknownPeer),
            ] {
                assert_eq!(press.publish(&topic, to, "x").await, Err(PublishError::Refused(why)));
            }
            press.client.add_peer(peer("lathe")).await.unwrap();
            // Nobody heard of it yet: the message waits.
            press.publish(&topic, "lathe", "x").await.unwrap();
            let status = gateway.client.status().await.unwrap();
            assert!(status.connected && status.endpoint.ready == 1 && status.unacknowledged == 0);
            // It hears itself, as it publishes where it is subscribed: records of a session for somebody else.
            assert!(gateway.told.refused.is_empty(), "{:?}", gateway.told.refused);
        }
    }
}

#[tokio::test]
async fn a_broker_restart_loses_nothing_that_was_sent_meanwhile() {
    for version in BOTH {
        let directory = tempfile::tempdir().unwrap();
        // Mosquitto drops its privileges when started as root.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let location = format!("persistence_location {}/", directory.path().display());
        let mut broker = Broker::mosquitto(&[
            "persistence true",
            "autosave_interval 1",
            "autosave_on_changes true",
            &location,
        ]);
        let plant = Plant::new();
        let (mut gateway, mut press) = plant.pair(&broker, version).await;
        flows(&plant, &press, &mut gateway, "before", 5).await;

        broker.kill();
        press.until("the press notices", |told| told.disconnections > 0).await;
        let meanwhile = numbered("meanwhile", 30);
        let mut deliveries = Vec::new();
        for text in &meanwhile {
            deliveries.push(press.queue(&plant.topic("press/state"), "gateway", text).await);
        }
        assert!(!press.client.status().await.unwrap().connected);
        broker.restart();
        gateway.receives(&meanwhile).await;
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        assert!(gateway.told.connections >= 2);
        flows(&plant, &press, &mut gateway, "after", 5).await;
        flows(&plant, &gateway, &mut press, "after", 5).await;
    }
}

/// Without persistence the broker forgets sessions, subscriptions and what it retained: the clients bring it all back.
#[tokio::test]
async fn a_broker_that_lost_its_memory_is_told_everything_again() {
    for version in BOTH {
        let mut broker = Broker::mosquitto(&[]);
        let plant = Plant::new();
        let (mut gateway, mut press) = plant.pair(&broker, version).await;
        broker.restart();
        gateway.until("the gateway reconnects", |told| told.connections >= 2).await;
        press.until("the press reconnects", |told| told.connections >= 2).await;
        // A newcomer finds what the others announced before.
        let mut lathe = plant.open("lathe", &["gateway", "press"], &broker, version).await;
        lathe.until("both are found", |told| told.ready.len() == 2).await;
        gateway.client.add_peer(peer("lathe")).await.unwrap();
        gateway.until("the lathe is ready", |told| told.ready.contains("lathe")).await;
        flows(&plant, &lathe, &mut gateway, "after", 3).await;
        flows(&plant, &press, &mut gateway, "after", 3).await;
        flows(&plant, &gateway, &mut press, "after", 3).await;
    }
}

#[tokio::test]
async fn messages_accepted_before_a_restart_are_refused_after_it() {
    for broker in Broker::both() {
        for version in BOTH {
            let plant = Plant::new();
            let mut attacker = Attacker::new(&broker, version).await;
            attacker.listen(&plant.everything()).await;
            let (mut gateway, press) = plant.pair(&broker, version).await;
            flows(&plant, &press, &mut gateway, "before", 20).await;
            let packets = attacker.overhear(20).await;
            gateway.shutdown().await;

            let mut gateway = plant.open("gateway", &["press"], &broker, version).await;
            gateway.until("the press is known", |told| told.ready.contains("press")).await;
            for (topic, packet) in &packets {
                attacker.send(topic, packet.clone()).await;
            }
            gateway
                .until("every copy is refused", |told| {
                    told.count(RefusalReason::Replayed) + told.count(RefusalReason::TooOld) >= 20
                })
                .await;
            assert!(gateway.told.messages.is_empty(), "{:?}", gateway.told.texts());
            flows(&plant, &press, &mut gateway, "after", 3).await;

            // Nor does a restarted sender use a number again.
            press.shutdown().await;
            let mut press = plant.open("press", &["gateway"], &broker, version).await;
            press.until("the gateway is known", |told| told.ready.contains("gateway")).await;
            flows(&plant, &press, &mut gateway, "after both", 3).await;
        }
    }
}

#[tokio::test]
async fn a_revocation_ends_trust_both_ways_while_messages_flow() {
    for broker in Broker::both() {
        for version in BOTH {
            let mut plant = Plant::new();
            let (mut gateway, mut press) = plant.pair(&broker, version).await;
            let mut lathe = plant.open("lathe", &["gateway"], &broker, version).await;
            gateway.client.add_peer(peer("lathe")).await.unwrap();
            gateway.until("the lathe is ready", |told| told.ready.contains("lathe")).await;
            lathe.until("the gateway is ready", |told| told.ready.contains("gateway")).await;
            let mut attacker = Attacker::new(&broker, version).await;
            attacker.listen(&plant.everything()).await;
            flows(&plant, &press, &mut gateway, "before", 3).await;
            let packets = attacker.overhear(3).await;

            let update = plant.revoke("press");
            attacker.deliver(update).await;
            gateway.until("trust ends", |told| told.lost.contains_key("press")).await;
            press.until("it learns of it", |told| told.self_revoked).await;
            assert_eq!(gateway.told.lost["press"], PeerLoss::Revoked);

            let topic = plant.topic("press/state");
            let refused = |why| Err(PublishError::Refused(why));
            assert_eq!(gateway.publish(&topic, "press", "x").await, refused(SendFailure::Revoked));
            assert_eq!(press.publish(&topic, "gateway", "x").await, refused(SendFailure::Closed));
            let (topic, packet) = &packets[0];
            attacker.send(topic, packet.clone()).await;
            gateway.until("its packets are refused", |told| told.count(RefusalReason::Revoked) > 0).await;

            // It holds across a restart, and for others nothing changed.
            flows(&plant, &lathe, &mut gateway, "still", 3).await;
            gateway.shutdown().await;
            let mut gateway = plant.open("gateway", &["press", "lathe"], &broker, version).await;
            gateway.until("the lathe is known", |told| told.ready.contains("lathe")).await;
            assert_eq!(gateway.publish(&plant.topic("x"), "press", "x").await, refused(SendFailure::Revoked));
            assert_eq!(gateway.client.status().await.unwrap().endpoint.revoked, 1);
            flows(&plant, &lathe, &mut gateway, "and still", 3).await;
            flows(&plant, &gateway, &mut lathe, "and still", 3).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_takes_no_events_goes_on_publishing() {
    let broker = Broker::mosquitto(&["max_queued_messages 0"]);
    for version in BOTH {
        let plant = Plant::new();
        let mut settings = plant.transport("gateway", &broker, version);
        settings.max_packet = 2048; // The least that the limits need.
        let mut gateway = plant.try_open("gateway", settings).await.unwrap();
        let mut press = plant.open("press", &["gateway"], &broker, version).await;
        gateway.client.add_peer(peer("press")).await.unwrap();
        gateway.client.subscribe(&plant.everything()).await.unwrap();
        gateway.until("the press is ready", |told| told.ready.contains("press")).await;
        press.until("the gateway is ready", |told| told.ready.contains("gateway")).await;

        // More than the gateway's event queue holds; its application sleeps.
        let flood = numbered("flood", 1500);
        let mut deliveries = Vec::new();
        for text in &flood {
            deliveries.push(press.queue(&plant.topic("press/state"), "gateway", text).await);
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        // And oversized packets that wait for nobody's acknowledgement.
        let attacker = Attacker::new(&broker, version).await;
        let giant = Outbound {
            qos: Qos::AtMostOnce,
            ..Outbound::new(plant.topic("giant").as_str(), vec![0; 264 * 1024])
        };
        for _ in 0..1000 {
            attacker.deliver(giant.clone()).await;
        }
        for number in 0..200 {
            gateway.publish(&plant.topic("gateway/state"), "press", &format!("down {number}")).await.unwrap();
        }
        let mut status = gateway.client.status().await.unwrap();
        if version == ProtocolVersion::V311 {
            let until = Instant::now() + Duration::from_secs(10);
            let counted = |status: &ClientStatus| {
                let oversized = |(reason, _): &&(RefusalReason, u64)| *reason == RefusalReason::Oversized;
                status.dropped + status.endpoint.refused.iter().find(oversized).map_or(0, |(_, count)| *count)
            };
            while counted(&status) < 1000 && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
                status = gateway.client.status().await.unwrap();
            }
            assert_eq!(counted(&status), 1000, "{status:?}");
        }
        assert!(status.connected && status.unacknowledged <= 1024, "{status:?}");

        // Once it wakes, everything is there, once and in order.
        gateway.receives(&flood).await;
        assert_eq!((gateway.told.connections, gateway.told.disconnections), (1, 0), "{version:?}");
        gateway.shutdown().await;
    }
}

#[tokio::test]
async fn what_a_shutdown_overtakes_leaves_at_the_next_start() {
    let broker = Broker::mosquitto(&[]);
    for version in BOTH {
        let plant = Plant::new();
        let (mut gateway, mut press) = plant.pair(&broker, version).await;
        for round in 0..5 {
            let texts = numbered(&format!("round {round}"), 60);
            for text in &texts {
                drop(press.queue(&plant.topic("press/state"), "gateway", text).await);
            }
            let handle = press.client.clone();
            press.shutdown().await;
            let topic = plant.topic("press/state");
            let late = handle.publish_encrypted(&topic, &peer("gateway"), Content::telemetry("late")).await;
            assert_eq!(late.err(), Some(PublishError::Closed));
            assert!(handle.status().await.is_none());

            press = plant.open("press", &["gateway"], &broker, version).await;
            press.until("the gateway is known", |told| told.ready.contains("gateway")).await;
            // What had not left then leaves now.
            gateway.receives(&texts).await;
        }

        // Two clients never share an identity.
        let transport = plant.transport("second", &broker, version);
        match plant.try_open("press", transport.clone()).await {
            Err(OpenError::DataDir(DataDirError::Locked { .. })) => {}
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a second client opened the same data directory"),
        }
        flows(&plant, &press, &mut gateway, "undisturbed", 3).await;
        match plant.try_open("nobody", transport).await {
            Err(OpenError::DataDir(DataDirError::Missing { .. })) => {}
            _ => panic!("a client without a data directory"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_amid_a_flood_neither_loses_nor_repeats_a_message() {
    let broker = Broker::mosquitto(&["max_queued_messages 0"]);
    for version in BOTH {
        let plant = Plant::new();
        let (gateway, press) = plant.pair(&broker, version).await;
        // The gateway's application sleeps: some messages wait for it, some in the client, some at the broker.
        let flood = numbered("flood", 1500);
        let mut deliveries = Vec::new();
        for text in &flood {
            deliveries.push(press.queue(&plant.topic("press/state"), "gateway", text).await);
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        // Everything is confirmed, as the inbox holds it; the next start tells what nobody took.
        let mut arrived = gateway.shutdown().await.texts();
        assert!(arrived.len() < flood.len(), "{}", arrived.len());
        let mut gateway = plant.open("gateway", &["press"], &broker, version).await;
        let rest = flood.len() - arrived.len();
        gateway.until("the rest", |told| told.messages.len() >= rest).await;
        assert!(gateway.told.messages.iter().take(rest).all(|message| message.redelivered));
        arrived.append(&mut gateway.told.texts());
        assert!(arrived == flood, "lost, repeated or out of order");
        flows(&plant, &press, &mut gateway, "after", 3).await;
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_blocks_nothing() {
    let plant = Plant::new();
    let url = format!("mqtt://127.0.0.1:{}", pqc_iiot_mqtt::testing::free_port());
    let mut options = TransportOptions::new(url.parse().unwrap(), "lonely");
    options.backoff_min = Duration::from_millis(10);
    options.version = ProtocolVersion::V5;
    let mut press = plant.try_open("press", options.clone()).await.unwrap();
    press.until("it says so", |told| told.disconnections >= 2).await;
    press.client.add_peer(peer("gateway")).await.unwrap();
    assert!(!press.client.status().await.unwrap().connected);
    press.publish(&plant.topic("press/state"), "gateway", "x").await.unwrap();
    assert_eq!(press.client.status().await.unwrap().endpoint.outbox.messages, 1);
    let started = Instant::now();
    press.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());

    // What can never work is said at once, and leaves the directory free.
    for url in ["mqtt://192.0.2.7", "mqtts://localhost"] {
        options.url = url.parse().unwrap();
        match plant.try_open("press", options.clone()).await {
            Err(OpenError::Transport(_)) => {}
            Err(other) => panic!("{url}: {other}"),
            Ok(_) => panic!("{url} was accepted"),
        }
    }
    options.url = "mqtt://127.0.0.1:1".parse().unwrap();
    let mut press = plant.try_open("press", options).await.unwrap();
    let event = press.events.recv().await;
    assert!(matches!(event, Some(ClientEvent::Disconnected { .. })), "{event:?}");
}
