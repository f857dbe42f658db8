//! What the transport's tests share.
#![allow(dead_code, unreachable_pub)]

pub mod plant;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pqc_iiot_mqtt::broker::EmbeddedBroker;
use pqc_iiot_mqtt::testing::Mosquitto;
use pqc_iiot_mqtt::transport::{
    DiscardReason, Event, Events, Inbound, ProtocolVersion, Transport, TransportOptions,
};

pub const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V5, ProtocolVersion::V311];
const PATIENCE: Duration = Duration::from_secs(20);

pub enum Broker {
    Mosquitto { child: Mosquitto, port: u16, extra: Vec<String> },
    Embedded(EmbeddedBroker),
}

impl Broker {
    pub fn mosquitto(extra: &[&str]) -> Self {
        let child = Mosquitto::start(extra);
        let port = child.address().port();
        Self::Mosquitto { child, port, extra: extra.iter().map(ToString::to_string).collect() }
    }

    pub fn embedded() -> Self {
        Self::Embedded(EmbeddedBroker::start(None).unwrap())
    }

    pub fn both() -> [Self; 2] {
        [Self::mosquitto(&[]), Self::embedded()]
    }

    pub fn kill(&mut self) {
        let Self::Mosquitto { child, .. } = self else { panic!("rumqttd cannot be stopped") };
        child.kill();
    }

    pub fn restart(&mut self) {
        self.kill();
        let Self::Mosquitto { child, port, extra } = self else { return };
        let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
        *child = Mosquitto::start_on(*port, &extra);
    }

    pub fn url(&self, version: ProtocolVersion) -> String {
        match (self, version) {
            (Self::Mosquitto { port, .. }, _) => format!("mqtt://127.0.0.1:{port}"),
            (Self::Embedded(broker), ProtocolVersion::V5) => format!("mqtt://{}", broker.v5()),
            (Self::Embedded(broker), ProtocolVersion::V311) => format!("mqtt://{}", broker.v311()),
        }
    }
}

pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}/{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn options(broker: &Broker, version: ProtocolVersion) -> TransportOptions {
    let mut options =
        TransportOptions::new(broker.url(version).parse().unwrap(), unique("client").replace('/', "-"));
    options.version = version;
    options.backoff_min = Duration::from_millis(20);
    options.backoff_max = Duration::from_millis(200);
    options
}

pub struct Client {
    pub transport: Transport,
    pub events: Events,
    pub connections: u32,
    pub oversized: Vec<(String, u64, DiscardReason)>,
}

impl Client {
    pub fn new(options: TransportOptions) -> Self {
        let (transport, events) = Transport::connect(options).unwrap();
        Self { transport, events, connections: 0, oversized: Vec::new() }
    }

    pub async fn next(&mut self) -> Event {
        let event =
            tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("no event").expect("closed");
        match &event {
            Event::Connected { .. } => self.connections += 1,
            Event::Oversized { topic, size, reason, .. } => {
                self.oversized.push((topic.clone(), *size, *reason))
            }
            _ => {}
        }
        event
    }

    /// Waits for a connection; returns whether the broker kept the session.
    pub async fn connected(&mut self) -> bool {
        loop {
            if let Event::Connected { session_present, .. } = self.next().await {
                return session_present;
            }
        }
    }

    pub async fn message(&mut self) -> Inbound {
        loop {
            match self.next().await {
                Event::Message(message) => return message,
                Event::Oversized { token, .. } => self.transport.acknowledge(token),
                _ => {}
            }
        }
    }
}

pub async fn connect(broker: &Broker, version: ProtocolVersion) -> Client {
    let mut client = Client::new(options(broker, version));
    client.connected().await;
    client
}
