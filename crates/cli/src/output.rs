//! Results on standard output, as text for people or JSON for programs; notes on standard error.

use std::io::{self, IsTerminal, Write};

use pqc_iiot_core::audit::AuditText;
use serde::Serialize;

use crate::error::{CliError, ErrorKind, Result};

/// A result that can be shown both ways.
pub(crate) trait Report: Serialize {
    /// Writes it for a person.
    fn human(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches standard error.
    pub(crate) fn shows_progress(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// The command's result: one JSON line, or text.
    pub(crate) fn report(self, report: &impl Report) -> Result<()> {
        let mut out = io::stdout().lock();
        let written = if self.json {
            serde_json::to_writer(&mut out, report).map_err(io::Error::from).and_then(|()| writeln!(out))
        } else {
            report.human(&mut out)
        };
        written.and_then(|()| out.flush()).map_err(output_failed)
    }

    /// Bytes as they are.
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(output_failed)
    }

    /// A line on standard error about what goes on.
    pub(crate) fn note(self, text: impl std::fmt::Display) {
        let mut err = io::stderr().lock();
        // Nobody is left to be told if standard error is closed.
        let _ = if self.json {
            writeln!(err, "{}", serde_json::json!({ "note": text.to_string() }))
        } else {
            writeln!(err, "{text}")
        };
    }

    /// Something on standard error that a person should act on: `text`, or the warning for programs.
    pub(crate) fn warn(self, warning: &impl Serialize, text: impl std::fmt::Display) {
        let mut err = io::stderr().lock();
        let _ = if self.json {
            writeln!(err, "{}", serde_json::json!({ "warning": warning }))
        } else {
            writeln!(err, "{text}")
        };
    }

    /// The error, on standard error.
    pub(crate) fn error(self, error: &CliError) {
        if error.kind() == ErrorKind::OutputClosed {
            return;
        }
        let mut err = io::stderr().lock();
        let _ = if self.json { writeln!(err, "{}", error.to_json()) } else { writeln!(err, "{error}") };
    }
}

fn output_failed(error: io::Error) -> CliError {
    let kind =
        if error.kind() == io::ErrorKind::BrokenPipe { ErrorKind::OutputClosed } else { ErrorKind::Failed };
    CliError::new(kind, "cannot write the result").because(error)
}

/// Text of foreign origin, made harmless for a terminal and cut at 256 bytes.
pub(crate) fn harmless(text: &str) -> String {
    AuditText::new(text).as_str().to_owned()
}

/// A number with its noun.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Two columns, the first padded.
pub(crate) fn table(out: &mut dyn Write, rows: &[(&str, String)]) -> io::Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().try_for_each(|(name, value)| writeln!(out, "{name:width$}  {value}"))
}

/// Columns under a heading, each as wide as its widest cell.
pub(crate) fn columns(out: &mut dyn Write, heading: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(heading.get(column).map(|text| text.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let heading: Vec<String> = heading.iter().map(|text| (*text).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
