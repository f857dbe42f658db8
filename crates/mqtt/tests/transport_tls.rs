//! TLS 1.3 with ML-KEM, through a rustls listener in front of Mosquitto.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{BOTH, Client, unique};
use pqc_iiot_mqtt::testing::{Mosquitto, TestCa, tls_proxy};
use pqc_iiot_mqtt::transport::{
    ClientIdentity, Event, OptionsError, Outbound, Qos, TlsInfo, TlsOptions, Transport, TransportOptions,
};

fn tls_options(port: u16, ca: &TestCa) -> TransportOptions {
    let url = format!("mqtts://localhost:{port}");
    let mut options = TransportOptions::new(url.parse().unwrap(), unique("tls-client").replace('/', "-"));
    options.tls = Some(TlsOptions { ca_files: vec![ca.ca_file()], ..TlsOptions::default() });
    options.backoff_min = std::time::Duration::from_millis(20);
    options
}

async fn first_tls(client: &mut Client) -> TlsInfo {
    loop {
        match client.next().await {
            Event::Connected { tls, .. } => return tls.expect("TLS"),
            Event::Disconnected { error } => panic!("{error}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_hybrid_group_is_negotiated_and_messages_pass() {
    let directory = tempfile::tempdir().unwrap();
    let ca = TestCa::new(directory.path());
    let broker = Mosquitto::start(&[]);
    let proxy = tls_proxy(&ca, broker.address(), false).await;
    for version in BOTH {
        let mut options = tls_options(proxy.port(), &ca);
        options.version = version;
        let mut client = Client::new(options);
        let tls = first_tls(&mut client).await;
        assert_eq!((tls.version.as_str(), tls.group.as_str()), ("TLSv1_3", "X25519MLKEM768"));
        assert!(tls.cipher.starts_with("TLS13_"), "{tls:?}");
        let topic = unique("tls");
        client.transport.subscribe(&topic, Qos::AtLeastOnce).await.unwrap();
        client.transport.publish(Outbound::new(&topic, "sealed")).await.unwrap().await.unwrap();
        assert_eq!(&client.message().await.payload[..], b"sealed");
    }
}

#[tokio::test]
async fn client_certificates_are_shown_when_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let ca = TestCa::new(directory.path());
    let broker = Mosquitto::start(&[]);
    let proxy = tls_proxy(&ca, broker.address(), true).await;

    let mut without = Client::new(tls_options(proxy.port(), &ca));
    assert!(matches!(without.next().await, Event::Disconnected { .. }));

    let (certificate_file, key_file) = ca.issue("device-1");
    let mut options = tls_options(proxy.port(), &ca);
    options.tls.as_mut().unwrap().client_identity = Some(ClientIdentity { certificate_file, key_file });
    first_tls(&mut Client::new(options)).await;
}

#[tokio::test]
async fn an_unknown_authority_and_a_wrong_name_are_refused() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, impostor) = (TestCa::new(directory.path()), TestCa::new(other.path()));
    let broker = Mosquitto::start(&[]);
    let proxy = tls_proxy(&ca, broker.address(), false).await;
    let mut wrong_name = tls_options(proxy.port(), &ca);
    wrong_name.tls.as_mut().unwrap().server_name = Some("broker.example".into());
    for options in [tls_options(proxy.port(), &impostor), wrong_name] {
        let mut client = Client::new(options);
        match client.next().await {
            Event::Disconnected { error } => assert!(error.to_string().contains("certificate"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn unusable_tls_options_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for ca_files in [vec![], vec![empty], vec![directory.path().join("missing.pem")]] {
        let mut options = TransportOptions::new("mqtts://localhost".parse().unwrap(), "c");
        options.tls = Some(TlsOptions { ca_files, ..TlsOptions::default() });
        assert!(matches!(Transport::connect(options), Err(OptionsError::Tls(_))));
    }
    let without = TransportOptions::new("mqtts://localhost".parse().unwrap(), "c");
    assert!(matches!(Transport::connect(without), Err(OptionsError::TlsOptionsMissing)));
}
