//! How a broker is reached: flags over configuration over defaults.

use std::path::{Path, PathBuf};

use pqc_iiot_core::endpoint::ControlTopics;
use pqc_iiot_core::topic::Topic;
use pqc_iiot_mqtt::transport::{
    BrokerUrl, ClientIdentity, Credentials, ProtocolVersion, TlsOptions, TransportOptions,
};

use crate::args::ConnectionArgs;
use crate::config::Config;
use crate::error::{CliError, ErrorKind, Result};
use crate::{files, unlock};

/// The prefix of the control topics unless told otherwise.
const DEFAULT_PREFIX: &str = "pqc";
const PASSWORD_CREDENTIAL: &str = "pqc-iiot.mqtt-password";
/// Debian's bundle of authorities, used with mqtts:// when none are named.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// No password on the command line, neither by itself nor inside a URL.
pub(crate) fn refuse_secrets<'a>(
    args: &ConnectionArgs,
    urls: impl IntoIterator<Item = &'a String>,
) -> Result<()> {
    if args.password.is_some() || urls.into_iter().any(|url| url.contains('@')) {
        return Err(CliError::exposed_secret("password", "--username NAME --password-file FILE"));
    }
    Ok(())
}

/// The configured broker, or the one given.
pub(crate) fn broker(given: Option<&str>, config: &Config) -> Result<String> {
    given.map(str::to_owned).or_else(|| config.broker.url.clone()).ok_or_else(|| {
        CliError::new(ErrorKind::Usage, "no broker given")
            .fix("--broker mqtt://HOST or mqtts://HOST, or `url` under [broker] in the configuration file")
    })
}

/// The fleet's control prefix.
pub(crate) fn prefix(args: &ConnectionArgs, config: &Config) -> Result<String> {
    let prefix = args.prefix.clone().or_else(|| config.topics.prefix.clone());
    let prefix = prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    Topic::new(&prefix).map_err(|error| {
        CliError::new(
            ErrorKind::Usage,
            format!("`{}` cannot be the control prefix", crate::output::harmless(&prefix)),
        )
        .because(error)
        .fix("use a topic without wildcards, the same for the whole fleet")
    })?;
    Ok(prefix)
}

/// The fleet's control topics.
pub(crate) fn topics(args: &ConnectionArgs, config: &Config) -> Result<ControlTopics> {
    prefix(args, config).map(|prefix| ControlTopics::new(&prefix))
}

/// Everything a transport needs. Reads the password's file, opens no connection.
pub(crate) fn options(
    url: &str,
    args: &ConnectionArgs,
    config: &Config,
    default_client_id: &str,
) -> Result<TransportOptions> {
    let defaults = &config.broker;
    let url: BrokerUrl = url.parse().map_err(|error: pqc_iiot_mqtt::transport::OptionsError| {
        CliError::new(ErrorKind::Usage, "not a broker URL").because(error)
    })?;
    let client_id = args.client_id.as_ref().or(defaults.client_id.as_ref());
    let client_id = client_id.map_or(default_client_id, String::as_str);
    let tls = url.is_tls().then(|| tls(args, config)).transpose()?;
    let mut options = TransportOptions::new(url, client_id);
    options.version = match args.mqtt.as_ref().or(defaults.mqtt.as_ref()).map(String::as_str) {
        Some("3.1.1") => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    options.tls = tls;
    options.allow_plaintext = args.allow_plaintext || defaults.allow_plaintext;
    options.credentials = credentials(args, config)?;
    if !options.url.is_tls() && !options.allow_plaintext && !is_local(options.url.host()) {
        return Err(CliError::new(ErrorKind::Refused, format!("plain TCP to {} refused", options.url.host()))
            .because("contents would stay sealed, but who talks to whom, topics and the broker's password would be visible")
            .fix("use mqtts://, or pass --allow-plaintext if you accept that"));
    }
    Ok(options)
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tls(args: &ConnectionArgs, config: &Config) -> Result<TlsOptions> {
    let defaults = &config.broker;
    let mut ca_files = args.tls_ca.clone();
    if ca_files.is_empty() {
        ca_files.clone_from(&defaults.tls_ca);
    }
    if ca_files.is_empty() {
        if !Path::new(SYSTEM_AUTHORITIES).is_file() {
            return Err(CliError::new(
                ErrorKind::Usage,
                "nothing says which authority vouches for the broker",
            )
            .because(format!("no --tls-ca was given, and {SYSTEM_AUTHORITIES} does not exist"))
            .fix("--tls-ca FILE with the broker's authority in PEM"));
        }
        ca_files.push(PathBuf::from(SYSTEM_AUTHORITIES));
    }
    let given = args.tls_certificate.clone().zip(args.tls_key.clone());
    let identity = given.or_else(|| defaults.tls_certificate.clone().zip(defaults.tls_key.clone()));
    let client_identity =
        identity.map(|(certificate_file, key_file)| ClientIdentity { certificate_file, key_file });
    let server_name = args.tls_server_name.clone().or_else(|| defaults.tls_server_name.clone());
    Ok(TlsOptions { ca_files, client_identity, server_name })
}

fn credentials(args: &ConnectionArgs, config: &Config) -> Result<Option<Credentials>> {
    let username = args.username.clone().or_else(|| config.broker.username.clone());
    let file = args.password_file.clone().or_else(|| config.broker.password_file.clone());
    let Some(username) = username else {
        return match &args.password_file {
            None => Ok(None),
            Some(_) => {
                Err(CliError::new(ErrorKind::Usage, "a password needs a user name").fix("--username NAME"))
            }
        };
    };
    let password = match file.or_else(|| unlock::credential(PASSWORD_CREDENTIAL)) {
        Some(path) => files::read_secret_line(&path, "broker's password")?.to_string(),
        None => String::new(),
    };
    Ok(Some(Credentials { username, password }))
}
