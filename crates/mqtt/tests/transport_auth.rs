//! Who a real Mosquitto lets in: user names with passwords, and client certificates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{BOTH, Client, unique};
use pqc_iiot_mqtt::testing::{Mosquitto, TestCa, free_port};
use pqc_iiot_mqtt::transport::{
    ClientIdentity, ConnectionError, Credentials, Event, Outbound, ProtocolVersion, Qos, TlsOptions,
    TransportOptions,
};

/// Mosquitto gives up root's rights before it reads files; these are the tests' own.
const AS_STARTED: &str = "user root";

fn options(url: &str, version: ProtocolVersion) -> TransportOptions {
    let mut options = TransportOptions::new(url.parse().unwrap(), unique("auth").replace('/', "-"));
    options.version = version;
    options.backoff_min = Duration::from_millis(20);
    options.backoff_max = Duration::from_millis(100);
    options
}

fn named(url: &str, version: ProtocolVersion, username: &str, password: &str) -> TransportOptions {
    let credentials = Credentials { username: username.into(), password: password.into() };
    let mut options = options(url, version);
    options.credentials = Some(credentials);
    options
}

fn password_file(directory: &Path, user: &str, password: &str) -> String {
    let file = directory.join("passwords");
    let status =
        Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args([user, password]).status();
    assert!(status.expect("mosquitto_passwd comes with Mosquitto").success());
    file.display().to_string()
}

/// The first thing it hears of its connection.
async fn outcome(options: TransportOptions) -> Result<Client, ConnectionError> {
    let mut client = Client::new(options);
    loop {
        match client.next().await {
            Event::Connected { .. } => return Ok(client),
            Event::Disconnected { error } => return Err(error),
            _ => {}
        }
    }
}

async fn passes_messages(client: &mut Client) {
    let topic = unique("auth");
    client.transport.subscribe(&topic, Qos::AtLeastOnce).await.unwrap();
    client.transport.publish(Outbound::new(&topic, "sealed")).await.unwrap().await.unwrap();
    assert_eq!(&client.message().await.payload[..], b"sealed");
}

#[tokio::test]
async fn a_password_lets_in_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = password_file(directory.path(), "press", "correct horse");
    let broker = Mosquitto::start(&[AS_STARTED, "allow_anonymous false", &format!("password_file {file}")]);
    let url = broker.url();
    for version in BOTH {
        passes_messages(&mut outcome(named(&url, version, "press", "correct horse")).await.ok().unwrap())
            .await;
        for wrong in [
            named(&url, version, "press", "wrong horse"),
            named(&url, version, "press", ""),
            named(&url, version, "nobody", "correct horse"),
            options(&url, version),
        ] {
            let refused = outcome(wrong).await.err().expect("let in");
            assert!(matches!(refused, ConnectionError::Refused { .. }), "{version:?}: {refused:?}");
            assert!(!refused.to_string().contains("horse"), "{refused}");
        }
    }
}

/// A Mosquitto with a TLS listener that asks for certificates of `ca`; returns its URL.
fn demanding(ca: &TestCa) -> (Mosquitto, String) {
    let port = free_port();
    let (certificate, key) = ca.issue("localhost");
    let broker = Mosquitto::start(&[
        AS_STARTED,
        &format!("listener {port} 127.0.0.1"),
        &format!("cafile {}", ca.ca_file().display()),
        &format!("certfile {}", certificate.display()),
        &format!("keyfile {}", key.display()),
        "tls_version tlsv1.3",
        "require_certificate true",
        "use_identity_as_username true",
    ]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < deadline, "no TLS listener");
        std::thread::sleep(Duration::from_millis(10));
    }
    (broker, format!("mqtts://localhost:{port}"))
}

#[tokio::test]
async fn a_certificate_of_the_brokers_authority_lets_in_and_nothing_else_does() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, impostor) = (TestCa::new(directory.path()), TestCa::new(other.path()));
    let (_broker, url) = demanding(&ca);
    for version in BOTH {
        let showing = |identity: Option<(std::path::PathBuf, std::path::PathBuf)>| {
            let client_identity =
                identity.map(|(certificate_file, key_file)| ClientIdentity { certificate_file, key_file });
            let tls = TlsOptions { ca_files: vec![ca.ca_file()], client_identity, ..TlsOptions::default() };
            let mut options = options(&url, version);
            options.tls = Some(tls);
            options
        };
        let mut client = outcome(showing(Some(ca.issue("device-1")))).await.unwrap_or_else(|e| panic!("{e}"));
        passes_messages(&mut client).await;
        for wrong in [showing(None), showing(Some(impostor.issue("device-1")))] {
            let refused = outcome(wrong).await.err().expect("let in");
            // Mosquitto ends the handshake with an alert, or the connection after it.
            assert!(matches!(refused, ConnectionError::Io { .. }), "{version:?}: {refused:?}");
        }
    }
}
