//! Making and opening the database: lock, format, tables, head.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use pqc_iiot_core::crypto::secret::Secret;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::{APPLICATION, FORMAT, HEAD_TABLE, Keys, LAZY_INDEX, LAZY_TABLE, PURPOSE, RECORD_TABLE, migrate};
use crate::SecurityProvider;
use crate::disk::{self, HostDisk};
use crate::random::SystemRandom;
use crate::seal::derive;
use crate::store::error::{Damage, StoreError};
use crate::store::integrity::{Head, row_context};

pub(super) enum OpenError {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl OpenError {
    pub(super) fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Sqlite(error) => classify(path, &error),
            Self::Store(error) => error,
        }
    }
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

/// Makes an empty store. It is built under another name and renamed, so that a power cut leaves no half-made one behind.
pub(super) fn create(path: &Path, key: &Secret<32>) -> Result<(), StoreError> {
    if path.try_exists().map_err(io_error)? {
        return Err(StoreError::Exists { path: path.into() });
    }
    let draft = path.with_extension("new");
    remove_if_present(&draft)?;
    remove_if_present(&path.with_extension("new-journal"))?;
    OpenOptions::new().write(true).create_new(true).mode(disk::FILE_MODE).open(&draft).map_err(io_error)?;
    let connection = connect(&draft)?;
    let mut random = SystemRandom::new().map_err(|error| StoreError::Io(error.to_string()))?;
    let head = Keys::new(key).rows.seal(&mut random, &head_context(FORMAT), &Head::default().encode());
    let build = || {
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
        for table in [RECORD_TABLE, HEAD_TABLE, LAZY_TABLE, LAZY_INDEX] {
            connection.execute(table, [])?;
        }
        connection.execute("INSERT INTO head (id, sealed) VALUES (0, ?1)", params![head])
    };
    build().map_err(|error| classify(&draft, &error))?;
    connection.close().map_err(|(_, error)| classify(&draft, &error))?;
    fs::rename(&draft, path).and_then(|()| disk::sync_parent(&HostDisk, path)).map_err(io_error)
}

/// Whether the file is there.
pub(super) fn present(path: &Path) -> Result<(), StoreError> {
    if path.try_exists().map_err(io_error)? { Ok(()) } else { Err(StoreError::Missing { path: path.into() }) }
}

/// The file's length, unless a log beside it has the truth, as after a crash. The file is not opened for it: closing it
/// would release SQLite's locks.
pub(super) fn length(path: &Path) -> Option<u64> {
    let beside = |suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        fs::metadata(name).is_ok_and(|file| file.len() > 0)
    };
    if beside("-wal") || beside("-journal") { None } else { fs::metadata(path).ok().map(|file| file.len()) }
}

pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| classify(path, &error))?;
    connection.busy_timeout(std::time::Duration::ZERO).map_err(|error| classify(path, &error))?;
    Ok(connection)
}

/// Locks, checks format and tables before anything else is read, upgrades what is older, and opens the head.
pub(super) fn prepare(
    connection: &Connection,
    keys: &Keys,
    random: &mut SystemRandom,
    length: Option<u64>,
) -> Result<Head, OpenError> {
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    // Exclusive before the first read: WAL then needs no shared memory, and a second opener finds it busy.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;

    let format = format(connection)?;
    let size = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
    let expected = u64::from(size("page_count")?) * u64::from(size("page_size")?);
    // SQLite does not mind a last page that lacks bytes which happen to be zero.
    if length.is_some_and(|length| length != expected) {
        return Err(Damage::File("its length is not what its header says".into()).into());
    }
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(OpenError::Store(StoreError::Io("the file system cannot hold a write-ahead log".into())));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Erased prekeys leave the pages, not only the table.
    connection.pragma_update(None, "secure_delete", true)?;
    if format < FORMAT {
        migrate::upgrade(connection, keys, random, format)?;
    }
    head(connection, keys, FORMAT)
}

/// Whether it is a store's database, and of which format.
fn format(connection: &Connection) -> Result<u32, OpenError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
    if number("application_id")? != APPLICATION {
        return Err(Damage::Schema.into());
    }
    let format = number("user_version")?;
    let expected: &[&str] = match format {
        FORMAT | migrate::FORMAT_2 => &[HEAD_TABLE, LAZY_TABLE, LAZY_INDEX, RECORD_TABLE],
        migrate::FORMAT_1 => &[HEAD_TABLE, RECORD_TABLE],
        found if found > FORMAT => {
            return Err(OpenError::Store(StoreError::NewerFormat { found, supported: FORMAT }));
        }
        _ => return Err(Damage::Schema.into()),
    };
    let tables: Vec<String> = connection
        .prepare("SELECT sql FROM sqlite_schema ORDER BY name")?
        .query_map([], |row| row.get::<_, Option<String>>(0).map(Option::unwrap_or_default))?
        .collect::<Result<_, _>>()?;
    if tables == expected { Ok(format) } else { Err(Damage::Schema.into()) }
}

/// The head of a store of `format`.
pub(super) fn head(connection: &Connection, keys: &Keys, format: u32) -> Result<Head, OpenError> {
    let sealed: Option<Vec<u8>> =
        connection.query_row("SELECT sealed FROM head WHERE id = 0", [], |row| row.get(0)).optional()?;
    let plain = sealed.and_then(|sealed| keys.rows.open(&head_context(format), &sealed).ok());
    Ok(Head::decode(&plain.ok_or(Damage::Head)?).map_err(|_| Damage::Head)?)
}

pub(super) fn head_context(format: u32) -> Vec<u8> {
    // Table 0 is no record kind, so no row can take the head's place.
    row_context(0, PURPOSE.as_bytes(), format.into())
}

pub(super) fn storage_key(provider: &dyn SecurityProvider) -> Result<Secret<32>, StoreError> {
    let root = provider.storage_key(PURPOSE).map_err(|error| StoreError::Io(error.to_string()))?;
    Ok(derive(&root, PURPOSE))
}

pub(super) fn classify(path: &Path, error: &rusqlite::Error) -> StoreError {
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
