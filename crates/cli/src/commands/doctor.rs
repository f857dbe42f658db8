//! `pqc-iiot doctor`: everything that a client needs, on one screen.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use pqc_iiot_core::control::revocation::{MAX_ENTRIES, RevocationState};
use pqc_iiot_core::identity::certificate::MAX_CERTIFICATE;
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_mqtt::transport::{Event, ProtocolVersion, TlsInfo, Transport, TransportOptions};
use pqc_iiot_provider::audit::{VerifyOptions, verify_dir};
use pqc_iiot_provider::datadir::DataFile;
use pqc_iiot_provider::provider::SecurityProvider;
use pqc_iiot_provider::store::Store;
use serde::Serialize;

use super::certificate::hex;
use super::{Context, identity};
use crate::args::DoctorArgs;
use crate::connection;
use crate::error::{CliError, ErrorKind, Result};
use crate::keeper::{Keeper, directory_error, open_store, store_error};
use crate::output::{Report, counted, harmless};
use crate::time::{now, rfc3339};
use crate::unlock;

/// Time for one connection attempt.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far the clock may run behind the durable floor.
const CLOCK_TOLERANCE: u64 = 120;
/// A certificate with less than this left is worth a word.
const RENEW_BEFORE: u64 = 30 * 86_400;
const POST_QUANTUM_GROUP: &str = "X25519MLKEM768";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    Note,
    Problem,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Serialize)]
struct Examination {
    healthy: bool,
    checks: Vec<Check>,
}

impl Report for Examination {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let paint = |state: State| {
            let (text, code) = match state {
                State::Ok => ("ok  ", 32),
                State::Note => ("note", 33),
                State::Problem => ("FAIL", 31),
            };
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        for check in &self.checks {
            writeln!(out, "{}  {:12}  {}", paint(check.state), check.name, check.detail)?;
            if let Some(fix) = &check.fix {
                writeln!(out, "{:18}  fix: {fix}", "")?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.0.push(Check { name, state: State::Ok, detail: detail.into(), fix: None });
    }

    fn note(&mut self, name: &'static str, detail: impl Into<String>, fix: Option<&str>) {
        let fix = fix.map(str::to_owned);
        self.0.push(Check { name, state: State::Note, detail: detail.into(), fix });
    }

    fn problem(&mut self, name: &'static str, error: &CliError) {
        let fix = error.remedy().map(str::to_owned);
        self.0.push(Check { name, state: State::Problem, detail: error.summary(), fix });
    }
}

pub(super) fn run(args: &DoctorArgs, context: &Context) -> Result<()> {
    connection::refuse_secrets(&args.client.connection, &args.client.broker)?;
    let dir = identity::directory(args.client.dir.as_deref(), context).ok();
    let url = connection::broker(args.client.broker.as_deref(), &context.config).ok();
    if dir.is_none() && url.is_none() {
        return Err(CliError::new(ErrorKind::Usage, "nothing to examine")
            .fix("pqc-iiot doctor --dir DIR --broker URL, or either of them"));
    }
    let mut checks = Checks::default();
    match &dir {
        Some(dir) => directory(&mut checks, dir, args, context),
        None => checks.note("directory", "not examined", Some("--dir DIR")),
    }
    match &url {
        Some(url) => broker(&mut checks, url, args, context)?,
        None => checks.note("broker", "not examined", Some("--broker URL")),
    }
    let problems = checks.0.iter().filter(|check| check.state == State::Problem).count();
    context.output.report(&Examination { healthy: problems == 0, checks: checks.0 })?;
    match problems {
        0 => Ok(()),
        1 => Err(CliError::new(ErrorKind::Failed, "one check failed")),
        many => Err(CliError::new(ErrorKind::Failed, format!("{many} checks failed"))),
    }
}

fn directory(checks: &mut Checks, dir: &Path, args: &DoctorArgs, context: &Context) {
    let keeper = match identity::open(dir, &args.client.unlock, context) {
        Ok(keeper) => keeper,
        Err(error) => return checks.problem("identity", &error),
    };
    let identity = keeper.identity();
    checks.ok("identity", format!("{}, {}", identity.set.name(), super::kem_name(identity.kem)));
    capabilities(checks, &keeper);
    let at = store(checks, &keeper);
    certificate(checks, &keeper, at);
    audit(checks, &keeper);
}

fn capabilities(checks: &mut Checks, keeper: &Keeper) {
    let facts = keeper.provider.capabilities().facts();
    let named = |wanted: bool| {
        let names = facts.iter().filter(|(_, have)| *have == wanted).map(|(name, _)| name.replace('_', " "));
        names.collect::<Vec<_>>().join(", ")
    };
    if named(false).is_empty() {
        checks.ok("provider", named(true));
    } else {
        let words = format!("{}; without: {}", named(true), named(false));
        checks.note("provider", words, Some("none yet (hardware keys are not supported): keep the directory and its key file apart in backups"));
    }
}

/// Opens the store; gives the time that certificates are judged by.
fn store(checks: &mut Checks, keeper: &Keeper) -> UnixTime {
    let loaded = open_store(keeper).and_then(|mut store| {
        let rows = store.load().map_err(|error| store_error(&error))?;
        let others = store.verify_lazy().map_err(|error| store_error(&error))?;
        Ok((store.generation(), rows, others))
    });
    let (generation, rows, others) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            checks.problem("store", &error);
            return now();
        }
    };
    let list = RevocationState::restore(&rows, MAX_ENTRIES).ok();
    if list.is_some_and(|list| super::status::own_revoked(keeper, &list).unwrap_or(false)) {
        let what = "this identity is revoked: nobody accepts anything from it";
        let fix =
            "make new keys with `pqc-iiot device keygen` in another directory, and request a new certificate";
        checks.problem("revocation", &CliError::new(ErrorKind::Refused, what).fix(fix));
    }
    checks.ok(
        "store",
        format!(
            "{}, each verified, after {generation} commits",
            counted((rows.len() + others) as u64, "row", "rows")
        ),
    );
    let clock = now();
    let Some(floor) = super::status::time_floor(&rows) else {
        checks.ok("clock", format!("{}; no durable floor yet", rfc3339(clock)));
        return clock;
    };
    if clock.0 + CLOCK_TOLERANCE < floor.0 {
        let what = format!("{} is behind the durable floor {}", rfc3339(clock), rfc3339(floor));
        checks.problem(
            "clock",
            &CliError::new(ErrorKind::Failed, what).fix("set the clock, for instance with systemd-timesyncd"),
        );
    } else {
        checks.ok("clock", format!("{}, not before the durable floor {}", rfc3339(clock), rfc3339(floor)));
    }
    clock.max(floor)
}

fn certificate(checks: &mut Checks, keeper: &Keeper, at: UnixTime) {
    let judged = || -> Result<(String, UnixTime)> {
        let dir = keeper.path().display();
        let missing = |what: &str| {
            CliError::new(ErrorKind::Identity, format!("{what} missing"))
                .fix(format!("pqc-iiot device install --dir '{dir}' --certificate FILE --anchors FILE"))
        };
        let anchors = super::device::pinned_anchors(keeper)?.ok_or_else(|| missing("trust anchors"))?;
        let stored =
            keeper.dir.read(DataFile::Certificate, MAX_CERTIFICATE as u64).map_err(directory_error)?;
        let encoded = stored.ok_or_else(|| missing("certificate"))?;
        let verified = super::trust::verify(&anchors, &encoded, at, &keeper.dir.file(DataFile::Certificate))?;
        let claims = verified.claims();
        if claims.keys.fingerprint() != keeper.identity().fingerprint() {
            return Err(missing("certificate for this directory's keys"));
        }
        let words =
            format!("{}, epoch {}, until {}", claims.subject, claims.key_epoch, rfc3339(claims.not_after));
        Ok((words, claims.not_after))
    };
    match judged() {
        Ok((words, until)) if until.0.saturating_sub(at.0) < RENEW_BEFORE => {
            checks.note(
                "certificate",
                format!("{words}: expires soon"),
                Some("pqc-iiot ca issue, then pqc-iiot device install"),
            );
        }
        Ok((words, _)) => checks.ok("certificate", words),
        Err(error) => checks.problem("certificate", &error),
    }
}

fn audit(checks: &mut Checks, keeper: &Keeper) {
    let directory = keeper.path().join("audit");
    if !directory.is_dir() {
        return checks.ok("audit log", "none yet");
    }
    let identity = keeper.provider.identity();
    let trusted = |_: Option<&[u8]>, key: &[u8]| key == identity.signing_key;
    match verify_dir(&directory, trusted, VerifyOptions::default()) {
        Ok(report) => {
            checks.ok("audit log", format!("{} verify", counted(report.entries, "entry", "entries")))
        }
        Err(error) => checks.problem(
            "audit log",
            &CliError::new(ErrorKind::Verification, error.to_string())
                .fix(format!("pqc-iiot audit verify '{}'", keeper.path().display())),
        ),
    }
}

fn broker(checks: &mut Checks, url: &str, args: &DoctorArgs, context: &Context) -> Result<()> {
    let mut tag = [0; 8];
    pqc_iiot_core::crypto::backend::RandomSource::fill(&mut unlock::random()?, &mut tag);
    let client_id = format!("pqc-iiot-doctor-{}", hex(&tag));
    let options = connection::options(url, &args.client.connection, &context.config, &client_id);
    let mut options = match options {
        Ok(options) => options,
        Err(error) => {
            checks.problem("broker", &error);
            return Ok(());
        }
    };
    options.client_id = client_id;
    options.clean_start = true;
    let version = match options.version {
        ProtocolVersion::V5 => "MQTT 5",
        ProtocolVersion::V311 => "MQTT 3.1.1",
    };
    let tls = options.url.is_tls();
    match super::runtime()?.block_on(connect(options)) {
        Ok(info) => {
            checks.ok("broker", format!("{url} accepts {version}"));
            transport_security(checks, tls, info);
        }
        Err(error) => checks.problem("broker", &error),
    }
    Ok(())
}

fn transport_security(checks: &mut Checks, tls: bool, info: Option<TlsInfo>) {
    match info {
        Some(info) if info.group == POST_QUANTUM_GROUP => {
            checks.ok("TLS", format!("{}, {}, {}", info.version, info.group, info.cipher));
        }
        Some(info) => checks.note(
            "TLS",
            format!(
                "{}, {}: who talks to whom can be read later by a quantum computer",
                info.version, info.group
            ),
            Some("let the broker offer X25519MLKEM768; contents are sealed in any case"),
        ),
        None if tls => checks.note("TLS", "not reported", None),
        None => checks.note("TLS", "plain TCP: contents are sealed, topics and identities are visible", None),
    }
}

async fn connect(options: TransportOptions) -> Result<Option<TlsInfo>> {
    let refused = |why: String| {
        CliError::new(ErrorKind::Broker, "no connection").because(harmless(&why)).fix(
            "start the broker, correct the URL, or check its access control, --tls-ca, --username and --password-file",
        )
    };
    let (transport, mut events) = Transport::connect(options).map_err(|error| {
        CliError::new(ErrorKind::Usage, "the connection's options cannot be used").because(error)
    })?;
    let connected = tokio::time::timeout(PATIENCE, async {
        loop {
            match events.recv().await {
                Some(Event::Connected { tls, .. }) => return Ok(tls),
                Some(Event::Disconnected { error }) => return Err(refused(error.to_string())),
                Some(_) => {}
                None => return Err(refused("the transport ended".into())),
            }
        }
    });
    let result = connected.await.unwrap_or_else(|_| Err(refused("no answer within 10 s".into())));
    transport.close(Duration::from_secs(1)).await;
    result
}
