//! A data directory in use: its lock, its identity, its store and its signed audit log.

use std::path::Path;
use std::sync::Arc;

use pqc_iiot_core::audit::AuditEvent;
use pqc_iiot_core::codec::signed::{SignedObject, ToBeSigned, signer_fingerprint};
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::identity::certificate::MAX_CERTIFICATE;
use pqc_iiot_core::identity::keys::PublicIdentity;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::provider::{ProviderRequest, ProviderResponse};
use pqc_iiot_core::store::{Change, Row};
use pqc_iiot_provider::audit::{AuditError, AuditOptions, ChainedAuditLogger};
use pqc_iiot_provider::datadir::{DataDir, DataDirError, DataFile};
use pqc_iiot_provider::provider::SecurityProvider;
use pqc_iiot_provider::software::{KeyFileError, SoftwareError, SoftwareProvider, Unlock};
use pqc_iiot_provider::store::{SqliteStore, Store, StoreError, WriterError, note_audit_end};

use crate::error::{CliError, ErrorKind, Result};
use crate::time::now;
use crate::unlock::{NewUnlock, Source};

/// Whose directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Authority,
    Device,
}

impl Role {
    /// The command that makes such a directory.
    fn maker(self, dir: &Path) -> String {
        match self {
            Self::Authority => {
                format!("make it with `pqc-iiot ca init --dir '{}'`, or correct --dir", dir.display())
            }
            Self::Device => {
                format!("make it with `pqc-iiot device keygen --dir '{}'`, or correct --dir", dir.display())
            }
        }
    }
}

/// A locked directory with its identity.
pub(crate) struct Keeper {
    pub(crate) dir: DataDir,
    pub(crate) provider: Arc<SoftwareProvider>,
}

impl Keeper {
    /// Makes the directory, its key file where needed, and its identity. What exists is never overwritten.
    pub(crate) fn create(
        path: &Path,
        source: &Source,
        set: SignatureSet,
        kem: Kem,
    ) -> Result<(Self, Option<std::path::PathBuf>)> {
        if pqc_iiot_provider::software::identity_exists(path) {
            return Err(exists(path));
        }
        let dir = DataDir::create(path).map_err(directory_error)?;
        let NewUnlock { unlock, generated } = source.read_or_generate()?;
        let provider =
            SoftwareProvider::create(&dir, &unlock, set, kem).map_err(|error| identity_error(path, error))?;
        Ok((Self { dir, provider: Arc::new(provider) }, generated))
    }

    /// Opens the directory and its identity.
    pub(crate) fn open(path: &Path, source: &Source, role: Role) -> Result<Self> {
        let dir = DataDir::open(path).map_err(|error| match error {
            DataDirError::Missing { .. } => directory_error(error).fix(role.maker(path)),
            error => directory_error(error),
        })?;
        if !dir.file(DataFile::Identity).exists() {
            let what = format!("{} holds no identity", path.display());
            return Err(CliError::new(ErrorKind::Identity, what).fix(role.maker(path)));
        }
        let unlock: Unlock = source.read()?;
        let provider = SoftwareProvider::open(&dir, &unlock).map_err(|error| identity_error(path, error))?;
        Ok(Self { dir, provider: Arc::new(provider) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The identity's public half.
    pub(crate) fn identity(&self) -> PublicIdentity {
        self.provider.identity().clone()
    }

    /// Signs an object with the identity key.
    pub(crate) fn sign<T: SignedObject>(&self, object: &T, context: &T::Context<'_>) -> Result<Vec<u8>> {
        let identity = self.provider.identity();
        let signer = signer_fingerprint(identity.set, &identity.signing_key);
        let framed = ToBeSigned::new(object, identity.set, signer, context);
        let failed = || CliError::new(ErrorKind::Failed, "the identity key does not sign");
        let answer = self.provider.execute(ProviderRequest::Sign(framed.structure().clone()));
        match answer.map_err(|error| failed().because(error))? {
            ProviderResponse::Signature(signature) => framed.assemble(&signature).ok_or_else(failed),
            _ => Err(failed()),
        }
    }
}

fn exists(path: &Path) -> CliError {
    CliError::new(ErrorKind::Identity, format!("{} already holds an identity", path.display()))
        .because("an identity is never overwritten: its certificate, counters and log belong to its keys")
        .fix("choose another --dir, or move the directory and its key file away first")
}

/// What is wrong with a data directory.
pub(crate) fn directory_error(error: DataDirError) -> CliError {
    let refused = |what| CliError::new(ErrorKind::Identity, what);
    match error {
        DataDirError::Missing { path } => {
            refused(format!("the data directory {} does not exist", path.display()))
        }
        DataDirError::NotADirectory { path } => {
            refused(format!("{} is not a directory", path.display())).fix("correct --dir")
        }
        DataDirError::Permissions { path, mode } => {
            refused(format!("the data directory {} is open to other users", path.display()))
                .because(format!("its mode is {mode:04o}"))
                .fix(format!("chmod 700 '{}'", path.display()))
        }
        DataDirError::Locked { path, holder } => refused(format!("{} is in use", path.display()))
            .because(format!(
                "{} holds it, and one identity has one writer",
                crate::output::harmless(&holder)
            ))
            .fix("stop that process first, or use another identity"),
        DataDirError::Io { path, source } => {
            let missing = source.kind() == std::io::ErrorKind::NotFound;
            let error = refused(format!("the data directory fails at {}", path.display())).because(source);
            match path.parent() {
                Some(parent) if missing && !parent.as_os_str().is_empty() && !parent.exists() => {
                    error.fix(format!("mkdir -p '{}', or correct --dir", parent.display()))
                }
                _ => error,
            }
        }
        error => refused("the data directory cannot be used".into()).because(error),
    }
}

/// What is wrong with an identity.
pub(crate) fn identity_error(dir: &Path, error: SoftwareError) -> CliError {
    let refused = |what: String| CliError::new(ErrorKind::Identity, what);
    match error {
        SoftwareError::Exists { .. } => exists(dir),
        SoftwareError::KeyFile { path, source } => {
            let error = refused(format!("the identity {} does not open", path.display())).because(source);
            match source {
                KeyFileError::NeedsPassphrase => error.fix("name the passphrase's file with --passphrase-file FILE"),
                KeyFileError::NeedsKey => error.fix("name the key file with --key-file FILE"),
                KeyFileError::DoesNotOpen => {
                    error.fix("name the file that the directory was made with: --key-file FILE or --passphrase-file FILE")
                }
                _ => error,
            }
        }
        SoftwareError::Io { path, source } => {
            refused(format!("the identity file {} fails", path.display())).because(source)
        }
        error => refused("the identity cannot be used".into()).because(error),
    }
}

/// The durable records of a directory and its signed log.
pub(crate) struct Ledger {
    store: SqliteStore,
    audit: ChainedAuditLogger,
}

impl Ledger {
    /// Makes the store of a new directory.
    pub(crate) fn create(keeper: &Keeper) -> Result<()> {
        let path = keeper.dir.file(DataFile::Store);
        SqliteStore::create(&path, &*keeper.provider).map(drop).map_err(|error| store_error(&error))
    }

    /// Opens the store and the log of `log_id`; gives every row.
    pub(crate) fn open(keeper: &Keeper, log_id: PeerId) -> Result<(Self, Vec<Row>)> {
        let installed = keeper.dir.read(DataFile::Certificate, MAX_CERTIFICATE as u64);
        Self::open_under(keeper, log_id, installed.map_err(directory_error)?)
    }

    /// As [`Ledger::open`], for a certificate that is about to be installed.
    pub(crate) fn open_under(
        keeper: &Keeper,
        log_id: PeerId,
        certificate: Option<Vec<u8>>,
    ) -> Result<(Self, Vec<Row>)> {
        let mut store = open_store(keeper)?;
        let rows = store.load().map_err(|error| store_error(&error))?;
        let directory = keeper.dir.audit_directory().map_err(directory_error)?;
        let options = AuditOptions { certificate, durable: store.audit_head(), ..AuditOptions::default() };
        let mut audit =
            ChainedAuditLogger::new_signed(&directory, Arc::clone(&keeper.provider) as _, log_id, options)
                .map_err(|error| audit_error(&error))?;
        note_audit_end(&mut store, &mut audit).map_err(|error| match error {
            WriterError::Audit(error) => audit_error(&error),
            WriterError::Store(error) => store_error(&error),
            _ => CliError::new(ErrorKind::Failed, "the store failed").because(error),
        })?;
        Ok((Self { store, audit }, rows))
    }

    /// Records the event, then makes the changes durable; nothing may take effect before this returned.
    pub(crate) fn commit(&mut self, changes: &[Change], event: Option<AuditEvent>) -> Result<()> {
        if let Some(event) = event {
            self.audit.append(now(), event).map_err(|error| audit_error(&error))?;
            let head = self.audit.sync().map_err(|error| audit_error(&error))?;
            self.store.note_audit_head(head);
        }
        self.store.commit(changes).map_err(|error| store_error(&error))
    }
}

/// Opens the store alone.
pub(crate) fn open_store(keeper: &Keeper) -> Result<SqliteStore> {
    let path = keeper.dir.file(DataFile::Store);
    SqliteStore::open(&path, &*keeper.provider).map_err(|error| store_error(&error))
}

/// What is wrong with a log that is to be written.
pub(crate) fn audit_error(error: &AuditError) -> CliError {
    let (kind, fix) = match error {
        AuditError::Damaged { .. }
        | AuditError::Truncated { .. }
        | AuditError::Replaced { .. }
        | AuditError::MissingSegment { .. } => (
            ErrorKind::Verification,
            "see `pqc-iiot audit verify`; keep the directory for the investigation, then make a new identity in another one",
        ),
        AuditError::Locked { .. } => (ErrorKind::Identity, "stop the process that writes it"),
        AuditError::DiskFull => (ErrorKind::Failed, "free some space"),
        _ => (ErrorKind::Failed, "see `pqc-iiot doctor`"),
    };
    CliError::new(kind, "the audit log cannot be written").because(error).fix(fix)
}

/// What is wrong with a store.
pub(crate) fn store_error(error: &StoreError) -> CliError {
    let (kind, what) = match error {
        StoreError::Damaged(_) => (ErrorKind::Verification, "the store does not verify"),
        StoreError::Missing { .. }
        | StoreError::InUse { .. }
        | StoreError::NewerFormat { .. }
        | StoreError::NewerRows { .. }
        | StoreError::Upgrade { .. } => (ErrorKind::Identity, "the store cannot be used"),
        _ => (ErrorKind::Failed, "the store failed"),
    };
    let refused = CliError::new(kind, what).because(error);
    match error {
        StoreError::Damaged(_) => refused.fix(
            "keep a copy for the investigation; then make a new identity in another directory and revoke this one: pqc-iiot ca revoke PEER",
        ),
        StoreError::InUse { .. } => refused.fix("stop the process that uses it"),
        _ => refused,
    }
}
