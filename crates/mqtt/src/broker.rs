//! An MQTT broker inside this process, on loopback: for the demo and for tests, not for production.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Largest payload the broker lets through, bytes. Generous, so that the limits of its clients are what counts.
pub const MAX_PAYLOAD: usize = 32 * 1024 * 1024;

/// A running `rumqttd`. It has no way to be shut down: it runs until the process ends, dropping this or not, so
/// tests that restart a broker run one in a child process. It refuses clients with keep-alive 0 and client
/// identifiers that hold `/`, `+`, `#` or `$`; a second attempt with such an identifier ends it.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedBroker {
    v5: SocketAddr,
    v311: SocketAddr,
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// No port could be bound, or no thread started.
    #[error("the embedded broker cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// The broker did not accept connections in time.
    #[error("the embedded broker does not accept connections on {0}")]
    NotListening(SocketAddr),
}

impl EmbeddedBroker {
    /// Starts a broker on 127.0.0.1 that speaks MQTT 5 on `port` (any free port when `None`) and MQTT 3.1.1 on
    /// another free port, and waits until it accepts connections. Blocks for some milliseconds.
    ///
    /// # Errors
    ///
    /// [`BrokerError`] when a port is taken or the broker does not come up within five seconds.
    pub fn start(port: Option<u16>) -> Result<Self, BrokerError> {
        let (first, second) = (bind(port.unwrap_or(0))?, bind(0)?);
        let broker = Self { v5: first.local_addr()?, v311: second.local_addr()? };
        drop((first, second));
        let mut server = Broker::new(broker.config());
        std::thread::Builder::new().name("mqtt-broker".to_owned()).spawn(move || {
            if let Err(error) = server.start() {
                tracing::error!(%error, "the embedded broker ended");
            }
        })?;
        for address in [broker.v5, broker.v311] {
            wait_for_listener(address)?;
        }
        Ok(broker)
    }

    /// Address of the MQTT 5 listener.
    #[must_use]
    pub fn v5(&self) -> SocketAddr {
        self.v5
    }

    /// Address of the MQTT 3.1.1 listener.
    #[must_use]
    pub fn v311(&self) -> SocketAddr {
        self.v311
    }

    fn config(&self) -> Config {
        let server = |name: &str, listen| ServerSettings {
            name: name.to_owned(),
            listen,
            tls: None,
            next_connection_delay_ms: 1,
            connections: ConnectionSettings {
                connection_timeout_ms: 10_000,
                max_payload_size: MAX_PAYLOAD,
                max_inflight_count: 200,
                auth: None,
                external_auth: None,
                dynamic_filters: true,
            },
        };
        Config {
            id: 0,
            router: RouterConfig {
                max_connections: 10_000,
                max_outgoing_packet_count: 200,
                max_segment_size: 100 * 1024 * 1024,
                max_segment_count: 10,
                ..RouterConfig::default()
            },
            v5: Some(HashMap::from([("v5".to_owned(), server("v5", self.v5))])),
            v4: Some(HashMap::from([("v4".to_owned(), server("v4", self.v311))])),
            ..Config::default()
        }
    }
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

fn wait_for_listener(address: SocketAddr) -> Result<(), BrokerError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(BrokerError::NotListening(address))
}
