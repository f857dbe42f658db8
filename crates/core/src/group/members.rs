//! Who is in a group, and who still has to be handed its key.

use alloc::collections::BTreeMap;

use thiserror::Error;

use crate::ids::Fingerprint;

/// Members of one group at most.
pub const MAX_MEMBERS: usize = 4096;

/// The group has [`MAX_MEMBERS`] members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a group has at most 4096 members")]
pub struct MembersFull;

/// A group's members.
#[derive(Default)]
pub struct Members(BTreeMap<Fingerprint, Option<u32>>);

impl Members {
    /// Whether it is one.
    pub fn contains(&self, peer: &Fingerprint) -> bool {
        self.0.contains_key(peer)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Fingerprint> {
        self.0.keys()
    }

    /// Those that wait for the current epoch's key.
    pub fn pending(&self) -> impl Iterator<Item = &Fingerprint> {
        self.0.iter().filter(|(_, start)| start.is_some()).map(|(peer, _)| peer)
    }

    /// The block from which a waiting member may read.
    pub(super) fn start_of(&self, peer: &Fingerprint) -> Option<u32> {
        self.0.get(peer).copied().flatten()
    }

    pub(super) fn waits_for(&self, block: u32) -> bool {
        self.0.values().any(|start| *start == Some(block))
    }

    /// The peer waits for the key from block `start` on; one that waits already keeps its earlier claim.
    pub(super) fn add(&mut self, peer: Fingerprint, start: u32) -> Result<(), MembersFull> {
        if !self.contains(&peer) && self.len() >= MAX_MEMBERS {
            return Err(MembersFull);
        }
        self.0.entry(peer).or_default().get_or_insert(start);
        Ok(())
    }

    pub(super) fn remove(&mut self, peer: &Fingerprint) -> bool {
        self.0.remove(peer).is_some()
    }

    pub(super) fn handed(&mut self, peer: &Fingerprint) {
        if let Some(start) = self.0.get_mut(peer) {
            *start = None;
        }
    }

    /// A new epoch: all wait for its key, from its beginning.
    pub(super) fn rotated(&mut self) {
        self.0.values_mut().for_each(|start| *start = Some(0));
    }
}
