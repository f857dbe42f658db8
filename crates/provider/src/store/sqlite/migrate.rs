//! Bringing a store of an earlier format to this release's, in one transaction: a crash leaves the old or the new one.

use pqc_iiot_core::endpoint::upgrade_from_format_1;
use pqc_iiot_core::store::{Change, RecordKind, Row};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::open::{OpenError, head};
use super::{FORMAT, Keys, LAZY_INDEX, LAZY_TABLE, scan, write, write_head};
use crate::random::SystemRandom;
use crate::store::error::{Damage, RowName, StoreError};
use crate::store::integrity::{row_context, table};

/// One table of rows; certificate and bundle in the peer's row.
pub(super) const FORMAT_1: u32 = 1;

/// The whole store is verified as format 1 before anything of it is believed.
pub(super) fn from_format_1(
    connection: &Connection,
    keys: &Keys,
    random: &mut SystemRandom,
) -> Result<(), OpenError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    rewrite(&transaction, keys, random)?;
    transaction.commit()?;
    Ok(())
}

/// Everything but the commit.
pub(super) fn rewrite(
    transaction: &Transaction<'_>,
    keys: &Keys,
    random: &mut SystemRandom,
) -> Result<(), OpenError> {
    let mut head = head(transaction, keys, FORMAT_1)?;
    // The keys alone, so that a large store fits into a small memory.
    let mut peers = Vec::new();
    scan::format_1(transaction, keys, &head, |row| {
        if row.kind == RecordKind::Peer {
            peers.push(row.key);
        }
    })?;
    transaction.execute(LAZY_TABLE, [])?;
    transaction.execute(LAZY_INDEX, [])?;
    head.generation += 1;
    for key in peers {
        let row = record(transaction, keys, key)?;
        let name = || RowName { table: table(row.kind), key: row.key.clone() };
        let changes = upgrade_from_format_1(&row)
            .map_err(|_| OpenError::Store(StoreError::Upgrade { format: FORMAT, row: name() }))?;
        for change in changes.into_iter().flatten() {
            let (kind, key, value) = match &change {
                Change::Put { kind, key, value } => (*kind, key, Some(value.as_slice())),
                Change::Delete { kind, key } => (*kind, key, None),
            };
            write(transaction, keys, random, &mut head, kind, key, value)?;
        }
    }
    write_head(transaction, keys, random, &head)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    Ok(())
}

fn record(transaction: &Transaction<'_>, keys: &Keys, key: Vec<u8>) -> Result<Row, OpenError> {
    let kind = RecordKind::Peer;
    let (generation, sealed): (i64, Vec<u8>) = transaction
        .prepare_cached("SELECT generation, sealed FROM record WHERE kind = ?1 AND key = ?2")?
        .query_row(params![table(kind), key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let context = row_context(table(kind), &key, generation.cast_unsigned());
    let altered = |_| Damage::Altered(RowName { table: table(kind), key: key.clone() });
    let value = keys.rows.open(&context, &sealed).map_err(altered)?;
    Ok(Row { kind, key, value })
}
