//! What a change must pass, one step each.

use std::process::Command;

use clap::ValueEnum;

use crate::run::{command, run};
use crate::tools::Tool;
use crate::{Workspace, no_std};

/// One check, runnable alone with `--only`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Formatting, as rustfmt.toml has it.
    Fmt,
    /// Clippy over every feature set that builds differently, warnings denied.
    Clippy,
    /// A program without std that links the core, built, inspected and run.
    NoStd,
    /// Public documentation, warnings denied.
    Doc,
    /// Dependencies: bans, licences, sources.
    Deny,
    /// Examples in the documentation.
    Doctest,
    /// All other tests.
    Test,
}

impl Step {
    /// Every step, in order; the tests come last so that their summary is near the end of the output.
    pub(crate) const ALL: [Self; 7] =
        [Self::Fmt, Self::Clippy, Self::NoStd, Self::Doc, Self::Deny, Self::Doctest, Self::Test];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::NoStd => "no-std",
            Self::Doc => "doc",
            Self::Deny => "deny",
            Self::Doctest => "doctest",
            Self::Test => "test",
        }
    }

    /// The tools without which this step cannot run.
    pub(crate) fn needs(self) -> &'static [Tool] {
        match self {
            Self::Fmt => &[Tool::Rustfmt],
            Self::Clippy => &[Tool::Clippy],
            Self::NoStd => &[Tool::Binutils],
            Self::Doc | Self::Doctest => &[],
            Self::Deny => &[Tool::CargoDeny],
            Self::Test => {
                &[Tool::CargoNextest, Tool::Mosquitto, Tool::MosquittoClients, Tool::Python, Tool::Paho]
            }
        }
    }

    pub(crate) fn run(self, workspace: &Workspace) -> Result<(), String> {
        let cargo = |arguments| run(&mut workspace.cargo(arguments));
        match self {
            Self::Fmt => {
                cargo("fmt --all --check")?;
                cargo("fmt --manifest-path crates/core/no-std-check/Cargo.toml --check")
            }
            Self::Clippy => {
                cargo("clippy --workspace --all-targets --all-features -- -D warnings")?;
                cargo("clippy --workspace --all-targets -- -D warnings")?;
                cargo("clippy -p pqc-iiot-core --all-targets --no-default-features -- -D warnings")?;
                cargo(
                    "clippy -p pqc-iiot-core --all-targets --no-default-features \
                     --features experimental-fn-dsa -- -D warnings",
                )
            }
            Self::NoStd => no_std::check(workspace),
            Self::Doc => run(workspace.cargo("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings")),
            Self::Deny => cargo("deny --workspace --all-features check bans licenses sources"),
            Self::Doctest => cargo("test --doc --workspace --all-features"),
            Self::Test => cargo("nextest run --workspace --all-features --profile ci"),
        }
    }
}

impl Workspace {
    /// `cargo` in the root.
    pub(crate) fn cargo(&self, arguments: &str) -> Command {
        let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments);
        cargo.current_dir(&self.root);
        cargo
    }
}
