//! Bringing a store of an earlier format to this release's, in one transaction: a crash leaves the old or the new one.

use pqc_iiot_core::codec::DecodeError;
use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::endpoint::{UpgradeFromFormat2, upgrade_from_format_1};
use pqc_iiot_core::ids::BootId;
use pqc_iiot_core::store::{Change, RecordKind, Row};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::open::{OpenError, head};
use super::{FORMAT, Keys, LAZY_INDEX, LAZY_TABLE, scan, write, write_head};
use crate::random::SystemRandom;
use crate::store::error::{Damage, RowName, StoreError};
use crate::store::integrity::{Head, row_context, table};

/// One table of rows; certificate and bundle in the peer's row.
pub(super) const FORMAT_1: u32 = 1;
/// The tables of this format; a message's packet in its outbox row, and its name there only once it was sealed.
pub(super) const FORMAT_2: u32 = 2;

/// The whole store is verified as one of `format`, 1 or 2, before anything of it is believed.
pub(super) fn upgrade(
    connection: &Connection,
    keys: &Keys,
    random: &mut SystemRandom,
    format: u32,
) -> Result<(), OpenError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    rewrite(&transaction, keys, random, format)?;
    transaction.commit()?;
    Ok(())
}

/// Everything but the commit.
pub(super) fn rewrite(
    transaction: &Transaction<'_>,
    keys: &Keys,
    random: &mut SystemRandom,
    format: u32,
) -> Result<(), OpenError> {
    let mut head = head(transaction, keys, format)?;
    if format == FORMAT_1 {
        scan::format_1(transaction, keys, &head)?;
        transaction.execute(LAZY_TABLE, [])?;
        transaction.execute(LAZY_INDEX, [])?;
    } else {
        // Each row is authenticated; of those that stay in the store as much as at any start.
        scan::all(transaction, keys, &head)?;
    }
    head.generation += 1;
    if format == FORMAT_1 {
        for key in names(transaction, RecordKind::Peer)? {
            replace(transaction, keys, random, &mut head, RecordKind::Peer, key, upgrade_from_format_1)?;
        }
    }
    let mut boot = BootId([0; BootId::LEN]);
    random.fill(&mut boot.0);
    let mut second = UpgradeFromFormat2::new(boot);
    for kind in UpgradeFromFormat2::KINDS {
        for key in names(transaction, kind)? {
            replace(transaction, keys, random, &mut head, kind, key, |row| second.row(row))?;
        }
    }
    write_head(transaction, keys, random, &head)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    Ok(())
}

/// The keys alone, in their order, so that a large store fits into a small memory.
fn names(transaction: &Transaction<'_>, kind: RecordKind) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut statement = transaction.prepare("SELECT key FROM record WHERE kind = ?1 ORDER BY key")?;
    statement.query_map(params![table(kind)], |row| row.get(0))?.collect()
}

fn replace(
    transaction: &Transaction<'_>,
    keys: &Keys,
    random: &mut SystemRandom,
    head: &mut Head,
    kind: RecordKind,
    key: Vec<u8>,
    upgrade: impl FnOnce(&Row) -> Result<Option<Vec<Change>>, DecodeError>,
) -> Result<(), OpenError> {
    let row = record(transaction, keys, kind, key)?;
    let name = || RowName { table: table(row.kind), key: row.key.clone() };
    let changes =
        upgrade(&row).map_err(|_| OpenError::Store(StoreError::Upgrade { format: FORMAT, row: name() }))?;
    for change in changes.into_iter().flatten() {
        let (kind, key, value) = match &change {
            Change::Put { kind, key, value } => (*kind, key, Some(value.as_slice())),
            Change::Delete { kind, key } => (*kind, key, None),
        };
        write(transaction, keys, random, head, kind, key, value)?;
    }
    Ok(())
}

fn record(
    transaction: &Transaction<'_>,
    keys: &Keys,
    kind: RecordKind,
    key: Vec<u8>,
) -> Result<Row, OpenError> {
    let (generation, sealed): (i64, Vec<u8>) = transaction
        .prepare_cached("SELECT generation, sealed FROM record WHERE kind = ?1 AND key = ?2")?
        .query_row(params![table(kind), key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let context = row_context(table(kind), &key, generation.cast_unsigned());
    let altered = |_| Damage::Altered(RowName { table: table(kind), key: key.clone() });
    let value = keys.rows.open(&context, &sealed).map_err(altered)?;
    Ok(Row { kind, key, value })
}
