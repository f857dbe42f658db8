use std::fs;

use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::ids::Digest;

use super::*;
use crate::SoftwareProvider;
use crate::random::SeededRandom;
use crate::store::{Damage, RowName};

pub(super) fn provider(seed: u64) -> SoftwareProvider {
    let random = Box::new(SeededRandom::new(seed));
    SoftwareProvider::ephemeral(default_backend(), SignatureSet::Ed25519MlDsa65, Kem::XWing, random).unwrap()
}

pub(super) fn put(kind: RecordKind, key: &str, value: &str) -> Change {
    Change::Put { kind, key: key.into(), value: value.into() }
}

pub(super) fn delete(kind: RecordKind, key: &str) -> Change {
    Change::Delete { kind, key: key.into() }
}

pub(super) struct Fixture {
    pub(super) directory: tempfile::TempDir,
    pub(super) provider: SoftwareProvider,
}

impl Fixture {
    /// Peers a, b, c (b changed once), a deleted peer d, and a time floor.
    pub(super) fn new() -> Self {
        let fixture = Self { directory: tempfile::tempdir().unwrap(), provider: provider(1) };
        let mut store = SqliteStore::create(&fixture.path(), &fixture.provider).unwrap();
        let peer = RecordKind::Peer;
        store.commit(&[put(peer, "a", "1"), put(peer, "b", "old"), put(peer, "d", "gone")]).unwrap();
        store.commit(&[put(peer, "b", "new"), put(RecordKind::TimeFloor, "", "7")]).unwrap();
        store.commit(&[put(peer, "c", "3"), delete(peer, "d")]).unwrap();
        fixture
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("store.sqlite")
    }

    pub(super) fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path(), &self.provider)
    }

    pub(super) fn load(&self) -> Result<Vec<Row>, StoreError> {
        self.open()?.load()
    }

    pub(super) fn damage(&self) -> Damage {
        match self.load() {
            Err(StoreError::Damaged(damage)) => damage,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("damage went unnoticed"),
        }
    }

    /// Changes the database behind the store's back.
    pub(super) fn tamper(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

fn peer_name(key: &str) -> RowName {
    RowName { table: RecordKind::Peer as u8, key: key.into() }
}

#[test]
fn what_was_committed_is_loaded_after_a_reopen() {
    let fixture = Fixture::new();
    let mut store = fixture.open().unwrap();
    let rows = store.load().unwrap();
    let texts: Vec<_> = rows
        .iter()
        .map(|row| (row.kind, String::from_utf8_lossy(&row.key), String::from_utf8_lossy(&row.value)))
        .map(|(kind, key, value)| format!("{kind:?} {key} {value}"))
        .collect();
    assert_eq!(texts, ["TimeFloor  7", "Peer a 1", "Peer b new", "Peer c 3"]);
    assert_eq!(store.generation(), 3);
    assert_eq!(store.audit_head(), None);
    let head = ChainHead { seq: 4, hash: Digest([5; 32]) };
    store.note_audit_head(head);
    assert_eq!(store.audit_head(), None);
    store.commit(&[]).unwrap();
    drop(store);
    assert_eq!(fixture.open().unwrap().audit_head(), Some(head));
}

#[test]
fn no_row_content_is_in_the_file() {
    let fixture = Fixture::new();
    let secret = "a very recognisable content";
    let mut store = fixture.open().unwrap();
    store.commit(&[put(RecordKind::Prekey, "p", secret)]).unwrap();
    drop(store);
    let file = fs::read(fixture.path()).unwrap();
    assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()));
}

#[test]
fn a_second_opener_is_refused() {
    let fixture = Fixture::new();
    let first = fixture.open().unwrap();
    assert!(matches!(fixture.open(), Err(StoreError::InUse { .. })));
    drop(first);
    assert!(fixture.open().is_ok());
}

#[test]
fn a_store_is_neither_overwritten_nor_silently_started_anew() {
    let fixture = Fixture::new();
    let again = SqliteStore::create(&fixture.path(), &fixture.provider);
    assert!(matches!(again, Err(StoreError::Exists { .. })));
    fs::remove_file(fixture.path()).unwrap();
    assert!(matches!(fixture.open(), Err(StoreError::Missing { .. })));
}

#[test]
fn another_identity_cannot_open_it() {
    let fixture = Fixture::new();
    let error = SqliteStore::open(&fixture.path(), &provider(2)).err().unwrap();
    assert_eq!(error, StoreError::Damaged(Damage::Head));
}

#[test]
fn a_newer_format_is_refused_with_the_fix() {
    let fixture = Fixture::new();
    let path = fixture.path();
    fixture.tamper("PRAGMA user_version = 4");
    let before = fs::read(&path).unwrap();
    let error = fixture.open().err().unwrap();
    assert_eq!(error, StoreError::NewerFormat { found: 4, supported: 3 });
    assert!(error.to_string().contains("cargo install --locked --path crates/cli"), "{error}");
    assert!(fs::read(&path).unwrap() == before, "a refused store was changed");
    // Whoever turns the number back gains nothing: the head is sealed for its format.
    fixture.tamper("PRAGMA user_version = 2");
    assert_eq!(fixture.damage(), Damage::Head);
    fixture.tamper("PRAGMA user_version = 1");
    assert_eq!(fixture.damage(), Damage::Schema);
    fixture.tamper("DROP INDEX lazy_name; DROP TABLE lazy");
    assert_eq!(fixture.damage(), Damage::Head);
}

#[test]
fn rows_that_only_a_newer_release_knows_are_refused_with_the_fix() {
    let fixture = Fixture::new();
    let mut store = fixture.open().unwrap();
    // As a release would write them that knows one kind more.
    let mut head = store.head.clone();
    head.generation += 1;
    head.tables.entry(200).or_default().insert(&store.keys.sums, 200, b"k", head.generation);
    let sealed = store.keys.rows.seal(&mut store.random, &row_context(200, b"k", head.generation), b"v");
    let transaction = Transaction::new_unchecked(&store.connection, TransactionBehavior::Immediate).unwrap();
    let row = params![200, b"k".as_slice(), head.generation.cast_signed(), sealed];
    transaction.execute(EAGER[1], row).unwrap();
    write_head(&transaction, &store.keys, &mut store.random, &head).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let error = fixture.load().err().unwrap();
    assert_eq!(error, StoreError::NewerRows { table: 200 });
    assert!(error.to_string().contains("cargo install --locked --path crates/cli"), "{error}");
}

#[test]
fn a_flipped_row_is_named() {
    let fixture = Fixture::new();
    fixture.tamper("UPDATE record SET sealed = CAST(sealed || x'00' AS BLOB) WHERE key = x'62'");
    assert_eq!(fixture.damage(), Damage::Altered(peer_name("b")));
    assert!(fixture.damage().to_string().contains("the Peer row 'b'"));
    fixture.tamper("UPDATE record SET sealed = 'text' WHERE key = x'62'");
    assert_eq!(fixture.damage(), Damage::Altered(peer_name("b")));
}

#[test]
fn swapped_rows_are_named() {
    let fixture = Fixture::new();
    fixture.tamper(
        "CREATE TEMP TABLE t AS SELECT * FROM record;
         UPDATE record SET sealed = (SELECT sealed FROM t WHERE key = x'62') WHERE key = x'61';
         UPDATE record SET sealed = (SELECT sealed FROM t WHERE key = x'61') WHERE key = x'62';",
    );
    assert_eq!(fixture.damage(), Damage::Altered(peer_name("a")));
}

#[test]
fn a_row_moved_to_another_table_is_named() {
    let fixture = Fixture::new();
    fixture.tamper("UPDATE record SET kind = 6 WHERE key = x'61'");
    let name = RowName { table: RecordKind::Prekey as u8, key: "a".into() };
    assert_eq!(fixture.damage(), Damage::Altered(name));
}

#[test]
fn a_removed_row_is_named() {
    for key in ["a", "b", "c"] {
        let fixture = Fixture::new();
        fixture.tamper(&format!("DELETE FROM record WHERE key = CAST('{key}' AS BLOB)"));
        assert_eq!(fixture.damage(), Damage::Removed(peer_name(key)));
    }
    let fixture = Fixture::new();
    fixture.tamper("DELETE FROM record WHERE kind = 1");
    let name = RowName { table: RecordKind::TimeFloor as u8, key: vec![] };
    assert_eq!(fixture.damage(), Damage::Removed(name));
}

/// Copies row `key` as it is now, runs `between`, and puts the copy back.
fn restore_row(fixture: &Fixture, key: &str, between: &[Change]) {
    let copy = fixture.directory.path().join("copy.sqlite");
    fs::copy(fixture.path(), &copy).unwrap();
    fixture.open().unwrap().commit(between).unwrap();
    fixture.tamper(&format!(
        "ATTACH '{}' AS old;
         DELETE FROM record WHERE kind = 3 AND key = CAST('{key}' AS BLOB);
         INSERT INTO record SELECT * FROM old.record WHERE kind = 3 AND key = CAST('{key}' AS BLOB);",
        copy.display()
    ));
}

#[test]
fn a_rolled_back_row_is_named() {
    let fixture = Fixture::new();
    restore_row(&fixture, "b", &[put(RecordKind::Peer, "b", "newest")]);
    assert_eq!(fixture.damage(), Damage::RolledBack(peer_name("b")));
}

#[test]
fn a_deleted_row_that_came_back_is_named() {
    let fixture = Fixture::new();
    restore_row(&fixture, "a", &[delete(RecordKind::Peer, "a")]);
    assert_eq!(fixture.damage(), Damage::Restored(peer_name("a")));
}

#[test]
fn several_removed_rows_name_their_table() {
    let fixture = Fixture::new();
    fixture.tamper("DELETE FROM record WHERE key IN (x'61', x'62')");
    assert_eq!(fixture.damage(), Damage::Several { table: 3, expected: 3, found: 1 });
}

#[test]
fn a_missing_or_older_head_is_noticed() {
    let fixture = Fixture::new();
    let copy = fixture.directory.path().join("copy.sqlite");
    fs::copy(fixture.path(), &copy).unwrap();
    fixture.open().unwrap().commit(&[put(RecordKind::Peer, "a", "2")]).unwrap();
    fixture.tamper(&format!(
        "ATTACH '{}' AS old; UPDATE head SET sealed = (SELECT sealed FROM old.head);",
        copy.display()
    ));
    assert_eq!(fixture.damage(), Damage::RolledBack(peer_name("a")));
    fixture.tamper("DELETE FROM head");
    assert_eq!(fixture.damage(), Damage::Head);
}

#[test]
fn an_added_trigger_is_refused() {
    let fixture = Fixture::new();
    fixture.tamper("CREATE TRIGGER t AFTER INSERT ON record BEGIN DELETE FROM record; END");
    assert_eq!(fixture.damage(), Damage::Schema);
}

#[test]
fn every_truncation_of_the_file_is_refused() {
    let fixture = Fixture::new();
    let whole = fs::read(fixture.path()).unwrap();
    for length in (0..whole.len()).step_by(509) {
        fs::write(fixture.path(), &whole[..length]).unwrap();
        assert!(matches!(fixture.load(), Err(StoreError::Damaged(_))), "cut at {length}");
    }
}

#[test]
fn a_flipped_byte_anywhere_is_refused_or_changes_nothing() {
    let fixture = Fixture::new();
    let whole = fs::read(fixture.path()).unwrap();
    let original = fixture.load().unwrap();
    let after_load = fs::read(fixture.path()).unwrap();
    assert!(whole == after_load, "loading wrote to the file");
    let mut refused = 0;
    for at in (0..whole.len()).filter(|&at| whole[at] != 0 || at % 64 == 0) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x01;
        fs::write(fixture.path(), &flipped).unwrap();
        match fixture.load() {
            Ok(rows) => assert!(rows == original, "byte {at} changed the rows"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 400, "{refused}");
}

#[test]
fn limits_are_the_same_both_ways() {
    let fixture = Fixture::new();
    let mut store = fixture.open().unwrap();
    let row = |key: usize, value: usize| Change::Put {
        kind: RecordKind::Peer,
        key: vec![b'k'; key],
        value: vec![1; value],
    };
    assert_eq!(store.commit(&[row(super::super::MAX_KEY + 1, 1)]), Err(StoreError::TooLarge));
    assert_eq!(store.commit(&[row(1, super::super::MAX_VALUE + 1)]), Err(StoreError::TooLarge));
    store.commit(&[row(super::super::MAX_KEY, super::super::MAX_VALUE)]).unwrap();
    drop(store);
    assert_eq!(fixture.load().unwrap().len(), 5);
}

#[test]
fn a_store_dropped_at_any_moment_reopens() {
    let fixture = Fixture::new();
    // A copy of database and write-ahead log taken while open is what a killed process leaves.
    let mut store = fixture.open().unwrap();
    store.commit(&[put(RecordKind::Peer, "e", "5")]).unwrap();
    let crashed = fixture.directory.path().join("crashed.sqlite");
    fs::copy(fixture.path(), &crashed).unwrap();
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    fs::copy(log(&fixture.path()), log(&crashed)).unwrap();
    let mut recovered = SqliteStore::open(&crashed, &fixture.provider).unwrap();
    assert_eq!(recovered.generation(), 4);
    assert_eq!(recovered.load().unwrap().len(), 5);
}

const CERTIFICATE: RecordKind = RecordKind::Certificate;

/// Two certificates, of which the second was renewed once.
fn lazy_fixture() -> Fixture {
    let fixture = Fixture::new();
    let mut store = fixture.open().unwrap();
    store.commit(&[put(CERTIFICATE, "a", "first"), put(CERTIFICATE, "b", "old")]).unwrap();
    store.commit(&[put(CERTIFICATE, "b", "new")]).unwrap();
    fixture
}

fn certificate_name(key: &str) -> RowName {
    RowName { table: CERTIFICATE as u8, key: key.into() }
}

#[test]
fn lazy_rows_stay_in_the_store_and_are_read_one_by_one() {
    let fixture = lazy_fixture();
    let mut store = fixture.open().unwrap();
    assert_eq!(store.load().unwrap().len(), 4);
    let read = |store: &mut SqliteStore, key: &str| store.read(CERTIFICATE, key.as_bytes()).unwrap();
    assert_eq!(read(&mut store, "a").unwrap(), b"first");
    assert_eq!(read(&mut store, "b").unwrap(), b"new");
    assert_eq!(read(&mut store, "c"), None);
    assert_eq!(store.verify_lazy(), Ok(2));
    // What is committed meanwhile is followed, also what is new or gone.
    store
        .commit(&[put(CERTIFICATE, "a", "next"), put(CERTIFICATE, "c", "3"), delete(CERTIFICATE, "b")])
        .unwrap();
    assert_eq!(read(&mut store, "a").unwrap(), b"next");
    assert_eq!(read(&mut store, "b"), None);
    assert_eq!(read(&mut store, "c").unwrap(), b"3");
    assert_eq!(store.read(RecordKind::Peer, b"a"), Err(StoreError::LoadedAtStart));
    drop(store);
    // Reading works without a load, too, and verifies first.
    assert_eq!(read(&mut fixture.open().unwrap(), "c").unwrap(), b"3");
}

#[test]
fn a_missing_surplus_or_older_lazy_row_is_named_at_the_start() {
    let fixture = lazy_fixture();
    fixture.tamper("DELETE FROM lazy WHERE key = x'61'");
    assert_eq!(fixture.damage(), Damage::Removed(certificate_name("a")));
    let fixture = lazy_fixture();
    fixture.tamper("UPDATE lazy SET generation = generation - 1 WHERE key = x'62'");
    assert_eq!(fixture.damage(), Damage::RolledBack(certificate_name("b")));
    let fixture = lazy_fixture();
    fixture
        .tamper("INSERT INTO lazy SELECT NULL, kind, x'63', generation, sealed FROM lazy WHERE key = x'61'");
    assert_eq!(fixture.damage(), Damage::Restored(certificate_name("c")));
    // In the other table it would not be loaded at all.
    let fixture = lazy_fixture();
    fixture.tamper(
        "INSERT INTO lazy SELECT NULL, kind, key, generation, sealed FROM record WHERE key = x'61';
         DELETE FROM record WHERE key = x'61'",
    );
    assert_eq!(fixture.damage(), Damage::Altered(peer_name("a")));
}

#[test]
fn a_lazy_row_of_another_content_is_named_when_it_is_read() {
    let swap = "CREATE TEMP TABLE t AS SELECT * FROM lazy;
         UPDATE lazy SET sealed = (SELECT sealed FROM t WHERE key = x'62') WHERE key = x'61';";
    for tampering in [swap, "UPDATE lazy SET sealed = x'00' WHERE key = x'61'"] {
        let fixture = lazy_fixture();
        fixture.tamper(tampering);
        let mut store = fixture.open().unwrap();
        store.load().unwrap();
        let damaged = Err(StoreError::Damaged(Damage::Altered(certificate_name("a"))));
        assert_eq!(store.read(CERTIFICATE, b"a"), damaged);
        assert!(matches!(store.commit(&[]), Err(StoreError::Stopped(_))));
        let error = fixture_error(fixture, store);
        assert_eq!(Err(error), damaged.map(|_| ()));
    }
}

/// What `verify_lazy` says after a restart.
fn fixture_error(fixture: Fixture, store: SqliteStore) -> StoreError {
    drop(store);
    fixture.open().unwrap().verify_lazy().unwrap_err()
}

#[test]
fn a_lazy_row_changed_after_the_start_is_named() {
    // The lock holds off openers; whoever writes the file itself comes past it. Here through the store's own connection.
    let fixture = lazy_fixture();
    let mut store = fixture.open().unwrap();
    store.load().unwrap();
    let row = "SELECT generation, sealed FROM lazy WHERE key = x'61'";
    let old: (i64, Vec<u8>) =
        store.connection.query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    store.commit(&[put(CERTIFICATE, "a", "second")]).unwrap();
    let set = "UPDATE lazy SET generation = ?1, sealed = ?2 WHERE key = x'61'";
    store.connection.execute(set, params![old.0, old.1]).unwrap();
    let rolled_back = StoreError::Damaged(Damage::RolledBack(certificate_name("a")));
    assert_eq!(store.read(CERTIFICATE, b"a"), Err(rolled_back));
    store.connection.execute("DELETE FROM lazy WHERE key = x'61'", []).unwrap();
    assert_eq!(
        store.read(CERTIFICATE, b"a"),
        Err(StoreError::Damaged(Damage::Removed(certificate_name("a"))))
    );
    store.commit(&[]).unwrap_err();
    let insert = "INSERT INTO lazy (kind, key, generation, sealed) VALUES (12, x'7a', ?1, ?2)";
    store.connection.execute(insert, params![old.0, old.1]).unwrap();
    assert_eq!(
        store.read(CERTIFICATE, b"z"),
        Err(StoreError::Damaged(Damage::Restored(certificate_name("z"))))
    );
}

#[test]
fn of_several_changes_to_a_row_the_last_counts() {
    let fixture = Fixture::new();
    let mut store = fixture.open().unwrap();
    let peer = RecordKind::Peer;
    let changes = [
        put(peer, "a", "2"),
        put(peer, "new", "1"),
        delete(peer, "a"),
        put(peer, "b", "x"),
        put(peer, "a", "3"),
        delete(peer, "new"),
        put(peer, "b", "y"),
    ];
    let before = store.connection.query_row("SELECT total_changes()", [], |row| row.get::<_, i64>(0));
    store.commit(&changes).unwrap();
    let after = store.connection.query_row("SELECT total_changes()", [], |row| row.get::<_, i64>(0));
    // Rows a and b, and the head: the row that came and went was never written.
    assert_eq!(after.unwrap() - before.unwrap(), 3);
    drop(store);
    let rows = fixture.load().unwrap();
    let peers: Vec<_> = rows.iter().filter(|row| row.kind == peer).map(|row| row.value.as_slice()).collect();
    assert_eq!(peers, [b"3", b"y", b"3"]);
}
