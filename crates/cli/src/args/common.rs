//! Options that several commands share.

use std::path::PathBuf;

use clap::Args;

/// How a data directory's key file is opened.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct UnlockArgs {
    /// File with the key that the directory is sealed under [default: beside the directory, `<dir>.key`]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// File whose first line is the passphrase that the directory is sealed under
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Not accepted: other users see the command line
    #[arg(long, hide = true, value_name = "SECRET")]
    pub(crate) passphrase: Option<String>,
}

/// How to reach the broker.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// MQTT version: 5 or 3.1.1 [default: 5]
    #[arg(long, value_name = "VERSION", value_parser = ["5", "3.1.1"])]
    pub(crate) mqtt: Option<String>,
    /// PEM file with the authorities that may vouch for the broker (with mqtts://); repeatable
    /// [default: this machine's]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Vec<PathBuf>,
    /// PEM file with this client's TLS certificate chain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// PEM file with the private key of --tls-certificate
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Name to expect in the broker's certificate, if not the URL's host
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// User name for the broker
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// File whose first line is the password for the broker
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Not accepted: other users see the command line
    #[arg(short = 'P', long, hide = true, value_name = "SECRET")]
    pub(crate) password: Option<String>,
    /// MQTT client identifier [default: the peer id, with a suffix for `sub`]
    #[arg(short = 'i', long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// Allow plain TCP (mqtt://) to another machine: contents stay sealed, but who talks to whom, topics and the
    /// broker's password are visible on the way
    #[arg(long)]
    pub(crate) allow_plaintext: bool,
    /// Prefix of the control topics, the same for the whole fleet [default: pqc]
    #[arg(long, value_name = "TOPIC")]
    pub(crate) prefix: Option<String>,
}

/// A broker's URL. One with a secret inside passes, to be refused later by a message that does not repeat it.
pub(crate) fn broker_url(text: &str) -> Result<String, String> {
    if !text.contains('@') {
        text.parse::<pqc_iiot_mqtt::transport::BrokerUrl>().map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}
