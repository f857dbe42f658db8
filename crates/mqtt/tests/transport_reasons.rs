//! A connection that is lost or cannot be made says why, as far as anyone can know.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{BOTH, Broker, Client, options, unique};
use pqc_iiot_mqtt::testing::free_port;
use pqc_iiot_mqtt::transport::{ConnectionError, Event, ProtocolVersion, TransportOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn loss(client: &mut Client) -> ConnectionError {
    loop {
        if let Event::Disconnected { error } = client.next().await {
            return error;
        }
    }
}

/// Two clients of one id on one broker, the first of which was connected before the other came.
async fn rivals(broker: &Broker, version: ProtocolVersion) -> ([Client; 2], String) {
    let id = unique("rival").replace('/', "-");
    let client = || {
        let mut options = options(broker, version);
        options.client_id = id.clone();
        Client::new(options)
    };
    let mut first = client();
    first.connected().await;
    ([first, client()], id)
}

/// The bytes of a broker that does as MQTT 5 §3.1.4 asks; Mosquitto before 2.0.12 only closes the connection.
#[tokio::test]
async fn mqtt_5_says_that_another_client_has_the_same_id() {
    const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];
    const SESSION_TAKEN_OVER: [u8; 4] = [0xe0, 2, 0x8e, 0];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut connect = [0; 256];
        assert_ne!(client.read(&mut connect).await.unwrap(), 0);
        client.write_all(&[&CONNACK[..], &SESSION_TAKEN_OVER].concat()).await.unwrap();
        // Held open until the client has read it.
        let _ = client.read(&mut connect).await;
    });
    let mut client = Client::new(TransportOptions::new(url.parse().unwrap(), "press-7"));
    let error = loss(&mut client).await;
    assert_eq!(error, ConnectionError::TakenOver { client_id: "press-7".into() });
    assert!(error.to_string().contains("press-7"), "{error}");
}

#[tokio::test]
async fn connections_that_do_not_hold_raise_the_suspicion() {
    let broker = Broker::mosquitto(&[]);
    for version in BOTH {
        let ([mut first, mut second], id) = rivals(&broker, version).await;
        let mut losses = 0;
        let error = loop {
            let error = tokio::select! {
                error = loss(&mut first) => error,
                error = loss(&mut second) => error,
            };
            losses += 1;
            match error {
                // What a newer Mosquitto says at once on MQTT 5.
                ConnectionError::TakenOver { .. } => break error,
                ConnectionError::Unstable { times, .. } => {
                    assert!(times == 3 && losses >= 3, "{times} of {losses}");
                    break error;
                }
                _ => {}
            }
        };
        assert!(error.to_string().contains(&id), "{error}");
    }
}

#[tokio::test]
async fn a_port_without_a_listener_is_told_from_other_failures() {
    for version in BOTH {
        let url = format!("mqtt://127.0.0.1:{}", free_port());
        let mut options = TransportOptions::new(url.parse().unwrap(), "nobody");
        options.version = version;
        let error = loss(&mut Client::new(options)).await;
        assert!(matches!(error, ConnectionError::NotListening { .. }), "{error:?}");
    }
}
