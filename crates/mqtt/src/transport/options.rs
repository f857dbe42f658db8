//! What a transport is told before it connects.

use std::path::PathBuf;
use std::time::Duration;

use super::filter::MIN_PACKET_LIMIT;

/// Largest outgoing in-flight limit: everything a reconnect resends must fall inside a receiver's 64-wide replay
/// window, with room for what is sent meanwhile.
pub const MAX_INFLIGHT: u16 = 48;

/// MQTT protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProtocolVersion {
    /// MQTT 5.0.
    #[default]
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// Quality of service. QoS 2 is never asked for: the layer above deduplicates end to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qos {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// Where the broker is: `mqtt://host[:port]` (plain TCP, port 1883) or `mqtts://host[:port]` (TLS 1.3, port 8883).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    host: String,
    port: u16,
    tls: bool,
}

impl BrokerUrl {
    /// Host name or address, IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the URL asks for TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl std::str::FromStr for BrokerUrl {
    type Err = OptionsError;

    fn from_str(url: &str) -> Result<Self, OptionsError> {
        let invalid = || OptionsError::Url(url.to_owned());
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err(invalid()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']').ok_or_else(invalid)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(invalid)?)
            }
            None => authority.split_once(':').unwrap_or((authority, "")),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(allowed) {
            return Err(invalid());
        }
        let port = match port {
            "" if tls => 8883,
            "" => 1883,
            digits => digits.parse().ok().filter(|&port| port != 0).ok_or_else(invalid)?,
        };
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl std::fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// TLS 1.3 settings. X25519MLKEM768 is offered first, then X25519, P-256 and P-384.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// PEM files with the certificate authorities to accept; at least one certificate.
    pub ca_files: Vec<PathBuf>,
    /// PEM files with this client's certificate chain and its private key, when the broker asks for one.
    pub client_identity: Option<ClientIdentity>,
    /// Name to check in the broker's certificate; the URL's host when `None`.
    pub server_name: Option<String>,
}

/// A client certificate for TLS.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// PEM file, leaf certificate first.
    pub certificate_file: PathBuf,
    /// PEM file, PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
}

/// Username and password for the broker. They are no part of what the protocol trusts.
#[derive(Clone)]
pub struct Credentials {
    /// MQTT user name.
    pub username: String,
    /// MQTT password.
    pub password: String,
}

/// Everything a [`Transport`](super::Transport) needs to know. Construct with [`TransportOptions::new`], then change
/// fields.
#[derive(Clone)]
#[non_exhaustive]
pub struct TransportOptions {
    /// The broker.
    pub url: BrokerUrl,
    /// MQTT client identifier; not empty.
    pub client_id: String,
    /// MQTT version. Default 5.
    pub version: ProtocolVersion,
    /// TLS settings; required with `mqtts://`, ignored with `mqtt://`.
    pub tls: Option<TlsOptions>,
    /// Allows plain TCP to an address other than loopback. Default `false`.
    pub allow_plaintext: bool,
    /// Username and password.
    pub credentials: Option<Credentials>,
    /// Discards the broker's session at every connection (3.1.1: clean session). Default `false`.
    pub clean_start: bool,
    /// How long the broker keeps the session after a disconnection, seconds. MQTT 5 only. Default one day.
    pub session_expiry_secs: u32,
    /// Keep-alive interval, seconds, at least 5. Default 30.
    pub keep_alive_secs: u16,
    /// Largest packet accepted and sent, bytes, at least 2,048. Default 512 KiB. A broker may lower the outgoing
    /// limit. Incoming packets above it are discarded in bounded memory.
    pub max_packet: u32,
    /// Unacknowledged outgoing QoS 1 messages, 1 to [`MAX_INFLIGHT`]. Default 32.
    pub inflight: u16,
    /// Unacknowledged incoming QoS 1 messages (MQTT 5 Receive Maximum), at least 1. Default 128.
    pub receive_maximum: u16,
    /// Publishes accepted and not completed, at least 1. Default 256.
    pub publish_queue: usize,
    /// Received messages not yet taken by the application, at least 1. Default 256. At the limit the transport stops
    /// reading from the broker; it goes on pinging.
    pub inbound_queue: usize,
    /// First delay before reconnecting. Default 100 ms.
    pub backoff_min: Duration,
    /// Longest delay before reconnecting. Default 30 s.
    pub backoff_max: Duration,
    /// Time allowed for a connection attempt up to CONNACK, TLS included. Default 10 s.
    pub connect_timeout: Duration,
}

impl TransportOptions {
    /// Options with every default.
    #[must_use]
    pub fn new(url: BrokerUrl, client_id: impl Into<String>) -> Self {
        Self {
            url,
            client_id: client_id.into(),
            version: ProtocolVersion::default(),
            tls: None,
            allow_plaintext: false,
            credentials: None,
            clean_start: false,
            session_expiry_secs: 86_400,
            keep_alive_secs: 30,
            max_packet: 512 * 1024,
            inflight: 32,
            receive_maximum: 128,
            publish_queue: 256,
            inbound_queue: 256,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
        }
    }

    pub(super) fn validate(&self) -> Result<(), OptionsError> {
        let field = |name, requirement| Err(OptionsError::Field { name, requirement });
        if self.url.is_tls() && self.tls.is_none() {
            return Err(OptionsError::TlsOptionsMissing);
        }
        if !self.url.is_tls() && !self.url.is_loopback() && !self.allow_plaintext {
            return Err(OptionsError::PlaintextRefused { host: self.url.host().to_owned() });
        }
        if self.client_id.is_empty() || self.client_id.len() > usize::from(u16::MAX) {
            return field("client_id", "1 to 65,535 bytes");
        }
        if self.keep_alive_secs < 5 {
            return field("keep_alive_secs", "at least 5");
        }
        if (self.max_packet as usize) < MIN_PACKET_LIMIT || self.max_packet > 256 * 1024 * 1024 {
            return field("max_packet", "2,048 bytes to 256 MiB");
        }
        if self.inflight == 0 || self.inflight > MAX_INFLIGHT {
            return field("inflight", "1 to 48");
        }
        if self.receive_maximum == 0 {
            return field("receive_maximum", "at least 1");
        }
        if self.publish_queue == 0 || self.inbound_queue == 0 {
            return field("publish_queue, inbound_queue", "at least 1");
        }
        if self.backoff_min.is_zero() || self.backoff_max < self.backoff_min {
            return field("backoff_min, backoff_max", "0 < backoff_min <= backoff_max");
        }
        Ok(())
    }
}

/// Options that no connection can be made with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Not a broker URL.
    #[error("`{0}` is not a broker URL: use mqtt://host[:port] or mqtts://host[:port]")]
    Url(String),
    /// Plain TCP to an address other than loopback.
    #[error("plain TCP to `{host}` refused: use mqtts://, or set `allow_plaintext`")]
    PlaintextRefused {
        /// The host of the URL.
        host: String,
    },
    /// `mqtts://` without TLS settings.
    #[error("mqtts:// needs TLS options: at least one CA file")]
    TlsOptionsMissing,
    /// A field is out of range.
    #[error("`{name}` must be {requirement}")]
    Field {
        /// Name of the field.
        name: &'static str,
        /// What it must be.
        requirement: &'static str,
    },
    /// TLS settings that cannot be used.
    #[error("TLS options: {0}")]
    Tls(String),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn urls_parse_with_default_ports() {
        let cases = [
            ("mqtt://127.0.0.1:1884", "mqtt://127.0.0.1:1884"),
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("mqtts://broker.example/", "mqtts://broker.example:8883"),
            ("mqtt://[::1]:99", "mqtt://[::1]:99"),
            ("mqtts://[::1]", "mqtts://[::1]:8883"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.parse::<BrokerUrl>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "127.0.0.1:1883",
            "tcp://a",
            "mqtt://",
            "mqtt://a:b",
            "mqtt://a:0",
            "mqtt://a:70000",
            "mqtt://[::1",
            "mqtt://[::1]9",
            "mqtt://u@h",
            "mqtt://a/b",
            "mqtt://::1",
        ] {
            assert!(bad.parse::<BrokerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn plaintext_is_refused_off_loopback() {
        let mut options = TransportOptions::new("mqtt://192.0.2.1:1883".parse().unwrap(), "c");
        let error = options.validate().unwrap_err().to_string();
        assert!(error.contains("allow_plaintext"), "{error}");
        options.allow_plaintext = true;
        options.validate().unwrap();
        // A name may resolve to anything.
        assert!(TransportOptions::new("mqtt://broker.example".parse().unwrap(), "c").validate().is_err());
        TransportOptions::new("mqtt://[::1]".parse().unwrap(), "c").validate().unwrap();
    }

    #[test]
    fn limits_are_checked() {
        let mut options = TransportOptions::new("mqtt://localhost".parse().unwrap(), "c");
        options.inflight = MAX_INFLIGHT + 1;
        assert!(options.validate().is_err());
        options.inflight = MAX_INFLIGHT;
        options.validate().unwrap();
        options.max_packet = 2047;
        assert!(options.validate().is_err());
    }
}
