//! Developer tasks: `cargo xtask --help`.

mod models;
mod no_std;
mod run;
mod steps;
mod tools;
mod verifpal;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use steps::Step;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of PQC-IIoT")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check everything that a change must pass; continuous integration runs the same command.
    Test {
        /// Install what the chosen steps need and this machine lacks (Debian packages, cargo tools).
        #[arg(long)]
        install: bool,
        /// Run only these steps, comma-separated, in their usual order.
        #[arg(long, value_enum, value_delimiter = ',', value_name = "STEP")]
        only: Vec<Step>,
    },
    /// Run the protocol models in `models/` with Verifpal and ProVerif and compare each result with the expected one.
    Models {
        /// Succeed where a tool is not installed, having checked the form of its files only.
        #[arg(long)]
        allow_missing: bool,
    },
}

/// Where the checkout is and how its commands run.
pub(crate) struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where build outputs go.
    pub(crate) target: PathBuf,
    /// Under CI, lock files must be up to date as committed. (`.ci/run` starts this program with `--locked`, which
    /// checks the root's.)
    pub(crate) locked: bool,
}

impl Workspace {
    fn discover() -> Result<Self, String> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("run me as `cargo xtask`")?;
        let root = PathBuf::from(manifest).parent().ok_or("xtask has no parent directory")?.to_path_buf();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let target = std::path::absolute(target).map_err(|e| e.to_string())?;
        Ok(Self { root, target, locked: std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()) })
    }
}

fn main() -> ExitCode {
    let passed = match Arguments::parse().task {
        Task::Test { install, only } => test(install, &only),
        Task::Models { allow_missing } => {
            Workspace::discover().and_then(|workspace| run_models(&workspace, allow_missing)).map(|()| true)
        }
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Both tools, whatever became of the first.
fn run_models(workspace: &Workspace, allow_missing: bool) -> Result<(), String> {
    let results = [verifpal::run(workspace, allow_missing), models::run(workspace, allow_missing)];
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nerror: ")) }
}

/// Runs every chosen step, whatever became of the ones before it, and says whether all passed.
fn test(install: bool, only: &[Step]) -> Result<bool, String> {
    let workspace = Workspace::discover()?;
    let chosen: Vec<Step> =
        Step::ALL.into_iter().filter(|step| only.is_empty() || only.contains(step)).collect();

    let begun = Instant::now();
    tools::provide(&workspace, &chosen, install)?;
    let mut results = vec![("tools", begun.elapsed(), Ok(()))];
    for step in chosen {
        println!("\n==> {}", step.name());
        let begun = Instant::now();
        let result = step.run(&workspace);
        let outcome = if result.is_ok() { "ok" } else { "FAILED" };
        println!("<== {} {outcome} in {:.1} s", step.name(), begun.elapsed().as_secs_f64());
        results.push((step.name(), begun.elapsed(), result));
    }

    println!("\n{:<8} {:>8}  result", "step", "seconds");
    for (name, time, result) in &results {
        let outcome = result.as_ref().map_or_else(|why| format!("FAILED: {why}"), |()| "ok".to_owned());
        println!("{name:<8} {:>8.1}  {outcome}", time.as_secs_f64());
    }
    let failed = results.iter().filter(|(_, _, result)| result.is_err()).count();
    println!(
        "{} of {} steps passed in {:.1} s",
        results.len() - failed,
        results.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(failed == 0)
}
