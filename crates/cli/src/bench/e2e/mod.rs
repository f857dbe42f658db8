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

use pqc_iiot_core::crypto::suite::SessionSuite;

pub(super) use broker::{Broker, Via};
use plain::Plain;
use raw::Raw;
use sealed::Sealed;

use super::report::{Row, rounded};
use super::stats::quantile;
use super::{BenchError, Effort, interrupted};

/// Sealed messages a second, on a quiet machine with two cores.
const LEAST_RATE: f64 = 20_000.0;
/// What sealed messages are to reach of the plaintext twin's rate, and the most that they may cost of its processor time.
const LEAST_RATIO: f64 = 0.90;
const MOST_CPU_RATIO: f64 = 1.15;
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
        let full = Self { sealed: 2048, plain: 2048, raw: 4096, rounds: 21 };
        match effort {
            Effort::Quick => Self { sealed: 512, plain: 512, raw: 1024, rounds: 7 },
            Effort::Full => full,
            Effort::Thorough => Self { rounds: 63, ..full },
        }
    }

    /// Caches, connections, and the broker's own tables.
    fn warm_up(self) -> Self {
        Self { sealed: self.sealed / 4, plain: self.plain / 4, raw: self.raw / 4, rounds: 1 }
    }
}

/// Messages that the application has handed over and whose delivery it does not know of, at most.
const WINDOW: usize = 100;

/// One side's round.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Messages per second.
    rate: f64,
    /// Processor time of this process per message, in microseconds.
    cpu: f64,
}

/// Rounds side by side; of bare connections only messages per second.
#[derive(Debug, Clone, Copy)]
struct Sample {
    sealed: Round,
    plain: Round,
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
        let before = rate(most, raw.round(most)).await?.rate;
        // Neither always comes first.
        let (first, second) = if round % 2 == 0 {
            let first = rate(some, sealed.round(some)).await?;
            (first, rate(more, plain.round(more)).await?)
        } else {
            let second = rate(more, plain.round(more)).await?;
            (rate(some, sealed.round(some)).await?, second)
        };
        let after = rate(most, raw.round(most)).await?.rate;
        if round > 0 {
            samples.push(Sample { sealed: first, plain: second, raw: [before, after] });
        }
    }
    sealed.close().await;
    plain.close().await;
    raw.close().await;
    Ok(samples)
}

/// Carries out a round. Processor time is counted until the last receipt, the rate until the last message.
async fn rate(
    messages: u64,
    round: impl Future<Output = Result<Duration, BenchError>>,
) -> Result<Round, BenchError> {
    let stuck = |_| BenchError::Outcome("a round of messages did not end within 60 seconds");
    let before = cpu();
    let elapsed = tokio::time::timeout(PATIENCE, round).await.map_err(stuck)??;
    let cpu = (cpu() - before).as_secs_f64() * 1e6;
    Ok(Round { rate: messages as f64 / elapsed.as_secs_f64(), cpu: cpu / messages as f64 })
}

/// What this process, all its threads together, has used of the processors.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn report(via: Via, samples: &[Sample]) -> Vec<Row> {
    let all = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
    let median = |of: fn(&Sample) -> f64| quantile(&all(of), 0.5);
    let name = |mosquitto, embedded| match via {
        Via::Embedded => embedded,
        Via::Mosquitto => mosquitto,
    };
    let row =
        |mosquitto, embedded, unit, of, baseline| row(name(mosquitto, embedded), unit, &all(of), baseline);
    let plain = median(|sample| sample.plain.rate);
    let plain_cpu = median(|sample| sample.plain.cpu);
    let raw = median(|sample| sample.raw[0]);
    let again = median(|sample| sample.raw[1]);
    let sealed = row("e2e_sealed", "e2e_sealed_embedded", "msg/s", |sample| sample.sealed.rate, plain);
    let ratio = |sample: &Sample| sample.sealed.rate / sample.plain.rate;
    let ratio = row("e2e_ratio", "e2e_ratio_embedded", "ratio", ratio, 1.0);
    let cpu_ratio = |sample: &Sample| sample.sealed.cpu / sample.plain.cpu;
    let cpu_ratio = row("e2e_cpu_ratio", "e2e_cpu_ratio_embedded", "ratio", cpu_ratio, 1.0);
    let (fast, near) = (sealed.median >= LEAST_RATE, ratio.median >= LEAST_RATIO);
    let cheap = cpu_ratio.median <= MOST_CPU_RATIO;
    vec![
        held_to(LEAST_RATE, true, fast, sealed),
        row("e2e_plain", "e2e_plain_embedded", "msg/s", |sample| sample.plain.rate, raw),
        row("e2e_raw", "e2e_raw_embedded", "msg/s", |sample| sample.raw[0], again),
        row("e2e_cpu", "e2e_cpu_embedded", "us", |sample| sample.sealed.cpu, plain_cpu),
        row("e2e_raw_ratio", "e2e_raw_ratio_embedded", "ratio", |s| s.sealed.rate / s.raw[0], 1.0),
        held_to(LEAST_RATIO, true, near, ratio),
        match via {
            // The broker's share, the same for both, is in these figures: they would hide a dear seal.
            Via::Embedded => cpu_ratio,
            Via::Mosquitto => held_to(MOST_CPU_RATIO, false, cheap, cpu_ratio),
        },
    ]
}

fn held_to(target: f64, at_least: bool, met: bool, row: Row) -> Row {
    let within = (!cfg!(debug_assertions)).then_some(met);
    Row { target: Some(target), scaled_target: Some(target), at_least, within, ..row }
}

fn row(name: &'static str, unit: &'static str, samples: &[f64], baseline: f64) -> Row {
    let median = quantile(samples, 0.5);
    Row {
        mean: rounded(samples.iter().sum::<f64>() / samples.len() as f64),
        p95: rounded(quantile(samples, 0.95)),
        quartiles: Some([0.25, 0.75].map(|share| rounded(quantile(samples, share)))),
        samples: samples.len(),
        ratio: rounded(median / baseline),
        unit,
        ..Row::size(name, SessionSuite::Hybrid, PAYLOAD, rounded(median), rounded(baseline), None)
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
            assert_eq!(rows.len(), 7);
            assert!(rows.iter().all(|row| row.median > 0.0 && row.ratio > 0.0), "{rows:?}");
        }
    }

    #[test]
    fn ratios_are_of_rounds_side_by_side() {
        let round = |rate| Round { rate, cpu: 1e5 / rate };
        let sample =
            |sealed, plain| Sample { sealed: round(sealed), plain: round(plain), raw: [100.0, 100.0] };
        // A machine that slows down tenfold halfway through: the medians alone would say 0.1 or 5.
        let samples = [sample(50.0, 100.0), sample(5.0, 10.0), sample(5.0, 10.0)];
        let rows = report(Via::Embedded, &samples);
        let of = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(of("e2e_ratio_embedded").median, 0.5);
        assert_eq!(of("e2e_cpu_ratio_embedded").median, 2.0);
        assert_eq!(of("e2e_raw_ratio_embedded").quartiles, Some([0.05, 0.275]));
        assert_eq!(of("e2e_raw_embedded").ratio, 1.0);
    }
}
