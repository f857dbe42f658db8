//! `pqc-iiot ca issue`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::codec::signed::Signed;
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::suite::{Kem, SessionSuite};
use pqc_iiot_core::identity::authority::{IssueError, IssueParameters};
use pqc_iiot_core::identity::request::{CertificateRequest, MAX_REQUEST};
use serde::Serialize;

use super::{OWN_NAME, Office};
use crate::args::IssueArgs;
use crate::commands::Context;
use crate::commands::certificate::CertificateSummary;
use crate::error::{CliError, ErrorKind, Result};
use crate::files;
use crate::output::Report;
use crate::time::{BACKDATING, before, days, now};

#[derive(Serialize)]
struct IssuedReport {
    certificate: CertificateSummary,
    file: PathBuf,
    renewed: bool,
    /// Other keys of this peer lose their place to these.
    replaced: bool,
}

impl Report for IssuedReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let what = if self.renewed { "Renewed" } else { "Issued" };
        writeln!(out, "{what}: {}", self.file.display())?;
        if self.replaced {
            writeln!(
                out,
                "These keys replace other keys of this peer. Was that intended? Compare the fingerprint."
            )?;
        }
        self.certificate.human(out)?;
        if self.certificate.grants.is_empty() {
            writeln!(
                out,
                "\nNo grants: nobody will accept a message from this peer. Add --grant ACTION:FILTER."
            )?;
        }
        writeln!(
            out,
            "\nNext, at the device: pqc-iiot device install --dir DIR --certificate {} --anchors FILE",
            self.file.display()
        )
    }
}

pub(super) fn issue(args: &IssueArgs, context: &Context) -> Result<()> {
    let path = args.request.as_deref().or(args.request_option.as_deref());
    let path = path.ok_or_else(|| CliError::new(ErrorKind::Usage, "no request given"))?;
    let request = read_request(path)?;
    check_fingerprint(&request, args.fingerprint.as_deref())?;
    let mut office = Office::open(&args.ca, context)?;
    if request.subject.as_str() == OWN_NAME {
        return Err(CliError::new(ErrorKind::Refused, format!("{OWN_NAME} is the authority's own name"))
            .fix("give the device another --id"));
    }
    let anchors_end = office.anchors.anchors().not_after;
    let not_after = now().plus(days(args.days)).min(anchors_end);
    let parameters = IssueParameters {
        not_before: before(now(), BACKDATING),
        not_after,
        tier: args.tier,
        suites: suites(args, request.keys.kem)?,
        prekey_required: args.prekey_required,
        grants: args.grants.clone(),
    };
    // Whether this peer was known, and by these keys.
    let known = office.authority.issued().find(|(peer, _)| **peer == request.subject);
    let known = known.map(|(_, issued)| issued.key_id == request.keys.key_id());
    let (encoded, change) = office
        .authority
        .issue(&mut office.random, &request, &parameters)
        .map_err(|error| issue_error(&request, error))?;
    let certificate = crate::commands::trust::decode(&encoded, path)?;
    let summary = CertificateSummary::new(&certificate);
    let detail = format!(
        "epoch {} serial {} until {} grants {}",
        summary.key_epoch,
        summary.serial,
        summary.not_after,
        summary.grants.join(" ")
    );
    let event = AuditEvent::new(AuditKind::CertificateIssued, Some(request.subject.clone()), &detail);
    // Recorded and signed for before anybody holds the certificate.
    office.ledger.commit(&[change], Some(event))?;
    let out = args.out.clone().unwrap_or_else(|| path.with_file_name("certificate.cbor"));
    files::write_public(&out, &encoded, "certificate")?;
    context.output.report(&IssuedReport {
        certificate: summary,
        file: out,
        renewed: known == Some(true),
        replaced: known == Some(false),
    })
}

fn read_request(path: &Path) -> Result<Signed<CertificateRequest>> {
    let encoded =
        files::read(path, MAX_REQUEST, "certificate request", ErrorKind::Failed).map_err(|error| {
            error.fix("bring the `request.cbor` that `pqc-iiot device keygen` wrote, or correct the path")
        })?;
    CertificateRequest::verify(default_backend(), &encoded).map_err(|error| {
        CliError::new(ErrorKind::Verification, format!("the request {} does not verify", path.display()))
            .because(error)
            .fix("let the device write it again with `pqc-iiot device request`, and bring it here unaltered")
    })
}

fn check_fingerprint(request: &CertificateRequest, expected: Option<&str>) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    let actual = request.keys.fingerprint().to_string();
    let expected: String = expected.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    if expected.len() < 16 {
        return Err(CliError::new(ErrorKind::Usage, "--fingerprint is too short to tell keys apart")
            .fix("give at least 16 hexadecimal digits"));
    }
    if actual.starts_with(&expected.to_ascii_lowercase()) {
        return Ok(());
    }
    Err(CliError::new(ErrorKind::Refused, "the request is not from the device that you expect")
        .because(format!("its fingerprint is {actual}"))
        .fix("compare with what `pqc-iiot device show` prints on the device"))
}

fn suites(args: &IssueArgs, kem: Kem) -> Result<Vec<SessionSuite>> {
    if args.suites.is_empty() {
        return Ok(SessionSuite::ALL.into_iter().filter(|suite| suite.kem() == kem).collect());
    }
    let mut suites = Vec::new();
    for &suite in &args.suites {
        if suite.kem() != kem {
            let what = format!("suite {} does not fit the requested keys", suite.name());
            return Err(CliError::new(ErrorKind::Usage, what)
                .because(format!("the request has a {} key", crate::commands::kem_name(kem)))
                .fix("leave --suite out, or make the device's keys with another --kem"));
        }
        if !suites.contains(&suite) {
            suites.push(suite);
        }
    }
    Ok(suites)
}

fn issue_error(request: &CertificateRequest, error: IssueError) -> CliError {
    let what = format!("no certificate for {}", request.subject);
    match error {
        IssueError::RevokedKeys => CliError::new(ErrorKind::Refused, what).because(error).fix(
            "a revocation is never undone: make new keys with `pqc-iiot device keygen` in another directory, with the same --id",
        ),
        error => CliError::new(ErrorKind::Failed, what).because(error),
    }
}
