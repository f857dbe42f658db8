//! A file as a disk sees it: what is synced, and the changes that are not.

/// What became of one unsynced change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Only the first half of the sector write arrived.
    Front,
    /// Only the second half did.
    Back,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Change {
    /// A write within one sector.
    Sector {
        at: usize,
        bytes: Vec<u8>,
    },
    Length(usize),
}

/// A file without its names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct FileState {
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    /// What a reader sees now.
    view: Vec<u8>,
}

impl FileState {
    pub(super) fn view(&self) -> &[u8] {
        &self.view
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize, sector: usize) {
        let end = at + bytes.len();
        let mut start = at;
        while start < end {
            let stop = end.min((start / sector + 1) * sector);
            let bytes = bytes[start - at..stop - at].to_vec();
            self.unsynced.push(Change::Sector { at: start, bytes });
            start = stop;
        }
        if end > self.view.len() {
            self.unsynced.push(Change::Length(end));
            self.view.resize(end, 0);
        }
        self.view[at..end].copy_from_slice(bytes);
    }

    pub(super) fn set_len(&mut self, length: usize) {
        self.unsynced.push(Change::Length(length));
        self.view.resize(length, 0);
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.synced.clone_from(&self.view);
    }

    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Whether a change can be torn: it is a sector write.
    pub(super) fn tears(&self, change: usize) -> bool {
        matches!(self.unsynced.get(change), Some(Change::Sector { bytes, .. }) if bytes.len() > 1)
    }

    /// What is left with these fates, one per unsynced change; `fill` stands where nothing was ever written.
    pub(super) fn survive(&self, fates: &[Fate], fill: u8) -> Self {
        let mut length = self.synced.len();
        let mut content = self.synced.clone();
        for (change, fate) in self.unsynced.iter().zip(fates) {
            match (change, fate) {
                (_, Fate::Lost) => {}
                (Change::Length(to), _) => {
                    content.truncate(*to);
                    length = *to;
                }
                (Change::Sector { at, bytes }, fate) => {
                    let half = bytes.len() / 2;
                    let kept = match fate {
                        Fate::Front => 0..half,
                        Fate::Back => half..bytes.len(),
                        Fate::Kept | Fate::Lost => 0..bytes.len(),
                    };
                    let (from, to) = (at + kept.start, at + kept.end);
                    if content.len() < to {
                        content.resize(to, fill);
                    }
                    content[from..to].copy_from_slice(&bytes[kept]);
                }
            }
        }
        content.resize(length, fill);
        Self { synced: content.clone(), unsynced: Vec::new(), view: content }
    }
}
