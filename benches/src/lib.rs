//! Criterion benchmarks: run them with `cargo bench`.
