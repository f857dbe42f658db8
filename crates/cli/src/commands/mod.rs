//! What each command does.

mod audit;
mod bench;
mod ca;
pub(crate) mod certificate;
pub(crate) mod client;
mod completions;
mod config;
mod control;
mod demo;
mod device;
mod doctor;
mod identity;
mod local;
pub(crate) mod obstacles;
mod proxy;
mod publish;
mod publish_group;
mod publish_local;
mod queues;
mod status;
pub(crate) mod status_details;
mod status_live;
mod subscribe;
mod subscribe_local;
mod trust;
pub(crate) mod unproved;

use std::path::PathBuf;

use pqc_iiot_core::crypto::suite::Kem;

use crate::args::Command;
use crate::config::Config;
use crate::error::{CliError, ErrorKind, Result};
use crate::output::Output;

/// What every command is given besides its own options.
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) config: Config,
    pub(crate) config_file: Option<PathBuf>,
}

/// Runs one command.
pub(crate) fn run(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Demo(args) => demo::run(args, context),
        Command::Ca(command) => ca::run(command, context),
        Command::Device(command) => device::run(command, context),
        Command::Pub(args) => publish::run(&args, context),
        Command::Sub(args) => subscribe::run(&args, context),
        Command::Proxy(args) => proxy::run(&args, context),
        Command::Audit(command) => audit::run(command, context),
        Command::Status(args) => status::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Config(command) => config::run(command, context),
        Command::Bench(args) => bench::run(&args, context),
        Command::Completions { shell } => completions::run(shell, context),
    }
}

/// The runtime of a command that talks to a broker.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(ErrorKind::Failed, "cannot start the runtime").because(error))
}

/// The name of a mechanism on the command line.
fn kem_name(kem: Kem) -> &'static str {
    match kem {
        Kem::XWing => "x-wing",
        Kem::MlKem1024 => "ml-kem-1024",
        _ => "unknown",
    }
}
