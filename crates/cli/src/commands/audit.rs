//! `pqc-iiot audit …`: offline, without keys or locks.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_provider::audit::{VerifyError, VerifyOptions, VerifyReport, export_json_lines, verify_dir};
use pqc_iiot_provider::datadir::DataFile;
use serde::Serialize;

use super::Context;
use crate::args::{AuditCommand, ExportArgs, VerifyArgs};
use crate::error::{CliError, ErrorKind, Result};
use crate::output::{Report, counted, table};

pub(super) fn run(command: AuditCommand, context: &Context) -> Result<()> {
    match command {
        AuditCommand::Verify(args) => verify(&args, context),
        AuditCommand::Export(args) => export(&args, context),
    }
}

/// Whose signatures count.
struct Judge {
    anchors: Option<PinnedAnchors>,
    anchors_file: Option<PathBuf>,
    subjects: RefCell<BTreeSet<PeerId>>,
}

impl Judge {
    fn find(dir: &Path, given: Option<&Path>) -> Result<Self> {
        let pinned = [DataFile::Anchors.name(), "anchors.cbor"].map(|name| dir.join(name));
        let file = given.map(Path::to_owned).or_else(|| pinned.into_iter().find(|path| path.is_file()));
        let anchors = file.as_deref().map(super::trust::read_anchors).transpose()?;
        Ok(Self { anchors, anchors_file: file, subjects: RefCell::default() })
    }

    /// The signer's certificate must stand under the anchors. It may have expired since: what counts is that it was
    /// valid once.
    fn trusts(&self, certificate: Option<&[u8]>, key: &[u8]) -> bool {
        let Some(anchors) = &self.anchors else { return true };
        let Some(encoded) = certificate else { return false };
        let Ok(claims) = super::trust::decode(encoded, Path::new("certificate")) else { return false };
        let Ok(verified) = anchors.verify_certificate(encoded, claims.not_before) else { return false };
        self.subjects.borrow_mut().insert(claims.subject);
        verified.claims().keys.signing_key == key
    }

    /// Certificates must be the log keeper's own.
    fn check(&self, log_id: &PeerId) -> Result<()> {
        match self.subjects.borrow().iter().find(|subject| *subject != log_id) {
            None => Ok(()),
            Some(other) => {
                Err(CliError::new(ErrorKind::Verification, format!("this is not the log of {log_id}"))
                    .because(format!("it is signed by {other}")))
            }
        }
    }

    fn words(&self) -> String {
        match &self.anchors_file {
            Some(path) => format!("certified under {}", path.display()),
            None => "not judged: no trust anchors; the log is only consistent with itself".into(),
        }
    }
}

/// The log's directory: the one given, or `audit` inside it.
fn log_directory(dir: &Path) -> PathBuf {
    let inner = dir.join("audit");
    if inner.is_dir() { inner } else { dir.to_owned() }
}

#[derive(Serialize)]
struct Verified {
    verified: bool,
    log: String,
    entries: u64,
    segments: u64,
    head: String,
    signer_class: &'static str,
    evidence: bool,
    signer_certified: bool,
    unfinished_bytes: u64,
    #[serde(skip)]
    judged: String,
}

impl Verified {
    fn new(report: &VerifyReport, judge: &Judge) -> Self {
        let class = report.class.name();
        Self {
            verified: true,
            log: report.log_id.as_str().to_owned(),
            entries: report.entries,
            segments: report.segments,
            head: format!("{}:{}", report.head.seq, report.head.hash),
            signer_class: class,
            evidence: report.class == pqc_iiot_core::audit::SignerClass::NonExportable,
            signer_certified: judge.anchors.is_some(),
            unfinished_bytes: report.unfinished_bytes,
            judged: judge.words(),
        }
    }
}

impl Report for Verified {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let class = if self.evidence { "evidence" } else { "observability, not evidence" };
        writeln!(out, "Every signature and the whole chain verify.")?;
        table(
            out,
            &[
                ("log", self.log.clone()),
                ("entries", format!("{} in {}", self.entries, counted(self.segments, "segment", "segments"))),
                ("head", self.head.clone()),
                ("signer", format!("{} key: {class}", self.signer_class)),
                ("trust", self.judged.clone()),
            ],
        )?;
        if self.unfinished_bytes > 0 {
            writeln!(
                out,
                "\nAn unfinished record of {} bytes follows: a writer at work, or a crash.",
                self.unfinished_bytes
            )?;
        }
        Ok(())
    }
}

fn verify(args: &VerifyArgs, context: &Context) -> Result<()> {
    let judge = Judge::find(&args.dir, args.anchors.as_deref())?;
    let options = VerifyOptions { evidence: args.evidence, head: args.head };
    let trusted = |certificate: Option<&[u8]>, key: &[u8]| judge.trusts(certificate, key);
    let report = verify_dir(&log_directory(&args.dir), trusted, options).map_err(|error| refused(&error))?;
    judge.check(&report.log_id)?;
    context.output.report(&Verified::new(&report, &judge))
}

fn export(args: &ExportArgs, context: &Context) -> Result<()> {
    let judge = Judge::find(&args.dir, args.anchors.as_deref())?;
    let trusted = |certificate: Option<&[u8]>, key: &[u8]| judge.trusts(certificate, key);
    let directory = log_directory(&args.dir);
    // All or nothing: no line of a log that does not verify to its end is printed.
    let report =
        verify_dir(&directory, trusted, VerifyOptions::default()).map_err(|error| refused(&error))?;
    judge.check(&report.log_id)?;
    let options = VerifyOptions { head: Some(report.head), ..VerifyOptions::default() };
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(|error| {
            CliError::new(ErrorKind::Failed, format!("cannot write {}", path.display())).because(error)
        })?)),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let exported =
        export_json_lines(&directory, trusted, options, &mut out).map_err(|error| refused(&error))?;
    drop(out);
    if let Some(path) = &args.out {
        context.output.note(format_args!("{} entries written to {}", exported.entries, path.display()));
    }
    Ok(())
}

fn refused(error: &VerifyError) -> CliError {
    match error {
        VerifyError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
            CliError::new(ErrorKind::OutputClosed, "the export").because(source)
        }
        VerifyError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            CliError::new(ErrorKind::Failed, "there is no log here")
                .because(error)
                .fix("give a data directory, or its `audit` directory")
        }
        VerifyError::Io { .. } => {
            CliError::new(ErrorKind::Failed, "the log cannot be read, or its export cannot be written").because(error)
        }
        VerifyError::Empty { .. } => CliError::new(ErrorKind::Failed, "there is no log here")
            .because(error)
            .fix("give a data directory, or its `audit` directory"),
        VerifyError::NotEvidence { .. } => CliError::new(ErrorKind::Verification, "the log is no evidence")
            .because(error)
            .fix("leave --evidence out to check the chain alone; for evidence, the identity's key must live in hardware"),
        error => CliError::new(ErrorKind::Verification, "the audit log does not verify").because(error).fix(
            "keep a copy of the whole directory for the investigation, and compare with heads that others hold",
        ),
    }
}
