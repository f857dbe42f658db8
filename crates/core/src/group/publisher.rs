//! The publishing side: one chain for all members, batches, seals, and who gets which key.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use thiserror::Error;

use super::batch::{
    KeptBatch, MAX_UNSIGNED, MIN_INTERVAL, OpenBatch, Unsigned, answer, keep_packet, next_interval,
};
use super::epoch::{EpochKeys, Start};
use super::handout::GroupKey;
use super::header::{Header, OVERHEAD};
use super::leaves::{Leaves, MissingLeaves};
use super::members::{Members, MembersFull};
use super::seal::Seal;
use super::{BLOCK_LEN, MAX_AGE, MAX_BLOCKS, MAX_MESSAGES, Source, tree};
use crate::codec::signed::SigStructure;
use crate::crypto::backend::{Backend, RandomSource};
use crate::crypto::suite::SessionSuite;
use crate::envelope::Sender;
use crate::ids::{Fingerprint, GroupId};
use crate::time::Monotonic;
use crate::topic::TopicFilter;

/// Batches whose leaves and seals are kept for members that lost some: at most 140 KiB.
pub const HISTORY: usize = 8;

/// Why a payload was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The epoch is used up: [`Publisher::rotate`] first.
    #[error("the group epoch is used up")]
    Rotate,
    /// [`MAX_UNSIGNED`] batches wait for their signature.
    #[error("too many batches wait for their signature")]
    Unsigned,
    /// The group was ended by [`Publisher::finish`].
    #[error("the group ended")]
    Finished,
    /// The cipher failed.
    #[error("the cipher failed")]
    Cipher,
}

/// A sealed record.
pub struct Published {
    /// The record, [`OVERHEAD`] bytes longer than its payload.
    pub record: Vec<u8>,
    /// Its counter.
    pub counter: u32,
    /// A batch is closed: [`Publisher::to_sign`] has it.
    pub sign: bool,
}

/// A publisher's group. It has no `Debug`.
pub struct Publisher {
    pub(super) backend: Backend,
    pub(super) suite: SessionSuite,
    me: Sender,
    source: Source,
    pub(super) filter: TopicFilter,
    keys: EpochKeys,
    pub(super) members: Members,
    batch: Option<OpenBatch>,
    unsigned: VecDeque<Unsigned>,
    history: VecDeque<KeptBatch>,
    interval: Duration,
    finished: bool,
}

/// What there is for a member that lost a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealAfter<'a> {
    /// The seal's packet.
    Seal(&'a [u8]),
    /// Its batch is not closed or not signed yet: the seal comes by itself.
    NotYet,
    /// There is none, and none will be.
    Never,
}

impl Publisher {
    /// A group without members for the topics of `filter`, with a fresh id and key. One per start of the endpoint: see
    /// [`Publisher::from_row`]. `None` only if the library fails.
    pub fn new(
        backend: Backend,
        random: &mut dyn RandomSource,
        suite: SessionSuite,
        me: Sender,
        filter: TopicFilter,
        now: Monotonic,
    ) -> Option<Self> {
        let source = Source { id: me.id.clone(), fingerprint: me.fingerprint };
        let gid = fresh_id(random);
        Some(Self {
            backend,
            suite,
            keys: EpochKeys::new(random, suite, &source, gid, 0, now)?,
            source,
            me,
            filter,
            members: Members::default(),
            batch: None,
            unsigned: VecDeque::new(),
            history: VecDeque::new(),
            interval: MIN_INTERVAL,
            finished: false,
        })
    }

    /// Its suite, whose hash topics are hashed with.
    pub fn suite(&self) -> SessionSuite {
        self.suite
    }

    /// The group's id, new at each start of its publisher.
    pub fn gid(&self) -> GroupId {
        self.keys.gid
    }

    /// The current epoch.
    pub fn epoch(&self) -> u16 {
        self.keys.epoch
    }

    /// Which topics it is for.
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Its members.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Seals telemetry for the topic with `topic_hash` (the hash of the group's suite).
    ///
    /// # Errors
    ///
    /// [`PublishError::Rotate`] asks for [`Publisher::rotate`], [`PublishError::Unsigned`] for [`Publisher::signed`].
    pub fn publish(
        &mut self,
        now: Monotonic,
        topic_hash: &[u8],
        payload: &[u8],
    ) -> Result<Published, PublishError> {
        if self.finished {
            return Err(PublishError::Finished);
        }
        if self.unsigned.len() >= MAX_UNSIGNED {
            return Err(PublishError::Unsigned);
        }
        let waiting = self.unsigned.len();
        let (gid, epoch) = (self.keys.gid, self.keys.epoch);
        let (counter, keys) = self.keys.advance(self.backend, self.suite, now)?;
        let header = Header { gid, epoch, counter };
        let aad = header.associated_data(topic_hash);
        let mut record = Vec::with_capacity(OVERHEAD + payload.len());
        record.extend_from_slice(aad.header());
        record.extend_from_slice(payload);
        keys.seal(counter, &aad, &mut record).map_err(|_| PublishError::Cipher)?;
        let leaf = keys.leaf(&aad, &record);
        self.keys.forget_starts(&self.members);
        if self.batch.as_ref().is_some_and(|batch| batch.end() != counter) {
            self.close_batch(now, false);
        }
        let batch = self.batch.get_or_insert_with(|| OpenBatch::new(counter, now));
        if batch.push(leaf) {
            self.close_batch(now, false);
        }
        Ok(Published { record, counter, sign: self.unsigned.len() > waiting })
    }

    /// When the open batch is to be closed by [`Publisher::tick`].
    pub fn deadline(&self) -> Option<Monotonic> {
        self.batch.as_ref().map(|batch| batch.since.plus(self.interval))
    }

    /// Closes the open batch if its time has come. Whether it did.
    pub fn tick(&mut self, now: Monotonic) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if due {
            self.close_batch(now, false);
        }
        due
    }

    /// What to sign next, in order.
    pub fn to_sign(&self) -> Option<SigStructure> {
        let Unsigned { seal, commitment } = self.unsigned.front()?;
        Some(seal.structure(self.me.set, self.me.signer, &self.source, &self.filter, commitment))
    }

    /// The seal's packet, given the signature over [`Publisher::to_sign`]. `None` if its length is not the set's or nothing
    /// waits.
    pub fn signed(&mut self, signature: &[u8]) -> Option<Vec<u8>> {
        if signature.len() != self.me.set.signature_len() {
            return None;
        }
        let Unsigned { seal, .. } = self.unsigned.pop_front()?;
        let packet = seal.packet(signature);
        keep_packet(&mut self.history, &seal, &packet);
        Some(packet)
    }

    /// Whether a group of this id is or was this one, as far as anything of it is kept.
    pub fn knows(&self, gid: GroupId) -> bool {
        self.keys.gid == gid || self.history.iter().any(|kept| kept.gid == gid)
    }

    /// For a member that lost a seal: the first one of the epoch that ends after counter `from`.
    pub fn seal_after(&self, gid: GroupId, epoch: u16, from: u32) -> SealAfter<'_> {
        let after = |kept: &&KeptBatch| (kept.gid, kept.epoch) == (gid, epoch) && kept.end() > from;
        let current = (self.keys.gid, self.keys.epoch) == (gid, epoch);
        match self.history.iter().find(after) {
            Some(KeptBatch { packet: Some(packet), .. }) => SealAfter::Seal(packet),
            Some(_) => SealAfter::NotYet,
            None if current => SealAfter::NotYet,
            None => SealAfter::Never,
        }
    }

    /// Ends the group: what was sent is sealed as the last of its epoch, and nothing can be any more.
    pub fn finish(&mut self, now: Monotonic) {
        if self.keys.sent > 0 {
            self.close_batch(now, true);
        }
        self.keys.sent = MAX_MESSAGES;
        self.finished = true;
    }

    /// Leaves for a member that lost records; the caller has checked that it is one. `None` if the batch is none of the
    /// last [`HISTORY`].
    pub fn leaves(&self, asked: &MissingLeaves) -> Option<Leaves> {
        answer(&self.history, asked)
    }

    /// Whether the epoch is used up: 24 hours, 2^14 messages or all its blocks. No record is refused by age alone.
    pub fn wants_rotation(&self, now: Monotonic) -> bool {
        let keys = &self.keys;
        !self.finished
            && (now.since(keys.since) >= MAX_AGE
                || keys.sent >= MAX_MESSAGES
                || keys.next.0 >= MAX_BLOCKS - 1)
    }

    /// Starts the next epoch from a fresh seed: all members wait for its key. What was sent is sealed as the last of the
    /// epoch before. False only if the library fails: then nothing changed.
    pub fn rotate(&mut self, random: &mut dyn RandomSource, now: Monotonic) -> bool {
        let (gid, epoch) = match self.keys.epoch.checked_add(1) {
            Some(epoch) => (self.keys.gid, epoch),
            None => (fresh_id(random), 0),
        };
        let Some(keys) = EpochKeys::new(random, self.suite, &self.source, gid, epoch, now) else {
            return false;
        };
        if self.keys.sent > 0 {
            self.close_batch(now, true);
        }
        self.keys = keys;
        self.members.rotated();
        true
    }

    /// Admits a peer from the next block on, so that it reads nothing earlier. A member is admitted again: it lost its key.
    ///
    /// # Errors
    ///
    /// The group is full.
    pub fn add(&mut self, now: Monotonic, peer: Fingerprint) -> Result<(), MembersFull> {
        if self.keys.open.take().is_some() {
            self.close_batch(now, false);
        }
        let start = self.keys.next.0;
        self.members.add(peer, start)?;
        self.keys.keep_start();
        Ok(())
    }

    /// Ends a membership and rotates at once. Whether it was a member; then it reads nothing that is sealed from now on.
    pub fn remove(&mut self, random: &mut dyn RandomSource, now: Monotonic, peer: &Fingerprint) -> bool {
        let removed = self.members.remove(peer);
        if removed && !self.rotate(random, now) {
            // Nothing may be sealed under a key that the removed peer has.
            self.keys.sent = MAX_MESSAGES;
        }
        removed
    }

    /// The key of the current epoch for a member that waits for it. It must travel over the member's pairwise session only;
    /// [`Publisher::handed`] when it is sure to arrive. `None` if it waits for nothing, or for the next epoch.
    pub fn hand_out(&self, peer: &Fingerprint) -> Option<GroupKey> {
        let start = self.members.start_of(peer).filter(|start| *start < MAX_BLOCKS)?;
        let Start { secret, last_seal } = self.keys.starts.get(&start)?;
        Some(GroupKey {
            suite: self.suite,
            gid: self.keys.gid,
            epoch: self.keys.epoch,
            start,
            commitment: self.keys.commitment,
            last_seal: *last_seal,
            filter: self.filter.clone(),
            secret: secret.clone(),
        })
    }

    /// The member has the key. What nobody waits for any more is erased.
    pub fn handed(&mut self, peer: &Fingerprint) {
        self.members.handed(peer);
        self.keys.forget_starts(&self.members);
    }

    fn close_batch(&mut self, now: Monotonic, last: bool) {
        let algorithm = self.suite.hash();
        let keys = &mut self.keys;
        let (first, count, root) = match &self.batch {
            Some(batch) => (batch.first, batch.len(), batch.root(algorithm)),
            None if last => (keys.next.0 * BLOCK_LEN, 0, tree::root(algorithm, &[])),
            None => return,
        };
        let seal = Seal {
            gid: keys.gid,
            epoch: keys.epoch,
            first,
            count: u16::try_from(count).unwrap_or(u16::MAX),
            root,
            previous: keys.last_seal,
            last,
        };
        keys.last_seal = seal.hash(algorithm, &keys.commitment);
        self.unsigned.push_back(Unsigned { seal, commitment: keys.commitment });
        if let Some(batch) = self.batch.take() {
            self.interval = next_interval(self.interval, batch.len(), now.since(batch.since));
            self.history.push_back(batch.into_kept(keys.gid, keys.epoch));
            let excess = self.history.len().saturating_sub(HISTORY);
            self.history.drain(..excess);
        }
    }
}

fn fresh_id(random: &mut dyn RandomSource) -> GroupId {
    let mut id = [0; GroupId::LEN];
    random.fill(&mut id);
    GroupId(id)
}
