//! The audit log (`pqc_iiot_provider::audit`) under the writer thread and a store whose commits are atomic.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use pqc_iiot_core::audit::{AuditEvent, AuditKind, ChainHead};
use pqc_iiot_core::ids::{Digest, PeerId};
use pqc_iiot_core::store::{Change, RecordKind, Row};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_provider::audit::{AuditError, AuditOptions, ChainedAuditLogger, VerifyOptions, verify_dir_on};
use pqc_iiot_provider::store::{Completion, Store, StoreError, Writer, note_audit_end};
use pqc_iiot_provider::{DataDir, SecurityProvider};
use pqc_iiot_sim::power::{CrashDisk, Explorer, Skip};

use crate::signer::SteadySigner;
use crate::{caught, nothing_broken};

/// What the log's user relies on.
#[derive(Clone, Default, Hash)]
struct Promised {
    /// The last entry that the logger called durable.
    synced: u64,
    /// The end of the log as the store committed it.
    committed: Option<(u64, [u8; Digest::LEN])>,
}

type LogDisk = CrashDisk<Promised>;

fn head((seq, hash): (u64, [u8; Digest::LEN])) -> ChainHead {
    ChainHead { seq, hash: Digest(hash) }
}

/// A store that commits at once and entirely, as SQLite is trusted to do.
struct AtomicStore {
    disk: LogDisk,
    noted: Option<ChainHead>,
}

impl AtomicStore {
    fn new(disk: &LogDisk) -> Self {
        Self { disk: disk.clone(), noted: disk.facts().committed.map(head) }
    }
}

impl Store for AtomicStore {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: RecordKind, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    fn commit(&mut self, _changes: &[Change]) -> Result<(), StoreError> {
        let noted = self.noted.map(|head| (head.seq, head.hash.0));
        self.disk.promise(|facts| facts.committed = noted);
        Ok(())
    }

    fn note_audit_head(&mut self, head: ChainHead) {
        self.noted = Some(head);
        self.disk.promise(|facts| facts.synced = head.seq);
    }

    fn audit_head(&self) -> Option<ChainHead> {
        self.disk.facts().committed.map(head)
    }
}

fn event() -> AuditEvent {
    AuditEvent::new(AuditKind::ReplayRefused, Some(PeerId::new("press-7").unwrap()), "counter 17")
}

/// Opens the log as a client does. A header takes about 5.5 KB and an entry 3.6 KB: a segment is full with its second
/// entry.
fn open(disk: &LogDisk, signer: &Arc<SteadySigner>) -> Result<(DataDir, ChainedAuditLogger), String> {
    let promised = disk.facts();
    let data = DataDir::create_on(Arc::new(disk.clone()), "/data").map_err(|error| error.to_string())?;
    let directory = data.audit_directory().map_err(|error| error.to_string())?;
    let options = AuditOptions {
        durable: promised.committed.map(head),
        segment_bytes: 12_000,
        disk: Arc::new(disk.clone()),
        ..AuditOptions::default()
    };
    let log_id = PeerId::new("gateway").unwrap();
    let log = ChainedAuditLogger::new_signed(&directory, Arc::clone(signer) as _, log_id, options)
        .map_err(|error| format!("the log does not open: {error}"))?;
    if log.head().seq < promised.synced {
        return Err(format!("entry {} was durable, and {} is the last", promised.synced, log.head().seq));
    }
    Ok((data, log))
}

/// Whatever happened before, the log verifies from its first entry to the one that the store knows.
fn verify(disk: &LogDisk, signer: &SteadySigner) -> Result<(), String> {
    let own = &signer.identity().signing_key;
    let options = VerifyOptions { evidence: false, head: disk.facts().committed.map(head) };
    let report = verify_dir_on(disk, Path::new("/data/audit"), |_, key| key == own, options);
    let report = report.map_err(|error| format!("the log does not verify: {error}"))?;
    if report.unfinished_bytes > 0 || report.entries != report.head.seq {
        return Err(format!("{} entries, {} bytes unfinished", report.entries, report.unfinished_bytes));
    }
    Ok(())
}

/// The real writer thread: three groups, which make a segment, append to one, and start the next.
fn write_groups(disk: &LogDisk, signer: &Arc<SteadySigner>) -> Result<(), String> {
    let (_data, log) = open(disk, signer)?;
    let (sender, completions) = channel();
    let completed = Box::new(move |completion| drop(sender.send(completion)));
    let store = Box::new(AtomicStore::new(disk));
    let writer = Writer::spawn(store, Some(log), completed).map_err(|error| error.to_string())?;
    for seq in 1..=3 {
        writer.submit(seq, UnixTime(1), vec![], vec![event()]).map_err(|error| error.to_string())?;
        match completions.recv() {
            Ok(Completion::Durable(_)) => {}
            other => return Err(format!("{other:?}")),
        }
    }
    writer.shutdown().map_err(|error| error.to_string())?;
    verify(disk, signer)
}

/// A commit without an audit event: the store notes the log's end as it was found.
fn commit_without_event(disk: &LogDisk, signer: &Arc<SteadySigner>) -> Result<(), String> {
    let (_data, log) = open(disk, signer)?;
    let store = Box::new(AtomicStore::new(disk));
    let writer = Writer::spawn(store, Some(log), Box::new(|_| {})).map_err(|error| error.to_string())?;
    writer.submit(1, UnixTime(1), vec![], vec![]).map_err(|error| error.to_string())?;
    writer.submit(2, UnixTime(1), vec![], vec![event()]).map_err(|error| error.to_string())?;
    writer.shutdown().map_err(|error| error.to_string())
}

#[test]
fn every_sector_and_name_lost_or_torn_leaves_a_log_that_opens() {
    let signer = SteadySigner::new();
    let explorer = Explorer { crashes: 1, exhaustive: 10, samples: 500, ..Explorer::default() };
    let report = explorer.explore(Promised::default(), |disk| write_groups(disk, &signer));
    nothing_broken("audit log, sectors of 512 bytes, one crash", &report);
}

#[test]
fn a_second_crash_during_the_recovery_loses_nothing_either() {
    let signer = SteadySigner::new();
    let explorer = Explorer { crashes: 2, sector: 4096, samples: 8, ..Explorer::default() };
    let report = explorer.explore(Promised::default(), |disk| write_groups(disk, &signer));
    nothing_broken("audit log, sectors of 4096 bytes, two crashes", &report);
}

#[test]
fn an_end_that_the_store_notes_is_on_the_disk() {
    let signer = SteadySigner::new();
    let explorer = Explorer { crashes: 3, sector: 4096, samples: 8, ..Explorer::default() };
    let report = explorer.explore(Promised::default(), |disk| commit_without_event(disk, &signer));
    nothing_broken("audit log, commits without events, three crashes", &report);
}

#[test]
fn a_full_disk_that_loses_power_leaves_a_log_that_opens() {
    let signer = SteadySigner::new();
    let explorer = Explorer { crashes: 2, sector: 4096, samples: 8, ..Explorer::default() };
    let report = explorer.explore(Promised::default(), |disk| {
        let (_data, mut log) = open(disk, &signer)?;
        let mut store = AtomicStore::new(disk);
        note_audit_end(&mut store, &mut log).map_err(|error| error.to_string())?;
        for _ in 0..2 {
            log.append(UnixTime(1), event()).map_err(|error| error.to_string())?;
            disk.fill(true);
            if log.sync() != Err(AuditError::DiskFull) {
                return Err("the full disk was not noticed".into());
            }
            disk.fill(false);
            store.note_audit_head(log.sync().map_err(|error| error.to_string())?);
            store.commit(&[]).unwrap();
        }
        verify(disk, &signer)
    });
    nothing_broken("audit log, full disk, two crashes", &report);
}

#[test]
fn mutant_segments_are_renamed_before_they_are_synced() {
    let signer = SteadySigner::new();
    let explorer = Explorer { crashes: 1, skip: Skip { files: true, directories: false }, ..coarse() };
    let report = explorer.explore(Promised::default(), |disk| write_groups(disk, &signer));
    caught("a segment is renamed before it is synced", &report);
}

#[test]
fn mutant_the_directory_is_not_synced() {
    let signer = SteadySigner::new();
    let explorer = Explorer { crashes: 1, skip: Skip { files: false, directories: true }, ..coarse() };
    let report = explorer.explore(Promised::default(), |disk| write_groups(disk, &signer));
    caught("a segment's directory is not synced", &report);
}

#[test]
fn mutant_the_store_notes_the_end_before_the_log_is_synced() {
    let signer = SteadySigner::new();
    let explorer = Explorer { crashes: 1, ..coarse() };
    let report = explorer.explore(Promised::default(), |disk| {
        let (_data, mut log) = open(disk, &signer)?;
        let mut store = AtomicStore::new(disk);
        log.append(UnixTime(1), event()).map_err(|error| error.to_string())?;
        store.note_audit_head(log.head());
        store.commit(&[]).unwrap();
        log.sync().map(drop).map_err(|error| error.to_string())
    });
    caught("the store notes the end of the log before it is synced", &report);
}

fn coarse() -> Explorer {
    Explorer { sector: 4096, samples: 8, ..Explorer::default() }
}
