//! `pqc-iiot bench crash`: a sender, a receiver and their broker, killed again and again, and whether every message was
//! consumed exactly once all the same.
//!
//! ```text
//!   parent ── plan, progress, judgement of both stores at the end
//!     ├─ sender     accepts numbers; notes the last one in the transaction that accepts it
//!     ├─ broker     forgets whatever it holds in memory
//!     └─ receiver   counts each number in the transaction that consumes it
//! ```
//!
//! Each child is killed with SIGKILL and started again at once on the same data directory. That tests the death of
//! processes, not power cuts: the operating system keeps what was written.

mod broker;
mod identities;
mod judge;
mod plan;
mod process;
mod progress;
mod receiver;
mod report;
mod sender;
mod tap;

pub(crate) use broker::run as run_broker;
pub(crate) use receiver::run as run_receiver;
pub(crate) use sender::run as run_sender;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use crate::args::CrashArgs;
use crate::error::{CliError, ErrorKind, Result};
use crate::output::Output;

use broker::Broker;
use identities::Identities;
use plan::Plan;
use process::{Heard, Process, Role};
use progress::Progress;
use report::Report;
use tap::Tap;

/// How long nothing may be accepted, consumed or confirmed before the run counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often to look around when no child says anything.
const TICK: Duration = Duration::from_millis(50);

fn failed(what: &str, error: impl std::fmt::Display) -> CliError {
    CliError::new(ErrorKind::Failed, format!("cannot {what}")).because(error)
}

/// Runs it. `Ok` only if every message was consumed exactly once. Ends soon after `stop` is set.
pub(crate) fn run(args: &CrashArgs, output: Output, stop: &AtomicBool) -> Result<()> {
    let seed = args.seed.map_or_else(plan::seed, Ok)?;
    output.note(format_args!("seed      {seed}"));
    let home = TempDir::with_prefix("pqc-iiot-crash-").map_err(|error| failed("make a directory", error))?;
    let broker = Broker::choose(&args.broker, home.path())?;
    output.note(format_args!("broker    {broker}"));
    let identities = Identities::create(home.path(), seed)?;
    let plan = Plan::new(seed, args.messages, args.kills, broker.is_ours());

    let mut run = Run::start(args.messages, &broker, &identities)?;
    let tap = Tap::start(broker.url())?;
    let started = Instant::now();
    let bar = progress_bar(output, args.messages);
    let outcome = run.run_to_the_end(plan, &bar, stop);
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let Run { processes, progress, kills, .. } = run;
    // Nobody may write when the stores are judged.
    drop(processes);
    outcome?;

    let verdict = judge::judge(&identities, args.messages)?;
    let report = Report::new(
        args.messages,
        &broker.to_string(),
        seed,
        &kills,
        seconds,
        &progress,
        tap.records(),
        verdict,
    );
    output.report(&report)?;
    if report.is_exact() {
        return Ok(());
    }
    Err(CliError::new(ErrorKind::Failed, "not every message was consumed exactly once")
        .because(report.faults())
        .fix(format!("try the same again with --seed {seed}; which moment is hit still varies")))
}

fn progress_bar(output: Output, messages: u64) -> ProgressBar {
    if !output.shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(messages);
    let style =
        ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} consumed, {per_sec}, {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// The processes, and what they have said.
struct Run {
    messages: u64,
    processes: BTreeMap<Role, Process>,
    heard: mpsc::Receiver<Heard>,
    progress: Progress,
    kills: BTreeMap<Role, u64>,
}

impl Run {
    fn start(messages: u64, broker: &Broker, identities: &Identities) -> Result<Self> {
        let (tell, heard) = mpsc::channel();
        let mut processes = BTreeMap::new();
        if let Some(command) = broker.command()? {
            processes.insert(Role::Broker, Process::start(Role::Broker, command, tell.clone())?);
        }
        for role in [Role::Receiver, Role::Sender] {
            let command = identities.command(role, broker.url(), messages)?;
            processes.insert(role, Process::start(role, command, tell.clone())?);
        }
        let progress = Progress::new(Instant::now());
        Ok(Self { messages, processes, heard, progress, kills: BTreeMap::new() })
    }

    /// Until all was killed that was to be, and all is consumed and confirmed.
    fn run_to_the_end(&mut self, mut plan: Plan, bar: &ProgressBar, stop: &AtomicBool) -> Result<()> {
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(CliError::new(ErrorKind::Interrupted, "interrupted"));
            }
            while let Some(role) = plan.due(self.progress.consumed(), Instant::now()) {
                self.kill(role)?;
            }
            if plan.is_over() && self.progress.is_complete(self.messages) {
                return Ok(());
            }
            if self.progress.quiet_for(Instant::now()) > PATIENCE {
                return Err(CliError::new(ErrorKind::Failed, "it is stuck").because(format!(
                    "nothing happened for {} s; {}",
                    PATIENCE.as_secs(),
                    self.progress
                )));
            }
            let wait =
                plan.next_at().map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK));
            match self.heard.recv_timeout(wait) {
                Ok(heard) => self.hear(heard)?,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(failed("go on", "no child is left")),
            }
            bar.set_position(self.progress.consumed());
            bar.set_message(format!("{} kills", self.kills.values().sum::<u64>()));
        }
    }

    fn kill(&mut self, role: Role) -> Result<()> {
        let Some(process) = self.processes.get_mut(&role) else { return Ok(()) };
        process.kill_and_restart()?;
        *self.kills.entry(role).or_default() += 1;
        self.progress.restarted(role);
        Ok(())
    }

    fn hear(&mut self, heard: Heard) -> Result<()> {
        let Some(process) = self.processes.get_mut(&heard.role) else { return Ok(()) };
        match heard.line {
            Some(line) => self.progress.hear(&line, process.is_current(heard.generation), Instant::now()),
            None if process.is_current(heard.generation) => Err(process.ended()),
            None => Ok(()),
        }
    }
}
