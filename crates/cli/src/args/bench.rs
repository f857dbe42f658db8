//! `pqc-iiot bench`.

use clap::Args;

/// `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pqc-iiot bench
  pqc-iiot bench --json > bench.json

Each row stands beside its baseline: the primitives that it cannot do without, sampled in turn with it. Takes about two \
minutes; leave the machine idle meanwhile. Only optimised builds give figures worth quoting. docs/benchmarks.md says \
what each row measures.")]
pub(crate) struct BenchArgs {
    /// A tenth of the samples: a look, not figures to quote
    #[arg(long)]
    pub(crate) quick: bool,
}
