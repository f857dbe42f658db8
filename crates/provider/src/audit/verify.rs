//! Verifying and exporting a log directory, offline: it reads files and nothing else.

use std::io::{self, Write};
use std::path::Path;

use pqc_iiot_core::audit::{AuditEntry, ChainHead, LogVerifier, SegmentHeader, SignerClass};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::ids::{Digest, PeerId};
use serde::Serialize;

use super::error::VerifyError;
use super::files::{ListError, MAX_SEGMENT, count_segments, segment_path};
use crate::disk::{Disk, HostDisk};

/// What a verifier asks beyond an intact chain.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyOptions {
    /// Fail for a log that an exportable key signed.
    pub evidence: bool,
    /// A head that was published or stored elsewhere: the log must reach it and hold that very entry.
    pub head: Option<ChainHead>,
}

/// What a verified log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Who keeps the log.
    pub log_id: PeerId,
    /// How many segments.
    pub segments: u64,
    /// How many entries.
    pub entries: u64,
    /// Where it ends.
    pub head: ChainHead,
    /// The weakest class among its signers.
    pub class: SignerClass,
    /// How many bytes of an unfinished last record follow: a writer at work, or a crash that its next start repairs.
    pub unfinished_bytes: u64,
}

/// Verifies the log in `directory` from its first segment on and stops at the first bad record. `trusted` is asked
/// once per segment with the certificate (if the header has one) and the public key.
pub fn verify_dir(
    directory: &Path,
    trusted: impl Fn(Option<&[u8]>, &[u8]) -> bool,
    options: VerifyOptions,
) -> Result<VerifyReport, VerifyError> {
    verify_dir_on(&HostDisk, directory, trusted, options)
}

/// As [`verify_dir`], on another disk.
pub fn verify_dir_on(
    disk: &dyn Disk,
    directory: &Path,
    trusted: impl Fn(Option<&[u8]>, &[u8]) -> bool,
    options: VerifyOptions,
) -> Result<VerifyReport, VerifyError> {
    walk(disk, directory, &trusted, options, &mut |_, _, _| Ok(()))
}

/// As [`verify_dir`], writing each verified entry as a line of JSON. After an error, the lines before the first bad
/// record are written.
pub fn export_json_lines(
    directory: &Path,
    trusted: impl Fn(Option<&[u8]>, &[u8]) -> bool,
    options: VerifyOptions,
    out: &mut dyn Write,
) -> Result<VerifyReport, VerifyError> {
    let mut write = |header: &SegmentHeader, entry: &AuditEntry, hash: Digest| {
        let line = Line {
            log: entry.log_id.as_str(),
            segment: header.segment,
            seq: entry.seq,
            time: entry.time.0,
            kind: entry.event.kind.name(),
            peer: entry.event.peer.as_ref().map(PeerId::as_str),
            detail: entry.event.detail.as_str(),
            count: entry.event.count,
            signer_class: header.class.name(),
            hash: hash.to_string(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    };
    let report = walk(&HostDisk, directory, &trusted, options, &mut write)?;
    out.flush().map_err(|source| VerifyError::Io { path: directory.into(), source })?;
    Ok(report)
}

#[derive(Serialize)]
struct Line<'a> {
    log: &'a str,
    segment: u64,
    seq: u64,
    time: u64,
    kind: &'a str,
    peer: Option<&'a str>,
    detail: &'a str,
    count: u64,
    signer_class: &'a str,
    hash: String,
}

type Trusted<'a> = &'a dyn Fn(Option<&[u8]>, &[u8]) -> bool;
type Visit<'a> = &'a mut dyn FnMut(&SegmentHeader, &AuditEntry, Digest) -> io::Result<()>;

fn walk(
    disk: &dyn Disk,
    directory: &Path,
    trusted: Trusted<'_>,
    options: VerifyOptions,
    visit: Visit<'_>,
) -> Result<VerifyReport, VerifyError> {
    let io = |source| VerifyError::Io { path: directory.into(), source };
    let count = count_segments(disk, directory).map_err(|error| match error {
        ListError::Missing(path) => VerifyError::MissingSegment { path },
        ListError::Io(source) => io(source),
    })?;
    let mut verifier = LogVerifier::new(default_backend());
    let mut exportable = None;
    let mut entries = 0;
    let mut unfinished_bytes = 0;
    let mut replaced = false;
    let mut output = Ok(());
    for number in 1..=count {
        let path = segment_path(directory, number);
        let bytes =
            disk.read(&path, MAX_SEGMENT).map_err(|source| VerifyError::Io { path: path.clone(), source })?;
        let mut judge = |header: &SegmentHeader| trusted(header.certificate.as_deref(), &header.public_key);
        let mut each = |header: &SegmentHeader, entry: &AuditEntry, hash: Digest| {
            replaced |= options.head.is_some_and(|head| head.seq == entry.seq && head.hash != hash);
            if output.is_ok() {
                output = visit(header, entry, hash);
            }
        };
        let summary = verifier
            .segment(&bytes, &mut judge, &mut each)
            .map_err(|error| VerifyError::Segment { path, error })?;
        entries += summary.entries;
        unfinished_bytes = (bytes.len() - summary.length) as u64;
        if summary.class != SignerClass::NonExportable {
            exportable = exportable.or(Some(number));
        }
    }
    output.map_err(io)?;
    let head = verifier.head();
    let log_id = verifier.log_id().cloned().ok_or(VerifyError::Empty { directory: directory.into() })?;
    if let Some(expected) = options.head.filter(|expected| expected.seq > head.seq) {
        return Err(VerifyError::Truncated { expected: expected.seq, found: head.seq });
    }
    if replaced {
        return Err(VerifyError::Replaced { seq: options.head.map_or(0, |head| head.seq) });
    }
    if let Some(segment) = exportable.filter(|_| options.evidence) {
        return Err(VerifyError::NotEvidence { segment });
    }
    let class = if exportable.is_some() { SignerClass::Exportable } else { SignerClass::NonExportable };
    Ok(VerifyReport { log_id, segments: count, entries, head, class, unfinished_bytes })
}
