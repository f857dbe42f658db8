//! `pqc-iiot device …`.

mod hold;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::identity::certificate::{MAX_CERTIFICATE, VerifiedCertificate};
use pqc_iiot_core::identity::request::{CertificateRequest, MAX_REQUEST};
use pqc_iiot_core::identity::trust::{MAX_ANCHORS, PinnedAnchors};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_provider::datadir::DataFile;
use pqc_iiot_provider::provider::SecurityProvider;
use serde::Serialize;

pub(super) use hold::held;

use super::certificate::CertificateSummary;
use super::trust::{pin, verify};
use super::{Context, identity};
use crate::args::{DeviceCommand, InstallArgs, KeygenArgs, RequestArgs, ShowArgs};
use crate::error::{CliError, ErrorKind, Result};
use crate::files;
use crate::keeper::{Keeper, Ledger};
use crate::output::{Report, table};
use crate::time::now;

/// The request's name in the data directory.
const REQUEST: &str = "request.cbor";
/// Where `ca issue` puts the answer, and where `device install` looks for it.
const CERTIFICATE: &str = "certificate.cbor";

pub(super) fn run(command: DeviceCommand, context: &Context) -> Result<()> {
    match command {
        DeviceCommand::Keygen(args) => keygen(&args, context),
        DeviceCommand::Request(args) => request(&args, context),
        DeviceCommand::Install(args) => install(&args, context),
        DeviceCommand::ReleaseHold(args) => hold::release(&args, context),
        DeviceCommand::Show(args) => show(&args, context),
    }
}

#[derive(Serialize)]
struct Requested {
    peer: String,
    fingerprint: String,
    set: &'static str,
    kem: &'static str,
    directory: PathBuf,
    request: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_key_file: Option<PathBuf>,
}

impl Report for Requested {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        table(
            out,
            &[
                ("peer", self.peer.clone()),
                ("fingerprint", self.fingerprint.clone()),
                ("keys", format!("{}, {}", self.set, self.kem)),
                ("request", self.request.display().to_string()),
            ],
        )?;
        if let Some(path) = &self.generated_key_file {
            let path = path.display();
            writeln!(out, "\nMade the key file {path} (mode 0600): the directory is sealed under it.")?;
            writeln!(
                out,
                "Whoever has both is this device; without it the directory cannot be opened again."
            )?;
        }
        writeln!(
            out,
            "\nNext, at the authority: pqc-iiot ca issue {} --grant 'publish:…'",
            self.request.display()
        )
    }
}

fn keygen(args: &KeygenArgs, context: &Context) -> Result<()> {
    let peer = match &args.id {
        Some(id) => id.clone(),
        None => peer_of_directory(&args.dir)?,
    };
    let source = identity::source(&args.dir, &args.unlock, context)?;
    let (keeper, generated) = Keeper::create(&args.dir, &source, args.set, args.kem)?;
    Ledger::create(&keeper)?;
    let requested = make_request(&keeper, peer, args.request.clone(), generated)?;
    context.output.report(&requested)
}

fn peer_of_directory(dir: &Path) -> Result<PeerId> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    PeerId::new(name).map_err(|error| {
        CliError::new(
            ErrorKind::Usage,
            format!("`{name}`, the directory's name, cannot serve as the device's name"),
        )
        .because(error)
        .fix("name the device with --id PEER_ID")
    })
}

fn make_request(
    keeper: &Keeper,
    peer: PeerId,
    path: Option<PathBuf>,
    generated_key_file: Option<PathBuf>,
) -> Result<Requested> {
    let keys = keeper.identity();
    let (fingerprint, set, kem) = (keys.fingerprint(), keys.set, keys.kem);
    let request = CertificateRequest { subject: peer, keys };
    let encoded = keeper.sign(&request, &())?;
    let own = keeper.path().join(REQUEST);
    files::write_public(&own, &encoded, "certificate request")?;
    let path = path.unwrap_or_else(|| own.clone());
    if path != own {
        files::write_public(&path, &encoded, "certificate request")?;
    }
    Ok(Requested {
        peer: request.subject.as_str().to_owned(),
        fingerprint: fingerprint.to_string(),
        set: set.name(),
        kem: super::kem_name(kem),
        directory: keeper.path().to_owned(),
        request: path,
        generated_key_file,
    })
}

fn request(args: &RequestArgs, context: &Context) -> Result<()> {
    let keeper = identity::open(&identity::directory(args.dir.as_deref(), context)?, &args.unlock, context)?;
    let peer = own_name(&keeper)?;
    let requested = make_request(&keeper, peer, args.out.clone(), None)?;
    context.output.report(&requested)
}

/// The name that this directory's identity asked for.
pub(super) fn own_name(keeper: &Keeper) -> Result<PeerId> {
    let path = keeper.path().join(REQUEST);
    let damaged = |why: &dyn std::fmt::Display| {
        CliError::new(ErrorKind::Identity, format!("{} does not say who this device is", path.display()))
            .because(why)
            .fix("restore it from a backup, or make a new identity in another directory")
    };
    let encoded = files::read(&path, MAX_REQUEST, "certificate request", ErrorKind::Identity)?;
    let request = CertificateRequest::verify(default_backend(), &encoded).map_err(|error| damaged(&error))?;
    if request.keys.fingerprint() != keeper.identity().fingerprint() {
        return Err(damaged(&"it was made by another identity"));
    }
    Ok(request.into_value().subject)
}

#[derive(Serialize)]
struct Installed {
    certificate: CertificateSummary,
    anchors_version: u64,
    roots: Vec<String>,
}

impl Report for Installed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Installed, everything verified:")?;
        self.certificate.human(out)?;
        table(
            out,
            &[("anchors", format!("version {}", self.anchors_version)), ("root", self.roots.join(", "))],
        )
    }
}

fn install(args: &InstallArgs, context: &Context) -> Result<()> {
    let keeper = identity::open(&identity::directory(args.dir.as_deref(), context)?, &args.unlock, context)?;
    let at = now();
    let pinned = pinned_anchors(&keeper)?;
    let anchors = match (&args.anchors, pinned) {
        (Some(path), pinned) => {
            let encoded = files::read(path, MAX_ANCHORS, "trust anchors", ErrorKind::Failed)?;
            succeed(pinned, &encoded, path)?
        }
        (None, Some(pinned)) => pinned,
        (None, None) => {
            return Err(CliError::new(ErrorKind::Usage, "no trust anchors given, and none pinned yet")
                .because("without anchors, no certificate can be judged")
                .fix("--anchors FILE, the authority's anchors.cbor"));
        }
    };
    let validity = anchors.anchors();
    if at < validity.not_before || validity.not_after <= at {
        return Err(CliError::new(ErrorKind::Refused, "the trust anchors are outside their validity")
            .because(format!(
                "they are valid from {} to {}, and this machine's clock says {}",
                crate::time::rfc3339(validity.not_before),
                crate::time::rfc3339(validity.not_after),
                crate::time::rfc3339(at)
            ))
            .fix("set the clock, or get newer anchors from the authority"));
    }
    let path = args.certificate.clone().unwrap_or_else(|| keeper.path().join(CERTIFICATE));
    let encoded = read_certificate(&path)?;
    let certificate = verify(&anchors, &encoded, at, &path)?;
    check_is_ours(&keeper, &certificate)?;

    let claims = certificate.claims();
    let detail =
        format!("version {} and certificate epoch {} installed", anchors.anchors().version, claims.key_epoch);
    let event = AuditEvent::new(AuditKind::AnchorsApplied, None, &detail);
    let (mut ledger, _) =
        Ledger::open_under(&keeper, claims.subject.clone(), Some(certificate.encoded().to_vec()))?;
    ledger.commit(&[], Some(event))?;
    // The anchors first: a certificate without the anchors above it is never seen.
    let write =
        |file, content: &[u8]| keeper.dir.write(file, content).map_err(crate::keeper::directory_error);
    write(DataFile::Anchors, anchors.encoded())?;
    write(DataFile::Certificate, certificate.encoded())?;
    context.output.report(&Installed {
        certificate: CertificateSummary::new(certificate.claims()),
        anchors_version: anchors.anchors().version,
        roots: super::trust::root_fingerprints(&anchors),
    })
}

fn read_certificate(path: &Path) -> Result<Vec<u8>> {
    files::read(path, MAX_CERTIFICATE, "certificate", ErrorKind::Failed).map_err(|error| {
        error.fix("let the authority issue one with `pqc-iiot ca issue`, and name it with --certificate FILE")
    })
}

/// The anchors that are pinned in the directory.
pub(super) fn pinned_anchors(keeper: &Keeper) -> Result<Option<PinnedAnchors>> {
    let stored =
        keeper.dir.read(DataFile::Anchors, MAX_ANCHORS as u64).map_err(crate::keeper::directory_error)?;
    stored.map(|encoded| pin(&encoded, &keeper.dir.file(DataFile::Anchors))).transpose()
}

/// New anchors must be those pinned, or their successor: a device never changes its authority.
fn succeed(pinned: Option<PinnedAnchors>, encoded: &[u8], path: &Path) -> Result<PinnedAnchors> {
    let Some(pinned) = pinned else { return pin(encoded, path) };
    if pinned.encoded() == encoded {
        return Ok(pinned);
    }
    let offered = pin(encoded, path)?;
    if pinned.anchors() == offered.anchors() {
        return Ok(pinned);
    }
    pinned.succeed(encoded, now()).map_err(|error| {
        CliError::new(ErrorKind::Refused, "these are not the anchors that this device is pinned to, nor their successor")
            .because(error)
            .fix("get the next version from the same authority; for another authority, make a new identity in another directory")
    })
}

/// The certificate must name this device, hold its keys and not go back.
fn check_is_ours(keeper: &Keeper, certificate: &VerifiedCertificate) -> Result<()> {
    let refused = |why: String, fix: &str| {
        Err(CliError::new(ErrorKind::Refused, "the certificate is not this device's").because(why).fix(fix))
    };
    let claims = certificate.claims();
    if certificate.fingerprint() != keeper.identity().fingerprint() {
        let why = format!(
            "it certifies the keys {}, not {}",
            certificate.fingerprint(),
            keeper.identity().fingerprint()
        );
        return refused(why, "let the authority issue one for this directory's request.cbor");
    }
    let own = own_name(keeper)?;
    if claims.subject != own {
        return refused(
            format!("it names {}, and this device is {own}", claims.subject),
            "let the authority issue one for this directory's request.cbor",
        );
    }
    let installed = installed_certificate(keeper)?;
    match installed {
        Some(installed)
            if installed.key_epoch == claims.key_epoch && installed.not_before > claims.not_before =>
        {
            // Peers that saw the later one refuse the earlier: its grants may have been taken back since.
            refused("it was issued before the installed one".into(), "install the latest certificate")
        }
        Some(installed) if installed.key_epoch > claims.key_epoch => refused(
            format!(
                "its key epoch is {}, and the installed one's is {}",
                claims.key_epoch, installed.key_epoch
            ),
            "install the latest certificate",
        ),
        _ => Ok(()),
    }
}

/// The claims of the installed certificate, if it can be read; its signature was verified when it was installed.
fn installed_certificate(
    keeper: &Keeper,
) -> Result<Option<pqc_iiot_core::identity::certificate::OperationalCertificate>> {
    let stored = keeper.dir.read(DataFile::Certificate, MAX_CERTIFICATE as u64);
    let Some(encoded) = stored.map_err(crate::keeper::directory_error)? else { return Ok(None) };
    super::trust::decode(&encoded, &keeper.dir.file(DataFile::Certificate)).map(Some)
}

#[derive(Serialize)]
struct Shown {
    peer: String,
    fingerprint: String,
    set: &'static str,
    kem: &'static str,
    signer_class: &'static str,
    /// `valid`, or why the installed certificate gives no trust; null without one.
    certificate_state: Option<String>,
    certificate: Option<CertificateSummary>,
    anchors_version: Option<u64>,
    roots: Vec<String>,
}

impl Report for Shown {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        table(
            out,
            &[
                ("peer", self.peer.clone()),
                ("fingerprint", self.fingerprint.clone()),
                ("keys", format!("{}, {}, {}", self.set, self.kem, self.signer_class)),
            ],
        )?;
        let Some(certificate) = &self.certificate else {
            return writeln!(out, "\nNo certificate is installed yet. Next: pqc-iiot device install");
        };
        writeln!(out, "\nCertificate: {}", self.certificate_state.as_deref().unwrap_or("not judged"))?;
        certificate.human(out)?;
        let version =
            self.anchors_version.map_or_else(|| "none".to_owned(), |version| format!("version {version}"));
        table(out, &[("anchors", version), ("root", self.roots.join(", "))])
    }
}

fn show(args: &ShowArgs, context: &Context) -> Result<()> {
    let keeper = identity::open(&identity::directory(args.dir.as_deref(), context)?, &args.unlock, context)?;
    let keys = keeper.identity();
    let anchors = pinned_anchors(&keeper)?;
    let certificate = installed_certificate(&keeper)?;
    let state = anchors.as_ref().zip(certificate.as_ref()).map(|(anchors, _)| {
        let stored = keeper.dir.read(DataFile::Certificate, MAX_CERTIFICATE as u64);
        let encoded = stored.ok().flatten().unwrap_or_default();
        match anchors.verify_certificate(&encoded, now()) {
            Ok(_) => "valid".to_owned(),
            Err(error) => error.to_string(),
        }
    });
    context.output.report(&Shown {
        peer: own_name(&keeper)?.as_str().to_owned(),
        fingerprint: keys.fingerprint().to_string(),
        set: keys.set.name(),
        kem: super::kem_name(keys.kem),
        signer_class: keeper.provider.signer_class().name(),
        certificate_state: state,
        certificate: certificate.as_ref().map(CertificateSummary::new),
        anchors_version: anchors.as_ref().map(|anchors| anchors.anchors().version),
        roots: anchors.as_ref().map(super::trust::root_fingerprints).unwrap_or_default(),
    })
}
