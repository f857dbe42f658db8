//! Criterion benchmarks: run them with `cargo bench`.
//!
//! They measure the cases of `pqc-iiot bench`, without the baselines. `docs/benchmarks.md` says what each is.

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use pqc_iiot::bench::{BenchError, Case, Workload};

/// Measures every case.
pub fn measure(criterion: &mut Criterion) {
    for case in &Case::all() {
        let mut group = criterion.benchmark_group(case.name());
        group
            .sample_size(20)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_millis(1500));
        if case.is_slow() {
            group.sampling_mode(SamplingMode::Flat).sample_size(10);
        }
        // A workload that fails has no figure; Criterion has no other way to be told.
        #[allow(clippy::panic)]
        if let Err(error) = bench(&mut group, case) {
            panic!("{case:?}: {error}");
        }
    }
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) -> Result<(), BenchError> {
    let mut workload = case.build()?;
    let bytes = workload.bytes();
    if bytes > 0 {
        group.throughput(Throughput::Bytes(bytes as u64));
    }
    let id = BenchmarkId::new(format!("suite {} {}", case.suite().id(), case.backend().name()), bytes);
    let mut result = Ok(());
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|iterations| {
            let time = time(&mut *workload, iterations);
            time.unwrap_or_else(|error| {
                result = Err(error);
                // Criterion divides by it.
                Duration::from_secs(1)
            })
        });
    });
    result
}

/// The time of `iterations` operations, which are rounded up to whole runs.
fn time(workload: &mut dyn Workload, iterations: u64) -> Result<Duration, BenchError> {
    let operations = workload.operations() as u64;
    let runs = iterations.div_ceil(operations);
    let mut total = Duration::ZERO;
    for _ in 0..runs {
        workload.prepare()?;
        let start = Instant::now();
        workload.run()?;
        total += start.elapsed();
    }
    Ok(total.mul_f64(iterations as f64 / (runs * operations) as f64))
}
