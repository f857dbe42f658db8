//! Rows in one SQLite database: sealed one by one, summed up in a sealed head, changed in one transaction.
//!
//! Table `record` holds what is loaded at start. Table `lazy` holds the rest: its index alone gives names and
//! generations, so that the sum over *all* rows is checked at each start without reading their content. A row of `lazy` is
//! authenticated when it is read, under the generation that the start saw. The lock keeps other openers out, not somebody
//! who writes the file directly: one who puts an older version of a row there while the store is open would otherwise have
//! it believed, as its seal is genuine.

mod migrate;
mod open;
mod scan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pqc_iiot_core::audit::ChainHead;
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::store::{Change, RecordKind, Row};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use self::open::{OpenError, classify, head_context};
use self::scan::{Generations, Moved};
use super::error::StoreError;
use super::integrity::{Head, SumKey, row_context, table};
use super::{Store, check_limits};
use crate::SecurityProvider;
use crate::random::SystemRandom;
use crate::seal::SealKey;

/// The format that this release writes, SQLite's `user_version`. New kinds of rows need no other.
const FORMAT: u32 = 3;
/// `PQCI`, SQLite's `application_id`.
const APPLICATION: u32 = 0x5051_4349;
const RECORD_TABLE: &str = "CREATE TABLE record (kind INTEGER NOT NULL, key BLOB NOT NULL, generation INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID";
const HEAD_TABLE: &str = "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 0), sealed BLOB NOT NULL)";
const LAZY_TABLE: &str = "CREATE TABLE lazy (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, key BLOB NOT NULL, generation INTEGER NOT NULL, sealed BLOB NOT NULL)";
const LAZY_INDEX: &str = "CREATE INDEX lazy_name ON lazy (kind, key, generation)";
/// What the provider derives the store's key for.
const PURPOSE: &str = "pqc-iiot:store:v1";

/// The store of one identity. See `docs/state.md` for what rolling back the whole file can and cannot do.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    keys: Keys,
    head: Head,
    /// Of the rows that stay in the store, once the start saw them.
    lazy: Option<Generations>,
    noted: Option<ChainHead>,
    random: SystemRandom,
    /// The disk was full, and the log has not shrunk since.
    full: bool,
    stopped: Option<String>,
}

/// What seals rows, and what sums them up.
struct Keys {
    rows: SealKey,
    sums: SumKey,
}

impl Keys {
    fn new(key: &Secret<32>) -> Self {
        Self { rows: SealKey::new(key), sums: SumKey::new(key) }
    }
}

impl SqliteStore {
    /// Creates an empty store at `path`, which must not exist, sealed under a key of `provider`, and opens it.
    pub fn create(path: &Path, provider: &dyn SecurityProvider) -> Result<Self, StoreError> {
        open::create(path, &open::storage_key(provider)?)?;
        Self::open(path, provider)
    }

    /// Opens the store at `path` and takes it for this process alone. A store of an earlier format is brought to this
    /// one's first, in one transaction; earlier releases refuse it from then on.
    pub fn open(path: &Path, provider: &dyn SecurityProvider) -> Result<Self, StoreError> {
        open::present(path)?;
        let keys = Keys::new(&open::storage_key(provider)?);
        let length = open::length(path);
        let connection = open::connect(path)?;
        let mut random = SystemRandom::new().map_err(|error| StoreError::Io(error.to_string()))?;
        let head = open::prepare(&connection, &keys, &mut random, length);
        let head = head.map_err(|error| error.at(path))?;
        let noted = head.audit;
        Ok(Self {
            connection,
            path: path.into(),
            keys,
            head,
            lazy: None,
            noted,
            random,
            full: false,
            stopped: None,
        })
    }

    /// How many commits this store took: what hardware can anchor against a restored file.
    pub fn generation(&self) -> u64 {
        self.head.generation
    }

    /// How many rows [`Store::load`] left out.
    pub fn lazy_rows(&self) -> usize {
        self.lazy.iter().flatten().map(|(_, rows)| rows.len()).sum()
    }

    /// Reads and authenticates every row that [`Store::load`] leaves out; says how many there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] names the first that is not what was committed.
    pub fn verify_lazy(&mut self) -> Result<usize, StoreError> {
        let mut count = 0;
        for (kind, key) in self.lazy_names()? {
            self.read(kind, &key)?;
            count += 1;
        }
        Ok(count)
    }

    fn lazy_names(&mut self) -> Result<Vec<(RecordKind, Vec<u8>)>, StoreError> {
        if self.lazy.is_none() {
            self.load()?;
        }
        let tables = self.lazy.iter().flatten();
        let names = tables.flat_map(|(kind, rows)| rows.keys().map(|key| (*kind, key.to_vec())));
        Ok(names.collect())
    }

    /// Makes the changes, each row's last one only; gives the new generations of rows that stay in the store.
    fn apply<'a>(&mut self, changes: &'a [Change], head: &mut Head) -> rusqlite::Result<Vec<Moved<'a>>> {
        let mut last: BTreeMap<(RecordKind, &[u8]), Option<&[u8]>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Put { kind, key, value } => last.insert((*kind, key), Some(value)),
                Change::Delete { kind, key } => last.insert((*kind, key), None),
            };
        }
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let mut moved = Vec::new();
        for ((kind, key), value) in last {
            let generation = write(&transaction, &self.keys, &mut self.random, head, kind, key, value)?;
            if kind.is_lazy() {
                moved.push((kind, key, generation));
            }
        }
        write_head(&transaction, &self.keys, &mut self.random, head)?;
        transaction.commit()?;
        Ok(moved)
    }

    /// Gives the disk what the write-ahead log takes, up to 4 MiB; by itself it never shrinks. Done before the next try
    /// and not at once, as it takes a little room, which a commit would take first.
    fn shrink_log(&mut self) {
        // What fails here fails again at the commit, and is told then.
        self.full = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).is_err();
    }

    fn stop_at(&mut self, error: StoreError) -> StoreError {
        self.stopped = Some(error.to_string());
        error
    }
}

/// Puts or deletes one row; gives its new generation.
fn write(
    transaction: &Transaction<'_>,
    keys: &Keys,
    random: &mut SystemRandom,
    head: &mut Head,
    kind: RecordKind,
    key: &[u8],
    value: Option<&[u8]>,
) -> rusqlite::Result<Option<u64>> {
    let [select, insert, update, delete] = if kind.is_lazy() { LAZY } else { EAGER };
    let number = table(kind);
    let found: Option<i64> =
        transaction.prepare_cached(select)?.query_row(params![number, key], |row| row.get(0)).optional()?;
    let before = found.is_some();
    if let Some(generation) = found {
        let summary = head.tables.entry(number).or_default();
        summary.remove(&keys.sums, number, key, generation.cast_unsigned());
    }
    let Some(value) = value else {
        if before {
            transaction.prepare_cached(delete)?.execute(params![number, key])?;
        }
        return Ok(None);
    };
    head.tables.entry(number).or_default().insert(&keys.sums, number, key, head.generation);
    let sealed = keys.rows.seal(random, &row_context(number, key, head.generation), value);
    let put = if before { update } else { insert };
    transaction.prepare_cached(put)?.execute(params![number, key, head.generation.cast_signed(), sealed])?;
    Ok(Some(head.generation))
}

const EAGER: [&str; 4] = [
    "SELECT generation FROM record WHERE kind = ?1 AND key = ?2",
    "INSERT INTO record (kind, key, generation, sealed) VALUES (?1, ?2, ?3, ?4)",
    "UPDATE record SET generation = ?3, sealed = ?4 WHERE kind = ?1 AND key = ?2",
    "DELETE FROM record WHERE kind = ?1 AND key = ?2",
];

const LAZY: [&str; 4] = [
    "SELECT generation FROM lazy WHERE kind = ?1 AND key = ?2",
    "INSERT INTO lazy (kind, key, generation, sealed) VALUES (?1, ?2, ?3, ?4)",
    "UPDATE lazy SET generation = ?3, sealed = ?4 WHERE kind = ?1 AND key = ?2",
    "DELETE FROM lazy WHERE kind = ?1 AND key = ?2",
];

fn write_head(
    transaction: &Transaction<'_>,
    keys: &Keys,
    random: &mut SystemRandom,
    head: &Head,
) -> rusqlite::Result<()> {
    let sealed = keys.rows.seal(random, &head_context(FORMAT), &head.encode());
    transaction.prepare_cached("UPDATE head SET sealed = ?1 WHERE id = 0")?.execute(params![sealed])?;
    Ok(())
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        let scanned = scan::all(&self.connection, &self.keys, &self.head);
        let (rows, lazy) = scanned.map_err(|error| error.at(&self.path))?;
        self.lazy = Some(lazy);
        Ok(rows)
    }

    fn read(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if !kind.is_lazy() {
            return Err(StoreError::LoadedAtStart);
        }
        if self.lazy.is_none() {
            self.load()?;
        }
        let expected = self.lazy.as_ref().and_then(|tables| tables.get(&kind)?.get(key)).copied();
        let read = scan::one(&self.connection, &self.keys, kind, key, expected);
        read.map_err(|error: OpenError| {
            let error = error.at(&self.path);
            self.stop_at(error)
        })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if let Some(reason) = &self.stopped {
            return Err(StoreError::Stopped(reason.clone()));
        }
        check_limits(changes)?;
        if self.full {
            self.shrink_log();
        }
        let mut head = self.head.clone();
        head.generation += 1;
        head.audit = self.noted;
        match self.apply(changes, &mut head) {
            Ok(moved) => {
                self.head = head;
                if let Some(lazy) = &mut self.lazy {
                    scan::follow(lazy, &moved);
                }
                Ok(())
            }
            Err(error) => {
                let error = classify(&self.path, &error);
                // A full disk changes nothing once rolled back; after anything else the outcome is unknown.
                if error == StoreError::DiskFull && self.connection.is_autocommit() {
                    self.full = true;
                    return Err(error);
                }
                Err(self.stop_at(error))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod upgrade_tests;
