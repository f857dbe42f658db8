//! Files and directories, synced and not.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Component, Path};

use super::file::{Fate, FileState};

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Node {
    File(usize),
    Dir(usize),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct DirState {
    synced: BTreeMap<OsString, Node>,
    /// Each name that was set or removed since.
    unsynced: Vec<(OsString, Option<Node>)>,
    view: BTreeMap<OsString, Node>,
}

/// A whole disk. Directory 0 is the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DiskState {
    files: Vec<FileState>,
    dirs: Vec<DirState>,
}

impl Default for DiskState {
    fn default() -> Self {
        Self { files: Vec::new(), dirs: vec![DirState::default()] }
    }
}

impl DiskState {
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn dir(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        let names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let mut node = Node::Dir(0);
        for name in names {
            let Node::Dir(dir) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            node = *self.dirs[dir].view.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn file_mut(&mut self, file: usize) -> &mut FileState {
        &mut self.files[file]
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<&[u8]> {
        Ok(self.files[self.file(path)?].view())
    }

    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.dirs[self.dir(path)?].view.keys().cloned().collect())
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(usize, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn set(&mut self, dir: usize, name: &OsStr, node: Option<Node>) {
        let dir = &mut self.dirs[dir];
        dir.unsynced.push((name.into(), node));
        match node {
            Some(node) => dir.view.insert(name.into(), node),
            None => dir.view.remove(name),
        };
    }

    /// Creates a file or directory under a name that must be free.
    pub(super) fn create(&mut self, path: &Path, directory: bool) -> io::Result<usize> {
        let (parent, name) = self.parent(path)?;
        if self.dirs[parent].view.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (index, node) = if directory {
            self.dirs.push(DirState::default());
            (self.dirs.len() - 1, Node::Dir(self.dirs.len() - 1))
        } else {
            self.files.push(FileState::default());
            (self.files.len() - 1, Node::File(self.files.len() - 1))
        };
        self.set(parent, name, Some(node));
        Ok(index)
    }

    /// Two changes of names, of which a crash may keep either alone: more than a journal would do.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = Node::File(self.file(from)?);
        let (new, name) = self.parent(to)?;
        self.set(new, name, Some(node));
        let (old, name) = self.parent(from)?;
        self.set(old, name, None);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        let (parent, name) = self.parent(path)?;
        self.set(parent, name, None);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        let dir = &mut self.dirs[dir];
        dir.unsynced.clear();
        dir.synced.clone_from(&dir.view);
        Ok(())
    }

    /// Every unsynced change that some surviving name may lead to, in order; true where it can be torn.
    pub(super) fn unsynced(&self) -> Vec<bool> {
        let files = self.files.iter().enumerate().flat_map(|(index, file)| {
            let changes = if self.named(index) { file.unsynced() } else { 0 };
            (0..changes).map(|change| file.tears(change))
        });
        let dirs = self.dirs.iter().flat_map(|dir| dir.unsynced.iter().map(|_| false));
        files.chain(dirs).collect()
    }

    /// Whether a name leads, or may after a crash lead, to a file.
    fn named(&self, file: usize) -> bool {
        let leads = |node: &Node| *node == Node::File(file);
        self.dirs.iter().any(|dir| {
            let unsynced = dir.unsynced.iter().filter_map(|(_, node)| node.as_ref());
            dir.synced.values().chain(unsynced).any(leads)
        })
    }

    /// The disk after a power cut that left each unsynced change to its fate, in the order of
    /// [`DiskState::unsynced`].
    pub(super) fn survive(&self, fates: &[Fate], fill: u8) -> Self {
        let mut rest = fates;
        let mut take = |count: usize| {
            let (now, later) = rest.split_at(count.min(rest.len()));
            rest = later;
            now
        };
        let mut files = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let changes = if self.named(index) { file.unsynced() } else { 0 };
            files.push(file.survive(take(changes), fill));
        }
        let mut dirs = Vec::new();
        for dir in &self.dirs {
            let mut names = dir.synced.clone();
            for ((name, node), fate) in dir.unsynced.iter().zip(take(dir.unsynced.len())) {
                match node {
                    _ if *fate == Fate::Lost => {}
                    Some(node) => drop(names.insert(name.clone(), *node)),
                    None => drop(names.remove(name)),
                }
            }
            dirs.push(names);
        }
        let mut survivor = Self::default();
        survivor.adopt(0, 0, &dirs, &files, &mut BTreeMap::new());
        survivor
    }

    /// Copies what names still lead to, in the order of names, so that equal disks compare equal.
    fn adopt(
        &mut self,
        to: usize,
        from: usize,
        dirs: &[BTreeMap<OsString, Node>],
        files: &[FileState],
        moved: &mut BTreeMap<usize, usize>,
    ) {
        for (name, node) in &dirs[from] {
            let node = match *node {
                Node::File(file) => Node::File(*moved.entry(file).or_insert_with(|| {
                    self.files.push(files[file].clone());
                    self.files.len() - 1
                })),
                Node::Dir(dir) => {
                    self.dirs.push(DirState::default());
                    let copy = self.dirs.len() - 1;
                    self.adopt(copy, dir, dirs, files, moved);
                    Node::Dir(copy)
                }
            };
            self.dirs[to].synced.insert(name.clone(), node);
            self.dirs[to].view.insert(name.clone(), node);
        }
    }
}
