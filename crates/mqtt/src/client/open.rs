//! Opening a client: on a data directory with a software identity, or on a provider of your choice.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::mpsc;

use pqc_iiot_core::codec::DecodeError;
use pqc_iiot_core::codec::signed::Unverified;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::endpoint::{Endpoint, EndpointConfig, StartError};
use pqc_iiot_core::identity::certificate::{CertificateError, MAX_CERTIFICATE, OperationalCertificate};
use pqc_iiot_core::identity::trust::{MAX_ANCHORS, PinnedAnchors};
use pqc_iiot_core::topic::MAX_TOPIC;
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::audit::{AuditError, AuditOptions, ChainedAuditLogger};
use pqc_iiot_provider::datadir::{DataDir, DataDirError, DataFile};
use pqc_iiot_provider::random::{NoRandomness, SystemRandom};
use pqc_iiot_provider::software::{SoftwareError, SoftwareProvider, Unlock};
use pqc_iiot_provider::store::{SqliteStore, Store, StoreError, WriterError};

use super::driver::{Application, Clock, Driver, Limits, Parts};
use super::event::{ConsumeMode, EVENT_QUEUE, Events};
use super::handle::SecureMqttClient;
use super::provider_thread::ProviderThread;
use crate::transport::{OptionsError, Transport, TransportOptions};

/// Requests that wait for the driver.
const REQUEST_QUEUE: usize = 64;

/// What a client is opened with.
#[derive(Clone)]
pub struct ClientConfig {
    /// Identity, anchors, limits, budgets, policy.
    pub endpoint: EndpointConfig,
    /// The broker. Its packet limit is raised to what the size limits need.
    pub transport: TransportOptions,
    /// When a message counts as consumed.
    pub consume: ConsumeMode,
}

impl ClientConfig {
    /// The defaults for a provider's identity under `certificate` and `anchors`. The peer id is the certificate's subject.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the certificate does not decode; it is verified when the client opens.
    pub fn new(
        provider: &dyn SecurityProvider,
        certificate: Vec<u8>,
        anchors: Vec<u8>,
        transport: TransportOptions,
    ) -> Result<Self, DecodeError> {
        let decoded = Unverified::<OperationalCertificate>::decode(&certificate, MAX_CERTIFICATE)?;
        let peer_id = decoded.unverified().subject.clone();
        let endpoint = EndpointConfig::new(peer_id, provider.identity().clone(), certificate, anchors);
        Ok(Self { endpoint, transport, consume: ConsumeMode::default() })
    }
}

/// Where a client keeps its state and its log.
pub struct Storage {
    /// The rows.
    pub store: Box<dyn Store>,
    /// The signed audit log.
    pub audit: ChainedAuditLogger,
    /// Keeps the data directory locked against a second writer for as long as the client lives.
    pub directory: Option<DataDir>,
}

/// Why a client does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The identity does not open.
    #[error(transparent)]
    Identity(#[from] SoftwareError),
    /// Nothing was installed yet.
    #[error("no {0} is installed in {1}")]
    NotInstalled(&'static str, String),
    /// The installed certificate does not decode.
    #[error("the installed certificate: {0}")]
    Certificate(#[from] DecodeError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log does not open.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The protocol does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The broker's options are unusable.
    #[error(transparent)]
    Transport(#[from] OptionsError),
    /// The operating system gives no randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The provider's thread does not start.
    #[error("the provider's thread does not start: {0}")]
    Thread(std::io::Error),
    /// The writer's thread does not start.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

impl SecureMqttClient {
    /// Opens the identity, certificate, anchors, store and audit log in the data directory `path`, and connects in the
    /// background.
    ///
    /// **Software identity:** its keys are sealed on disk under `unlock`, but live in this process's memory and can be
    /// exported by whoever controls it; its audit log is observability, not evidence; a rolled-back disk is not noticed.
    /// For production fleets use [`SecureMqttClient::new_with_provider`] with a TPM, HSM or token behind it. A warning
    /// in the log says the same.
    pub async fn new(
        path: impl AsRef<Path>,
        unlock: &Unlock,
        transport: TransportOptions,
    ) -> Result<(Self, Events), OpenError> {
        Self::new_with(path, unlock, transport, |_| ()).await
    }

    /// As [`SecureMqttClient::new`], with a chance to change the configuration: limits, budgets, policy, prefix.
    pub async fn new_with(
        path: impl AsRef<Path>,
        unlock: &Unlock,
        transport: TransportOptions,
        configure: impl FnOnce(&mut ClientConfig),
    ) -> Result<(Self, Events), OpenError> {
        let directory = DataDir::open(path.as_ref())?;
        let provider = SoftwareProvider::open(&directory, unlock)?;
        tracing::warn!(path = %directory.path().display(), "software identity: its keys are exportable");
        let installed = |file: DataFile, what, limit: usize| {
            let missing = || OpenError::NotInstalled(what, directory.path().display().to_string());
            directory.read(file, limit as u64)?.ok_or_else(missing)
        };
        let certificate = installed(DataFile::Certificate, "certificate", MAX_CERTIFICATE)?;
        let anchors = installed(DataFile::Anchors, "trust anchors", MAX_ANCHORS)?;
        let mut config = ClientConfig::new(&provider, certificate, anchors, transport)?;
        configure(&mut config);
        let provider: Arc<dyn SecurityProvider> = Arc::new(provider);
        let storage = Storage::open(directory, &provider, &config.endpoint)?;
        Self::new_with_provider(provider, storage, config).await
    }

    /// Opens a client whose long-term secrets live behind `provider`, and connects in the background.
    pub async fn new_with_provider(
        provider: Arc<dyn SecurityProvider>,
        storage: Storage,
        config: ClientConfig,
    ) -> Result<(Self, Events), OpenError> {
        Self::open_with_backend(provider, storage, config, default_backend()).await
    }

    async fn open_with_backend(
        provider: Arc<dyn SecurityProvider>,
        mut storage: Storage,
        config: ClientConfig,
        backend: Backend,
    ) -> Result<(Self, Events), OpenError> {
        let ClientConfig { endpoint, mut transport, consume } = config;
        let needed = endpoint.limits.largest() + 2 * MAX_TOPIC;
        transport.max_packet = transport.max_packet.max(u32::try_from(needed).unwrap_or(u32::MAX));
        // Where the transport takes no more, all that it has is asked about.
        let window = usize::from(transport.inflight).min(transport.publish_queue);
        let peer_id = endpoint.peer_id.clone();
        let max_undelivered = endpoint.delivery.inbox_messages + EVENT_QUEUE;

        let rows = storage.store.load()?;
        let clock = Clock::start();
        let endpoint = Endpoint::new(endpoint, backend, Box::new(SystemRandom::new()?), &rows, clock.now())?;
        let (provider, answers) = ProviderThread::start(provider).map_err(OpenError::Thread)?;
        let (transport, network) = Transport::connect(transport)?;
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let (work, work_queue) = mpsc::channel(REQUEST_QUEUE);
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let (consumed, consumed_queue) = mpsc::unbounded_channel();
        let (receiver, taken) = Events::new(receiver, consume, consumed.clone());
        let driver = Driver::new(Parts {
            endpoint,
            clock,
            transport: transport.clone(),
            network,
            provider,
            answers,
            storage,
            application: Application {
                requests: queue,
                work: work_queue,
                events,
                consumed: consumed_queue,
                taken,
            },
            limits: Limits { window, undelivered: max_undelivered },
        })?;
        tokio::spawn(driver.run());
        Ok((Self { peer_id, requests, work, transport, consumed }, receiver))
    }
}

impl Storage {
    /// The SQLite store and signed audit log of a data directory, created if they do not exist.
    pub fn open(
        directory: DataDir,
        provider: &Arc<dyn SecurityProvider>,
        endpoint: &EndpointConfig,
    ) -> Result<Self, OpenError> {
        // First, so that a damaged certificate is not taken for a damaged log.
        check_own(provider.as_ref(), endpoint)?;
        let path = directory.file(DataFile::Store);
        let audit_path = directory.audit_directory()?;
        // Whoever logged anything had a store: one that is gone since is not replaced by an empty one.
        let used = path.exists() || has_segments(&audit_path);
        let store = if used {
            SqliteStore::open(&path, provider.as_ref())?
        } else {
            SqliteStore::create(&path, provider.as_ref())?
        };
        let options = AuditOptions {
            certificate: Some(endpoint.certificate.clone()),
            durable: store.audit_head(),
            ..AuditOptions::default()
        };
        let audit =
            ChainedAuditLogger::new_signed(&audit_path, provider.clone(), endpoint.peer_id.clone(), options)?;
        Ok(Self { store: Box::new(store), audit, directory: Some(directory) })
    }
}

/// Whether the installed anchors and certificate can be those of this identity. The endpoint judges them at its start, by
/// the pinned anchors and the time.
fn check_own(provider: &dyn SecurityProvider, endpoint: &EndpointConfig) -> Result<(), StartError> {
    let anchors = PinnedAnchors::pin(default_backend(), &endpoint.anchors)?;
    let decoded = Unverified::<OperationalCertificate>::decode(&endpoint.certificate, MAX_CERTIFICATE);
    let decoded = decoded.map_err(CertificateError::from)?;
    let claims = decoded.unverified();
    if claims.subject != endpoint.peer_id || claims.keys != *provider.identity() {
        return Err(StartError::NotOurs);
    }
    match anchors.verify_certificate(&endpoint.certificate, claims.not_before) {
        // Perhaps one that later anchors appoint.
        Ok(_) | Err(CertificateError::UnknownIssuer) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn has_segments(audit: &Path) -> bool {
    let is_segment = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"segment-"))
    };
    std::fs::read_dir(audit).is_ok_and(|mut entries| entries.any(is_segment))
}
