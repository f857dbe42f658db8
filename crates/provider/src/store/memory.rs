//! Rows in memory, for simulations and tests: nothing here is durable.

use std::collections::BTreeMap;

use pqc_iiot_core::audit::ChainHead;
use pqc_iiot_core::store::{Change, RecordKind, Row};

use super::{Store, StoreError, check_limits};

/// A store that a clone snapshots: restoring the clone is a restored disk.
#[derive(Clone, Default)]
pub struct MemoryStore {
    rows: BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>,
    noted: Option<ChainHead>,
    committed: Option<ChainHead>,
    commits: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every row, also of lazy kinds.
    pub fn rows(&self) -> Vec<Row> {
        let row = |((kind, key), value): (&(RecordKind, Vec<u8>), &Vec<u8>)| Row {
            kind: *kind,
            key: key.clone(),
            value: value.clone(),
        };
        self.rows.iter().map(row).collect()
    }

    /// How many commits it took.
    pub fn commits(&self) -> u64 {
        self.commits
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        Ok(self.rows().into_iter().filter(|row| !row.kind.is_lazy()).collect())
    }

    fn read(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if !kind.is_lazy() {
            return Err(StoreError::LoadedAtStart);
        }
        Ok(self.rows.get(&(kind, key.to_vec())).cloned())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        check_limits(changes)?;
        for change in changes {
            match change {
                Change::Put { kind, key, value } => self.rows.insert((*kind, key.clone()), value.clone()),
                Change::Delete { kind, key } => self.rows.remove(&(*kind, key.clone())),
            };
        }
        self.committed = self.noted;
        self.commits += 1;
        Ok(())
    }

    fn note_audit_head(&mut self, head: ChainHead) {
        self.noted = Some(head);
    }

    fn audit_head(&self) -> Option<ChainHead> {
        self.committed
    }
}
