//! Samples and what they come to.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::{BenchError, Workload, interrupted};

/// Runs before the first sample: caches, branch predictors, lazily made tables.
const WARM_UP: usize = 10;

/// Times of one operation, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) mean: f64,
    /// The 95th percentile.
    pub(super) p95: f64,
}

/// Row and baseline, sampled in turn.
#[derive(Default)]
pub(super) struct Samples {
    row: Vec<f64>,
    baseline: Vec<f64>,
}

impl Samples {
    /// Adds `count` samples of each.
    pub(super) fn take(
        &mut self,
        workload: &mut dyn Workload,
        count: usize,
        stop: &AtomicBool,
    ) -> Result<(), BenchError> {
        let warm_up = if self.row.is_empty() { WARM_UP.min(count) } else { 1 };
        for index in 0..warm_up + count {
            interrupted(stop)?;
            workload.prepare()?;
            // Neither always comes first, with the caches as the other left them.
            let (row, baseline) = if index % 2 == 0 {
                let row = time(workload, |workload| workload.run())?;
                (row, time(workload, |workload| workload.baseline())?)
            } else {
                let baseline = time(workload, |workload| workload.baseline())?;
                (time(workload, |workload| workload.run())?, baseline)
            };
            if index >= warm_up {
                self.row.push(row);
                self.baseline.push(baseline);
            }
        }
        Ok(())
    }

    /// Takes over the samples of `other`.
    pub(super) fn extend(&mut self, other: &Self) {
        self.row.extend(&other.row);
        self.baseline.extend(&other.baseline);
    }

    pub(super) fn row(&self) -> Summary {
        summary(&self.row)
    }

    pub(super) fn baseline(&self) -> Summary {
        summary(&self.baseline)
    }

    pub(super) fn len(&self) -> usize {
        self.row.len()
    }
}

/// Microseconds per operation.
fn time(
    workload: &mut dyn Workload,
    part: impl FnOnce(&mut dyn Workload) -> Result<(), BenchError>,
) -> Result<f64, BenchError> {
    let operations = workload.operations();
    let start = Instant::now();
    part(workload)?;
    Ok(start.elapsed().as_secs_f64() * 1e6 / operations as f64)
}

fn summary(samples: &[f64]) -> Summary {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    };
    let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
    Summary { median: at(0.5), mean, p95: at(0.95) }
}

/// The quantile of few samples, between two of them where it falls there.
pub(super) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * sorted.len().saturating_sub(1) as f64;
    let sample = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
    let (below, above) = (sample(at.floor()), sample(at.ceil()));
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_of_the_sorted_samples() {
        let samples: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(summary(&samples), Summary { median: 50.0, mean: 50.0, p95: 95.0 });
        assert_eq!(summary(&[7.0]), Summary { median: 7.0, mean: 7.0, p95: 7.0 });
    }
}
