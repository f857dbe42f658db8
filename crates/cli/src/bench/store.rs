//! `store_load_100k` and `store_update`: a gateway's start with 100,000 known peers, and one change among them.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::endpoint::{Command, Endpoint, Input, Output};
use pqc_iiot_core::store::{Change, RecordKind};
use pqc_iiot_provider::SoftwareProvider;
use pqc_iiot_provider::store::{SqliteStore, Store};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::fleet::{Fleet, Gateway, now, receive};
use super::{BenchError, Workload};

/// Known peers; fewer where no figure counts.
const PEERS: usize = if cfg!(debug_assertions) { 500 } else { 100_000 };
/// Rows of one commit while the store is made.
const CHUNK: usize = 10_000;
/// What stands in for certificate and bundle, which no start reads: their real size would make the set-up take minutes.
const STAND_IN: usize = 1024;

const SETUP: BenchError = BenchError::Setup("a store of many peers");

/// A gateway that met one peer, and what it wrote about it.
struct Met {
    gateway: Gateway,
    record: Vec<u8>,
}

impl Met {
    fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let mut fleet = Fleet::new(suite)?;
        let press = fleet.enrol("press-7")?;
        let announcement = fleet.announcement(&press)?;
        let mut gateway = Gateway::start(&mut fleet, backend)?;
        gateway.settle(Input::Command(Command::AddPeer(press.id.clone())));
        gateway.endpoint.handle(now(), receive(format!("pqc/keys/{}", press.id), announcement));
        let mut record = None;
        while let Some(output) = gateway.endpoint.poll_output() {
            let Output::Persist { changes, .. } = output else { continue };
            for change in changes {
                if let Change::Put { kind: RecordKind::Peer, value, .. } = change {
                    record = Some(value);
                }
            }
        }
        Ok(Self { gateway, record: record.ok_or(SETUP)? })
    }

    fn row(&self, number: usize) -> Change {
        Change::Put { kind: RecordKind::Peer, key: name(number), value: self.record.clone() }
    }

    /// Makes a store of many peers, with `stand_ins` for what is read later.
    fn store(&self, path: &Path, stand_ins: bool) -> Result<SqliteStore, BenchError> {
        let mut store = SqliteStore::create(path, &*self.gateway.provider()).map_err(|_| SETUP)?;
        for chunk in (0..PEERS).step_by(CHUNK) {
            let mut changes = Vec::new();
            for number in chunk..(chunk + CHUNK).min(PEERS) {
                changes.push(self.row(number));
                let lazy = [RecordKind::Certificate, RecordKind::Bundle];
                changes.extend(lazy.into_iter().filter(|_| stand_ins).map(|kind| Change::Put {
                    kind,
                    key: name(number),
                    value: vec![0x42; STAND_IN],
                }));
            }
            store.commit(&changes).map_err(|_| SETUP)?;
        }
        Ok(store)
    }
}

fn name(number: usize) -> Vec<u8> {
    format!("device-{number:06}").into_bytes()
}

/// As the store opens its database.
fn bare(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

/// Baseline: the same columns of the same file through SQLite alone.
pub(super) struct StoreLoad {
    met: Met,
    provider: Arc<SoftwareProvider>,
    path: PathBuf,
    endpoint: Option<Endpoint>,
    resident: Option<f64>,
    content: usize,
    _directory: TempDir,
}

impl StoreLoad {
    pub(super) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let met = Met::new(suite, backend)?;
        let directory = TempDir::new().map_err(|_| SETUP)?;
        let path = directory.path().join("store.sqlite");
        drop(met.store(&path, true)?);
        let content = PEERS * (met.record.len() + name(0).len());
        let provider = met.gateway.provider();
        Ok(Self { met, provider, path, endpoint: None, resident: None, content, _directory: directory })
    }

    fn read_bare(&self) -> rusqlite::Result<usize> {
        let connection = bare(&self.path)?;
        let mut count = 0;
        let mut statement = connection.prepare("SELECT kind, key, generation, sealed FROM record")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let row: (i64, Vec<u8>, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            black_box(&row);
            count += 1;
        }
        let mut statement = connection.prepare("SELECT kind, key, generation FROM lazy")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let row: (i64, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            black_box(&row);
            count += 1;
        }
        Ok(count)
    }
}

impl Workload for StoreLoad {
    fn bytes(&self) -> usize {
        self.met.record.len()
    }

    fn most_samples(&self) -> usize {
        5
    }

    fn resident(&self) -> Option<(f64, f64)> {
        Some((self.resident?, self.content as f64 / MIB))
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        if let Some(endpoint) = self.endpoint.take()
            && endpoint.status().ready != PEERS
        {
            return Err(BenchError::Outcome("not every stored peer is ready"));
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        const FAILED: BenchError = BenchError::Outcome("a store of many peers did not load");
        let before = resident();
        let mut store = SqliteStore::open(&self.path, &*self.provider).map_err(|_| FAILED)?;
        let rows = store.load().map_err(|_| FAILED)?;
        self.endpoint = Some(self.met.gateway.restarted(&rows)?);
        drop(rows);
        // Before anything was freed and kept for reuse, that is what it takes.
        if self.resident.is_none() {
            self.resident = before.zip(resident()).map(|(before, after)| after - before);
        }
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        match self.read_bare() {
            Ok(count) if count == 3 * PEERS => Ok(()),
            _ => Err(BenchError::Outcome("SQLite did not read a store of many peers")),
        }
    }
}

/// Baseline: a row of the same size among as many, changed and synced through SQLite alone.
pub(super) struct StoreUpdate {
    met: Met,
    store: SqliteStore,
    bare: Connection,
    next: usize,
    _directory: TempDir,
}

impl StoreUpdate {
    pub(super) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let met = Met::new(suite, backend)?;
        let directory = TempDir::new().map_err(|_| SETUP)?;
        let store = met.store(&directory.path().join("store.sqlite"), false)?;
        let bare = make_bare(&directory.path().join("bare.sqlite"), &met.record).map_err(|_| SETUP)?;
        Ok(Self { met, store, bare, next: 0, _directory: directory })
    }
}

fn make_bare(path: &Path, record: &[u8]) -> rusqlite::Result<Connection> {
    let mut connection = bare(path)?;
    connection.execute(
        "CREATE TABLE record (kind INTEGER NOT NULL, key BLOB NOT NULL, generation INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
        [],
    )?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO record VALUES (3, ?1, 0, ?2)")?;
        for number in 0..PEERS {
            insert.execute(params![name(number), record])?;
        }
    }
    transaction.commit()?;
    Ok(connection)
}

impl Workload for StoreUpdate {
    fn bytes(&self) -> usize {
        self.met.record.len()
    }

    fn most_samples(&self) -> usize {
        500
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        // Anywhere in the tree, as peers come.
        self.next = (self.next + 7_919) % PEERS;
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let change = [self.met.row(self.next)];
        self.store.commit(&change).map_err(|_| BenchError::Outcome("a change was not committed"))
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        // A statement outside a transaction is one.
        let update = "UPDATE record SET generation = ?2, sealed = ?3 WHERE kind = 3 AND key = ?1";
        let row = params![name(self.next), self.next as i64, self.met.record];
        let changed = self.bare.prepare_cached(update).and_then(|mut update| update.execute(row));
        match changed {
            Ok(1) => Ok(()),
            _ => Err(BenchError::Outcome("SQLite did not commit a change")),
        }
    }
}

pub(super) const MIB: f64 = 1024.0 * 1024.0;

/// This process's resident memory in MiB, where the system says.
pub(super) fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}
