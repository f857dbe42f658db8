use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use pqc_iiot_core::audit::{AuditKind, ChainHead};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::store::{RecordKind, Row};

use super::*;
use crate::SoftwareProvider;
use crate::audit::{AuditOptions, VerifyOptions, verify_dir};
use crate::random::SeededRandom;
use crate::store::{MemoryStore, SqliteStore};

fn put(n: u64) -> Vec<Change> {
    let (key, value) = (n.to_be_bytes().to_vec(), vec![1]);
    vec![Change::Put { kind: RecordKind::Peer, key, value }]
}

fn event() -> AuditEvent {
    AuditEvent::new(AuditKind::ClientStarted, None, "test")
}

/// A memory store seen from outside, whose next commits can be made to fail or to wait.
#[derive(Clone, Default)]
struct Shared {
    store: Arc<Mutex<MemoryStore>>,
    failures: Arc<Mutex<Vec<StoreError>>>,
    gate: Arc<Mutex<()>>,
}

impl Shared {
    fn fail(&self, error: StoreError) {
        self.failures.lock().unwrap().push(error);
    }

    fn rows(&self) -> usize {
        self.store.lock().unwrap().load().unwrap().len()
    }
}

impl Store for Shared {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        self.store.lock().unwrap().load()
    }
    fn read(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.lock().unwrap().read(kind, key)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let _gate = self.gate.lock().unwrap();
        match self.failures.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => self.store.lock().unwrap().commit(changes),
        }
    }
    fn note_audit_head(&mut self, head: ChainHead) {
        self.store.lock().unwrap().note_audit_head(head);
    }
    fn audit_head(&self) -> Option<ChainHead> {
        self.store.lock().unwrap().audit_head()
    }
}

fn spawn(store: impl Store + 'static, audit: Option<ChainedAuditLogger>) -> (Writer, Receiver<Completion>) {
    let (sender, completions) = channel();
    let completed = Box::new(move |completion| drop(sender.send(completion)));
    (Writer::spawn(Box::new(store), audit, completed).unwrap(), completions)
}

#[test]
fn queued_batches_share_commits_and_complete_in_order() {
    let shared = Shared::default();
    let (writer, completions) = spawn(shared.clone(), None);
    let gate = shared.gate.lock().unwrap();
    for seq in 1..=500 {
        writer.submit(seq, UnixTime(0), put(seq), vec![]).unwrap();
    }
    drop(gate);
    writer.shutdown().unwrap();
    let durable: Vec<u64> = completions
        .iter()
        .map(|completion| match completion {
            Completion::Durable(seq) => seq,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(durable.is_sorted());
    assert_eq!(durable.last(), Some(&500));
    assert_eq!(shared.rows(), 500);
    // At most 256 in a commit; all but what was taken before the gate closed came in groups.
    let commits = shared.store.lock().unwrap().commits();
    assert!((2..400).contains(&commits), "{commits}");
}

#[test]
fn a_full_queue_gives_the_batch_back_and_never_blocks() {
    let shared = Shared::default();
    let (writer, completions) = spawn(shared.clone(), None);
    let gate = shared.gate.lock().unwrap();
    let mut accepted = 0;
    let back = loop {
        let batch = Batch { seq: accepted + 1, time: UnixTime(0), changes: put(accepted), events: vec![] };
        match writer.try_submit(batch) {
            Ok(()) => accepted += 1,
            Err(SubmitError::Full(batch)) => break batch,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(back.seq, accepted + 1);
    assert!(accepted <= (QUEUE + 2 * GROUP) as u64, "{accepted}");
    drop(gate);
    writer.shutdown().unwrap();
    assert_eq!(completions.iter().last(), Some(Completion::Durable(accepted)));
}

#[test]
fn a_full_disk_is_reported_and_waited_for() {
    let shared = Shared::default();
    shared.fail(StoreError::DiskFull);
    let (writer, completions) = spawn(shared.clone(), None);
    writer.submit(1, UnixTime(0), put(1), vec![]).unwrap();
    assert_eq!(completions.recv(), Ok(Completion::Waiting(StoreError::DiskFull.into())));
    assert_eq!(completions.recv(), Ok(Completion::Durable(1)));
    assert_eq!(shared.rows(), 1);
    writer.shutdown().unwrap();
}

#[test]
fn a_disk_still_full_at_shutdown_is_an_error() {
    let shared = Shared::default();
    for _ in 0..100 {
        shared.fail(StoreError::DiskFull);
    }
    let (writer, completions) = spawn(shared.clone(), None);
    // More than one group waits: closing must still be noticed.
    for seq in 1..=QUEUE as u64 / 2 {
        writer.submit(seq, UnixTime(0), put(seq), vec![]).unwrap();
    }
    assert!(matches!(completions.recv(), Ok(Completion::Waiting(_))));
    assert_eq!(writer.shutdown(), Err(StoreError::DiskFull.into()));
    assert_eq!(completions.iter().last(), Some(Completion::Failed(StoreError::DiskFull.into())));
    assert_eq!(shared.rows(), 0);
}

#[test]
fn after_a_lost_write_nothing_later_becomes_durable() {
    let shared = Shared::default();
    let error = StoreError::Io("input/output error".into());
    shared.fail(error.clone());
    let (writer, completions) = spawn(shared.clone(), None);
    writer.submit(1, UnixTime(0), put(1), vec![]).unwrap();
    assert_eq!(completions.recv(), Ok(Completion::Failed(error.clone().into())));
    // The thread is gone: later batches are refused, not swallowed.
    while writer.submit(2, UnixTime(0), put(2), vec![]).is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(writer.shutdown(), Err(error.into()));
    assert_eq!(shared.rows(), 0);
}

#[test]
fn audit_entries_are_on_disk_before_the_change_is_visible() {
    let parent = tempfile::tempdir().unwrap();
    let random = Box::new(SeededRandom::new(1));
    let set = SignatureSet::Ed25519MlDsa65;
    let provider = SoftwareProvider::ephemeral(default_backend(), set, Kem::XWing, random).unwrap();
    let provider = Arc::new(provider);
    let directory = parent.path().join("audit");
    let log_id = PeerId::new("gateway").unwrap();
    let open =
        |options| ChainedAuditLogger::new_signed(&directory, provider.clone(), log_id.clone(), options);
    let entries = || verify_dir(&directory, |_, _| true, VerifyOptions::default()).unwrap().entries;

    let mut shared = Shared::default();
    let mut log = open(AuditOptions::default()).unwrap();
    note_audit_end(&mut shared, &mut log).unwrap();
    shared.fail(StoreError::DiskFull);
    let (writer, completions) = spawn(shared.clone(), Some(log));
    writer.submit(1, UnixTime(7), put(1), vec![event(), event()]).unwrap();
    assert!(matches!(completions.recv(), Ok(Completion::Waiting(_))));
    assert_eq!((entries(), shared.rows()), (2, 0));
    assert_eq!(completions.recv(), Ok(Completion::Durable(1)));
    writer.shutdown().unwrap();
    assert_eq!((entries(), shared.rows()), (2, 1));

    // The store knows where the log ends, over a restart too.
    let path = parent.path().join("store.sqlite");
    let store = SqliteStore::create(&path, &*provider).unwrap();
    let (writer, _completions) = spawn(store, Some(open(AuditOptions::default()).unwrap()));
    writer.submit(1, UnixTime(8), vec![], vec![event()]).unwrap();
    writer.shutdown().unwrap();
    let head = SqliteStore::open(&path, &*provider).unwrap().audit_head().unwrap();
    assert_eq!(head.seq, 3);
    let options = AuditOptions { durable: Some(head), ..AuditOptions::default() };
    assert_eq!(open(options).unwrap().head(), head);
}

#[test]
fn a_read_sees_what_was_submitted_before_it() {
    let shared = Shared::default();
    let (writer, completions) = spawn(shared.clone(), None);
    let name = |key: &[u8]| RowKey { kind: RecordKind::Certificate, key: key.to_vec() };
    let gate = shared.gate.lock().unwrap();
    for seq in 1..=3 {
        let value = vec![seq as u8];
        let change = Change::Put { kind: RecordKind::Certificate, key: b"press".to_vec(), value };
        writer.submit(seq, UnixTime(0), vec![change], vec![]).unwrap();
        writer.read(seq, vec![name(b"press"), name(b"absent")]).unwrap();
    }
    drop(gate);
    writer.shutdown().unwrap();
    let mut answered = vec![];
    for completion in completions.iter() {
        if let Completion::Read { token, rows } = completion {
            assert_eq!(rows.len(), 1);
            assert!(u64::from(rows[0].value[0]) >= token, "an older row than was submitted");
            answered.push(token);
        }
    }
    assert_eq!(answered, [1, 2, 3]);
}

#[test]
fn a_row_that_is_never_read_so_stops_the_writer_with_its_name() {
    let (writer, completions) = spawn(Shared::default(), None);
    writer.read(1, vec![RowKey { kind: RecordKind::Peer, key: vec![] }]).unwrap();
    let error = WriterError::from(StoreError::LoadedAtStart);
    assert_eq!(completions.recv(), Ok(Completion::Failed(error.clone())));
    assert_eq!(writer.shutdown(), Err(error));
}

#[test]
fn dropping_the_writer_flushes() {
    let shared = Shared::default();
    let (writer, completions) = spawn(shared.clone(), None);
    for seq in 1..=50 {
        writer.submit(seq, UnixTime(0), put(seq), vec![]).unwrap();
    }
    drop(writer);
    assert_eq!(completions.iter().last(), Some(Completion::Durable(50)));
    assert_eq!(shared.rows(), 50);
}
