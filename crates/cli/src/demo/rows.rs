//! What is streamed: the rows of a CSV file, or this machine's own readings.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{CliError, ErrorKind, Result};

/// Between two readings of this machine.
const READING_EVERY: Duration = Duration::from_millis(10);

/// The longest row, in bytes: a message's limit less what sealing adds.
const MAX_ROW: usize = 128 * 1024;

/// Rows to stream, in order.
#[derive(Clone)]
pub(super) struct Rows {
    source: Source,
    header: Option<String>,
    final_newline: bool,
    total: u64,
}

#[derive(Clone)]
enum Source {
    File(Arc<Vec<String>>),
    Machine,
}

impl Rows {
    pub(super) fn open(file: Option<&Path>, readings: usize) -> Result<Self> {
        let Some(path) = file else {
            return Ok(Self {
                source: Source::Machine,
                header: Some("unix_ms,load1,memory_available_kib,temperature_millicelsius".into()),
                final_newline: true,
                total: readings as u64,
            });
        };
        let unusable = |why: &dyn std::fmt::Display| {
            CliError::new(ErrorKind::Usage, format!("{} cannot be streamed", path.display()))
                .because(why)
                .fix("name a CSV file whose first line is its header: --telemetry FILE.csv")
        };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
        let final_newline = text.ends_with('\n');
        let mut lines = text.strip_suffix('\n').unwrap_or(&text).split('\n').map(str::to_owned);
        let header = lines.next().filter(|line| !line.is_empty());
        let rows: Vec<String> = lines.collect();
        if header.is_none() || rows.is_empty() {
            return Err(unusable(&"it has no header or no rows"));
        }
        if rows.iter().chain(&header).any(|row| row.len() > MAX_ROW) {
            return Err(unusable(&"a row is longer than 128 KiB"));
        }
        let total = rows.len() as u64;
        Ok(Self { source: Source::File(Arc::new(rows)), header, final_newline, total })
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }

    /// Whether the last row ends in a line break.
    pub(super) fn final_newline(&self) -> bool {
        self.final_newline
    }

    /// Every `of`-th row, from row `index` on.
    pub(super) fn share(&self, index: usize, of: usize) -> Share {
        Share { rows: self.clone(), next: index as u64, step: of as u64 }
    }
}

/// One device's rows, each with its number.
pub(super) struct Share {
    rows: Rows,
    next: u64,
    step: u64,
}

impl Share {
    /// How long to wait before each row: readings are taken over time, a file is streamed as fast as it goes.
    pub(super) fn pace(&self) -> Option<Duration> {
        matches!(self.rows.source, Source::Machine).then_some(READING_EVERY)
    }
}

impl Iterator for Share {
    type Item = (u64, String);

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.next;
        if number >= self.rows.total {
            return None;
        }
        self.next += self.step;
        let row = match &self.rows.source {
            Source::File(rows) => rows.get(usize::try_from(number).ok()?)?.clone(),
            Source::Machine => reading(),
        };
        Some((number, row))
    }
}

/// Load, available memory and temperature of this machine; empty where it does not say.
fn reading() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB").map(str::to_owned))
        .unwrap_or_default();
    let temperature = read("/sys/class/thermal/thermal_zone0/temp").trim().to_owned();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    format!("{now},{load},{memory},{temperature}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_every_row_once_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.csv");
        std::fs::write(&path, "a,b\n1,2\r\n3,4\n5,6").unwrap();
        let rows = Rows::open(Some(&path), 0).unwrap();
        assert_eq!((rows.header(), rows.total(), rows.final_newline()), (Some("a,b"), 3, false));
        let share = |index| rows.share(index, 2).collect::<Vec<_>>();
        assert_eq!(share(0), [(0, "1,2\r".to_owned()), (2, "5,6".to_owned())]);
        assert_eq!(share(1), [(1, "3,4".to_owned())]);
    }

    #[test]
    fn a_file_without_rows_is_refused_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.csv");
        std::fs::write(&path, "only,a,header\n").unwrap();
        let error = Rows::open(Some(&path), 0).err().unwrap().to_string();
        assert!(error.contains("--telemetry"), "{error}");
    }
}
