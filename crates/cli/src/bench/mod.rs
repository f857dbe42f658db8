//! What PQC-IIoT's operations cost, each beside what its primitives alone cost in the same minute.
//!
//! A [`Workload`] is one operation and its baseline. [`run`] samples every [`Case`] for `pqc-iiot bench`; the Criterion
//! benchmarks build the same cases, so that both measure the same code. Row and baseline are sampled in turn, so that
//! whatever disturbs the machine disturbs both. Every workload checks its own outcome: a message that was not refused, or
//! not opened, is an error and never a fast figure. `docs/benchmarks.md` says what each row and baseline is.

mod announcement;
mod audit;
mod case;
mod e2e;
mod fleet;
mod group;
mod junk;
mod lookup;
mod open;
mod plot;
mod primitives;
mod reference;
mod report;
mod seal;
mod session;
mod stats;
mod store;

pub use case::{Case, Workload};
pub use junk::Junk;
pub use plot::PlotError;
pub use report::{Report, Row};

use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

use e2e::Via;
use report::{Measured, References};
use stats::Samples;

/// How many samples a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// 1,000 per row and baseline, each of another message where the row signs.
    #[default]
    Full,
    /// 100: a look, not a figure to quote.
    Quick,
    /// As [`Effort::Full`], with three times the rounds from end to end.
    Thorough,
}

impl Effort {
    fn samples(self) -> usize {
        match self {
            Self::Full | Self::Thorough => 1_000,
            Self::Quick => 100,
        }
    }
}

/// Samples taken in one go.
const CHUNK: usize = 50;
/// How the rows begin that count bytes.
const SIZED: [&str; 3] = ["session", "handshake", "group"];

/// Why there are no figures.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A workload could not be set up.
    #[error("cannot set up {0}")]
    Setup(&'static str),
    /// A measured operation did not do what it is there for.
    #[error("{0}")]
    Outcome(&'static str),
    /// Messages do not get from end to end.
    #[error("end to end: {what}: {why}")]
    EndToEnd {
        /// What failed.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Cases finished.
    pub done: usize,
    /// Cases in all.
    pub total: usize,
    /// The row under way.
    pub name: &'static str,
}

/// Measures every case, in about ten minutes on two cores when optimised; or only the rows whose names begin with `only`.
/// Stops soon after `stop` is set.
pub fn run(
    effort: Effort,
    only: &str,
    stop: &AtomicBool,
    mut progress: impl FnMut(Progress),
) -> Result<Report, BenchError> {
    let mut cases = Case::all();
    cases.retain(|case| case.name().starts_with(only));
    let total = cases.len() + 1 + Via::ALL.len();
    let mut rows = Vec::with_capacity(cases.len());
    let wanted = |group: &str| group.starts_with(only) || only.starts_with(group);
    progress(Progress { done: 0, total, name: "sizes" });
    let measured = if SIZED.into_iter().any(wanted) { Some(session::sizes(stop)?) } else { None };
    // Before anything was freed whose memory it could take, and kept so that nothing takes its own.
    let hub = if wanted("hub") { Some(session::hub(effort, stop, &mut progress)?) } else { None };
    for (done, case) in (1..).zip(&cases) {
        progress(Progress { done, total, name: case.name() });
        let mut workload = case.build()?;
        let mut references = References::new()?;
        let mut samples = Samples::default();
        // The references are sampled between the row's own samples: a target is scaled by the moments it is judged in.
        let count = effort.samples().min(workload.most_samples());
        let chunk = CHUNK.min(count);
        for _ in 0..count / chunk {
            references.sample(stop)?;
            samples.take(&mut *workload, chunk, stop)?;
        }
        let (bytes, resident) = (workload.bytes(), workload.resident());
        rows.push(Measured { case: *case, bytes, samples, references, resident });
    }
    let mut report = Report::new(rows);
    if let Some((sizes, _)) = &measured {
        report.rows.extend(sizes.iter().cloned());
    }
    if let Some(hub) = &hub {
        report.rows.extend(hub.rows.iter().cloned());
        report.notes.push(hub.note.clone());
    }
    let rounds = wanted("e2e");
    for (done, via) in (cases.len() + 1..).zip(Via::ALL.into_iter().filter(|_| rounds)) {
        progress(Progress { done, total, name: "end to end" });
        match e2e::measure(via, effort, stop)? {
            Some(rows) => report.rows.extend(rows),
            None => report.notes.push("no rows through Mosquitto: it is not installed".into()),
        }
    }
    report.rows.retain(|row| row.name.starts_with(only));
    Ok(report)
}

fn interrupted(stop: &AtomicBool) -> Result<(), BenchError> {
    if stop.load(Ordering::Relaxed) { Err(BenchError::Interrupted) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_and_does_what_it_measures() {
        for case in Case::all() {
            let mut workload = case.build().unwrap();
            let mut samples = Samples::default();
            let taken = samples.take(&mut *workload, 3, &AtomicBool::new(false));
            taken.unwrap_or_else(|error| panic!("{case:?}: {error}"));
            assert!(samples.row().median > 0.0 && samples.baseline().median > 0.0, "{case:?}");
        }
    }

    #[test]
    fn a_stopped_run_gives_no_figures() {
        let stopped = run(Effort::Quick, "", &AtomicBool::new(true), |_| {});
        assert!(matches!(stopped, Err(BenchError::Interrupted)));
    }
}
