//! The power fails between any two operations on the files that the project writes itself, and again during the
//! recovery (attacks 13 and 22). `docs/crash-testing.md` explains the method and the counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit_log;
mod data_directory;
mod signer;
mod upgrade;

use pqc_iiot_sim::power::Report;

/// Prints an exploration's counts and demands that it found nothing.
fn nothing_broken(what: &str, report: &Report) {
    println!("{what}: {report}");
    assert_eq!(report.violations, 0, "{what}: {report}");
    assert!(report.crash_points > 10 && report.restarts > 50, "{what} explored next to nothing: {report}");
}

/// Prints an exploration's counts and demands that it found the mutant.
fn caught(mutant: &str, report: &Report) {
    println!("mutant, {mutant}: {report}");
    assert!(report.violations > 0, "the explorer is broken, it does not notice: {mutant}");
}
