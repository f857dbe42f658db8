//! The files of a log: `segment-00000001.log` and on.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;

/// The largest segment read, in bytes; writers rotate far below it.
pub(super) const MAX_SEGMENT: u64 = 64 * 1024 * 1024;
const PREFIX: &str = "segment-";
const SUFFIX: &str = ".log";

pub(super) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number:08}{SUFFIX}"))
}

/// Why the segments are not 1, 2, … n.
pub(super) enum ListError {
    Missing(PathBuf),
    Io(io::Error),
}

/// How many segments there are, numbered from 1 without a gap. Other files are ignored.
pub(super) fn count_segments(disk: &dyn Disk, directory: &Path) -> Result<u64, ListError> {
    let mut numbers = Vec::new();
    for name in disk.list(directory).map_err(ListError::Io)? {
        let number =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok());
        numbers.extend(number.filter(|&number| segment_path(directory, number).file_name() == Some(&name)));
    }
    numbers.sort_unstable();
    for (expected, found) in (1..).zip(&numbers) {
        if expected != *found {
            return Err(ListError::Missing(segment_path(directory, expected)));
        }
    }
    Ok(numbers.len() as u64)
}
