//! Death in the middle of things: a node that dies after so many steps, with so many of its queued transactions on disk.
//!
//! A step is whatever the endpoint gives out, or a transaction that becomes durable. Between two steps a power cut can
//! come; of the transactions that wait for the disk then, any prefix may survive. [`Mutant`]s are the mistakes that an
//! exploration has to catch, or it is worth nothing.

use pqc_iiot_core::store::{Change, RecordKind, Row};
use pqc_iiot_provider::store::{MemoryStore, Store};

use crate::node::{Node, ToStore};

/// A mistake, planted in what surrounds the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Reports transactions as durable when they are only queued: what depends on them is sent, and acknowledged to the
    /// broker, too early.
    PersistedEarly,
    /// Starts again below the reserved ceiling of the sequences.
    BelowCeiling,
    /// Commits what was heard, and the replay window, before the message itself.
    HeardFirst,
    /// Forgets what was heard when it starts.
    ForgetsHeard,
    /// Consumes a message and writes what came of it in two transactions.
    ConsumesFirst,
}

impl Mutant {
    /// Every mistake.
    pub const ALL: [Self; 5] =
        [Self::PersistedEarly, Self::BelowCeiling, Self::HeardFirst, Self::ForgetsHeard, Self::ConsumesFirst];
}

/// When a node dies, and what of it.
#[derive(Default)]
pub(crate) struct Crash {
    /// Transactions wait until there is nothing else to do, so that several are queued at once.
    pub(crate) lazy: bool,
    /// Steps until death.
    fuse: Option<u64>,
    /// How many queued transactions survive it.
    surviving: usize,
    steps: u64,
    pub(crate) dead: bool,
    pub(crate) mutant: Option<Mutant>,
}

impl Crash {
    /// Counts a step; true if it is never taken.
    pub(crate) fn strikes(&mut self) -> bool {
        self.steps += 1;
        match &mut self.fuse {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl Node {
    /// Writes lazily from now on, with a mistake if one is named.
    pub fn explore(&mut self, mutant: Option<Mutant>) {
        self.crash.lazy = true;
        self.crash.mutant = mutant;
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.crash.steps
    }

    /// Lets the node die after so many more steps, with so many of its queued transactions on disk.
    pub fn die_after(&mut self, steps: u64, surviving: usize) {
        self.crash.fuse = Some(steps);
        self.crash.surviving = surviving;
    }

    /// Whether it died; [`World::restart`](crate::World::restart) starts it again.
    pub fn is_dead(&self) -> bool {
        self.crash.dead
    }

    /// Disarms what has not happened.
    pub fn live_on(&mut self) {
        self.crash.fuse = None;
    }

    pub(crate) fn die(&mut self) {
        let surviving = self.crash.surviving.min(self.held_persists.len());
        let survivors: Vec<ToStore> = self.held_persists.drain(..surviving).collect();
        for survivor in survivors {
            if let ToStore::Persist { changes, audit, .. } = survivor {
                self.commit(&changes);
                self.audit.extend(audit);
            }
        }
        self.crash.fuse = None;
        self.crash.dead = true;
        self.forget_everything();
    }

    /// Makes changes durable, in one transaction unless a mutant knows better; false if it died in between.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> bool {
        let apart = |change: &Change| {
            let kind = match change {
                Change::Put { kind, .. } => *kind,
                Change::Delete { .. } => return false,
            };
            match self.crash.mutant {
                Some(Mutant::HeardFirst) => kind == RecordKind::Inbox,
                Some(Mutant::ConsumesFirst) => kind == RecordKind::Application,
                _ => false,
            }
        };
        let (late, first): (Vec<Change>, Vec<Change>) = changes.iter().cloned().partition(apart);
        self.store.commit(&first).expect("the memory store has room");
        if late.is_empty() {
            return true;
        }
        if self.crash.strikes() {
            return false;
        }
        self.store.commit(&late).expect("the memory store has room");
        true
    }

    /// What a start finds on disk.
    pub(crate) fn found(store: &mut MemoryStore, mutant: Option<Mutant>) -> Vec<Row> {
        let rows = store.load().expect("the memory store loads");
        let overlooked = match mutant {
            Some(Mutant::BelowCeiling) => RecordKind::SendCeiling,
            Some(Mutant::ForgetsHeard) => RecordKind::Received,
            _ => return rows,
        };
        rows.into_iter().filter(|row| row.kind != overlooked).collect()
    }

    /// Everything the application consumed, in order, over all starts: its log is written in the transaction that
    /// consumes.
    pub fn consumed(&mut self) -> Vec<String> {
        let rows = self.store.load().expect("the memory store loads");
        let entries =
            rows.into_iter().filter(|row| row.kind == RecordKind::Application && row.key.len() == 8);
        entries.map(|row| String::from_utf8_lossy(&row.value).into_owned()).collect()
    }
}
