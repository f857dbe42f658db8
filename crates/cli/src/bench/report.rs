//! Rows, and the targets they are held to.

use std::sync::atomic::AtomicBool;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::suite::SessionSuite;
use serde::Serialize;

use super::reference::{Aes256Gcm, MlDsa65Verify};
use super::stats::Samples;
use super::{BenchError, Case, Workload};

/// The reading of each reference on the machine that the targets were set for, in microseconds.
const AES_256_GCM_REFERENCE: f64 = 0.135;
const ML_DSA_65_REFERENCE: f64 = 65.0;

/// Samples of each reference before each of [`CHUNK`](super::CHUNK) of a row.
const SLICE: usize = 8;

/// One measured operation. Times, sizes and rates are in `unit`.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: &'static str,
    /// The session suite.
    pub suite: u8,
    /// `aws-lc` or `portable`.
    pub backend: &'static str,
    /// The size of what each operation works on, 0 where that means nothing.
    pub bytes: usize,
    /// `us`, `s`, `B` for sizes, `MiB` for memory, or `/s`; end to end `msg/s` or `ratio`.
    pub unit: &'static str,
    /// Median time, or median rate.
    pub median: f64,
    /// Median time of the primitives that the operation cannot do without.
    pub baseline: f64,
    /// `median` by `baseline`.
    pub ratio: f64,
    /// Mean time.
    pub mean: f64,
    /// 95th percentile.
    pub p95: f64,
    /// First and third quartile; end to end only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quartiles: Option<[f64; 2]>,
    /// How many samples, and of a signing row how many distinct messages.
    pub samples: usize,
    /// The most that `median` is to be on the reference machine; the least if `at_least`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// Whether more is better.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
    /// `target`, scaled if the references read slower beside this row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaled_target: Option<f64>,
    /// The most that `ratio` is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ratio: Option<f64>,
    /// Whether both targets are met; only in optimised builds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<bool>,
}

impl Row {
    /// A size in bytes, counted once on `aws-lc`, and the most that it is to be.
    pub(super) fn size(
        name: &'static str,
        suite: SessionSuite,
        bytes: usize,
        size: f64,
        baseline: f64,
        target: Option<f64>,
    ) -> Self {
        Self::counted(name, suite, bytes, "B", [size, baseline], target)
    }

    /// What was counted once on `aws-lc`, in `unit`, beside its baseline, and the most that it is to be.
    pub(super) fn counted(
        name: &'static str,
        suite: SessionSuite,
        bytes: usize,
        unit: &'static str,
        [size, baseline]: [f64; 2],
        target: Option<f64>,
    ) -> Self {
        Self {
            name,
            suite: suite.id(),
            backend: "aws-lc",
            bytes,
            unit,
            median: size,
            baseline,
            ratio: rounded(size / baseline),
            mean: size,
            p95: size,
            quartiles: None,
            samples: 1,
            target,
            at_least: false,
            scaled_target: target,
            target_ratio: None,
            within: target.map(|target| size <= target),
        }
    }
}

/// Every row of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In the order of [`Case::all`], then those from end to end.
    pub rows: Vec<Row>,
    /// What was left out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn new(mut measured: Vec<Measured>) -> Self {
        let (mut aes_256_gcm, mut ml_dsa_65) = (Samples::default(), Samples::default());
        for measured in &measured {
            aes_256_gcm.extend(&measured.references.aes_256_gcm.1);
            ml_dsa_65.extend(&measured.references.ml_dsa_65.1);
        }
        // The reference rows on `aws-lc` speak for the whole run.
        for measured in measured.iter_mut().filter(|measured| measured.case.backend().name() == "aws-lc") {
            match measured.case.name() {
                "aes256gcm_256" => measured.samples.extend(&aes_256_gcm),
                "ml_dsa_65_verify" => measured.samples.extend(&ml_dsa_65),
                _ => {}
            }
        }
        Self {
            rows: measured
                .iter()
                .flat_map(|measured| [Some(row(measured)), resident(measured)])
                .flatten()
                .collect(),
            notes: Vec::new(),
        }
    }
}

/// A case with its samples, and those of the references taken in between.
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) bytes: usize,
    pub(super) samples: Samples,
    pub(super) references: References,
    pub(super) resident: Option<(f64, f64)>,
}

fn row(measured: &Measured) -> Row {
    let Measured { case, bytes, samples, references, .. } = measured;
    let (bytes, scales) = (*bytes, references.scales());
    let (times, baseline) = (samples.row(), samples.baseline().median);
    let ratio = times.median / baseline;
    let target = Target::of(case, bytes);
    let scaled = target.map(|target| target.time * target.scale(scales));
    let met = target.zip(scaled).map(|(target, scaled)| {
        let judged = if target.beside { times.median - baseline } else { times.median };
        judged <= scaled && target.ratio.is_none_or(|most| ratio <= most)
    });
    let (unit, micros) = case.unit();
    let in_unit = |time: f64| rounded(time / micros);
    Row {
        name: case.name(),
        suite: case.suite().id(),
        backend: case.backend().name(),
        bytes,
        unit,
        median: in_unit(times.median),
        baseline: in_unit(baseline),
        ratio: rounded(ratio),
        mean: in_unit(times.mean),
        p95: in_unit(times.p95),
        quartiles: None,
        samples: samples.len(),
        target: target.map(|target| in_unit(target.time)),
        at_least: false,
        scaled_target: scaled.map(in_unit),
        target_ratio: target.and_then(|target| target.ratio),
        within: met.filter(|_| !cfg!(debug_assertions)),
    }
}

/// What a case took of memory.
fn resident(measured: &Measured) -> Option<Row> {
    let (taken, content) = measured.resident?;
    let taken = rounded(taken);
    Some(Row {
        name: "store_resident_100k",
        suite: measured.case.suite().id(),
        backend: measured.case.backend().name(),
        bytes: measured.bytes,
        unit: "MiB",
        median: taken,
        baseline: rounded(content),
        ratio: rounded(taken / content),
        mean: taken,
        p95: taken,
        quartiles: None,
        samples: 1,
        target: None,
        at_least: false,
        scaled_target: None,
        target_ratio: None,
        within: None,
    })
}

/// Four significant digits are more than any run repeats.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits.max(0));
    (value * scale).round() / scale
}

/// What a row of suite 1 on `aws-lc` is held to.
#[derive(Debug, Clone, Copy)]
struct Target {
    /// Microseconds.
    time: f64,
    ratio: Option<f64>,
    /// Whether ML-DSA dominates it.
    signature: bool,
    /// Whether it is what comes on top of the baseline.
    beside: bool,
}

impl Target {
    fn of(case: &Case, bytes: usize) -> Option<Self> {
        if case.suite().id() != 1 || case.backend().name() != "aws-lc" {
            return None;
        }
        let target = |time, ratio, signature| Some(Self { time, ratio, signature, beside: false });
        match (case.name(), bytes) {
            ("envelope_seal", 256) => target(350.0, Some(1.3), true),
            ("envelope_open", 256) => target(250.0, None, true),
            ("announcement_accept" | "audit_append", _) => target(300.0, None, true),
            ("session_seal_b64", _) => target(0.35, None, false),
            ("session_open_b64", _) => target(0.40, None, false),
            ("session_seal_b1" | "session_open_b1", _) => target(1.0, None, false),
            ("group_open", _) => target(0.5, None, false),
            ("handshake_total", _) => target(1_200.0, None, true),
            ("revocation_lookup", _) => target(0.2, None, false),
            ("store_load_100k", _) => target(2e6, None, false),
            // Beside its fsync.
            ("store_update", _) => Some(Self { time: 1_000.0, ratio: None, signature: false, beside: true }),
            (name, _) if name.starts_with("refuse_junk") => target(2.0, None, false),
            _ => None,
        }
    }

    fn scale(&self, scales: Scales) -> f64 {
        if self.signature { scales.ml_dsa_65 } else { scales.aes_256_gcm }
    }
}

/// How much slower than the reference machine this one reads, at least 1.
#[derive(Debug, Clone, Copy)]
struct Scales {
    aes_256_gcm: f64,
    ml_dsa_65: f64,
}

/// The references on `aws-lc`, sampled beside one case.
pub(super) struct References {
    aes_256_gcm: (Aes256Gcm, Samples),
    ml_dsa_65: (MlDsa65Verify, Samples),
}

impl References {
    pub(super) fn new() -> Result<Self, BenchError> {
        Ok(Self {
            aes_256_gcm: (Aes256Gcm::new(&AWS_LC), Samples::default()),
            ml_dsa_65: (MlDsa65Verify::new(&AWS_LC)?, Samples::default()),
        })
    }

    pub(super) fn sample(&mut self, stop: &AtomicBool) -> Result<(), BenchError> {
        let take = |workload: &mut dyn Workload, samples: &mut Samples| samples.take(workload, SLICE, stop);
        take(&mut self.aes_256_gcm.0, &mut self.aes_256_gcm.1)?;
        take(&mut self.ml_dsa_65.0, &mut self.ml_dsa_65.1)
    }

    fn scales(&self) -> Scales {
        let scale = |samples: &Samples, reference: f64| (samples.row().median / reference).max(1.0);
        Scales {
            aes_256_gcm: scale(&self.aes_256_gcm.1, AES_256_GCM_REFERENCE),
            ml_dsa_65: scale(&self.ml_dsa_65.1, ML_DSA_65_REFERENCE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_four_significant_digits() {
        for (value, expected) in [(0.123_456, 0.1235), (123.456, 123.5), (12_345.6, 12_346.0), (0.0, 0.0)] {
            assert_eq!(rounded(value), expected);
        }
    }

    #[test]
    fn targets_are_those_of_suite_1_on_aws_lc() {
        let targets = Case::all().iter().filter(|case| Target::of(case, 256).is_some()).count();
        // Seal and open stand twice in the list, once for each payload.
        assert_eq!(targets, 2 * 2 + 4 + 1 + 1 + 1 + 1 + 1 + 4 + 2);
    }
}
