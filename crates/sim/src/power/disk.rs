//! The disk under the real writers: it remembers every state in which the power can fail.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pqc_iiot_provider::disk::{Disk, DiskFile, Lock, LockError};

use super::state::DiskState;

/// Syncs that a broken disk, or a writer that forgets them, leaves out: the permanent mutants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skip {
    /// Syncing a file does nothing.
    pub files: bool,
    /// Syncing a directory does nothing.
    pub directories: bool,
}

/// A disk in memory that can lose power, together with what its user was promised: `F`.
pub struct CrashDisk<F>(Arc<Mutex<Inner<F>>>);

pub(super) struct Inner<F> {
    pub(super) state: DiskState,
    pub(super) facts: F,
    pub(super) points: Vec<(DiskState, F)>,
    locks: BTreeSet<PathBuf>,
    sector: usize,
    skip: Skip,
    full: bool,
}

impl<F> Clone for CrashDisk<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> fmt::Debug for CrashDisk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CrashDisk")
    }
}

impl<F: Clone> CrashDisk<F> {
    pub(super) fn new(state: DiskState, facts: F, sector: usize, skip: Skip) -> Self {
        let points = vec![(state.clone(), facts.clone())];
        let locks = BTreeSet::new();
        Self(Arc::new(Mutex::new(Inner { state, facts, points, locks, sector, skip, full: false })))
    }

    pub(super) fn lock_inner(&self) -> MutexGuard<'_, Inner<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the user was promised so far.
    pub fn facts(&self) -> F {
        self.lock_inner().facts.clone()
    }

    /// Notes a promise. The moment after it is a crash point: this is also how a store's commit, which is atomic and
    /// durable by itself, takes part.
    pub fn promise(&self, change: impl FnOnce(&mut F)) {
        let _ = self.change(|inner| {
            change(&mut inner.facts);
            Ok(())
        });
    }

    /// From now on there is no room: creating and writing fail.
    pub fn fill(&self, full: bool) {
        self.lock_inner().full = full;
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner<F>) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.lock_inner();
        let result = change(&mut inner);
        let point = (inner.state.clone(), inner.facts.clone());
        inner.points.push(point);
        result
    }
}

impl<F> Inner<F> {
    fn room(&self) -> io::Result<()> {
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl<F: Clone + Send + 'static> Disk for CrashDisk<F> {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|inner| inner.room().and_then(|()| inner.state.create(path, true)).map(drop))
    }

    fn dir_mode(&self, path: &Path) -> io::Result<u32> {
        self.lock_inner().state.dir(path).map(|_| 0o700)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        self.lock_inner().state.names(directory)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let inner = self.lock_inner();
        let content = inner.state.read(path)?;
        if content.len() as u64 > limit {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            Ok(content.to_vec())
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.change(|inner| inner.room().and_then(|()| inner.state.create(path, false)))?;
        Ok(Box::new(CrashFile { disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.lock_inner().state.file(path)?;
        Ok(Box::new(CrashFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|inner| inner.state.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|inner| inner.state.remove(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|inner| match inner.skip.directories {
            true => inner.state.dir(path).map(drop),
            false => inner.state.sync_dir(path),
        })
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Lock, LockError> {
        // The lock file's content decides nothing, so the disk does not hold it.
        if !self.lock_inner().locks.insert(path.into()) {
            return Err(LockError::Held(holder.into()));
        }
        Ok(Lock::new(Unlock { disk: self.clone(), path: path.into() }))
    }
}

struct Unlock<F: Clone> {
    disk: CrashDisk<F>,
    path: PathBuf,
}

impl<F: Clone> Drop for Unlock<F> {
    fn drop(&mut self) {
        self.disk.lock_inner().locks.remove(&self.path);
    }
}

struct CrashFile<F> {
    disk: CrashDisk<F>,
    file: usize,
}

fn offset(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl<F: Clone + Send + 'static> DiskFile for CrashFile<F> {
    fn write_all_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = offset(at)?;
        self.disk.change(|inner| {
            let (sector, full) = (inner.sector, inner.full);
            // A disk that fills up takes the first half.
            let taken = if full { bytes.len() / 2 } else { bytes.len() };
            inner.state.file_mut(self.file).write(&bytes[..taken], at, sector);
            inner.room()
        })
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        let length = offset(length)?;
        self.disk.change(|inner| {
            inner.state.file_mut(self.file).set_len(length);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.change(|inner| {
            if !inner.skip.files {
                inner.state.file_mut(self.file).sync();
            }
            Ok(())
        })
    }
}
