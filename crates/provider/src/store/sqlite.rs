//! Rows in one SQLite database: sealed one by one, summed up in a sealed head, changed in one transaction.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pqc_iiot_core::audit::ChainHead;
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::store::{Change, RecordKind, Row};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::error::{Damage, RowName, StoreError};
use super::integrity::{Head, SumKey, Summary, row_context, table};
use super::{Store, check_limits};
use crate::SecurityProvider;
use crate::disk::{self, HostDisk};
use crate::random::SystemRandom;
use crate::seal::{SealKey, derive};

/// The format that this release writes, SQLite's `user_version`.
const FORMAT: u32 = 1;
/// `PQCI`, SQLite's `application_id`.
const APPLICATION: u32 = 0x5051_4349;
const RECORD_TABLE: &str = "CREATE TABLE record (kind INTEGER NOT NULL, key BLOB NOT NULL, generation INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID";
const HEAD_TABLE: &str = "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 0), sealed BLOB NOT NULL)";
/// What the provider derives the store's key for.
const PURPOSE: &str = "pqc-iiot:store:v1";

/// The store of one identity. See `docs/state.md` for what rolling back the whole file can and cannot do.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    rows: SealKey,
    sums: SumKey,
    head: Head,
    noted: Option<ChainHead>,
    random: SystemRandom,
    stopped: Option<String>,
}

impl SqliteStore {
    /// Creates an empty store at `path`, which must not exist, sealed under a key of `provider`, and opens it.
    pub fn create(path: &Path, provider: &dyn SecurityProvider) -> Result<Self, StoreError> {
        if path.try_exists().map_err(io_error)? {
            return Err(StoreError::Exists { path: path.into() });
        }
        let key = storage_key(provider)?;
        // Built under another name and renamed, so that a power cut leaves no half-made store behind.
        let draft = path.with_extension("new");
        remove_if_present(&draft)?;
        remove_if_present(&path.with_extension("new-journal"))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(disk::FILE_MODE)
            .open(&draft)
            .map_err(io_error)?;
        let connection = connect(&draft)?;
        let mut random = SystemRandom::new().map_err(|error| StoreError::Io(error.to_string()))?;
        let sealed = SealKey::new(&key).seal(&mut random, &head_context(), &Head::default().encode());
        let build = || {
            connection.pragma_update(None, "application_id", APPLICATION)?;
            connection.pragma_update(None, "user_version", FORMAT)?;
            connection.execute(RECORD_TABLE, [])?;
            connection.execute(HEAD_TABLE, [])?;
            connection.execute("INSERT INTO head (id, sealed) VALUES (0, ?1)", params![sealed])
        };
        build().map_err(|error| classify(&draft, &error))?;
        connection.close().map_err(|(_, error)| classify(&draft, &error))?;
        fs::rename(&draft, path).and_then(|()| disk::sync_parent(&HostDisk, path)).map_err(io_error)?;
        Self::open(path, provider)
    }

    /// Opens the store at `path` and takes it for this process alone.
    pub fn open(path: &Path, provider: &dyn SecurityProvider) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(io_error)? {
            return Err(StoreError::Missing { path: path.into() });
        }
        let key = storage_key(provider)?;
        let rows = SealKey::new(&key);
        let connection = connect(path)?;
        let head = prepare(&connection, &rows).map_err(|error| match error {
            OpenError::Sqlite(error) => classify(path, &error),
            OpenError::Store(error) => error,
        })?;
        let random = SystemRandom::new().map_err(|error| StoreError::Io(error.to_string()))?;
        let sums = SumKey::new(&key);
        Ok(Self { connection, path: path.into(), rows, sums, noted: head.audit, head, random, stopped: None })
    }

    /// How many commits this store took: what hardware can anchor against a restored file.
    pub fn generation(&self) -> u64 {
        self.head.generation
    }

    fn apply(&mut self, changes: &[Change], head: &mut Head) -> rusqlite::Result<()> {
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        {
            let mut select =
                transaction.prepare_cached("SELECT generation FROM record WHERE kind = ?1 AND key = ?2")?;
            let mut put = transaction.prepare_cached(
                "INSERT OR REPLACE INTO record (kind, key, generation, sealed) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut delete = transaction.prepare_cached("DELETE FROM record WHERE kind = ?1 AND key = ?2")?;
            for change in changes {
                let (Change::Put { kind, key, .. } | Change::Delete { kind, key }) = change;
                let table = table(*kind);
                let before: Option<i64> =
                    select.query_row(params![table, key], |row| row.get(0)).optional()?;
                let summary = head.tables.entry(table).or_default();
                if let Some(before) = before {
                    summary.remove(&self.sums, table, key, before.cast_unsigned());
                }
                let Change::Put { value, .. } = change else {
                    delete.execute(params![table, key])?;
                    continue;
                };
                summary.insert(&self.sums, table, key, head.generation);
                let context = row_context(table, key, head.generation);
                let sealed = self.rows.seal(&mut self.random, &context, value);
                put.execute(params![table, key, head.generation.cast_signed(), sealed])?;
            }
            let sealed = self.rows.seal(&mut self.random, &head_context(), &head.encode());
            transaction
                .prepare_cached("UPDATE head SET sealed = ?1 WHERE id = 0")?
                .execute(params![sealed])?;
        }
        transaction.commit()
    }

    fn read(&self) -> Result<Vec<Row>, OpenError> {
        let mut found: BTreeMap<u8, Summary> = BTreeMap::new();
        let mut rows = Vec::new();
        let mut generations = Vec::new();
        let mut statement = self.connection.prepare("SELECT kind, key, generation, sealed FROM record")?;
        let mut cursor = statement.query([])?;
        while let Some(row) = cursor.next()? {
            let number: i64 = row.get(0)?;
            let key = row.get_ref(1)?.as_blob()?;
            let generation = row.get::<_, i64>(2)?.cast_unsigned();
            let altered = |table| Damage::Altered(RowName { table, key: key.to_vec() });
            let table = u8::try_from(number).map_err(|_| altered(u8::MAX))?;
            let kind = RecordKind::from_id(table).ok_or_else(|| altered(table))?;
            let context = row_context(table, key, generation);
            let sealed = row.get_ref(3)?.as_blob().map_err(|_| altered(table))?;
            let value = self.rows.open(&context, sealed).map_err(|_| altered(table))?;
            found.entry(table).or_default().insert(&self.sums, table, key, generation);
            rows.push(Row { kind, key: key.to_vec(), value });
            generations.push(generation);
        }
        let of_table = |number| {
            let pairs = rows.iter().zip(&generations).filter(|(row, _)| table(row.kind) == number);
            pairs.map(|(row, generation)| (row.key.clone(), *generation)).collect()
        };
        self.head.check(&self.sums, &found, &of_table)?;
        Ok(rows)
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        self.read().map_err(|error| match error {
            OpenError::Sqlite(error) => classify(&self.path, &error),
            OpenError::Store(error) => error,
        })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if let Some(reason) = &self.stopped {
            return Err(StoreError::Stopped(reason.clone()));
        }
        check_limits(changes)?;
        let mut head = self.head.clone();
        head.generation += 1;
        head.audit = self.noted;
        match self.apply(changes, &mut head) {
            Ok(()) => {
                self.head = head;
                Ok(())
            }
            Err(error) => {
                let error = classify(&self.path, &error);
                // A full disk changes nothing once rolled back; after anything else the outcome is unknown.
                if error != StoreError::DiskFull || !self.connection.is_autocommit() {
                    self.stopped = Some(error.to_string());
                }
                Err(error)
            }
        }
    }

    fn note_audit_head(&mut self, head: ChainHead) {
        self.noted = Some(head);
    }

    fn audit_head(&self) -> Option<ChainHead> {
        self.head.audit
    }
}

enum OpenError {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<rusqlite::types::FromSqlError> for OpenError {
    fn from(_: rusqlite::types::FromSqlError) -> Self {
        Damage::Schema.into()
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Store(StoreError::Damaged(damage))
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| classify(path, &error))?;
    connection.busy_timeout(std::time::Duration::ZERO).map_err(|error| classify(path, &error))?;
    Ok(connection)
}

/// Locks, checks format and tables before anything else is read, and opens the head.
fn prepare(connection: &Connection, rows: &SealKey) -> Result<Head, OpenError> {
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    // Exclusive before the first read: WAL then needs no shared memory, and a second opener finds it busy.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;

    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
    if number("application_id")? != APPLICATION {
        return Err(Damage::Schema.into());
    }
    match number("user_version")? {
        FORMAT => {}
        found if found > FORMAT => {
            return Err(OpenError::Store(StoreError::NewerFormat { found, supported: FORMAT }));
        }
        _ => return Err(Damage::Schema.into()),
    }
    let tables: Vec<String> = connection
        .prepare("SELECT sql FROM sqlite_schema ORDER BY name")?
        .query_map([], |row| row.get::<_, Option<String>>(0).map(Option::unwrap_or_default))?
        .collect::<Result<_, _>>()?;
    if tables != [HEAD_TABLE, RECORD_TABLE] {
        return Err(Damage::Schema.into());
    }
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(OpenError::Store(StoreError::Io("the file system cannot hold a write-ahead log".into())));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Erased prekeys leave the pages, not only the table.
    connection.pragma_update(None, "secure_delete", true)?;

    let sealed: Option<Vec<u8>> =
        connection.query_row("SELECT sealed FROM head WHERE id = 0", [], |row| row.get(0)).optional()?;
    let plain = sealed.and_then(|sealed| rows.open(&head_context(), &sealed).ok()).ok_or(Damage::Head)?;
    Ok(Head::decode(&plain).map_err(|_| Damage::Head)?)
}

fn head_context() -> Vec<u8> {
    // Table 0 is no record kind, so no row can take the head's place.
    row_context(0, PURPOSE.as_bytes(), FORMAT.into())
}

fn storage_key(provider: &dyn SecurityProvider) -> Result<Secret<32>, StoreError> {
    let root = provider.storage_key(PURPOSE).map_err(|error| StoreError::Io(error.to_string()))?;
    Ok(derive(&root, PURPOSE))
}

fn classify(path: &Path, error: &rusqlite::Error) -> StoreError {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::DiskFull,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path: path.into() },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged(Damage::File(message))
        }
        None => StoreError::Damaged(Damage::File(message)),
        Some(_) => StoreError::Io(message),
    }
}

fn io_error(error: io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::StorageFull {
        StoreError::DiskFull
    } else {
        StoreError::Io(error.to_string())
    }
}

fn remove_if_present(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "sqlite_tests.rs"]
mod tests;
