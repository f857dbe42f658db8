//! `audit_append`: one signed, chained entry, up to where the disk would come in.

use std::sync::Arc;

use pqc_iiot_core::audit::{AuditEntry, AuditEvent, AuditKind};
use pqc_iiot_core::codec::signed::{ToBeSigned, signer_fingerprint};
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kdf::sha256;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::ids::{Digest, PeerId};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_provider::audit::{AuditOptions, ChainedAuditLogger};
use pqc_iiot_provider::random::SystemRandom;
use pqc_iiot_provider::{SecurityProvider, SoftwareProvider};
use tempfile::TempDir;

use super::fleet::{NOW, random, set_of};
use super::primitives::Signers;
use super::{BenchError, Workload};

/// Entries after which the log is synced, outside the measured time and before it would sync by itself.
const SYNC_EVERY: u64 = 200;

const FAILED: BenchError = BenchError::Outcome("an audit entry was not appended");

/// Baseline: each half's signature and the hash over the entry's payload.
pub(super) struct AuditAppend {
    logger: ChainedAuditLogger,
    random: SystemRandom,
    peer: PeerId,
    event: Option<AuditEvent>,
    appended: u64,
    bytes: usize,
    signers: Signers,
    payload: Vec<u8>,
    // Removed when dropped, after the logger.
    _directory: TempDir,
}

impl AuditAppend {
    pub(super) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        const FAILED: BenchError = BenchError::Setup("an audit log");
        let mut random = random()?;
        let set = set_of(suite);
        let provider =
            SoftwareProvider::ephemeral(backend, set, suite.kem(), Box::new(super::fleet::random()?));
        let provider: Arc<dyn SecurityProvider> = Arc::new(provider.map_err(|_| FAILED)?);
        let log_id = PeerId::new("gateway").map_err(|_| FAILED)?;
        let peer = PeerId::new("press-7").map_err(|_| FAILED)?;
        let directory = TempDir::new().map_err(|_| FAILED)?;
        let entry = AuditEntry {
            log_id: log_id.clone(),
            seq: 1,
            previous: Digest([0; Digest::LEN]),
            time: NOW,
            event: refusal(&peer),
        };
        let signer = signer_fingerprint(set, &provider.identity().signing_key);
        let framed = ToBeSigned::new(&entry, set, signer, &&log_id);
        let signers = Signers::new(backend, &mut random, framed.structure())?;
        let record = framed.assemble(&vec![0; set.signature_len()]).ok_or(FAILED)?;
        let payload = vec![0x42; record.len().saturating_sub(set.signature_len())];
        let path = directory.path().join("audit");
        let logger = ChainedAuditLogger::new_signed(&path, provider, log_id, AuditOptions::default())
            .map_err(|_| FAILED)?;
        Ok(Self {
            logger,
            random,
            peer,
            event: None,
            appended: 0,
            bytes: record.len(),
            signers,
            payload,
            _directory: directory,
        })
    }
}

fn refusal(peer: &PeerId) -> AuditEvent {
    AuditEvent::new(AuditKind::ReplayRefused, Some(peer.clone()), "replayed")
}

impl Workload for AuditAppend {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        if self.logger.head().seq != self.appended {
            return Err(FAILED);
        }
        if self.appended.is_multiple_of(SYNC_EVERY) {
            self.logger.sync().map_err(|_| FAILED)?;
        }
        self.event = Some(refusal(&self.peer));
        self.signers.number(self.appended);
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let Some(event) = self.event.take() else { return Err(FAILED) };
        let time = UnixTime(NOW.0 + self.appended);
        self.logger.append(time, event).map_err(|_| FAILED)?;
        self.appended += 1;
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        std::hint::black_box(sha256(&[&self.payload]));
        self.signers.sign(&mut self.random)
    }
}
