//! `pqc-iiot completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Context;
use crate::args::Cli;
use crate::error::Result;

pub(super) fn run(shell: Shell, context: &Context) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pqc-iiot", &mut script);
    context.output.raw(&script)
}
