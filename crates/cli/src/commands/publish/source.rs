//! Where the messages of `pub` come from.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use pqc_iiot_core::limits::Limits;
use tokio::sync::mpsc;

use crate::args::PubArgs;
use crate::error::{CliError, ErrorKind, Result};
use crate::files;

/// Where messages come from, opened before anything is connected.
pub(in crate::commands) enum Source {
    One(Vec<u8>),
    Lines { input: Box<dyn Read + Send>, bytes: Option<u64> },
}

impl Source {
    pub(in crate::commands) fn open(args: &PubArgs) -> Result<Self> {
        let limit = Limits::default().message;
        let cannot = |path: &Path, error: io::Error| {
            CliError::new(ErrorKind::Failed, format!("cannot read {}", path.display())).because(error)
        };
        match (&args.message, &args.file) {
            (Some(text), _) => Ok(Self::One(text.clone().into_bytes())),
            (None, Some(path)) if args.stdin_lines => {
                let file = File::open(path).map_err(|error| cannot(path, error))?;
                let bytes = file.metadata().ok().map(|metadata| metadata.len());
                Ok(Self::Lines { input: Box::new(file), bytes })
            }
            (None, Some(path)) => {
                let read = files::read(path, limit, "message", ErrorKind::Failed);
                read.map(Self::One).map_err(|error| match path.metadata() {
                    Ok(metadata) if metadata.len() > limit as u64 => error.fix(
                        "send a long file line by line with -l, or in parts: one message holds at most 256 KiB",
                    ),
                    _ => error.fix("correct --file"),
                })
            }
            (None, None) => Ok(Self::Lines { input: Box::new(io::stdin()), bytes: None }),
        }
    }
}

/// One message of many.
pub(in crate::commands) struct Line {
    pub(in crate::commands) content: Vec<u8>,
    /// With its line break.
    pub(in crate::commands) bytes: u64,
}

/// Reads lines in bounded memory and hands them over until nobody wants more.
pub(in crate::commands) fn read_lines(input: Box<dyn Read + Send>, lines: &mpsc::Sender<Result<Line>>) {
    let limit = Limits::default().message as u64 + 2;
    let mut reader = BufReader::new(input);
    loop {
        let mut content = Vec::new();
        let line = match (&mut reader).take(limit).read_until(b'\n', &mut content) {
            Ok(0) => return,
            Ok(read) if read as u64 == limit && content.last() != Some(&b'\n') => {
                Err(CliError::new(ErrorKind::Failed, "a line is longer than a message may be")
                    .because("one message holds at most 256 KiB"))
            }
            Ok(read) => {
                if content.last() == Some(&b'\n') {
                    content.pop();
                }
                Ok(Line { content, bytes: read as u64 })
            }
            Err(error) => Err(CliError::new(ErrorKind::Failed, "cannot read the input").because(error)),
        };
        let failed = line.is_err();
        if lines.blocking_send(line).is_err() || failed {
            return;
        }
    }
}
