//! `pqc-iiot ca …`.

mod issue;
mod recover;
mod revoke;
mod show;

use std::io::{self, Write};
use std::path::PathBuf;

use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::control::revocation::RevocationIssuer;
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::suite::{Kem, SessionSuite};
use pqc_iiot_core::identity::authority::{Authority, AuthoritySeeds, IssueParameters};
use pqc_iiot_core::identity::certificate::Tier;
use pqc_iiot_core::identity::request::CertificateRequest;
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_provider::datadir::DataFile;
use pqc_iiot_provider::provider::SecurityProvider;
use pqc_iiot_provider::random::SystemRandom;
use serde::Serialize;

use super::Context;
use crate::args::{CaCommand, CaDir, InitArgs};
use crate::error::{CliError, ErrorKind, Result};
use crate::files;
use crate::keeper::{Keeper, Ledger, Role};
use crate::output::{Report, table};
use crate::time::{BACKDATING, before, days, now};
use crate::unlock::{self, Source};

/// The sealed seeds of root and roles.
const SEEDS: &str = "authority.sealed";
/// The public anchors that devices pin.
const ANCHORS: &str = "anchors.cbor";
const SEAL_PURPOSE: &str = "authority seeds";
/// The name under which the authority keeps its own audit log; never issued to anybody else.
const OWN_NAME: &str = "pqc-iiot-authority";
const MAX_SEEDS: usize = 4096;

pub(super) fn run(command: CaCommand, context: &Context) -> Result<()> {
    match command {
        CaCommand::Init(args) => init(&args, context),
        CaCommand::Issue(args) => issue::issue(&args, context),
        CaCommand::Revoke(args) => revoke::revoke(&args, context),
        CaCommand::Show(args) => show::show(&args, context),
        CaCommand::Publish(args) => revoke::publish(&args, context),
        CaCommand::Recover(args) => recover::recover(&args, context),
    }
}

/// The authority, opened: its keys, its records and its signed log.
struct Office {
    /// Held for the directory's lock.
    _keeper: Keeper,
    ledger: Ledger,
    authority: Authority,
    revocations: RevocationIssuer,
    anchors: PinnedAnchors,
    random: SystemRandom,
}

impl Office {
    fn open(args: &CaDir, context: &Context) -> Result<Self> {
        let dir = directory(args, context);
        let source = Source::find(&dir, &args.unlock, &context.config.ca)?;
        let keeper = Keeper::open(&dir, &source, Role::Authority)?;
        let seeds = open_seeds(&keeper)?;
        let damaged = |why: &dyn std::fmt::Display| {
            CliError::new(
                ErrorKind::Identity,
                format!("the authority's records in {} are damaged", dir.display()),
            )
            .because(why)
            .fix("restore the directory from a backup")
        };
        let (ledger, rows) = Ledger::open(&keeper, own_name()?)?;
        let authority = Authority::new(default_backend(), &seeds, &rows).map_err(|error| damaged(&error))?;
        let revocations = RevocationIssuer::restore(&rows).map_err(|error| damaged(&error))?;
        let anchors = super::trust::read_anchors(&keeper.path().join(ANCHORS))?;
        if !anchors.has_issuer(authority.issuer().fingerprint()) {
            return Err(damaged(&"anchors.cbor does not appoint the issuer whose keys are here"));
        }
        Ok(Self { _keeper: keeper, ledger, authority, revocations, anchors, random: unlock::random()? })
    }
}

/// The directory given, the configured one, or `ca`.
fn directory(args: &CaDir, context: &Context) -> PathBuf {
    let given = args.dir.clone().or_else(|| context.config.ca.dir.clone());
    given.unwrap_or_else(|| PathBuf::from("ca"))
}

fn own_name() -> Result<PeerId> {
    PeerId::new(OWN_NAME).map_err(|error| CliError::new(ErrorKind::Failed, OWN_NAME).because(error))
}

fn open_seeds(keeper: &Keeper) -> Result<AuthoritySeeds> {
    let path = keeper.path().join(SEEDS);
    let refused = |why: &dyn std::fmt::Display| {
        CliError::new(ErrorKind::Identity, format!("the authority's keys {} do not open", path.display()))
            .because(why)
            .fix("restore the file from a backup of this authority")
    };
    if !path.exists() {
        let what = format!("{} is not an authority's directory", keeper.path().display());
        return Err(CliError::new(ErrorKind::Identity, what).because(format!("it holds no {SEEDS}")).fix(
            "correct --dir, or make an authority in another directory with `pqc-iiot ca init --dir DIR`",
        ));
    }
    let sealed = files::read(&path, MAX_SEEDS, "authority's keys", ErrorKind::Identity)?;
    let opened = keeper.provider.unseal(SEAL_PURPOSE, &sealed).map_err(|error| refused(&error))?;
    AuthoritySeeds::decode(opened.expose()).map_err(|error| refused(&error))
}

#[derive(Serialize)]
struct Made {
    directory: PathBuf,
    anchors: PathBuf,
    anchors_version: u64,
    set: &'static str,
    root: String,
    issuer: String,
    control: String,
    not_after: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_key_file: Option<PathBuf>,
}

impl Report for Made {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        table(
            out,
            &[
                ("anchors", self.anchors.display().to_string()),
                ("root", self.root.clone()),
                ("keys", self.set.to_owned()),
                ("valid until", self.not_after.clone()),
            ],
        )?;
        if let Some(path) = &self.generated_key_file {
            let path = path.display();
            writeln!(out, "\nMade the key file {path} (mode 0600): the authority is sealed under it.")?;
            writeln!(
                out,
                "Whoever has both is the authority; without it the directory cannot be opened again."
            )?;
        }
        writeln!(out, "\nNext: pqc-iiot device keygen --dir NAME, then pqc-iiot ca issue NAME/request.cbor")
    }
}

fn init(args: &InitArgs, context: &Context) -> Result<()> {
    let dir = &directory(&args.ca, context);
    if dir.join(SEEDS).exists() {
        return Err(CliError::new(
            ErrorKind::Identity,
            format!("{} already holds an authority", dir.display()),
        )
        .because("an authority is never overwritten: every device that pinned it would be lost")
        .fix("choose another --dir, or look at it with `pqc-iiot ca show`"));
    }
    let source = Source::find(dir, &args.ca.unlock, &context.config.ca)?;
    let (keeper, generated_key_file) = Keeper::create(dir, &source, args.set, Kem::XWing)?;
    let mut random = unlock::random()?;
    let seeds = AuthoritySeeds::generate(args.set, &mut random);
    let failed = |why: &dyn std::fmt::Display| {
        CliError::new(ErrorKind::Failed, "the authority was not made").because(why)
    };
    let mut authority = Authority::new(default_backend(), &seeds, &[]).map_err(|error| failed(&error))?;
    let from = before(now(), BACKDATING);
    let until = now().plus(days(args.days));
    let anchors = authority.first_anchors(&mut random, from, until).map_err(|error| failed(&error))?;
    let pinned = super::trust::pin(&anchors, &dir.join(ANCHORS))?;

    // The authority certifies the key that signs its own log, so that the log verifies under the anchors alone.
    let request = CertificateRequest { subject: own_name()?, keys: keeper.identity() };
    let request = keeper.sign(&request, &())?;
    let request = CertificateRequest::verify(default_backend(), &request).map_err(|error| failed(&error))?;
    let parameters = IssueParameters {
        not_before: from,
        not_after: until,
        tier: Tier::Service,
        suites: vec![SessionSuite::Hybrid],
        prekey_required: true,
        grants: Vec::new(),
    };
    let (certificate, change) =
        authority.issue(&mut random, &request, &parameters).map_err(|error| failed(&error))?;
    keeper.dir.write(DataFile::Certificate, &certificate).map_err(crate::keeper::directory_error)?;
    Ledger::create(&keeper)?;
    let (mut ledger, _) = Ledger::open(&keeper, own_name()?)?;
    let event = AuditEvent::new(
        AuditKind::CertificateIssued,
        Some(own_name()?),
        &format!("authority made, root {}", authority.root().fingerprint()),
    );
    ledger.commit(&[change], Some(event))?;
    files::write_public(&dir.join(ANCHORS), &anchors, "trust anchors")?;
    // Last: an authority exists from here on.
    let encoded = seeds.encode();
    let sealed = keeper.provider.seal(SEAL_PURPOSE, encoded.expose()).map_err(|error| failed(&error))?;
    files::write_private(&dir.join(SEEDS), &sealed, "authority's keys")?;

    context.output.report(&Made {
        directory: dir.clone(),
        anchors: dir.join(ANCHORS),
        anchors_version: pinned.anchors().version,
        set: args.set.name(),
        root: authority.root().fingerprint().to_string(),
        issuer: authority.issuer().fingerprint().to_string(),
        control: authority.control().fingerprint().to_string(),
        not_after: crate::time::rfc3339(until),
        generated_key_file,
    })
}
