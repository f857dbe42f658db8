//! The few file operations that everything durable outside the SQLite store is written with, and the one careful way of
//! replacing a file.
//!
//! [`HostDisk`] is the file system. The simulator has a [`Disk`] that loses power: `docs/crash-testing.md`.

mod host;

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;

pub(crate) use self::host::FILE_MODE;
pub use self::host::HostDisk;

/// A file system as its writers must think of it: nothing written, created, renamed or removed is durable before the
/// file, or for a name its directory, was synced.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a directory of mode 0700; it is an error if anything has that name.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The mode of a directory: permission bits, set-id bits and sticky bit. An error of kind `NotADirectory` for
    /// anything else.
    fn dir_mode(&self, path: &Path) -> io::Result<u32>;

    /// The names in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;

    /// Reads at most `limit` bytes; a longer file is an error of kind `FileTooLarge`.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// Creates a file of mode 0600 for writing; it is an error if anything has that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name in the same directory, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renamings and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock at `path` until the value given is dropped, and leaves `holder` there for others to read.
    fn lock(&self, path: &Path, holder: &str) -> Result<Lock, LockError>;
}

/// A file open for writing.
pub trait DiskFile: Send {
    /// Writes all of `bytes` at `offset` from the start.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&mut self, length: u64) -> io::Result<()>;

    /// Makes content and length durable; the file's name is its directory's matter.
    fn sync(&mut self) -> io::Result<()>;
}

/// A lock; dropping it releases it.
pub struct Lock(#[expect(dead_code, reason = "held, and dropped")] Box<dyn Any + Send + Sync>);

impl Lock {
    /// A lock that `guard` releases when it is dropped.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Somebody has it, and left this text.
    Held(String),
    /// The lock file cannot be used.
    Io(io::Error),
}

/// Writes a temporary file beside `path`, syncs it, renames it over `path` and syncs the directory: a power cut leaves
/// the old or the new content, never a mixture.
pub fn write_atomically(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    // Not reused: where a power cut split a renaming, both names lead to the same file.
    match disk.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = disk.create(temporary)?;
    file.write_all_at(content, 0)?;
    file.sync()?;
    disk.rename(temporary, path)?;
    sync_parent(disk, path)
}

/// Makes the creation, renaming or removal of `path` durable.
pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => disk.sync_dir(parent),
        _ => disk.sync_dir(Path::new(".")),
    }
}

/// Creates a private directory unless it exists, and makes it durable in either case: a process that died may have
/// created it and gone no further. True if it was created.
pub(crate) fn ensure_dir(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let created = match disk.create_dir(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    sync_parent(disk, path)?;
    Ok(created)
}
