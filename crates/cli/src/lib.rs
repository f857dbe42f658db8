//! The library half of the command: what the benchmarks share with `pqc-iiot bench`.

pub mod bench;
