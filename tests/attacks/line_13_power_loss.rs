//! Power loss between any two writes never bricks a store: the next start finds the state before the change or after it.
//! Here with SQLite's own files; the project's own ones are explored in `tests/power_loss`.

use std::fs;
use std::path::Path;

use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::store::{Change, RecordKind, Row};
use pqc_iiot_provider::datadir::DataFile;
use pqc_iiot_provider::software::Unlock;
use pqc_iiot_provider::store::{SqliteStore, Store};
use pqc_iiot_provider::{DataDir, SoftwareProvider};

/// How far apart the moments are at which the power fails, in bytes written.
const SECTOR: usize = 1024;

fn put(kind: RecordKind, key: u8, value: &[u8]) -> Change {
    Change::Put { kind, key: vec![key], value: value.to_vec() }
}

/// What one message does on its way: accepted, sealed, confirmed; received with its window, consumed.
fn transactions() -> Vec<Vec<Change>> {
    let long = [7; 9_000];
    vec![
        vec![put(RecordKind::Outbox, 1, b"plain")],
        vec![put(RecordKind::Outbox, 1, &long), put(RecordKind::SendCeiling, 0, b"1024")],
        vec![Change::Delete { kind: RecordKind::Outbox, key: vec![1] }],
        vec![
            put(RecordKind::ReplayWindow, 0, b"window"),
            put(RecordKind::Received, 0, b"heard"),
            put(RecordKind::Inbox, 1, &long),
        ],
        vec![
            Change::Delete { kind: RecordKind::Inbox, key: vec![1] },
            put(RecordKind::Application, 0, b"its effect"),
        ],
    ]
}

fn rows(store: &mut SqliteStore) -> Vec<Row> {
    let mut rows = store.load().unwrap();
    rows.sort_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
    rows
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    // The shared-memory index is not on the disk: SQLite makes it anew.
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    files
        .filter(|entry| !name(entry).ends_with("-shm"))
        .map(|entry| (name(&entry), fs::read(entry.path()).unwrap()))
        .collect()
}

/// The disk as it is while `before` becomes `after`: `written` bytes of what changed got there.
fn in_between(before: &[(String, Vec<u8>)], after: &(String, Vec<u8>), written: usize) -> Vec<u8> {
    let old = before.iter().find(|(name, _)| *name == after.0).map_or(&[][..], |(_, old)| old);
    let first_change = old.iter().zip(&after.1).take_while(|(a, b)| a == b).count();
    let reached = (first_change + written).min(after.1.len());
    let mut disk = old.to_vec();
    disk.resize(disk.len().max(reached), 0);
    disk[..reached].copy_from_slice(&after.1[..reached]);
    disk
}

#[test]
fn the_next_start_finds_the_old_or_the_new_state() {
    let parent = tempfile::tempdir().unwrap();
    let data = DataDir::create(parent.path().join("press")).unwrap();
    let unlock = Unlock::KeyFile(Secret::new([13; 32]));
    let (set, kem) = (SignatureSet::Ed25519MlDsa65, Kem::XWing);
    let provider = SoftwareProvider::create(&data, &unlock, set, kem).unwrap();
    let name = DataFile::Store.name();
    let mut store = SqliteStore::create(&data.file(DataFile::Store), &provider).unwrap();
    let crashed = parent.path().join("crashed");
    let (mut points, mut old_states, mut new_states) = (0, 0, 0);

    for changes in transactions() {
        let (before, old) = (files(data.path()), rows(&mut store));
        store.commit(&changes).unwrap();
        let (after, new) = (files(data.path()), rows(&mut store));
        assert!(old != new);
        let changed: Vec<_> = after.iter().filter(|file| !before.contains(file)).collect();
        assert_eq!(changed.len(), 1, "a commit appends to one file, the write-ahead log");
        let mut written = 0;
        loop {
            let _ = fs::remove_dir_all(&crashed);
            fs::create_dir(&crashed).unwrap();
            for (name, content) in &before {
                fs::write(crashed.join(name), content).unwrap();
            }
            let (changed_name, content) = changed[0];
            let disk = in_between(&before, changed[0], written);
            let complete = disk == *content;
            fs::write(crashed.join(changed_name), disk).unwrap();

            let mut restarted = SqliteStore::open(&crashed.join(name), &provider).unwrap();
            let found = rows(&mut restarted);
            assert!(found == old || found == new, "neither the old state nor the new one");
            assert!(!complete || found == new, "committed and synced, and lost all the same");
            points += 1;
            old_states += usize::from(found == old);
            new_states += usize::from(found == new);
            // And it goes on: another change, and another start.
            restarted.commit(&[put(RecordKind::TimeFloor, 0, b"later")]).unwrap();
            drop(restarted);
            let mut again = SqliteStore::open(&crashed.join(name), &provider).unwrap();
            assert_eq!(rows(&mut again).len(), found.len() + 1);
            if complete {
                break;
            }
            written += SECTOR;
        }
    }
    println!("{points} moments: {old_states} times the old state, {new_states} times the new one");
    assert!(points > 50 && old_states > 30 && new_states >= transactions().len(), "explored next to nothing");
}
