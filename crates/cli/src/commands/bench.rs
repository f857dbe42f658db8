//! `pqc-iiot bench`: what every operation costs on this machine, and what its crashes cost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use pqc_iiot::bench::{self, BenchError, Effort, Progress, Row};

use super::Context;
use crate::args::{BenchArgs, BenchCommand};
use crate::crash;
use crate::error::{CliError, ErrorKind, Result};
use crate::output::{Report, columns};

/// Runs one of them.
pub(crate) fn run(args: &BenchArgs, context: &Context) -> Result<()> {
    match &args.command {
        None => costs(args, context),
        Some(BenchCommand::Crash(args)) => crash::run(args, context.output, &*stop_on_signal()?),
        Some(BenchCommand::CrashSender(args)) => crash::run_sender(args, context),
        Some(BenchCommand::CrashReceiver(args)) => crash::run_receiver(args, context),
        Some(BenchCommand::CrashBroker(args)) => crash::run_broker(args),
    }
}

/// Measures every operation and reports it.
fn costs(args: &BenchArgs, context: &Context) -> Result<()> {
    if cfg!(debug_assertions) {
        context
            .output
            .note("this build is not optimised: its figures mean nothing (use `cargo run --release`)");
    }
    let effort = match (args.quick, args.thorough) {
        (true, _) => Effort::Quick,
        (false, true) => Effort::Thorough,
        (false, false) => Effort::Full,
    };
    let bar = if context.output.shows_progress() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let show = |progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.name);
    };
    let stop = stop_on_signal()?;
    let result = bench::run(effort, &args.only, &stop, show);
    bar.finish_and_clear();
    match result {
        Ok(report) if report.rows.is_empty() => {
            let none = format!("no row's name begins with `{}`", args.only);
            Err(CliError::new(ErrorKind::Usage, none)
                .fix("see the names in docs/benchmarks.md, or run it without --only"))
        }
        Ok(report) => {
            context.output.report(&report)?;
            let failed = |error| CliError::new(ErrorKind::Failed, "the plot was not written").because(error);
            args.plot.as_deref().map_or(Ok(()), |file| report.plot(file).map_err(failed))
        }
        Err(BenchError::Interrupted) => Err(CliError::new(ErrorKind::Interrupted, "interrupted")),
        Err(error) => Err(CliError::new(ErrorKind::Failed, "the benchmark failed").because(error)),
    }
}

/// Set by Ctrl-C or SIGTERM, so that temporary files are removed.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    let runtime = super::runtime()?;
    // Ends with the process.
    std::thread::spawn(move || {
        runtime.block_on(super::client::interrupted());
        set.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}

impl Report for bench::Report {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let heading = [
            "operation",
            "suite",
            "backend",
            "bytes",
            "unit",
            "median",
            "mean",
            "p95",
            "baseline",
            "ratio",
            "target",
        ];
        let (times, rates): (Vec<&Row>, Vec<&Row>) =
            self.rows.iter().partition(|row| row.quartiles.is_none());
        let rows: Vec<Vec<String>> = times.into_iter().map(cells).collect();
        columns(out, &heading, &rows)?;
        if !rates.is_empty() {
            writeln!(out)?;
            let heading =
                ["end to end", "bytes", "unit", "median", "quartiles", "baseline", "ratio", "target"];
            let rows: Vec<Vec<String>> = rates.into_iter().map(rate_cells).collect();
            columns(out, &heading, &rows)?;
        }
        for note in &self.notes {
            writeln!(out, "\n{note}")?;
        }
        let missed = self.rows.iter().filter(|row| row.within == Some(false)).count();
        let judged = self.rows.iter().filter(|row| row.within.is_some()).count();
        writeln!(out, "\n{} of {judged} targets met", judged - missed)
    }
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.name.to_owned(),
        row.suite.to_string(),
        row.backend.to_owned(),
        row.bytes.to_string(),
        row.unit.to_owned(),
        row.median.to_string(),
        row.mean.to_string(),
        row.p95.to_string(),
        row.baseline.to_string(),
        row.ratio.to_string(),
        target(row),
    ]
}

fn rate_cells(row: &Row) -> Vec<String> {
    let quartiles = row.quartiles.map_or(String::new(), |[first, third]| format!("{first} to {third}"));
    vec![
        row.name.to_owned(),
        row.bytes.to_string(),
        row.unit.to_owned(),
        row.median.to_string(),
        quartiles,
        row.baseline.to_string(),
        row.ratio.to_string(),
        target(row),
    ]
}

fn target(row: &Row) -> String {
    row.scaled_target.map_or(String::new(), |bound| {
        let least = if row.at_least { "at least " } else { "" };
        let ratio = row.target_ratio.map_or(String::new(), |ratio| format!(", ratio {ratio}"));
        let verdict = match row.within {
            Some(true) => ": met",
            Some(false) => ": MISSED",
            None => "",
        };
        format!("{least}{bound}{ratio}{verdict}")
    })
}
