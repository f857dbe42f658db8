//! The writer of a log: it signs entries as they come and makes a group of them durable at once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pqc_iiot_core::audit::entry::record_hash;
use pqc_iiot_core::audit::frame::frame;
use pqc_iiot_core::audit::{
    AuditEntry, AuditEvent, AuditKind, ChainHead, Defect, LogVerifier, SegmentError, SegmentHeader,
};
use pqc_iiot_core::codec::Writer;
use pqc_iiot_core::codec::signed::{SignedObject, ToBeSigned, signer_fingerprint};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::ids::{Digest, Fingerprint, PeerId};
use pqc_iiot_core::provider::{ProviderFailure, ProviderRequest, ProviderResponse};
use pqc_iiot_core::time::UnixTime;

use super::error::AuditError;
use super::files::{ListError, MAX_SEGMENT, count_segments, segment_path};
use crate::SecurityProvider;
use crate::disk::{self, Disk, DiskFile, HostDisk, Lock, LockError};

const LOCK_FILE: &str = "writer.lock";
/// More than this waits in memory only while the disk is full.
const MAX_PENDING: usize = 4 * 1024 * 1024;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// The identity's operational certificate, for the headers of new segments. A change starts a new segment.
    pub certificate: Option<Vec<u8>>,
    /// Where the log ended at the store's last commit ([`crate::store::Store::audit_head`]): a log that ends before
    /// it was truncated.
    pub durable: Option<ChainHead>,
    /// A new segment starts once the current one has reached this size, in bytes.
    pub segment_bytes: u64,
    /// Public keys of this identity before its last rotation, under which the tail may be signed.
    pub former_keys: Vec<Vec<u8>>,
    /// The disk it is on.
    pub disk: Arc<dyn Disk>,
}

impl Default for AuditOptions {
    /// No certificate, no known end, segments of 4 MiB (about 1,000 entries), the host's file system.
    fn default() -> Self {
        Self {
            certificate: None,
            durable: None,
            segment_bytes: 4 * 1024 * 1024,
            former_keys: Vec::new(),
            disk: Arc::new(HostDisk),
        }
    }
}

/// An unfinished write that was cut off when the log was opened. The log records it as its next entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The segment.
    pub segment: u64,
    /// Where the last whole record ends, in bytes.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
}

/// A hash-chained log, each entry signed by the provider's identity (invariant I6).
pub struct ChainedAuditLogger {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    // Dropping it releases it.
    _lock: Lock,
    provider: Arc<dyn SecurityProvider>,
    signer: Fingerprint,
    log_id: PeerId,
    certificate: Option<Vec<u8>>,
    segment_bytes: u64,
    segment: Segment,
    head: ChainHead,
    pending: Vec<u8>,
    repair: Option<Repair>,
    unrecorded: Option<Repair>,
    stopped: Option<String>,
}

struct Segment {
    number: u64,
    /// `None` until the segment's first group is written.
    file: Option<Box<dyn DiskFile>>,
    written: u64,
    /// The next entry starts a new segment.
    full: bool,
}

impl ChainedAuditLogger {
    /// Opens the log of `log_id` in `directory` (created with mode 0700 if missing) and verifies its last two segments.
    ///
    /// Only what a crash can leave is repaired: an incomplete last record, and beyond [`AuditOptions::durable`] also a
    /// garbled one. Anything else is refused.
    pub fn new_signed(
        directory: &Path,
        provider: Arc<dyn SecurityProvider>,
        log_id: PeerId,
        options: AuditOptions,
    ) -> Result<Self, AuditError> {
        disk::ensure_dir(&*options.disk, directory)?;
        let lock = lock(&*options.disk, directory)?;
        let identity = provider.identity();
        let signer = signer_fingerprint(identity.set, &identity.signing_key);
        let tail = Tail::open(directory, &*provider, &log_id, &options)?;
        Ok(Self {
            disk: options.disk,
            directory: directory.into(),
            _lock: lock,
            signer,
            log_id,
            certificate: options.certificate,
            segment_bytes: options.segment_bytes,
            segment: tail.segment,
            head: tail.head,
            pending: Vec::new(),
            repair: tail.repair.clone(),
            unrecorded: tail.repair,
            stopped: None,
            provider,
        })
    }

    /// Where the log ends, entries not yet synced included.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// What was cut off when the log was opened.
    pub fn repair(&self) -> Option<&Repair> {
        self.repair.as_ref()
    }

    /// Signs an entry and keeps it for [`ChainedAuditLogger::sync`].
    pub fn append(&mut self, time: UnixTime, event: AuditEvent) -> Result<(), AuditError> {
        if let Some(repair) = self.unrecorded.take() {
            let Repair { segment, offset, bytes } = repair;
            let detail = format!(
                "audit log: cut an unfinished write of {bytes} bytes at byte {offset} of segment {segment}"
            );
            self.append_entry(time, AuditEvent::new(AuditKind::StoreError, None, &detail))?;
        }
        self.append_entry(time, event)?;
        if self.pending.len() <= MAX_PENDING {
            return Ok(());
        }
        match self.sync() {
            Ok(_) | Err(AuditError::DiskFull) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes every entry so far durable and gives the log's end. With [`AuditError::DiskFull`] the entries stay in
    /// memory, to be synced again; after any other error the log must be opened anew.
    pub fn sync(&mut self) -> Result<ChainHead, AuditError> {
        if let Some(reason) = &self.stopped {
            return Err(AuditError::Stopped(reason.clone()));
        }
        if self.pending.is_empty() {
            return Ok(self.head);
        }
        match self.write_pending().map_err(AuditError::from) {
            Ok(()) => {}
            Err(AuditError::DiskFull) => return Err(AuditError::DiskFull),
            Err(error) => {
                // After a failed sync nobody can say what the disk holds.
                self.stopped = Some(error.to_string());
                return Err(error);
            }
        }
        self.segment.written += self.pending.len() as u64;
        self.segment.full = self.segment.written >= self.segment_bytes;
        self.pending.clear();
        Ok(self.head)
    }

    fn append_entry(&mut self, time: UnixTime, event: AuditEvent) -> Result<(), AuditError> {
        let mut records = Vec::new();
        let mut hash = self.head.hash;
        // A segment's first group is written with its header, as one new file.
        let starts = self.segment.full && self.pending.is_empty();
        if starts {
            let identity = self.provider.identity();
            let header = SegmentHeader {
                log_id: self.log_id.clone(),
                segment: self.segment.number + 1,
                first_seq: self.head.seq + 1,
                previous: hash,
                class: self.provider.signer_class(),
                set: identity.set,
                public_key: identity.signing_key.clone(),
                certificate: self.certificate.clone(),
            };
            hash = self.sign(&header, &mut records)?;
        }
        let seq = self.head.seq + 1;
        let entry = AuditEntry { log_id: self.log_id.clone(), seq, previous: hash, time, event };
        let hash = self.sign(&entry, &mut records)?;
        if starts {
            self.segment = Segment { number: self.segment.number + 1, file: None, written: 0, full: false };
        }
        self.head = ChainHead { seq, hash };
        self.pending.append(&mut records);
        Ok(())
    }

    /// Signs and frames an object; gives what the next record chains to.
    fn sign<T>(&self, object: &T, records: &mut Vec<u8>) -> Result<Digest, AuditError>
    where
        T: for<'a> SignedObject<Context<'a> = &'a PeerId>,
    {
        let set = self.provider.identity().set;
        let unsigned = ToBeSigned::new(object, set, self.signer, &&self.log_id);
        let response = self.provider.execute(ProviderRequest::Sign(unsigned.structure().clone()))?;
        let ProviderResponse::Signature(signature) = response else {
            return Err(ProviderFailure::Unavailable.into());
        };
        let record = unsigned.assemble(&signature).ok_or(ProviderFailure::Unavailable)?;
        frame(&record, records);
        let mut payload = Writer::new();
        object.encode(&mut payload);
        Ok(record_hash(&payload.finish()))
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let Segment { number, file, written, .. } = &mut self.segment;
        if let Some(file) = file {
            if let Err(error) = file.write_all_at(&self.pending, *written) {
                // A verifier should see no half record while the disk is full; the next try overwrites it anyway.
                let _ = file.set_len(*written);
                return Err(error);
            }
            return file.sync();
        }
        let path = segment_path(&self.directory, *number);
        disk::write_atomically(&*self.disk, &path, &self.pending)?;
        *file = Some(self.disk.open(&path)?);
        Ok(())
    }
}

impl Drop for ChainedAuditLogger {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever needs to know syncs first.
        let _ = self.sync();
    }
}

fn lock(disk: &dyn Disk, directory: &Path) -> Result<Lock, AuditError> {
    disk.lock(&directory.join(LOCK_FILE), "").map_err(|error| match error {
        LockError::Held(_) => AuditError::Locked { directory: directory.into() },
        LockError::Io(error) => error.into(),
    })
}

/// What the check at start-up found.
struct Tail {
    segment: Segment,
    head: ChainHead,
    repair: Option<Repair>,
}

impl Tail {
    fn open(
        directory: &Path,
        provider: &dyn SecurityProvider,
        log_id: &PeerId,
        options: &AuditOptions,
    ) -> Result<Self, AuditError> {
        let disk = &*options.disk;
        let count = count_segments(disk, directory).map_err(|error| match error {
            ListError::Missing(path) => AuditError::MissingSegment { path },
            ListError::Io(error) => error.into(),
        })?;
        let durable_seq = options.durable.map_or(0, |head| head.seq);
        if count == 0 {
            if durable_seq > 0 {
                return Err(AuditError::Truncated { expected: durable_seq, found: 0 });
            }
            let head = ChainHead { seq: 0, hash: Digest([0; Digest::LEN]) };
            let segment = Segment { number: 0, file: None, written: 0, full: true };
            return Ok(Self { segment, head, repair: None });
        }

        let mut check = TailCheck { provider, log_id, options, replaced: false, current: false };
        let mut verifier = match count {
            1 => LogVerifier::new(default_backend()),
            _ => LogVerifier::resume(default_backend()),
        };
        if count > 1 {
            let path = segment_path(directory, count - 1);
            let bytes = disk.read(&path, MAX_SEGMENT)?;
            check.verify(&mut verifier, &bytes).map_err(|error| AuditError::Damaged { path, error })?;
        }
        let path = segment_path(directory, count);
        let bytes = disk.read(&path, MAX_SEGMENT)?;
        let length = match check.verify(&mut verifier, &bytes) {
            Ok(length) => length,
            Err(error) if error.offset > 0 && error.seq > durable_seq && options.durable.is_some() => {
                error.offset
            }
            Err(error) => return Err(AuditError::Damaged { path, error }),
        };
        let head = verifier.head();
        if head.seq < durable_seq {
            return Err(AuditError::Truncated { expected: durable_seq, found: head.seq });
        }
        if check.replaced {
            return Err(AuditError::Replaced { seq: durable_seq });
        }
        let mut file = disk.open(&path)?;
        let cut = bytes.len() - length;
        let repair = (cut > 0).then_some(Repair { segment: count, offset: length as u64, bytes: cut as u64 });
        if repair.is_some() {
            file.set_len(length as u64)?;
        }
        // A process that died may have left entries, or a segment's name, in the system's memory alone.
        file.sync()?;
        disk.sync_dir(directory)?;
        let written = length as u64;
        let full = !check.current || written >= options.segment_bytes;
        Ok(Self { segment: Segment { number: count, file: Some(file), written, full }, head, repair })
    }
}

struct TailCheck<'a> {
    provider: &'a dyn SecurityProvider,
    log_id: &'a PeerId,
    options: &'a AuditOptions,
    replaced: bool,
    /// The last header is what this writer would write.
    current: bool,
}

impl TailCheck<'_> {
    /// The length of the segment's whole records.
    fn verify(&mut self, verifier: &mut LogVerifier, bytes: &[u8]) -> Result<usize, Box<SegmentError>> {
        let Self { provider, log_id, options, replaced, current } = self;
        let identity = provider.identity();
        let mut foreign_log = None;
        let mut trusted = |header: &SegmentHeader| {
            if header.log_id != **log_id {
                foreign_log = Some(header.log_id.clone());
                return false;
            }
            let own = header.set == identity.set && header.public_key == identity.signing_key;
            *current =
                own && header.class == provider.signer_class() && header.certificate == options.certificate;
            own || options.former_keys.contains(&header.public_key)
        };
        let mut visit = |_: &SegmentHeader, entry: &AuditEntry, hash: Digest| {
            if let Some(durable) = options.durable {
                *replaced |= durable.seq == entry.seq && durable.hash != hash;
            }
        };
        let result = verifier.segment(bytes, &mut trusted, &mut visit);
        match (result, foreign_log) {
            (Err(mut error), Some(found)) => {
                error.defect = Defect::WrongLog { found };
                Err(error)
            }
            (result, _) => result.map(|summary| summary.length),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "tests.rs"]
mod tests;
