//! Messages from end to end through a real broker: two secure clients, their plaintext twin, and two bare connections.
//!
//! One sample of each is a round of messages of 256 bytes at QoS 1. The three take turns, so that whatever disturbs the
//! machine or the broker disturbs all of them, and ratios are of rounds side by side.

mod broker;
mod disk;
mod plain;
mod raw;
mod rows;
mod sealed;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(super) use broker::{Broker, Via};
use plain::Plain;
use raw::Raw;
use sealed::Sealed;

use super::report::{Row, rounded};
use super::stats::quantile;
use super::{BenchError, Effort, interrupted};

/// A telemetry reading.
const PAYLOAD: usize = 256;
/// The longest that any one round, or getting to know each other, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many messages a round of each has, and how many rounds there are.
#[derive(Debug, Clone, Copy)]
struct Plan {
    sealed: u64,
    plain: u64,
    raw: u64,
    rounds: usize,
}

impl Plan {
    fn of(effort: Effort) -> Self {
        let full = Self { sealed: 1024, plain: 2048, raw: 4096, rounds: 7 };
        match effort {
            Effort::Quick => Self { sealed: 256, plain: 512, raw: 1024, rounds: 3 },
            Effort::Full => full,
            Effort::Thorough => Self { rounds: 21, ..full },
        }
    }

    /// Caches, connections, and the broker's own tables.
    fn warm_up(self) -> Self {
        Self { sealed: self.sealed / 4, plain: self.plain / 4, raw: self.raw / 4, rounds: 1 }
    }
}

/// Messages per second of rounds side by side.
#[derive(Debug, Clone, Copy)]
struct Sample {
    sealed: f64,
    plain: f64,
    /// Before and after, or after and before: they are the same thing, and their ratio is the run's noise.
    raw: [f64; 2],
}

/// Measures through one broker; `None` if it is not installed.
pub(super) fn measure(via: Via, effort: Effort, stop: &AtomicBool) -> Result<Option<Vec<Row>>, BenchError> {
    let Some(broker) = Broker::start(via)? else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed("the runtime", error))?;
    let samples = runtime.block_on(sample(&broker, Plan::of(effort), stop));
    runtime.shutdown_timeout(Duration::from_secs(1));
    samples.map(|samples| Some(report(via, &samples)))
}

async fn sample(broker: &Broker, plan: Plan, stop: &AtomicBool) -> Result<Vec<Sample>, BenchError> {
    let mut sealed = Sealed::open(broker).await?;
    let mut plain = Plain::open(broker).await?;
    let mut raw = Raw::open(broker).await?;
    let mut samples = Vec::with_capacity(plan.rounds);
    for round in 0..=plan.rounds {
        interrupted(stop)?;
        let Plan { sealed: some, plain: more, raw: most, .. } =
            if round == 0 { plan.warm_up() } else { plan };
        let before = rate(most, raw.round(most)).await?;
        // Neither always comes first.
        let (first, second) = if round % 2 == 0 {
            let first = rate(some, sealed.round(some)).await?;
            (first, rate(more, plain.round(more)).await?)
        } else {
            let second = rate(more, plain.round(more)).await?;
            (rate(some, sealed.round(some)).await?, second)
        };
        let after = rate(most, raw.round(most)).await?;
        if round > 0 {
            samples.push(Sample { sealed: first, plain: second, raw: [before, after] });
        }
    }
    sealed.close().await;
    plain.close().await;
    raw.close().await;
    Ok(samples)
}

/// Messages per second.
async fn rate(
    messages: u64,
    round: impl Future<Output = Result<Duration, BenchError>>,
) -> Result<f64, BenchError> {
    let stuck = |_| BenchError::Outcome("a round of messages did not end within 60 seconds");
    let elapsed = tokio::time::timeout(PATIENCE, round).await.map_err(stuck)??;
    Ok(messages as f64 / elapsed.as_secs_f64())
}

fn report(via: Via, samples: &[Sample]) -> Vec<Row> {
    let all = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
    let median = |of: fn(&Sample) -> f64| quantile(&all(of), 0.5);
    let name = |embedded, mosquitto| match via {
        Via::Embedded => embedded,
        Via::Mosquitto => mosquitto,
    };
    let plain = median(|sample| sample.plain);
    let raw = median(|sample| sample.raw[0]);
    let again = median(|sample| sample.raw[1]);
    let rate = |name, of, baseline| row(name, "msg/s", &all(of), baseline);
    let ratio = |name, of| row(name, "ratio", &all(of), 1.0);
    vec![
        rate(name("e2e_sealed_embedded", "e2e_sealed_mosquitto"), |sample| sample.sealed, plain),
        rate(name("e2e_plain_embedded", "e2e_plain_mosquitto"), |sample| sample.plain, raw),
        rate(name("e2e_raw_embedded", "e2e_raw_mosquitto"), |sample| sample.raw[0], again),
        ratio(name("e2e_ratio_embedded", "e2e_ratio_mosquitto"), |sample| sample.sealed / sample.plain),
        ratio(name("e2e_raw_ratio_embedded", "e2e_raw_ratio_mosquitto"), |sample| {
            sample.sealed / sample.raw[0]
        }),
    ]
}

fn row(name: &'static str, unit: &'static str, samples: &[f64], baseline: f64) -> Row {
    let median = quantile(samples, 0.5);
    Row {
        name,
        suite: 1,
        backend: "aws-lc",
        bytes: PAYLOAD,
        unit,
        median: rounded(median),
        baseline: rounded(baseline),
        ratio: rounded(median / baseline),
        mean: rounded(samples.iter().sum::<f64>() / samples.len() as f64),
        p95: rounded(quantile(samples, 0.95)),
        quartiles: Some([0.25, 0.75].map(|share| rounded(quantile(samples, share)))),
        samples: samples.len(),
        target: None,
        scaled_target: None,
        target_ratio: None,
        within: None,
    }
}

/// A payload that no other of its round equals.
fn numbered(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(PAYLOAD / 8)
}

fn failed(what: &'static str, why: impl std::fmt::Display) -> BenchError {
    BenchError::EndToEnd { what, why: why.to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_message_arrives_once_in_order_and_is_confirmed() {
        for via in Via::ALL {
            let Some(broker) = Broker::start(via).unwrap() else { continue };
            let plan = Plan { sealed: 64, plain: 64, raw: 64, rounds: 1 };
            let samples = sample(&broker, plan, &AtomicBool::new(false)).await.unwrap();
            let rows = report(via, &samples);
            assert_eq!(rows.len(), 5);
            assert!(rows.iter().all(|row| row.median > 0.0 && row.ratio > 0.0), "{rows:?}");
        }
    }

    #[test]
    fn ratios_are_of_rounds_side_by_side() {
        let sample = |sealed, plain| Sample { sealed, plain, raw: [100.0, 100.0] };
        // A machine that slows down tenfold halfway through: the medians alone would say 0.1 or 5.
        let samples = [sample(50.0, 100.0), sample(5.0, 10.0), sample(5.0, 10.0)];
        let rows = report(Via::Embedded, &samples);
        let of = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(of("e2e_ratio_embedded").median, 0.5);
        assert_eq!(of("e2e_raw_ratio_embedded").quartiles, Some([0.05, 0.275]));
        assert_eq!(of("e2e_raw_embedded").ratio, 1.0);
    }
}
