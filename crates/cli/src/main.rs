//! The `pqc-iiot` command.

mod args;
mod commands;
mod config;
mod connection;
mod crash;
mod demo;
mod error;
mod files;
mod keeper;
mod output;
mod proxy;
mod time;
mod unlock;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use commands::Context;
use config::Config;
use error::{CliError, ErrorKind, Result};
use output::Output;

/// The system's takes a sixth of the processor time of a message (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output::new(cli.global.json);
    match start(cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

fn start(cli: Cli, output: Output) -> Result<()> {
    // Demo and bench have many clients and a chatty broker; what matters they say themselves.
    let own_broker = matches!(cli.command, args::Command::Demo(_) | args::Command::Bench(_));
    let quiet = own_broker && cli.global.log == "warn";
    log(if quiet { "error,rumqttd=off" } else { &cli.global.log })?;
    let config = Config::load(cli.global.config.as_deref())?;
    commands::run(cli.command, &Context { output, config, config_file: cli.global.config })
}

fn log(level: &str) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(level).map_err(|error| {
        CliError::new(ErrorKind::Usage, format!("`{level}` is no log level"))
            .because(error)
            .fix("use off, error, warn, info, debug or trace")
    })?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true).init();
    Ok(())
}

/// Help and version go to standard output with exit code 0; mistakes are exit code 2, as JSON if that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if !error.use_stderr() || !json {
        // Nothing is left to be done if the terminal is gone.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { ErrorKind::Usage.code() } else { 0 });
    }
    let text = error.render().to_string();
    let (what, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let what = what.trim_start_matches("error: ");
    let mut usage = CliError::new(ErrorKind::Usage, what).fix("see `pqc-iiot help`");
    let rest = rest.trim();
    if !rest.is_empty() {
        usage = usage.because(rest);
    }
    Output::new(true).error(&usage);
    usage.exit_code()
}
