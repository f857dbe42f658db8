//! The transport against Mosquitto and rumqttd, MQTT 5 and 3.1.1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{BOTH, Broker, Client, connect, options, unique};
use pqc_iiot_mqtt::transport::{
    Event, OptionsError, Outbound, Properties, ProtocolVersion, PublishError, Qos, SubscribeError, Transport,
    TransportOptions,
};

#[tokio::test]
async fn publishes_and_receives_at_both_qos() {
    for broker in Broker::both() {
        for version in BOTH {
            let topic = unique("round/trip");
            let mut client = connect(&broker, version).await;
            assert_eq!(client.transport.subscribe(&topic, Qos::AtLeastOnce).await, Ok(Qos::AtLeastOnce));
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
                let mut message = Outbound::new(&topic, format!("{qos:?}"));
                message.qos = qos;
                client.transport.publish(message).await.unwrap().await.unwrap();
                let received = client.message().await;
                assert_eq!(received.topic, topic);
                assert_eq!(received.payload, format!("{qos:?}"));
                // rumqttd delivers at the subscription's QoS, whatever the publisher's.
                if matches!(broker, Broker::Mosquitto { .. }) {
                    assert_eq!(received.qos, qos);
                }
                assert!(!received.retain && !received.duplicate);
                client.transport.acknowledge(received.token);
            }
            client.transport.close(Duration::from_secs(2)).await;
            assert!(client.events.recv().await.is_none());
        }
    }
}

#[tokio::test]
async fn properties_travel_on_mqtt5_only() {
    let broker = Broker::mosquitto(&[]);
    for version in BOTH {
        let topic = unique("properties");
        let mut client = connect(&broker, version).await;
        client.transport.subscribe(&topic, Qos::AtLeastOnce).await.unwrap();
        let mut message = Outbound::new(&topic, "body");
        message.properties = Properties {
            response_topic: Some("answer/here".into()),
            correlation_data: Some("abc".into()),
            content_type: Some("application/cose".into()),
            message_expiry_secs: Some(60),
        };
        let sent = message.properties.clone();
        client.transport.publish(message).await.unwrap().await.unwrap();
        let received = client.message().await;
        match version {
            ProtocolVersion::V5 => assert_eq!(received.properties, sent),
            ProtocolVersion::V311 => assert_eq!(received.properties, Properties::default()),
        }
    }
}

#[tokio::test]
async fn unacknowledged_messages_come_again_after_a_reconnect() {
    for version in BOTH {
        let mut broker = Broker::mosquitto(&["persistence true", "autosave_interval 1"]);
        let topic = unique("redelivery");
        let settings = options(&broker, version);
        let mut client = Client::new(settings.clone());
        client.connected().await;
        client.transport.subscribe(&topic, Qos::AtLeastOnce).await.unwrap();
        for body in ["first", "second"] {
            client.transport.publish(Outbound::new(&topic, body)).await.unwrap().await.unwrap();
        }
        let first = client.message().await;
        let second = client.message().await;
        assert_eq!((&first.payload[..], &second.payload[..]), (&b"first"[..], &b"second"[..]));
        client.transport.acknowledge(first.token);
        client.transport.close(Duration::from_secs(2)).await;

        // The same client identifier takes its session up again: a restart of the process, as the broker sees it.
        let mut client = Client::new(settings);
        assert!(client.connected().await, "the broker kept the session");
        let again = client.message().await;
        assert_eq!(&again.payload[..], b"second");
        assert!(again.duplicate);
        client.transport.acknowledge(again.token);
        // A token of an earlier connection acknowledges nothing and harms nothing.
        client.transport.acknowledge(second.token);
        client.transport.publish(Outbound::new(&topic, "third")).await.unwrap().await.unwrap();
        assert_eq!(&client.message().await.payload[..], b"third");
        broker.kill();
    }
}

#[tokio::test]
async fn a_burst_loses_nothing() {
    for broker in Broker::both() {
        for version in BOTH {
            let topic = unique("burst");
            let mut receiver = connect(&broker, version).await;
            receiver.transport.subscribe(&topic, Qos::AtLeastOnce).await.unwrap();
            let sender = connect(&broker, version).await;
            let publishing = tokio::spawn(async move {
                let mut completions = Vec::new();
                for number in 0..1000u32 {
                    let message = Outbound::new(topic.as_str(), number.to_be_bytes().to_vec());
                    completions.push(sender.transport.publish(message).await.unwrap());
                    if completions.len() == 200 {
                        for completion in completions.drain(..) {
                            completion.await.unwrap();
                        }
                    }
                }
                sender
            });
            for number in 0..1000u32 {
                let message = receiver.message().await;
                assert_eq!(message.payload[..], number.to_be_bytes());
                receiver.transport.acknowledge(message.token);
            }
            publishing.await.unwrap();
            assert_eq!(receiver.connections, 1);
        }
    }
}

#[tokio::test]
async fn a_restarted_broker_gets_every_subscription_again() {
    for version in BOTH {
        let mut broker = Broker::mosquitto(&[]);
        let mut client = connect(&broker, version).await;
        let topics = [unique("again/a"), unique("again/b")];
        for topic in &topics {
            client.transport.subscribe(topic, Qos::AtLeastOnce).await.unwrap();
        }
        broker.restart();
        assert!(!client.connected().await, "the new broker knows no session");
        for topic in &topics {
            // The subscription may be on its way still: repeat until the first one arrives.
            let (transport, name) = (client.transport.clone(), topic.clone());
            let repeat = tokio::spawn(async move {
                loop {
                    let _ = transport.publish(Outbound::new(&name, "back")).await.unwrap().await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
            loop {
                let message = client.message().await;
                client.transport.acknowledge(message.token);
                if message.topic == *topic {
                    break;
                }
            }
            repeat.abort();
        }
    }
}

#[tokio::test]
async fn over_limit_publishes_are_refused_and_cost_nothing() {
    // The broker's own limit, announced in CONNACK, is below ours on MQTT 5.
    let broker = Broker::mosquitto(&["max_packet_size 20000"]);
    for (version, limit) in [(ProtocolVersion::V5, 20_000), (ProtocolVersion::V311, 30_000)] {
        let mut settings = options(&broker, version);
        settings.max_packet = 30_000;
        let mut client = Client::new(settings);
        client.connected().await;
        assert_eq!(client.transport.max_packet(), limit);
        let topic = unique("limit");
        client.transport.subscribe(&topic, Qos::AtLeastOnce).await.unwrap();
        match client.transport.publish(Outbound::new(&topic, vec![0; limit])).await.err().unwrap() {
            PublishError::TooLarge { size, limit: stated } => {
                assert!(size > limit);
                assert_eq!(stated, limit);
            }
            other => panic!("{other}"),
        }
        client.transport.publish(Outbound::new(&topic, "small")).await.unwrap().await.unwrap();
        assert_eq!(&client.message().await.payload[..], b"small");
        assert_eq!(client.connections, 1);
    }
}

#[tokio::test]
async fn a_publish_queued_before_the_brokers_limit_is_known_does_not_block_the_rest() {
    let mut broker = Broker::mosquitto(&["max_packet_size 20000"]);
    broker.kill();
    let mut client = Client::new(options(&broker, ProtocolVersion::V5));
    let topic = unique("limit");
    let large = client.transport.publish(Outbound::new(&topic, vec![0; 50_000])).await.unwrap();
    broker.restart();
    client.connected().await;
    // The library cannot send it: the transport starts over, and the caller learns that it is lost.
    assert_eq!(large.await, Err(PublishError::SessionLost));
    client.connected().await;
    client.transport.publish(Outbound::new(&topic, "small")).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_full_inbound_queue_holds_the_broker_back_and_keeps_the_connection() {
    for version in BOTH {
        let broker = Broker::mosquitto(&["max_queued_messages 0"]);
        let topic = unique("slow");
        let mut settings = options(&broker, version);
        settings.inbound_queue = 4;
        settings.keep_alive_secs = 5;
        let mut slow = Client::new(settings);
        slow.connected().await;
        slow.transport.subscribe(&topic, Qos::AtLeastOnce).await.unwrap();
        let sender = connect(&broker, version).await;
        for number in 0..40u8 {
            sender.transport.publish(Outbound::new(&topic, vec![number])).await.unwrap().await.unwrap();
        }
        for number in 0..40u8 {
            let message = slow.message().await;
            assert_eq!(message.payload[..], [number]);
            slow.transport.acknowledge(message.token);
        }
        assert_eq!(slow.connections, 1);
    }
}

#[tokio::test]
async fn refusals_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let acl = dir.path().join("acl");
    std::fs::write(&acl, "topic readwrite open/#\n").unwrap();
    // Mosquitto drops its privileges when started as root, and must still read the file.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let broker = Broker::mosquitto(&[&format!("acl_file {}", acl.display())]);
    let client = connect(&broker, ProtocolVersion::V5).await;
    let refused = client.transport.publish(Outbound::new("closed/a", "x")).await.unwrap().await;
    assert!(matches!(refused, Err(PublishError::Refused { .. })), "{refused:?}");
    client.transport.publish(Outbound::new("open/a", "x")).await.unwrap().await.unwrap();
    assert_eq!(
        client.transport.subscribe("a/#/b", Qos::AtMostOnce).await,
        Err(SubscribeError::InvalidFilter)
    );
    let invalid = client.transport.try_publish(Outbound::new("a/+", "x")).err();
    assert_eq!(invalid, Some(PublishError::Invalid("topic")));
}

#[tokio::test]
async fn an_unreachable_broker_is_reported_and_retried() {
    let url = format!("mqtt://127.0.0.1:{}", pqc_iiot_mqtt::testing::free_port());
    let mut settings = TransportOptions::new(url.parse().unwrap(), "nobody-home");
    settings.backoff_min = Duration::from_millis(10);
    let (transport, mut events) = Transport::connect(settings).unwrap();
    for _ in 0..3 {
        assert!(matches!(events.recv().await, Some(Event::Disconnected { .. })));
    }
    assert!(!transport.is_connected());
    transport.close(Duration::from_secs(1)).await;
    let closed = transport.publish(Outbound::new("t", "x")).await.err();
    assert_eq!(closed, Some(PublishError::Closed));
    assert_eq!(transport.subscribe("t", Qos::AtMostOnce).await, Err(SubscribeError::Closed));
}

#[tokio::test]
async fn plaintext_off_loopback_is_refused() {
    let settings = TransportOptions::new("mqtt://192.0.2.7:1883".parse().unwrap(), "c");
    let error = Transport::connect(settings).err().unwrap();
    assert!(matches!(&error, OptionsError::PlaintextRefused { host } if host == "192.0.2.7"));
    assert!(error.to_string().contains("allow_plaintext"));
}
