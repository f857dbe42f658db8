//! `demo`.

use std::path::PathBuf;

use clap::Args;

use super::common::{ConnectionArgs, broker_url};

/// See everything work, and every attack fail, on this machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pqc-iiot demo
  pqc-iiot demo --devices 3 --telemetry rows.csv --out received.csv --report report.json
  pqc-iiot demo --broker mqtts://broker.example --tls-ca ca.pem --data-dir demo-data

Without --broker it starts a broker of its own on loopback. It exits 0 only if every row arrived once, every attack was \
refused, a stolen session healed with its next keys, a topic reached its subscribers and nobody else, and every audit log \
verifies. Nothing is left behind unless --data-dir names a directory.")]
pub(crate) struct DemoArgs {
    /// How many honest devices share the rows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) devices: u16,
    /// CSV file to stream, one message a row [default: this machine's load, memory and temperature]
    #[arg(long, alias = "csv", value_name = "FILE.csv")]
    pub(crate) telemetry: Option<PathBuf>,
    /// How many readings of this machine to stream, without --telemetry
    #[arg(long, value_name = "N", default_value_t = 300, conflicts_with = "telemetry", value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    pub(crate) readings: u32,
    /// Where the gateway writes the rows it received, in order
    #[arg(long, value_name = "FILE.csv")]
    pub(crate) out: Option<PathBuf>,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE.json")]
    pub(crate) report: Option<PathBuf>,
    /// A broker of yours, mqtt://HOST[:PORT] or mqtts://HOST[:PORT] [default: one on loopback, for this run]
    #[arg(long, value_name = "URL", value_parser = broker_url)]
    pub(crate) broker: Option<String>,
    /// Where identities, stores and audit logs stay; must be empty or new [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
