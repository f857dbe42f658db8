//! A client for `pub` and `sub`, with errors that say what to do.

use std::sync::Arc;
use std::time::Duration;

use pqc_iiot_core::endpoint::{Event, PeerLoss, StartError};
use pqc_iiot_core::identity::certificate::{CertificateError, MAX_CERTIFICATE};
use pqc_iiot_core::identity::grants::Grant;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_mqtt::client::{
    ClientConfig, ClientEvent, ConsumeMode, Events, OpenError, SecureMqttClient, Storage,
};
use pqc_iiot_mqtt::transport::{OptionsError, TlsInfo, TransportOptions};
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::datadir::DataFile;

use super::{Context, identity};
use crate::args::ClientArgs;
use crate::connection;
use crate::error::{CliError, ErrorKind, Result};
use crate::keeper::{Keeper, Role, audit_error, directory_error, identity_error, store_error};

/// How long the first connection may take.
pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// An open client and where it connects to.
pub(crate) struct Client {
    pub(crate) handle: SecureMqttClient,
    pub(crate) events: Events,
    pub(super) url: String,
    /// What its own certificate lets it do.
    pub(super) grants: Vec<Grant>,
}

/// An identity that is installed, and how it will connect.
pub(crate) struct Prepared {
    keeper: Keeper,
    config: ClientConfig,
    url: String,
    grants: Vec<Grant>,
}

/// Opens the directory and reads what is installed; opens no connection. `suffix` keeps the sessions of `pub` and `sub`
/// apart at the broker.
pub(crate) fn prepare(
    args: &ClientArgs,
    context: &Context,
    suffix: &str,
    adjust: impl FnOnce(&mut TransportOptions),
) -> Result<Prepared> {
    connection::refuse_secrets(&args.connection, &args.broker)?;
    let dir = identity::directory(args.dir.as_deref(), context)?;
    let url = connection::broker(args.broker.as_deref(), &context.config)?;
    let prefix = connection::prefix(&args.connection, &context.config)?;
    let keeper = Keeper::open(&dir, &identity::source(&dir, &args.unlock, context)?, Role::Device)?;
    let installed = |file: DataFile, what: &str, limit: usize| {
        let content = keeper.dir.read(file, limit as u64).map_err(directory_error)?;
        content.ok_or_else(|| not_installed(&dir.display().to_string(), what))
    };
    let certificate = installed(DataFile::Certificate, "certificate", MAX_CERTIFICATE)?;
    let anchors = installed(DataFile::Anchors, "trust anchors", pqc_iiot_core::identity::trust::MAX_ANCHORS)?;
    let own = super::trust::decode(&certificate, &keeper.dir.file(DataFile::Certificate))?;
    let mut options =
        connection::options(&url, &args.connection, &context.config, &format!("{}{suffix}", own.subject))?;
    adjust(&mut options);
    let mut config =
        ClientConfig::new(&*keeper.provider, certificate, anchors, options).map_err(|error| {
            CliError::new(ErrorKind::Verification, "the installed certificate is damaged").because(error)
        })?;
    config.endpoint.prefix = prefix;
    config.endpoint.delivery =
        context.config.delivery.limits().map_err(|why| {
            CliError::new(ErrorKind::Configuration, "[delivery] is not usable").because(why)
        })?;
    config.endpoint.sessions =
        context.config.sessions.policy().map_err(|why| {
            CliError::new(ErrorKind::Configuration, "[sessions] is not usable").because(why)
        })?;
    // A command that prints nothing must consume nothing.
    config.consume = ConsumeMode::Explicit;
    Ok(Prepared { keeper, config, url, grants: own.grants })
}

fn not_installed(dir: &str, what: &str) -> CliError {
    CliError::new(ErrorKind::Identity, format!("no {what} is installed in {dir}"))
        .because("without it nobody accepts this identity's messages")
        .fix(format!("pqc-iiot device install --dir '{dir}' --certificate FILE --anchors FILE"))
}

impl Prepared {
    /// Opens store and log, and starts connecting.
    pub(crate) async fn start(self) -> Result<Client> {
        let Self { keeper, config, url, grants } = self;
        let path = keeper.path().to_owned();
        let provider: Arc<dyn SecurityProvider> = keeper.provider;
        let opened = async {
            let storage = Storage::open(keeper.dir, &provider, &config.endpoint)?;
            SecureMqttClient::new_with_provider(provider, storage, config).await
        };
        let (handle, events) = opened.await.map_err(|error| open_error(&path, error))?;
        Ok(Client { handle, events, url, grants })
    }
}

fn open_error(dir: &std::path::Path, error: OpenError) -> CliError {
    match error {
        OpenError::DataDir(error) => directory_error(error),
        OpenError::Identity(error) => identity_error(dir, error),
        OpenError::NotInstalled(what, dir) => not_installed(&dir, what),
        OpenError::Store(error) => store_error(&error),
        OpenError::Audit(error) => audit_error(&error),
        OpenError::Transport(error @ OptionsError::PlaintextRefused { .. }) => {
            CliError::new(ErrorKind::Refused, "plain TCP refused")
                .because(error)
                .fix("use mqtts://, or --allow-plaintext")
        }
        OpenError::Transport(error) => {
            CliError::new(ErrorKind::Usage, "the connection's options cannot be used").because(error)
        }
        OpenError::Start(error) => start_error(dir, error),
        error => CliError::new(ErrorKind::Failed, "the client does not start").because(error),
    }
}

fn start_error(dir: &std::path::Path, error: StartError) -> CliError {
    let install =
        format!("pqc-iiot device install --dir '{}' --certificate FILE --anchors FILE", dir.display());
    let what = "this identity cannot be used";
    match error {
        StartError::Certificate(CertificateError::Validity) => CliError::new(ErrorKind::Refused, what)
            .because("its certificate is outside its validity (or this machine's clock is wrong)")
            .fix(format!("let the authority issue a new one, then: {install}")),
        StartError::Certificate(_) | StartError::Anchors(_) => {
            CliError::new(ErrorKind::Verification, what).because(error).fix(install)
        }
        StartError::NotOurs => CliError::new(ErrorKind::Refused, what).because(error).fix(install),
        StartError::Suites => CliError::new(ErrorKind::Refused, what).because(error),
        StartError::Prefix => CliError::new(ErrorKind::Usage, what).because(error).fix("correct --prefix"),
        error => CliError::new(ErrorKind::Verification, what).because(error),
    }
}

impl Client {
    /// Waits for the first connection; the first failure ends it, as a person at a terminal expects.
    pub(super) async fn connected(&mut self) -> Result<Option<TlsInfo>> {
        let url = self.url.clone();
        let unreachable = |why: String| {
            CliError::new(ErrorKind::Broker, format!("no connection to {url}"))
                .because(why)
                .fix("check that the broker runs and the URL is right: pqc-iiot doctor --broker URL")
        };
        let waiting = tokio::time::timeout(CONNECT_PATIENCE, async {
            loop {
                match self.events.recv().await {
                    Some(ClientEvent::Connected { tls }) => return Ok(tls),
                    Some(ClientEvent::Disconnected { error }) => return Err(unreachable(error.to_string())),
                    Some(event) => fatal(&event)?,
                    None => return Err(unreachable("the client ended".into())),
                }
            }
        });
        waiting.await.unwrap_or_else(|_| Err(unreachable("no answer within 20 s".into())))
    }
}

/// What ends a client whatever it was doing.
pub(crate) fn fatal(event: &ClientEvent) -> Result<()> {
    match event {
        ClientEvent::StoreFailed { reason } => {
            Err(CliError::new(ErrorKind::Failed, "state could not be written, so the client stopped")
                .because(reason)
                .fix("pqc-iiot doctor"))
        }
        ClientEvent::SubscriptionRefused { filter, error } => {
            let filter = crate::output::harmless(filter);
            Err(CliError::new(ErrorKind::Broker, format!("the broker refused the subscription to {filter}"))
                .because(error)
                .fix("allow it in the broker's access control list"))
        }
        ClientEvent::Protocol(Event::SelfRevoked) => Err(CliError::new(
            ErrorKind::Refused,
            "this identity is revoked",
        )
        .because("its own authority said so")
        .fix(
            "make new keys with `pqc-iiot device keygen` in another directory, and request a new certificate",
        )),
        _ => Ok(()),
    }
}

/// What a person should know of the disk and of messages of earlier commands while the client goes on.
pub(super) fn note_state(event: &ClientEvent, output: crate::output::Output) {
    match event {
        ClientEvent::Protocol(Event::Lost { peer, count, reason, outgoing: true, certain, .. }) => {
            let perhaps = if *certain { "" } else { "; some may have arrived" };
            output.note(format_args!("{count} messages to {peer} were given up ({reason}){perhaps}"));
        }
        ClientEvent::Protocol(Event::LossConfirmed { peer, lost, arrived, .. }) => output.note(format_args!(
            "of messages to {peer} that were given up, {lost} are lost and {arrived} had arrived"
        )),
        ClientEvent::Protocol(Event::StateDropped { kind, count, .. }) => output.note(format_args!(
            "{count} stored rows could not be read and were deleted ({kind:?}); what they were for begins anew"
        )),
        ClientEvent::StoreWaits { reason } => {
            output.note(format_args!("nothing is accepted or delivered for now: {reason}; trying again"));
        }
        ClientEvent::StoreResumed => output.note("there is room on the disk again"),
        _ => {}
    }
}

/// A peer that can no longer be trusted.
pub(super) fn lost(peer: &PeerId, reason: PeerLoss) -> CliError {
    let error =
        CliError::new(ErrorKind::Refused, format!("{peer} is no longer trusted")).because(loss(reason));
    match reason {
        PeerLoss::Revoked => error.fix(new_keys(peer)),
        _ => error,
    }
}

/// What to do about a peer whose keys are revoked.
pub(super) fn new_keys(peer: &PeerId) -> String {
    format!(
        "make new keys for {peer} with `pqc-iiot device keygen`, and let the authority issue a certificate for them: pqc-iiot ca issue"
    )
}

/// Why it can no longer be trusted.
pub(crate) fn loss(reason: PeerLoss) -> &'static str {
    match reason {
        PeerLoss::Revoked => "its keys are revoked",
        PeerLoss::IssuerDropped => "the issuer of its certificate is no longer appointed",
        _ => "its certificate no longer holds",
    }
}

/// Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    interruption().await;
}

/// The same, listening from this call on.
pub(super) fn interruption() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async move {
        let [interrupt, terminate] = signals.map(|signal| async move {
            match signal {
                Ok(mut signal) => drop(signal.recv().await),
                // Then it ends the process as it always did.
                Err(_) => std::future::pending().await,
            }
        });
        tokio::select! {
            () = interrupt => {}
            () = terminate => {}
        }
    }
}
