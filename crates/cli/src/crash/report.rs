//! What a run has shown.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::judge::Verdict;
use super::process::Role;
use super::progress::Progress;
use crate::output::table;

/// The table at the end.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    messages: u64,
    broker: String,
    seed: u64,
    kills: BTreeMap<&'static str, u64>,
    seconds: f64,
    messages_per_second: f64,
    /// The longest time in which nothing was consumed: the slowest recovery.
    longest_pause_seconds: f64,
    /// Packets that the receiver refused as repeated, at least: what it had not said when it was killed is missing.
    repeated: u64,
    /// What the protocol itself reported as lost.
    reported_lost: u64,
    /// Distinct records of sessions that a listener at the broker heard.
    records: u64,
    /// Of these, such that used a key and nonce again.
    nonces_reused: u64,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Report {
    #[allow(clippy::too_many_arguments, reason = "the figures of a run")]
    pub(super) fn new(
        messages: u64,
        broker: &str,
        seed: u64,
        kills: &BTreeMap<Role, u64>,
        seconds: f64,
        progress: &Progress,
        (records, nonces_reused): (u64, u64),
        verdict: Verdict,
    ) -> Self {
        let kills = Role::ALL.map(|role| (role.name(), kills.get(&role).copied().unwrap_or(0)));
        Self {
            messages,
            broker: broker.to_owned(),
            seed,
            kills: kills.into(),
            seconds: rounded(seconds),
            messages_per_second: rounded(messages as f64 / seconds),
            longest_pause_seconds: rounded(progress.longest_pause.as_secs_f64()),
            repeated: progress.repeated,
            reported_lost: progress.lost,
            records,
            nonces_reused,
            verdict,
        }
    }

    /// Whether every message was consumed exactly once, and nothing is left over.
    pub(super) fn is_exact(&self) -> bool {
        self.verdict == Verdict::default() && self.reported_lost == 0 && self.nonces_reused == 0
    }

    /// What is wrong.
    pub(super) fn faults(&self) -> String {
        let Verdict { not_accepted, lost, duplicates, outbox, inbox } = self.verdict;
        format!(
            "{not_accepted} not accepted, {lost} lost, {duplicates} duplicates, {outbox} left in the outbox, {inbox} in \
             the inbox, {} reported as lost, {} nonces used again",
            self.reported_lost, self.nonces_reused
        )
    }
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

impl crate::output::Report for Report {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let kills: Vec<_> = self.kills.iter().map(|(role, count)| format!("{role} {count}")).collect();
        table(
            out,
            &[
                ("messages", self.messages.to_string()),
                ("broker", self.broker.clone()),
                ("kills (SIGKILL)", kills.join(", ")),
                ("seconds", self.seconds.to_string()),
                ("messages/s", self.messages_per_second.to_string()),
                (
                    "longest pause",
                    format!("{} s without a message: the slowest recovery", self.longest_pause_seconds),
                ),
                ("repeated packets", format!("{} or more, all refused", self.repeated)),
                (
                    "records heard",
                    format!("{}, of which {} reuse a key and nonce", self.records, self.nonces_reused),
                ),
                ("lost", self.verdict.lost.to_string()),
                ("duplicates", self.verdict.duplicates.to_string()),
                ("seed", self.seed.to_string()),
            ],
        )?;
        let verdict = if self.is_exact() {
            "every accepted message was consumed exactly once".to_owned()
        } else {
            format!("NOT EXACT: {}", self.faults())
        };
        writeln!(out, "\n{verdict}")
    }
}
