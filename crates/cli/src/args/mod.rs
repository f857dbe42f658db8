//! The command line.

mod bench;
mod ca;
mod common;
mod demo;
mod device;
mod inspect;
mod message;
mod proxy;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use bench::{BenchArgs, BenchCommand, CrashArgs, CrashBrokerArgs, CrashClientArgs};
pub(crate) use ca::{
    CaCommand, CaDir, InitArgs, IssueArgs, Publication, PublishArgs, RecoverArgs, RevokeArgs,
};
pub(crate) use common::{ConnectionArgs, UnlockArgs, broker_url};
pub(crate) use demo::DemoArgs;
pub(crate) use device::{DeviceCommand, InstallArgs, KeygenArgs, ReleaseHoldArgs, RequestArgs, ShowArgs};
pub(crate) use inspect::{AuditCommand, ConfigCommand, DoctorArgs, ExportArgs, StatusArgs, VerifyArgs};
pub(crate) use message::{ClientArgs, PubArgs, SubArgs};
pub(crate) use proxy::ProxyArgs;

const AFTER_HELP: &str = "\
Two devices of your own, from nothing:
  pqc-iiot ca init --dir ca
  pqc-iiot device keygen --dir press-7
  pqc-iiot device keygen --dir gateway
  pqc-iiot ca issue press-7/request.cbor --grant 'publish:plant/#'
  pqc-iiot ca issue gateway/request.cbor --tier gateway --grant 'subscribe:plant/#'
  pqc-iiot device install --dir press-7 --anchors ca/anchors.cbor
  pqc-iiot device install --dir gateway --anchors ca/anchors.cbor
  pqc-iiot sub --dir gateway --broker mqtt://localhost --from press-7 -t 'plant/#' &
  pqc-iiot pub --dir press-7 --broker mqtt://localhost --to gateway -t plant/temp -m 21.5

Exit codes:
  0    done, and everything that was to hold held
  1    the operation failed, or something did not hold
  2    the command line does not make sense
  3    the configuration file is wrong
  4    a data directory, an identity or a key file cannot be used
  5    the broker cannot be reached, or refuses this client
  6    refused: trust or policy forbids it
  7    something signed or sealed does not verify
  130  interrupted

Secrets are read from files or from systemd credentials ($CREDENTIALS_DIRECTORY), never from the command \
line, the environment or the configuration file, where other users, shells and backups would see them.";

/// Post-quantum sealed, authenticated messaging for industrial IoT, through MQTT brokers that nobody trusts.
///
/// Devices and gateways hold certificates from an authority of your own (`ca`, `device`), publish sealed and signed
/// messages (`pub`, `sub`), and keep a signed log of what happened (`audit`).
#[derive(Debug, Parser)]
#[command(name = "pqc-iiot", version, after_help = AFTER_HELP, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Every command")]
pub(crate) struct GlobalArgs {
    /// Print results, and errors, as JSON: one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// TOML file with defaults for options; flags override it. See `pqc-iiot config --help`
    #[arg(long, global = true, value_name = "FILE", env = "PQC_IIOT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// What to log on standard error: off, error, warn, info, debug, trace, or per module as in
    /// `warn,pqc_iiot_mqtt=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "PQC_IIOT_LOG", default_value = "warn")]
    pub(crate) log: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See everything work, and every attack fail, on this machine
    Demo(DemoArgs),
    /// Be the authority: make it, issue and revoke certificates
    #[command(subcommand)]
    Ca(CaCommand),
    /// Be a device: make its keys, request and install its certificate
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Send sealed messages to a peer
    Pub(PubArgs),
    /// Receive sealed messages from peers
    Sub(SubArgs),
    /// Let any MQTT client of this machine send and receive sealed messages
    Proxy(ProxyArgs),
    /// Verify or export a signed audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show what an identity knows: peers, revocations, counters
    Status(StatusArgs),
    /// Check everything that a client needs, on one screen, with a fix for each problem
    Doctor(DoctorArgs),
    /// Check a configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure what every operation costs on this machine
    Bench(BenchArgs),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  pqc-iiot completions bash > /etc/bash_completion.d/pqc-iiot")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}
