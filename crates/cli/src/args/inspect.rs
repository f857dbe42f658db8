//! `pqc-iiot audit`, `status`, `doctor` and `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pqc_iiot_core::audit::ChainHead;
use pqc_iiot_core::ids::Digest;

use super::common::UnlockArgs;
use super::message::ClientArgs;

/// The audit log's commands.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify a log offline: every signature, the whole chain, nothing missing between
    #[command(after_help = "\
Examples:
  pqc-iiot audit verify press-7
  pqc-iiot audit verify /mnt/press-7/audit --anchors ca/anchors.cbor --evidence

Names the first bad entry and exits with 7. Needs no key and no lock: give it the data directory, its `audit` \
directory or a copy of that. The signer must hold a certificate of the authority in --anchors, or \
else of the anchors pinned in the directory; where there are neither, the log is only shown to be consistent with itself. A log that ends too early cannot be told from a shorter one by the log alone: compare the printed \
head with one that you hold (--head).")]
    Verify(VerifyArgs),
    /// Verify a log and print its entries as JSON lines
    #[command(
        after_help = "Example:\n  pqc-iiot audit export press-7 | jq 'select(.kind == \"replay-refused\")'"
    )]
    Export(ExportArgs),
}

/// `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A data directory, or its `audit` directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Trust anchors that must stand behind the signer [default: those pinned in DIR, if any]
    #[arg(long, value_name = "FILE")]
    pub(crate) anchors: Option<PathBuf>,
    /// Fail if the log was signed by a key that can be copied: such a log is observability, not evidence
    #[arg(long)]
    pub(crate) evidence: bool,
    /// A head that you hold, as this command prints it (SEQ:HASH): the log must reach it and hold that very entry
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    pub(crate) head: Option<ChainHead>,
}

/// `audit export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A data directory, or its `audit` directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Trust anchors that must stand behind the signer [default: those pinned in DIR, if any]
    #[arg(long, value_name = "FILE")]
    pub(crate) anchors: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Show what an identity knows.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pqc-iiot status --dir gateway

Reads the store, which only one process can: while `pub` or `sub` runs on the directory, says which. A proxy that runs
on it is asked, and tells its connection, its queues and what passed since its start.")]
pub(crate) struct StatusArgs {
    /// The identity's data directory
    #[arg(long, value_name = "DIR", env = "PQC_IIOT_DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// Check everything that a client needs.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pqc-iiot doctor --dir press-7 --broker mqtts://broker.example --tls-ca broker-ca.pem

Exits with 1 if a check failed. Changes nothing.")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// The configuration's commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read a configuration file and say what is wrong with it, or what it sets
    #[command(after_help = "\
Example:
  pqc-iiot config check /etc/pqc-iiot/press-7.toml

A complete file:
  [ca]                                        # for `pqc-iiot ca`
  dir = \"/srv/authority\"
  key-file = \"/media/stick/authority.key\"     # or passphrase-file

  [device]
  dir = \"/var/lib/pqc-iiot/press-7\"
  key-file = \"/etc/pqc-iiot/press-7.key\"     # or passphrase-file

  [broker]
  url = \"mqtts://broker.example\"
  mqtt = \"5\"                                 # or 3.1.1
  tls-ca = [\"/etc/pqc-iiot/broker-ca.pem\"]
  tls-certificate = \"/etc/pqc-iiot/tls.pem\"  # optional
  tls-key = \"/etc/pqc-iiot/tls.key\"
  tls-server-name = \"broker.internal\"
  username = \"press-7\"
  password-file = \"/etc/pqc-iiot/mqtt.password\"
  client-id = \"press-7\"
  allow-plaintext = false

  [topics]
  prefix = \"pqc\"

  [delivery]                                  # the defaults
  outbox-bytes = \"64MiB\"
  peer-share = 75                             # percent of what other peers leave
  outbox-age = \"60days\"
  when-full = \"refuse\"                       # or drop-oldest, drop-newest
  drain-per-second = 2000
  inbox-messages = 10000
  inbox-bytes = \"64MiB\"

  [sessions]                                  # the defaults
  enabled = true                              # without: envelopes only, and no commands
  rekey-records = 10000                       # records after which all keys change
  rekey-after = \"1day\"                       # and the time; at most 7days
  renew-after = \"30days\"                     # a full handshake
  drain = \"7days\"                            # how long an ended session may still be read
  silence = \"10m\"                            # without a sign of the peer: a new handshake
  max-packet = 65536                          # not set by default

  [proxy]                                     # for `pqc-iiot proxy`
  listen = \"127.0.0.1:1884\"
  from = [\"control-room\"]
  subscribe = [\"setpoints/#\"]

  [[proxy.route]]
  filter = \"plant/#\"
  peer = \"gateway\"

Secrets stand in files of their own, or are systemd credentials named pqc-iiot.key, pqc-iiot.passphrase and \
pqc-iiot.mqtt-password; a secret in the file itself is refused.")]
    Check {
        /// The file [default: the one given with --config]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

fn head(text: &str) -> Result<ChainHead, String> {
    let parse = || {
        let (seq, hash) = text.split_once(':')?;
        let digits = hash.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.map(byte).collect();
        Some(ChainHead { seq: seq.parse().ok()?, hash: Digest::from_slice(&bytes?)? })
    };
    parse().ok_or_else(|| "write SEQ:HASH, a number and 64 hexadecimal digits".into())
}
