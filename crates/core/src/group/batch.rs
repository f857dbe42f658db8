//! The publisher's batches: the open one, those that wait for their signature, and those whose leaves it still knows.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::leaves::{Leaves, MissingLeaves};
use super::seal::Seal;
use super::{MAX_BATCH, tree};
use crate::crypto::kdf::HashOutput;
use crate::crypto::suite::HashAlgorithm;
use crate::ids::GroupId;
use crate::time::Monotonic;

/// The shortest time between two seals of a group that has less than [`MAX_BATCH`] records in it.
pub const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The longest time that a record waits for its seal.
pub const MAX_INTERVAL: Duration = Duration::from_secs(300);
/// With so many batches waiting for their signature no more records are sealed; members and epochs may still change.
pub const MAX_UNSIGNED: usize = 4;

/// How long to collect the next batch, after one that brought `count` records in `elapsed`: long enough to fill it, halfway
/// from `before`, between [`MIN_INTERVAL`] and [`MAX_INTERVAL`].
pub fn next_interval(before: Duration, count: usize, elapsed: Duration) -> Duration {
    let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    let to_fill = elapsed.saturating_mul(MAX_BATCH as u32) / count;
    let aim = to_fill.clamp(MIN_INTERVAL, MAX_INTERVAL);
    (before.saturating_add(aim) / 2).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// The records since the last seal.
pub(super) struct OpenBatch {
    pub(super) first: u32,
    pub(super) since: Monotonic,
    leaves: Vec<HashOutput>,
}

impl OpenBatch {
    pub(super) fn new(first: u32, since: Monotonic) -> Self {
        Self { first, since, leaves: Vec::new() }
    }

    /// The only counter that it can take next.
    pub(super) fn end(&self) -> u32 {
        self.first + self.leaves.len() as u32
    }

    /// Whether it is full with this leaf.
    pub(super) fn push(&mut self, leaf: HashOutput) -> bool {
        self.leaves.push(leaf);
        self.leaves.len() >= MAX_BATCH
    }

    pub(super) fn len(&self) -> usize {
        self.leaves.len()
    }

    pub(super) fn root(&self, algorithm: HashAlgorithm) -> HashOutput {
        tree::root(algorithm, &self.leaves)
    }

    pub(super) fn into_kept(self, gid: GroupId, epoch: u16) -> KeptBatch {
        KeptBatch { gid, epoch, first: self.first, leaves: self.leaves, packet: None }
    }
}

/// A closed batch that waits for its signature.
pub(super) struct Unsigned {
    pub(super) seal: Seal,
    pub(super) commitment: HashOutput,
}

/// A batch whose leaves and seal may still be asked for.
pub(super) struct KeptBatch {
    pub(super) gid: GroupId,
    pub(super) epoch: u16,
    first: u32,
    leaves: Vec<HashOutput>,
    /// Its seal, once signed.
    pub(super) packet: Option<Vec<u8>>,
}

impl KeptBatch {
    /// The counter after its last record.
    pub(super) fn end(&self) -> u32 {
        self.first + self.leaves.len() as u32
    }
}

/// Keeps a signed seal with its batch, if that is still kept.
pub(super) fn keep_packet(history: &mut VecDeque<KeptBatch>, seal: &Seal, packet: &[u8]) {
    let names =
        |kept: &&mut KeptBatch| (kept.gid, kept.epoch, kept.first) == (seal.gid, seal.epoch, seal.first);
    if let Some(kept) = history.iter_mut().find(names) {
        kept.packet = Some(packet.to_vec());
    }
}

/// The answer to `asked`, if its batch is still known and has all those places.
pub(super) fn answer(history: &VecDeque<KeptBatch>, asked: &MissingLeaves) -> Option<Leaves> {
    let names =
        |kept: &&KeptBatch| (kept.gid, kept.epoch, kept.first) == (asked.gid, asked.epoch, asked.first);
    let kept = history.iter().find(names)?;
    let leaves = asked.which.iter().map(|place| kept.leaves.get(place).copied()).collect::<Option<_>>()?;
    Some(Leaves { asked: *asked, leaves })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_follows_the_rate_within_its_bounds() {
        let seconds = Duration::from_secs;
        let mut interval = MIN_INTERVAL;
        for _ in 0..20 {
            interval = next_interval(interval, 5, seconds(300));
        }
        assert!(interval > seconds(299), "one a minute: {interval:?}");
        for _ in 0..20 {
            interval = next_interval(interval, 32, seconds(5));
        }
        assert!(interval > seconds(39) && interval < seconds(41), "it fills in 40 s: {interval:?}");
        for _ in 0..20 {
            interval = next_interval(interval, 256, Duration::from_millis(1));
        }
        assert!(interval < seconds(6), "{interval:?}");
        assert_eq!(next_interval(MIN_INTERVAL, 0, Duration::ZERO), MIN_INTERVAL);
        assert_eq!(next_interval(Duration::MAX, usize::MAX, Duration::MAX), MAX_INTERVAL);
    }
}
