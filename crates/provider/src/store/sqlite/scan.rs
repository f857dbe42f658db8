//! Reading: everything at start, one row later.

use std::collections::{BTreeMap, HashMap};

use pqc_iiot_core::store::{RecordKind, Row};
use rusqlite::{Connection, OptionalExtension, params};

use super::Keys;
use super::open::OpenError;
use crate::store::error::{Damage, RowName, StoreError};
use crate::store::integrity::{Head, Summary, row_context, table};

/// The generation of each row that stays in the store, as the start saw it and commits moved it.
pub(super) type Generations = BTreeMap<RecordKind, HashMap<Box<[u8]>, u64>>;

/// A lazy row that a commit put, with its new generation, or deleted.
pub(super) type Moved<'a> = (RecordKind, &'a [u8], Option<u64>);

/// Checks names and generations of all rows against the head; gives the rows of `record`, each authenticated, and the
/// generations of the others.
pub(super) fn all(
    connection: &Connection,
    keys: &Keys,
    head: &Head,
) -> Result<(Vec<Row>, Generations), OpenError> {
    let mut found = Found::default();
    let mut rows = Vec::new();
    records(connection, keys, &mut found, |row| rows.push(row))?;
    let mut lazy = Generations::new();
    let mut statement = connection.prepare("SELECT kind, key, generation FROM lazy INDEXED BY lazy_name")?;
    let mut cursor = statement.query([])?;
    while let Some(row) = cursor.next()? {
        let key = row.get_ref(1)?.as_blob()?;
        let generation = row.get::<_, i64>(2)?.cast_unsigned();
        let (number, kind) = found.kind(row.get(0)?, key, true)?;
        found.note(keys, number, key, generation);
        if let Some(kind) = kind {
            lazy.entry(kind).or_default().insert(key.into(), generation);
        }
    }
    found.check(connection, keys, head)?;
    Ok((rows, lazy))
}

/// Checks a store that has no table `lazy`.
pub(super) fn format_1(connection: &Connection, keys: &Keys, head: &Head) -> Result<(), OpenError> {
    let mut found = Found::default();
    records(connection, keys, &mut found, |_| ())?;
    found.check(connection, keys, head)
}

fn records(
    connection: &Connection,
    keys: &Keys,
    found: &mut Found,
    mut each: impl FnMut(Row),
) -> Result<(), OpenError> {
    let mut statement = connection.prepare("SELECT kind, key, generation, sealed FROM record")?;
    let mut cursor = statement.query([])?;
    while let Some(row) = cursor.next()? {
        let key = row.get_ref(1)?.as_blob()?;
        let generation = row.get::<_, i64>(2)?.cast_unsigned();
        let (number, kind) = found.kind(row.get(0)?, key, false)?;
        let altered = || altered(number, key);
        let sealed = row.get_ref(3)?.as_blob().map_err(|_| altered())?;
        let context = row_context(number, key, generation);
        let value = keys.rows.open(&context, sealed).map_err(|_| altered())?;
        found.note(keys, number, key, generation);
        if let Some(kind) = kind {
            each(Row { kind, key: key.to_vec(), value });
        }
    }
    Ok(())
}

/// What a scan came by.
#[derive(Default)]
struct Found {
    tables: BTreeMap<u8, Summary>,
    /// A kind that only a later release knows.
    newer: Option<u8>,
}

impl Found {
    /// The kind of a row, which must be in its proper table.
    fn kind(&mut self, number: i64, key: &[u8], lazy: bool) -> Result<(u8, Option<RecordKind>), OpenError> {
        let number = u8::try_from(number).map_err(|_| altered(u8::MAX, key))?;
        let kind = RecordKind::from_id(number);
        match kind {
            Some(kind) if kind.is_lazy() != lazy => return Err(altered(number, key).into()),
            Some(_) => {}
            None => self.newer = Some(number),
        }
        Ok((number, kind))
    }

    fn note(&mut self, keys: &Keys, table: u8, key: &[u8], generation: u64) {
        self.tables.entry(table).or_default().insert(&keys.sums, table, key, generation);
    }

    fn check(&self, connection: &Connection, keys: &Keys, head: &Head) -> Result<(), OpenError> {
        // Only read again to name what is wrong; what cannot be read then is not named.
        let of_table = |number| names(connection, number).unwrap_or_default();
        head.check(&keys.sums, &self.tables, &of_table)?;
        match self.newer {
            Some(table) => Err(OpenError::Store(StoreError::NewerRows { table })),
            None => Ok(()),
        }
    }
}

fn names(connection: &Connection, table: u8) -> rusqlite::Result<Vec<(Vec<u8>, u64)>> {
    let lazy = RecordKind::from_id(table).is_some_and(RecordKind::is_lazy);
    let sql = if lazy {
        "SELECT key, generation FROM lazy WHERE kind = ?1"
    } else {
        "SELECT key, generation FROM record WHERE kind = ?1"
    };
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(params![table], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    rows.map(|row| row.map(|(key, generation)| (key, generation.cast_unsigned()))).collect()
}

/// Reads one row that stays in the store. It must be there exactly if it was `expected`, with that generation.
pub(super) fn one(
    connection: &Connection,
    keys: &Keys,
    kind: RecordKind,
    key: &[u8],
    expected: Option<u64>,
) -> Result<Option<Vec<u8>>, OpenError> {
    let number = table(kind);
    let name = || RowName { table: number, key: key.to_vec() };
    let found: Option<(i64, Vec<u8>)> = connection
        .prepare_cached("SELECT generation, sealed FROM lazy WHERE kind = ?1 AND key = ?2")?
        .query_row(params![number, key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let ((found, sealed), expected) = match (found, expected) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(Damage::Removed(name()).into()),
        (Some(_), None) => return Err(Damage::Restored(name()).into()),
        (Some(found), Some(expected)) => (found, expected),
    };
    if let Ok(value) = keys.rows.open(&row_context(number, key, expected), &sealed) {
        return Ok(Some(value));
    }
    let older = keys.rows.open(&row_context(number, key, found.cast_unsigned()), &sealed).is_ok();
    Err(if older { Damage::RolledBack(name()) } else { Damage::Altered(name()) }.into())
}

/// Moves on by what a commit changed.
pub(super) fn follow(lazy: &mut Generations, moved: &[Moved<'_>]) {
    for (kind, key, generation) in moved {
        let rows = lazy.entry(*kind).or_default();
        match generation {
            Some(generation) => rows.insert((*key).into(), *generation),
            None => rows.remove(*key),
        };
    }
}

fn altered(table: u8, key: &[u8]) -> Damage {
    Damage::Altered(RowName { table, key: key.to_vec() })
}
