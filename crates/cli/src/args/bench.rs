//! `pqc-iiot bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pqc_iiot_core::topic::Topic;

use super::common::broker_url;
use super::message::ClientArgs;

/// `bench`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  pqc-iiot bench
  pqc-iiot bench --json > bench.json
  pqc-iiot bench --only session
  pqc-iiot bench --plot bench.svg
  pqc-iiot bench crash

Each row stands beside its baseline: the primitives that it cannot do without, sampled in turn with it. Takes about ten \
minutes; leave the machine idle meanwhile. Only optimised builds give figures worth quoting. docs/benchmarks.md says \
what each row measures."
)]
pub(crate) struct BenchArgs {
    /// A tenth of the samples: a look, not figures to quote
    #[arg(long)]
    pub(crate) quick: bool,
    /// Three times the rounds from end to end: narrower quartiles, some minutes more
    #[arg(long, conflicts_with = "quick")]
    pub(crate) thorough: bool,
    /// Measure only the rows whose names begin so
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub(crate) only: String,
    /// Draw the main rows beside their baselines into this SVG file
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Kill a sender, a receiver and their broker again and again: is every message consumed exactly once?
    Crash(CrashArgs),
    /// The sender of `crash`
    #[command(hide = true)]
    CrashSender(CrashClientArgs),
    /// The receiver of `crash`
    #[command(hide = true)]
    CrashReceiver(CrashClientArgs),
    /// The embedded broker of `crash`
    #[command(hide = true)]
    CrashBroker(CrashBrokerArgs),
}

/// `bench crash`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pqc-iiot bench crash
  pqc-iiot bench crash --messages 3000 --kills 8 --broker mosquitto
  pqc-iiot bench crash --broker mqtt://localhost --seed 7 --json

Makes an authority and two identities in a temporary directory and starts sender, receiver and broker as processes of their \
own. Each is killed with SIGKILL at random moments and started again at once on the same data; the embedded broker then has \
forgotten everything it had acknowledged. The sender notes which number was its last in the transaction that accepts the \
message, the receiver counts each number in the transaction that consumes it. At the end both stores are read. Exit code 0 \
only if every accepted message was consumed exactly once.

SIGKILL tests the death of processes, not a power cut: the operating system keeps what was written. What a power cut leaves \
of the files is explored by the tests that docs/crash-testing.md names.")]
pub(crate) struct CrashArgs {
    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) messages: u64,
    /// How often each process is killed
    #[arg(long, value_name = "K", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub(crate) kills: u64,
    /// embedded (all in memory), mosquitto (as installed here, with its default autosave), or the URL of a broker of
    /// yours, which is not killed
    #[arg(long, value_name = "BROKER", default_value = "embedded", value_parser = broker)]
    pub(crate) broker: String,
    /// Repeat the plan of an earlier run, who is killed after which message [default: a random one, printed]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
}

/// `bench crash-sender` and `bench crash-receiver`.
#[derive(Debug, Args)]
pub(crate) struct CrashClientArgs {
    #[arg(long)]
    pub(crate) messages: u64,
    #[arg(long, value_parser = Topic::new)]
    pub(crate) topic: Topic,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `bench crash-broker`.
#[derive(Debug, Args)]
pub(crate) struct CrashBrokerArgs {
    #[arg(long)]
    pub(crate) port: u16,
}

fn broker(text: &str) -> Result<String, String> {
    match text {
        "embedded" | "mosquitto" => Ok(text.to_owned()),
        url => broker_url(url),
    }
}
