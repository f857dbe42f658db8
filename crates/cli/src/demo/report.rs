//! What the demo showed: counts from the gateway's inbox and audit log, and what was expected of them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::{CliError, ErrorKind, Result};
use crate::output::{self, table};

use super::compromise::Compromise;
use super::gateway::Counts;
use super::hall::Hall;

/// An attack, and how many refusals it must have led to.
pub(super) struct Expectation {
    reasons: &'static [&'static str],
    at_least: u64,
    attack: &'static str,
}

impl Expectation {
    pub(super) fn at_least(reasons: &'static [&'static str], count: u64, attack: &'static str) -> Self {
        Self { reasons, at_least: count, attack }
    }

    fn count<K: Ord + std::borrow::Borrow<str>>(&self, refused: &BTreeMap<K, u64>) -> u64 {
        self.reasons.iter().filter_map(|reason| refused.get(*reason)).sum()
    }

    pub(super) fn met_by<K: Ord + std::borrow::Borrow<str>>(&self, refused: &BTreeMap<K, u64>) -> bool {
        self.count(refused) >= self.at_least
    }
}

/// Something that was to be seen.
#[derive(Serialize)]
pub(super) struct Claim {
    claim: &'static str,
    seen: String,
    held: bool,
    /// It is no success of ours: the demo only does not hide it.
    #[serde(skip)]
    limit: bool,
}

impl Claim {
    pub(super) fn new(claim: &'static str, seen: String, held: bool) -> Self {
        Self { claim, seen, held, limit: false }
    }

    /// What is possible, and shown for that.
    pub(super) fn limit(claim: &'static str, seen: String, held: bool) -> Self {
        Self { limit: true, ..Self::new(claim, seen, held) }
    }

    fn outcome(&self) -> String {
        let outcome = if self.limit { "as expected" } else { "held" };
        if self.held { outcome.to_owned() } else { format!("NOT {}", outcome.to_uppercase()) }
    }
}

/// How a revocation went.
pub(super) struct Revocation {
    /// From its publication to the gateway's withdrawal of trust, on disk.
    pub(super) enforced: Duration,
    /// Messages sent afterwards.
    pub(super) attempts: u64,
    /// The device's messages accepted until then.
    pub(super) accepted_before: u64,
}

/// What the logs say.
#[derive(Default)]
pub(super) struct Audit {
    pub(super) entries: u64,
    pub(super) verified: bool,
    pub(super) problem: Option<String>,
    /// The gateway's refusals, by reason.
    pub(super) refused: BTreeMap<String, u64>,
}

impl Audit {
    /// Sums up the refusals in a log exported as JSON lines.
    pub(super) fn count_refusals(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n') {
            let Ok(entry) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
            let text = |field: &str| entry.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
            if text("kind").ends_with("-refused") || text("kind") == "suppressed" {
                let count = entry.get("count").and_then(serde_json::Value::as_u64).unwrap_or_default();
                *self.refused.entry(text("detail").to_owned()).or_default() += count;
            }
        }
    }
}

/// The report.
#[derive(Serialize)]
pub(super) struct Report {
    sent: u64,
    delivered: u64,
    duplicates: u64,
    lost: u64,
    /// Rows that came in a session; the others came in envelopes, before there was one.
    in_sessions: u64,
    /// How often the sessions changed all their keys.
    epoch_changes: u16,
    refused: BTreeMap<String, u64>,
    revocation_enforced_ms: f64,
    audit_entries: u64,
    audit_verified: bool,
    /// In all; and until the gateway had confirmed the last row.
    seconds: f64,
    seconds_of_rows: f64,
    rows_per_second: f64,
    attacks: Vec<Attack>,
    compromise: Compromise,
    topic_group: Hall,
    claims: Vec<Claim>,
    failures: Vec<String>,
}

/// What happened while the rows flowed.
pub(super) struct Scenes {
    pub(super) expected: Vec<Expectation>,
    pub(super) revocation: Revocation,
    pub(super) compromise: Compromise,
    pub(super) hall: Hall,
}

#[derive(Serialize)]
struct Attack {
    attack: &'static str,
    expected: u64,
    refused: u64,
    held: bool,
}

impl Report {
    pub(super) fn new(
        sent: u64,
        counts: Counts,
        scenes: Scenes,
        audit: Audit,
        (seconds, seconds_of_rows): (f64, f64),
    ) -> Self {
        let Scenes { expected, revocation, compromise, hall } = scenes;
        let mut failures = Vec::new();
        let mut require = |held: bool, what: String| {
            if !held {
                failures.push(what);
            }
        };
        let lost = sent.saturating_sub(counts.delivered);
        require(counts.delivered == sent, format!("{} rows sent, {} delivered", sent, counts.delivered));
        require(counts.in_sessions > 0, "no row came in a session".to_owned());
        require(counts.duplicates == 0, format!("{} rows delivered twice", counts.duplicates));
        let after = counts.from_revoked.saturating_sub(revocation.accepted_before);
        require(after == 0, format!("{after} messages of a revoked device accepted"));
        let attacks: Vec<_> = expected
            .iter()
            .map(|expectation| Attack {
                attack: expectation.attack,
                expected: expectation.at_least,
                refused: expectation.count(&audit.refused),
                held: expectation.met_by(&audit.refused),
            })
            .collect();
        for attack in attacks.iter().filter(|attack| !attack.held) {
            require(
                false,
                format!("{}: {} of {} in the audit log", attack.attack, attack.refused, attack.expected),
            );
        }
        let claims: Vec<_> = compromise.claims().into_iter().chain(hall.claims()).collect();
        for claim in claims.iter().filter(|claim| !claim.held) {
            require(false, format!("{}: {}", claim.claim, claim.seen));
        }
        let problem = audit.problem.as_deref().unwrap_or("unknown");
        require(audit.verified, format!("the audit log does not verify: {problem}"));
        Self {
            sent,
            delivered: counts.delivered,
            duplicates: counts.duplicates,
            lost,
            in_sessions: counts.in_sessions,
            epoch_changes: counts.last_epoch,
            refused: audit.refused,
            revocation_enforced_ms: revocation.enforced.as_secs_f64() * 1000.0,
            audit_entries: audit.entries,
            audit_verified: audit.verified,
            seconds,
            seconds_of_rows,
            rows_per_second: counts.delivered as f64 / seconds_of_rows.max(f64::EPSILON),
            attacks,
            compromise,
            topic_group: hall,
            claims,
            failures,
        }
    }

    /// What did not hold.
    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Writes the report as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let unusable = |error: io::Error| {
            CliError::new(ErrorKind::Usage, format!("{} cannot be written", path.display())).because(error)
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| unusable(error.into()))?;
        text.push(b'\n');
        std::fs::write(path, text).map_err(unusable)
    }
}

impl output::Report for Report {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let held = |held: bool| if held { "held" } else { "DID NOT HOLD" };
        table(
            out,
            &[
                ("rows sent", self.sent.to_string()),
                ("delivered", format!("{} ({:.0} per second)", self.delivered, self.rows_per_second)),
                ("twice", self.duplicates.to_string()),
                ("lost", self.lost.to_string()),
                (
                    "in sessions",
                    format!(
                        "{}, forward secret; keys changed altogether {}",
                        self.in_sessions,
                        output::counted(self.epoch_changes.into(), "time", "times")
                    ),
                ),
                ("revocation enforced", format!("{:.1} ms", self.revocation_enforced_ms)),
                (
                    "audit log",
                    format!(
                        "{} entries, {}",
                        self.audit_entries,
                        if self.audit_verified { "verified" } else { "NOT VERIFIED" }
                    ),
                ),
            ],
        )?;
        writeln!(out)?;
        let rows: Vec<_> = self
            .attacks
            .iter()
            .map(|attack| {
                vec![attack.attack.to_owned(), attack.refused.to_string(), held(attack.held).to_owned()]
            })
            .collect();
        output::columns(out, &["attack", "refused", "outcome"], &rows)?;
        writeln!(out)?;
        let rows: Vec<_> = self
            .claims
            .iter()
            .map(|claim| vec![claim.claim.to_owned(), claim.seen.clone(), claim.outcome()])
            .collect();
        output::columns(out, &["shown", "seen", "outcome"], &rows)?;
        let verdict = if self.failures.is_empty() { "everything held" } else { "NOT EVERYTHING HELD" };
        writeln!(out, "\n{verdict} in {:.1} s", self.seconds)
    }
}
