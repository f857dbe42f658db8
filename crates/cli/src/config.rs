//! The TOML configuration file: defaults that flags override. It names the files of secrets, never holds one.

mod delivery;
mod sessions;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;
use serde::{Deserialize, Serialize};

use crate::error::{CliError, ErrorKind, Result};
use crate::proxy::Route;

/// Larger files are none of ours.
const MAX_FILE: u64 = 64 * 1024;

/// A configuration file's content.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Config {
    pub(crate) ca: Directory,
    pub(crate) device: Directory,
    pub(crate) broker: Broker,
    pub(crate) topics: Topics,
    pub(crate) delivery: delivery::Delivery,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) proxy: Proxy,
}

/// A data directory and what unlocks it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Directory {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// How to reach the broker.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Broker {
    pub(crate) url: Option<String>,
    pub(crate) mqtt: Option<String>,
    pub(crate) tls_ca: Vec<PathBuf>,
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_server_name: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) client_id: Option<String>,
    pub(crate) allow_plaintext: bool,
}

/// The fleet's topics.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Topics {
    pub(crate) prefix: Option<String>,
}

/// Local clients and their routes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Proxy {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) from: Vec<String>,
    pub(crate) subscribe: Vec<String>,
    pub(crate) route: Vec<ProxyRoute>,
}

/// One `[[proxy.route]]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ProxyRoute {
    pub(crate) filter: String,
    pub(crate) peer: OneOrMore,
}

/// `peer = "gateway"` or `peer = ["gateway", "cloud"]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Proxy {
    /// The table of routes.
    pub(crate) fn routes(&self) -> Result<Vec<Route>, String> {
        let route = |route: &ProxyRoute| {
            let peers = match &route.peer {
                OneOrMore::One(peer) => std::slice::from_ref(peer),
                OneOrMore::More(peers) => peers,
            };
            if peers.is_empty() {
                return Err(format!("the route of {} names no peer", route.filter));
            }
            let wrong = |what: &str, why: &dyn std::fmt::Display| format!("a route's {what}: {why}");
            let peers = peers.iter().map(|peer| PeerId::new(peer)).collect::<Result<_, _>>();
            Ok(Route {
                filter: TopicFilter::new(&route.filter).map_err(|error| wrong(&route.filter, &error))?,
                peers: peers.map_err(|error| wrong("peer", &error))?,
            })
        };
        self.route.iter().map(route).collect()
    }

    /// The peers that are heard.
    pub(crate) fn peers(&self) -> Result<Vec<PeerId>, String> {
        let peer = |peer: &String| PeerId::new(peer).map_err(|error| format!("`from`: {error}"));
        self.from.iter().map(peer).collect()
    }

    /// The filters that are always subscribed to.
    pub(crate) fn filters(&self) -> Result<Vec<TopicFilter>, String> {
        let filter = |text: &String| TopicFilter::new(text).map_err(|error| format!("`subscribe`: {error}"));
        self.subscribe.iter().map(filter).collect()
    }

    fn check(&self) -> Result<(), (String, String)> {
        let correct = |why| (why, "correct [proxy]".to_owned());
        self.routes().map_err(correct)?;
        self.peers().map_err(correct)?;
        self.filters().map_err(correct)?;
        if self.username.is_some() != self.password_file.is_some() {
            return Err((
                "username and password-file go together".into(),
                "give both in [proxy], or neither".into(),
            ));
        }
        Ok(())
    }
}

impl Config {
    /// The file's content, or the defaults without a file.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self> {
        path.map_or_else(|| Ok(Self::default()), Self::read)
    }

    /// Reads and checks one file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let fail = |why: String| {
            CliError::new(
                ErrorKind::Configuration,
                format!("{} is not a usable configuration", path.display()),
            )
            .because(why)
        };
        let size = fs::metadata(path).map_err(|error| {
            fail(error.to_string()).fix("name an existing file with --config, or leave it out")
        })?;
        if size.len() > MAX_FILE {
            return Err(fail(format!("it has more than {MAX_FILE} bytes")));
        }
        let text = fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        Self::parse(&text).map_err(|(why, fix)| fail(why).fix(fix))
    }

    /// Parses and checks; gives the reason and the fix.
    fn parse(text: &str) -> Result<Self, (String, String)> {
        let syntax = |error: toml::de::Error| {
            (
                error.to_string().trim().to_owned(),
                "compare with the file in `pqc-iiot config check --help`".into(),
            )
        };
        let table: toml::Table = text.parse().map_err(syntax)?;
        if let Some(path) = secret_in(&table, "") {
            let why = format!(
                "`{path}` holds a secret, and this file is read by more people and backups than that"
            );
            let fix = "move the secret to a file of its own (chmod 600), remove it here, change it, and name the file \
                       with key-file, passphrase-file or password-file";
            return Err((why, fix.into()));
        }
        let config: Self = table.try_into().map_err(syntax)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (String, String)> {
        for (name, directory) in [("ca", &self.ca), ("device", &self.device)] {
            if directory.key_file.is_some() && directory.passphrase_file.is_some() {
                return Err((
                    format!("[{name}] has both key-file and passphrase-file"),
                    "keep the one that the directory was made with".into(),
                ));
            }
        }
        let broker = &self.broker;
        if let Some(url) = &broker.url {
            url.parse::<pqc_iiot_mqtt::transport::BrokerUrl>()
                .map_err(|error| (error.to_string(), "correct `url` in [broker]".to_owned()))?;
        }
        if !matches!(broker.mqtt.as_deref(), None | Some("5" | "3.1.1")) {
            return Err((
                "`mqtt` is neither \"5\" nor \"3.1.1\"".into(),
                "correct `mqtt` in [broker]".into(),
            ));
        }
        if broker.tls_certificate.is_some() != broker.tls_key.is_some() {
            return Err((
                "tls-certificate and tls-key go together".into(),
                "give both in [broker], or neither".into(),
            ));
        }
        self.delivery.limits().map_err(|why| (why, "correct [delivery]".to_owned()))?;
        self.sessions.policy().map_err(|why| (why, "correct [sessions]".to_owned()))?;
        self.proxy.check()
    }

    /// Every file that is named, for `config check`.
    pub(crate) fn files(&self) -> Vec<(&'static str, &Path)> {
        let single = [
            ("ca.key-file", &self.ca.key_file),
            ("ca.passphrase-file", &self.ca.passphrase_file),
            ("device.key-file", &self.device.key_file),
            ("device.passphrase-file", &self.device.passphrase_file),
            ("broker.tls-certificate", &self.broker.tls_certificate),
            ("broker.tls-key", &self.broker.tls_key),
            ("broker.password-file", &self.broker.password_file),
            ("proxy.password-file", &self.proxy.password_file),
        ];
        let single = single.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)));
        single.chain(self.broker.tls_ca.iter().map(|path| ("broker.tls-ca", path.as_path()))).collect()
    }
}

/// The path of the first value that is, by its name or its content, a secret.
fn secret_in(table: &toml::Table, prefix: &str) -> Option<String> {
    const NAMES: [&str; 6] = ["password", "passphrase", "secret", "token", "key", "private-key"];
    table.iter().find_map(|(name, value)| {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let plain_name = name.to_ascii_lowercase().replace('_', "-");
        match value {
            toml::Value::Table(table) => secret_in(table, &path),
            _ if NAMES.contains(&plain_name.as_str()) => Some(path),
            toml::Value::String(text) if text.contains("PRIVATE KEY-----") => Some(path),
            // user:password@host
            toml::Value::String(text) if text.contains("://") && text.contains('@') => Some(path),
            _ => None,
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_file_is_read() {
        let config = Config::parse(
            r#"
            [ca]
            dir = "ca"
            [device]
            dir = "press-7"
            key-file = "press-7.key"
            [broker]
            url = "mqtts://broker.example"
            mqtt = "3.1.1"
            tls-ca = ["ca.pem"]
            username = "press-7"
            password-file = "pw"
            [topics]
            prefix = "plant/pqc"
            [delivery]
            outbox-bytes = "128MiB"
            peer-share = 60
            outbox-age = "30days"
            when-full = "drop-oldest"
            [proxy]
            listen = "127.0.0.1:1884"
            subscribe = ["commands/#"]
            [[proxy.route]]
            filter = "plant/+/temp"
            peer = "gateway"
            [[proxy.route]]
            filter = "plant/#"
            peer = ["gateway", "cloud"]
            "#,
        )
        .unwrap();
        assert_eq!(config.device.key_file.as_deref(), Some(Path::new("press-7.key")));
        assert_eq!(config.broker.mqtt.as_deref(), Some("3.1.1"));
        assert_eq!(config.topics.prefix.as_deref(), Some("plant/pqc"));
        assert_eq!(config.files().len(), 3);
        let routes = config.proxy.routes().unwrap();
        assert_eq!(routes[1], "plant/#=gateway,cloud".parse().unwrap());
    }

    #[test]
    fn a_secret_is_refused_wherever_it_hides() {
        for text in [
            "[broker]\npassword = 'x'",
            "[device]\npassphrase = 'x'",
            "[device]\nPassPhrase = 'x'",
            "secret = 'x'",
            "[broker]\ntls-key = '''-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----'''",
            "[broker]\nurl = 'mqtt://user:pw@host'",
        ] {
            let (why, fix) = Config::parse(text).unwrap_err();
            assert!(why.contains("holds a secret"), "{text}: {why}");
            assert!(fix.contains("chmod 600"), "{fix}");
            assert!(!why.contains("pw"), "the secret is repeated: {why}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("[device]\ndirr = 'x'", "dirr"),
            ("[broker]\nmqtt = '4'", "3.1.1"),
            ("[broker]\nurl = 'h:1883'", "mqtt://"),
            ("[broker]\ntls-key = 'k'", "tls-certificate"),
            ("[device]\nkey-file = 'a'\npassphrase-file = 'b'", "both"),
            ("[device", "TOML"),
            ("[delivery]\nwhen-full = 'panic'", "drop-oldest"),
            ("[delivery]\noutbox-bytes = 'much'", "64MiB"),
            ("[[proxy.route]]\nfilter = 'a/#/b'\npeer = 'x'", "wildcard"),
            ("[[proxy.route]]\nfilter = 'a'\npeer = []", "no peer"),
            ("[[proxy.route]]\nfilter = 'a'\npeer = 'x/y'", "peer"),
            ("[proxy]\nlisten = 'everywhere'", "socket address"),
            ("[proxy]\nusername = 'x'", "password-file"),
        ] {
            let (why, _) = Config::parse(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
