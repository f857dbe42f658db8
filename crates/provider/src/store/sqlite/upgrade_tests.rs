use std::fs;

use pqc_iiot_core::codec::{Reader, Writer};
use pqc_iiot_core::delivery::LossReason;
use pqc_iiot_core::endpoint::PeerRecord;

use super::tests::{Fixture, put};
use super::*;
use crate::SoftwareProvider;
use crate::software::Unlock;
use crate::store::{Damage, RowName};

/// A data directory that a release of format 1 left behind: a trusted peer with a bundle, and a revoked one.
struct Format1 {
    directory: tempfile::TempDir,
    provider: SoftwareProvider,
}

impl Format1 {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/format-1");
        let home = directory.path().join("gateway");
        let data = crate::datadir::DataDir::create(&home).unwrap();
        for name in ["identity.key", "store.sqlite"] {
            fs::copy(source.join("gateway").join(name), home.join(name)).unwrap();
        }
        fs::copy(source.join("gateway.key"), directory.path().join("gateway.key")).unwrap();
        let key = directory.path().join("gateway.key");
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let unlock = Unlock::from_key_file(&key).unwrap();
        let provider = SoftwareProvider::open(&data, &unlock).unwrap();
        Self { directory, provider }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("gateway/store.sqlite")
    }

    fn open(&self, path: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(path, &self.provider)
    }

    fn keys(&self) -> Keys {
        Keys::new(&open::storage_key(&self.provider).unwrap())
    }

    fn version(path: &Path) -> u32 {
        let connection = Connection::open(path).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }
}

fn assert_upgraded(store: &mut SqliteStore) {
    let rows = store.load().unwrap();
    let peers: Vec<_> = rows.iter().filter(|row| row.kind == RecordKind::Peer).collect();
    assert_eq!(peers.len(), 2);
    for row in peers {
        assert!(row.value.len() <= 400, "{} bytes", row.value.len());
        let record = PeerRecord::decode(&row.value).unwrap();
        assert_eq!(record.revoked, row.key == b"lathe");
        assert_eq!(record.bundle_seq(), 1);
        for kind in [RecordKind::Certificate, RecordKind::Bundle] {
            assert!(store.read(kind, &row.key).unwrap().unwrap().len() > 3_000);
        }
    }
    assert!(rows.len() > 5, "other rows stay");
}

#[test]
fn a_store_of_format_1_is_upgraded_once_and_stays_whole() {
    let old = Format1::new();
    let mut store = old.open(&old.path()).unwrap();
    let generation = store.generation();
    assert_upgraded(&mut store);
    store.commit(&[put(RecordKind::Peer, "another", "1")]).unwrap();
    drop(store);
    assert_eq!(Format1::version(&old.path()), FORMAT);
    let mut again = old.open(&old.path()).unwrap();
    assert_eq!(again.generation(), generation + 1);
    assert_eq!(again.verify_lazy(), Ok(4));
}

#[test]
fn a_crash_at_any_step_of_an_upgrade_leaves_the_old_store() {
    let old = Format1::new();
    let connection = open::connect(&old.path()).unwrap();
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT").unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").unwrap();
    // So small that changed pages are in the log before the commit.
    connection.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1").unwrap();
    let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate).unwrap();
    let mut random = SystemRandom::new().unwrap();
    assert!(migrate::rewrite(&transaction, &old.keys(), &mut random, migrate::FORMAT_1).is_ok());
    // Database and log as a killed process leaves them, the log cut after any number of its frames.
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let frames = fs::read(log(&old.path())).unwrap();
    assert!(frames.len() > 3 * 4096, "nothing was spilled");
    let crashed = old.directory.path().join("gateway/crashed.sqlite");
    for cut in (0..=frames.len()).step_by(4096 + 24).chain([frames.len()]) {
        fs::copy(old.path(), &crashed).unwrap();
        fs::write(log(&crashed), &frames[..cut]).unwrap();
        assert_eq!(Format1::version(&crashed), 1, "cut at {cut}");
        assert_upgraded(&mut old.open(&crashed).unwrap());
    }
    // And as one leaves them that could roll back.
    drop(transaction);
    drop(connection);
    assert_eq!(Format1::version(&old.path()), 1);
    assert_upgraded(&mut old.open(&old.path()).unwrap());
}

#[test]
fn a_damaged_store_of_format_1_is_not_upgraded() {
    let old = Format1::new();
    let connection = Connection::open(old.path()).unwrap();
    connection.execute("DELETE FROM record WHERE kind = 3 AND key = CAST('lathe' AS BLOB)", []).unwrap();
    drop(connection);
    let name = RowName { table: RecordKind::Peer as u8, key: b"lathe".to_vec() };
    assert_eq!(old.open(&old.path()).err(), Some(StoreError::Damaged(Damage::Removed(name))));
    assert_eq!(Format1::version(&old.path()), 1);
}

#[test]
fn a_row_that_an_upgrade_does_not_understand_leaves_the_store_as_it_was() {
    let old = Format1::new();
    let (keys, mut random) = (old.keys(), SystemRandom::new().unwrap());
    let connection = Connection::open(old.path()).unwrap();
    let mut head = open::head(&connection, &keys, migrate::FORMAT_1).ok().unwrap();
    let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate).unwrap();
    // The last of the peers, so that others were rewritten before.
    let kind = RecordKind::Peer;
    write(&transaction, &keys, &mut random, &mut head, kind, b"zz", Some(b"no peer")).unwrap();
    let sealed = keys.rows.seal(&mut random, &head_context(migrate::FORMAT_1), &head.encode());
    transaction.execute("UPDATE head SET sealed = ?1", params![sealed]).unwrap();
    transaction.commit().unwrap();
    drop(connection);
    let row = RowName { table: kind as u8, key: b"zz".to_vec() };
    // Twice, as nothing of the attempt is left.
    for _ in 0..2 {
        let row = row.clone();
        assert_eq!(old.open(&old.path()).err(), Some(StoreError::Upgrade { format: FORMAT, row }));
    }
    assert_eq!(Format1::version(&old.path()), 1);
}

/// A message's row as format 2 wrote it; sealed, or a report, if asked.
fn outbox_2(number: u64, sealed: bool, lost: Option<u64>) -> Change {
    let mut row = Writer::new();
    row.array(9).text("press").uint(2).text("plant/x");
    let mut body = Writer::new();
    body.map(2).int(1).uint(0).int(2).bytes(&[7; 100]);
    let body = body.finish();
    match lost {
        None => row.bytes(&body).null(),
        Some(count) => row.null().array(2).uint(count).uint(LossReason::Aged as u64),
    };
    row.uint(0).uint(1_900_000_000);
    if sealed {
        row.array(2).bytes(&[9; 8]).uint(41).array(6).bytes(&[1; 16]).uint(77).bytes(&[2; 16]).uint(0).null();
        row.bytes(&[5; 4_000]);
    } else {
        row.null().null();
    }
    Change::Put { kind: RecordKind::Outbox, key: number.to_be_bytes().into(), value: row.finish() }
}

/// Of a body: whether its boot is that of the message under way, and its first and last number.
fn name(body: &[u8]) -> (bool, u64, u64) {
    let mut reader = Reader::new(body).unwrap();
    let _ = reader.map().unwrap();
    reader.key(1).unwrap();
    let report = reader.uint().unwrap() == 2;
    if report {
        reader.key(9).unwrap();
    } else {
        reader.key(2).unwrap();
        assert_eq!(reader.bytes().unwrap(), [7; 100]);
        reader.key(7).unwrap();
    }
    let _ = reader.array().unwrap();
    let known = reader.bytes_of::<8>().unwrap() == [9; 8];
    let first = reader.uint().unwrap();
    (known, first, if report { reader.uint().unwrap() } else { first })
}

/// A store of format 2 with a message under way, two that wait, and a report of four.
fn format_2() -> Fixture {
    let fixture = Fixture::new();
    let mut store = SqliteStore::open(&fixture.path(), &fixture.provider).unwrap();
    let rows = [(1, true, None), (2, false, None), (3, false, Some(4)), (4, true, Some(1)), (5, false, None)];
    store.commit(&rows.map(|(number, sealed, lost)| outbox_2(number, sealed, lost))).unwrap();
    let mut heard = Writer::new();
    heard.array(2);
    for boot in [[1; 8], [2; 8]] {
        heard.array(3).bytes(&boot).uint(7).array(2).uint(9).uint(12);
    }
    let key = b"\x02press".to_vec();
    store.commit(&[Change::Put { kind: RecordKind::Received, key, value: heard.finish() }]).unwrap();
    let head =
        store.keys.rows.seal(&mut store.random, &head_context(migrate::FORMAT_2), &store.head.encode());
    store.connection.execute("UPDATE head SET sealed = ?1", params![head]).unwrap();
    store.connection.pragma_update(None, "user_version", migrate::FORMAT_2).unwrap();
    drop(store);
    fixture
}

#[test]
fn a_store_of_format_2_is_upgraded_and_names_every_message() {
    let fixture = format_2();
    // Twice: the second time there is nothing to do.
    for _ in 0..2 {
        let mut store = SqliteStore::open(&fixture.path(), &fixture.provider).unwrap();
        let rows = store.load().unwrap();
        let packets: Vec<_> = rows.iter().filter(|row| row.kind == RecordKind::Packet).collect();
        assert_eq!(packets.len(), 1, "a report's packet says what nobody reads any more");
        assert_eq!(
            (packets[0].key.as_slice(), packets[0].value.len() > 4_000),
            (&1_u64.to_be_bytes()[..], true)
        );
        let heard = rows.iter().filter(|row| row.kind == RecordKind::Received).map(|row| {
            let mut reader = Reader::new(&row.value).unwrap();
            reader.array_of(5).unwrap();
            (row.key.clone(), [0; 2].map(|_| reader.uint().unwrap()))
        });
        let key = |boot: u8| [&[2], &[boot; 8][..], b"press"].concat();
        assert_eq!(heard.collect::<Vec<_>>(), [(key(1), [1, 7]), (key(2), [0, 7])]);
        let names = rows.iter().filter(|row| row.kind == RecordKind::Outbox).map(|row| {
            assert!(row.value.len() < 250, "nothing is in it twice");
            let mut reader = Reader::new(&row.value).unwrap();
            reader.array_of(7).unwrap();
            assert_eq!((reader.text(9).unwrap(), reader.uint().unwrap()), ("press".into(), 2));
            assert_eq!(reader.text(9).unwrap(), "plant/x");
            assert_eq!((reader.uint().unwrap(), reader.uint().unwrap()), (0, 1_900_000_000));
            name(reader.bytes().unwrap())
        });
        let expected = [(true, 41, 41), (false, 1, 1), (false, 2, 5), (false, 6, 6), (false, 7, 7)];
        assert_eq!(names.collect::<Vec<_>>(), expected);
    }
    assert_eq!(Format1::version(&fixture.path()), FORMAT);
}

#[test]
fn a_store_of_format_2_with_a_row_of_no_format_stays_as_it_was() {
    let fixture = format_2();
    let connection = Connection::open(fixture.path()).unwrap();
    let keys = Keys::new(&open::storage_key(&fixture.provider).unwrap());
    let mut head = open::head(&connection, &keys, migrate::FORMAT_2).ok().unwrap();
    let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate).unwrap();
    let mut random = SystemRandom::new().unwrap();
    let key = 9_u64.to_be_bytes();
    write(&transaction, &keys, &mut random, &mut head, RecordKind::Outbox, &key, Some(b"no message"))
        .unwrap();
    let sealed = keys.rows.seal(&mut random, &head_context(migrate::FORMAT_2), &head.encode());
    transaction.execute("UPDATE head SET sealed = ?1", params![sealed]).unwrap();
    transaction.commit().unwrap();
    drop(connection);
    let row = RowName { table: RecordKind::Outbox as u8, key: key.to_vec() };
    let failed = SqliteStore::open(&fixture.path(), &fixture.provider).err();
    assert_eq!(failed, Some(StoreError::Upgrade { format: FORMAT, row }));
    assert_eq!(Format1::version(&fixture.path()), migrate::FORMAT_2);
}
