//! The data directory of one identity: private, with fixed file names, and with one writer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::disk::{self, Disk, HostDisk, Lock, LockError};

const LOCK_FILE: &str = "lock";
const AUDIT_DIRECTORY: &str = "audit";

/// A file of the data directory. No name ever comes from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataFile {
    /// The sealed identity key file.
    Identity,
    /// The SQLite store.
    Store,
    /// The operational certificate of this identity.
    Certificate,
    /// The trust anchors it was provisioned with.
    Anchors,
}

impl DataFile {
    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity.key",
            Self::Store => "store.sqlite",
            Self::Certificate => "certificate.cose",
            Self::Anchors => "anchors.cose",
        }
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// It does not exist.
    #[error("the data directory {} does not exist", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The path leads to something else.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Other users may enter it.
    #[error("{} has mode {mode:04o}, so other users may read it; fix it with: chmod 700 '{}'", path.display(), path.display())]
    Permissions {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another process, or another handle in this one, uses it.
    #[error("{} is in use by {holder}; one identity has one writer", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the holder wrote of itself.
        holder: String,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An existing, private directory, locked for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    // Dropping it releases it.
    _lock: Lock,
}

impl DataDir {
    /// Creates the directory with mode 0700 if it is missing (its parent must exist), then opens it.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        Self::create_on(Arc::new(HostDisk), path)
    }

    /// As [`DataDir::create`], on another disk.
    pub fn create_on(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let path = path.into();
        disk::ensure_dir(&*disk, &path).map_err(|source| io_error(&path, source))?;
        Self::open_on(disk, path)
    }

    /// Opens an existing directory and locks it against a second writer.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        Self::open_on(Arc::new(HostDisk), path)
    }

    /// As [`DataDir::open`], on another disk.
    pub fn open_on(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let path = path.into();
        check_directory(&*disk, &path)?;
        let lock = lock(&*disk, &path)?;
        // A process that died may have renamed a file and gone no further: what is read now has to stay.
        disk.sync_dir(&path).map_err(|source| io_error(&path, source))?;
        Ok(Self { disk, path, _lock: lock })
    }

    /// The disk it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of its files.
    pub fn file(&self, file: DataFile) -> PathBuf {
        self.path.join(file.name())
    }

    /// The directory of the audit log, created with mode 0700 if missing.
    pub fn audit_directory(&self) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(AUDIT_DIRECTORY);
        if !disk::ensure_dir(&*self.disk, &path).map_err(|source| io_error(&path, source))? {
            check_directory(&*self.disk, &path)?;
        }
        Ok(path)
    }

    /// The content of a file of at most `limit` bytes, `None` if it does not exist.
    pub fn read(&self, file: DataFile, limit: u64) -> Result<Option<Vec<u8>>, DataDirError> {
        let path = self.file(file);
        match self.disk.read(&path, limit) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error(&path, source)),
        }
    }

    /// Replaces a file: after a power cut it holds the old or the new content.
    pub fn write(&self, file: DataFile, content: &[u8]) -> Result<(), DataDirError> {
        let path = self.file(file);
        disk::write_atomically(&*self.disk, &path, content).map_err(|source| io_error(&path, source))
    }
}

fn check_directory(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    let mode = match disk.dir_mode(path) {
        Ok(mode) => mode,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DataDirError::Missing { path: path.into() });
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(DataDirError::NotADirectory { path: path.into() });
        }
        Err(source) => return Err(io_error(path, source)),
    };
    if mode & 0o077 != 0 {
        return Err(DataDirError::Permissions { path: path.into(), mode });
    }
    Ok(())
}

fn lock(disk: &dyn Disk, directory: &Path) -> Result<Lock, DataDirError> {
    let path = directory.join(LOCK_FILE);
    let command = std::env::args().next().unwrap_or_default();
    let holder = format!("process {} ({command})", std::process::id());
    disk.lock(&path, &holder).map_err(|error| match error {
        LockError::Held(holder) => DataDirError::Locked { path: directory.into(), holder },
        LockError::Io(source) => io_error(&path, source),
    })
}

fn io_error(path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { path: path.into(), source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_open_to_others_is_refused_with_the_fix() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        fs::create_dir(&path).unwrap();
        for mode in [0o755, 0o750, 0o701] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = DataDir::open(&path).unwrap_err();
            assert!(matches!(error, DataDirError::Permissions { mode: found, .. } if found == mode));
            assert!(error.to_string().contains(&format!("chmod 700 '{}'", path.display())), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_created_directory_is_private_and_its_parent_must_exist() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::create(parent.path().join("data")).unwrap();
        assert_eq!(fs::metadata(data.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        let audit = data.audit_directory().unwrap();
        assert_eq!(fs::metadata(audit).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(matches!(DataDir::create(parent.path().join("a/b")), Err(DataDirError::Io { .. })));
        assert!(matches!(DataDir::open(parent.path().join("a")), Err(DataDirError::Missing { .. })));
    }

    #[test]
    fn a_second_writer_is_told_who_holds_it() {
        let parent = tempfile::tempdir().unwrap();
        let first = DataDir::create(parent.path().join("data")).unwrap();
        let error = DataDir::open(first.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        let path = first.path().to_owned();
        drop(first);
        DataDir::open(path).unwrap();
    }

    #[test]
    fn files_are_replaced_whole_and_reads_are_bounded() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::create(parent.path().join("data")).unwrap();
        assert_eq!(data.read(DataFile::Certificate, 10).unwrap(), None);
        data.write(DataFile::Certificate, b"old content").unwrap();
        data.write(DataFile::Certificate, b"new").unwrap();
        assert_eq!(data.read(DataFile::Certificate, 3).unwrap().unwrap(), b"new");
        assert!(data.read(DataFile::Certificate, 2).is_err());
        let mode = fs::metadata(data.file(DataFile::Certificate)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600);
    }
}
