//! Oversized and malformed retained messages at subscribed topics: nobody is disconnected, honest messages arrive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{BOTH, Broker, Client, connect, options, unique};
use pqc_iiot_mqtt::transport::{Event, Outbound, ProtocolVersion, Qos};

const MIB: usize = 1 << 20;

/// An attacker without our limits.
async fn retain(broker: &Broker, version: ProtocolVersion, topic: &str, size: usize) {
    let mut settings = options(broker, version);
    settings.max_packet = 20 << 20;
    let mut attacker = Client::new(settings);
    attacker.connected().await;
    let mut message = Outbound::new(topic, Bytes::from(vec![0x30; size]));
    message.retain = true;
    attacker.transport.publish(message).await.unwrap().await.unwrap();
    attacker.transport.close(Duration::from_secs(2)).await;
}

async fn survives(broker: &Broker, attacker: ProtocolVersion, victim: ProtocolVersion) {
    let root = unique("fleet");
    let topics = [format!("{root}/one"), format!("{root}/sixteen")];
    let mut subscriber = connect(broker, victim).await;
    let filter = format!("{root}/#");
    subscriber.transport.subscribe(&filter, Qos::AtLeastOnce).await.unwrap();
    retain(broker, attacker, &topics[0], MIB).await;
    retain(broker, attacker, &topics[1], 16 * MIB).await;
    // A newcomer meets both as retained messages.
    let mut newcomer = connect(broker, victim).await;
    newcomer.transport.subscribe(&filter, Qos::AtLeastOnce).await.unwrap();

    let honest = connect(broker, victim).await;
    for number in 0..50u32 {
        let message = Outbound::new(format!("{root}/honest"), number.to_be_bytes().to_vec());
        honest.transport.publish(message).await.unwrap().await.unwrap();
    }
    for client in [&mut subscriber, &mut newcomer] {
        for number in 0..50u32 {
            let message = client.message().await;
            assert_eq!(message.payload[..], number.to_be_bytes());
            client.transport.acknowledge(message.token);
        }
        assert_eq!(client.connections, 1, "disconnected by an oversized message");
        for (topic, size, _) in &client.oversized {
            assert!(topics.contains(topic) && *size > MIB as u64);
        }
        if victim == ProtocolVersion::V311 {
            // The broker cannot know the limit: both must have been discarded here.
            assert_eq!(client.oversized.len(), 2, "{:?}", client.oversized);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_giants_through_mosquitto() {
    let broker = Broker::mosquitto(&[]);
    for (attacker, victim) in [(BOTH[0], BOTH[0]), (BOTH[1], BOTH[1]), (BOTH[0], BOTH[1])] {
        survives(&broker, attacker, victim).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_giants_through_rumqttd() {
    let [mosquitto, broker] = Broker::both();
    drop(mosquitto);
    for version in BOTH {
        survives(&broker, version, version).await;
    }
}

/// A broker that ignores everything: raw bytes straight at the client.
#[tokio::test]
async fn a_hostile_brokers_giant_is_discarded_and_acknowledged() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    for version in BOTH {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        let broker = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            assert!(socket.read(&mut buffer).await.unwrap() > 0);
            let (connack, properties): (&[u8], &[u8]) = match version {
                ProtocolVersion::V5 => (&[0x20, 3, 0, 0, 0], &[0]),
                ProtocolVersion::V311 => (&[0x20, 2, 0, 0], &[]),
            };
            socket.write_all(connack).await.unwrap();
            // PUBLISH, QoS 1, remaining length 268,435,455: the most MQTT can say. Only a part of it follows.
            socket.write_all(&[0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, b't', 0, 9]).await.unwrap();
            socket.write_all(properties).await.unwrap();
            socket.write_all(&vec![0x30; 4 * MIB]).await.unwrap();
            let mut answers = Vec::new();
            while !answers.windows(4).any(|window| window == [0x40, 2, 0, 9]) {
                let read = socket.read(&mut buffer).await.unwrap();
                assert!(read > 0, "the client disconnected");
                answers.extend_from_slice(&buffer[..read]);
            }
        });
        let mut settings = pqc_iiot_mqtt::transport::TransportOptions::new(url.parse().unwrap(), "victim");
        settings.version = version;
        let mut client = Client::new(settings);
        let event = loop {
            match client.next().await {
                Event::Connected { .. } => {}
                event => break event,
            }
        };
        match event {
            Event::Oversized { topic, size: 268_435_460, token, .. } if topic == "t" => {
                client.transport.acknowledge(token);
            }
            event => panic!("{event:?}"),
        }
        broker.await.unwrap();
    }
}

#[tokio::test]
async fn a_65535_byte_topic_arrives_or_is_discarded_without_harm() {
    let broker = Broker::mosquitto(&[]);
    for version in BOTH {
        let root = unique("long");
        let mut client = {
            let mut settings = options(&broker, version);
            settings.max_packet = 16 * 1024;
            Client::new(settings)
        };
        client.connected().await;
        client.transport.subscribe(format!("{root}/#"), Qos::AtLeastOnce).await.unwrap();
        let long = format!("{root}/{}", "x".repeat(65_535 - root.len() - 1));
        let sender = connect(&broker, version).await;
        sender.transport.publish(Outbound::new(long, "body")).await.unwrap().await.unwrap();
        sender
            .transport
            .publish(Outbound::new(format!("{root}/short"), "body"))
            .await
            .unwrap()
            .await
            .unwrap();
        assert_eq!(client.message().await.topic, format!("{root}/short"));
        assert_eq!(client.connections, 1);
        if version == ProtocolVersion::V311 {
            assert_eq!(client.oversized.len(), 1);
        }
    }
}
