//! The subscribing side of one group epoch.
//!
//! Only verified seals move anything: the window of counters that records may have, and the chain's beginning. A record
//! without its seal is a candidate, one of at most [`MAX_CANDIDATES`] for its counter, so an insider's record takes no
//! counter from the publisher's and makes no jump.

use alloc::vec::Vec;

use super::blocks::Blocks;
use super::handout::GroupKey;
use super::header::Header;
use super::keys;
use super::message::{Delivery, FromMember, MessageName, SourceVerified};
use super::outcome::{KeyError, OpenError, Opened, Outcome, SealError};
use super::seal::{Seal, SealPacket};
use super::sealed::{Batches, Candidates, Room, SealedBatch, State};
use super::{BLOCK_LEN, Source};
use crate::crypto::backend::Backend;
use crate::crypto::kdf::HashOutput;
use crate::crypto::secret::Secret;
use crate::crypto::suite::SessionSuite;
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::GroupId;
use crate::session::chain::ChainKey;
use crate::time::Monotonic;
use crate::topic::TopicFilter;

/// Different records that one counter may have before its seal.
pub const MAX_CANDIDATES: usize = 2;
/// How far a record may be ahead of the newest verified seal, in counters. Further ones open once a seal came.
pub const MAX_AHEAD: u32 = 1024;
/// How far behind the newest verified seal records are still told, in counters.
pub const MAX_BEHIND: u32 = 1024;
/// Verified batches that are kept for late records and leaves: at most 112 KiB of leaves.
pub const MAX_BATCHES: usize = 8;

/// One group epoch of one publisher. It has no `Debug`.
pub struct Subscriber {
    pub(super) backend: Backend,
    pub(super) suite: SessionSuite,
    pub(super) source: Source,
    pub(super) gid: GroupId,
    pub(super) epoch: u16,
    pub(super) filter: TopicFilter,
    pub(super) commitment: HashOutput,
    pub(super) binding: HashOutput,
    pub(super) blocks: Blocks,
    /// No record before is told.
    pub(super) floor: u32,
    /// Where the newest verified seal ends.
    pub(super) head: u32,
    pub(super) candidates: Candidates,
    pub(super) batches: Batches,
}

impl Subscriber {
    /// From what `source` handed out over its pairwise session.
    ///
    /// # Errors
    ///
    /// The seed is not the one committed to. (A chain key cannot be checked here; the seals do, by the blocks' commitments.)
    pub fn new(backend: Backend, source: Source, key: &GroupKey) -> Result<Self, KeyError> {
        let &GroupKey { suite, gid, epoch, start, commitment, last_seal, .. } = key;
        let binding = keys::binding(suite, &source, gid, epoch, &commitment);
        let chain = if start == 0 {
            let seed = Secret::from_slice(key.secret.expose()).ok_or(KeyError::Commitment)?;
            if keys::commitment(suite, &seed, gid, epoch) != commitment {
                return Err(KeyError::Commitment);
            }
            keys::first_chain_key(suite, &seed, &commitment, &binding)
        } else {
            ChainKey::from_slice(suite.hash(), key.secret.expose())
        };
        let first = start * BLOCK_LEN;
        Ok(Self {
            backend,
            suite,
            source,
            gid,
            epoch,
            filter: key.filter.clone(),
            commitment,
            binding,
            blocks: Blocks::new(start, chain.ok_or(KeyError::Library)?),
            floor: first,
            head: first,
            candidates: Candidates::default(),
            batches: Batches { kept: Default::default(), anchor: (first, last_seal) },
        })
    }

    /// Whose group it is.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The group.
    pub fn gid(&self) -> GroupId {
        self.gid
    }

    /// Its epoch.
    pub fn epoch(&self) -> u16 {
        self.epoch
    }

    /// Its suite, whose hash topics are hashed with.
    pub fn suite(&self) -> SessionSuite {
        self.suite
    }

    /// The commitment to the epoch's seed.
    pub fn commitment(&self) -> &HashOutput {
        &self.commitment
    }

    /// Which topics it is for.
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Whether the epoch's last seal came and no batch waits for leaves: nothing more is to come but late records.
    pub fn is_over(&self) -> bool {
        let waits = |batch: &SealedBatch| matches!(batch.state, State::Waiting { .. });
        self.batches.kept.back().is_some_and(|batch| batch.seal.last) && !self.batches.kept.iter().any(waits)
    }

    /// Lets expanded keys go; they are expanded again when needed.
    pub fn shrink(&mut self) {
        self.blocks.forget_expanded();
    }

    pub(super) fn name(&self, counter: u32, leaf: HashOutput) -> MessageName {
        MessageName { publisher: self.source.fingerprint, gid: self.gid, epoch: self.epoch, counter, leaf }
    }

    /// The refusals that cost nothing.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::open`].
    pub fn precheck(&self, header: &Header) -> Result<(), OpenError> {
        if header.gid != self.gid || header.epoch != self.epoch {
            return Err(OpenError::UnknownGroup);
        }
        if header.counter < self.floor {
            return Err(OpenError::TooOld);
        }
        let over = self.batches.kept.back().is_some_and(|batch| batch.seal.last);
        let ahead = if over { 0 } else { MAX_AHEAD };
        if header.counter >= self.head.saturating_add(ahead) { Err(OpenError::TooFar) } else { Ok(()) }
    }

    /// Opens a record for the topic with `topic_hash` (the hash of the group's suite). The caller has checked that the topic
    /// matches [`Subscriber::filter`]. Nothing changes unless it authenticates.
    ///
    /// # Errors
    ///
    /// It is a replay, out of bounds, forged by a member, or not authentic.
    pub fn open(
        &mut self,
        now: Monotonic,
        header: &Header,
        topic_hash: &[u8],
        mut record: Vec<u8>,
    ) -> Result<Opened, OpenError> {
        self.precheck(header)?;
        let counter = header.counter;
        let aad = header.associated_data(topic_hash);
        let keys = self.blocks.keys(self.backend, self.suite, &self.binding, header.block());
        let keys = keys.ok_or(OpenError::Unauthentic)?;
        let leaf = keys.leaf(&aad, &record);
        let open = |record: &mut Vec<u8>| {
            keys.open(counter, &aad, record).map_err(|_| OpenError::Unauthentic)?;
            record.drain(..aad.header().len());
            Ok(())
        };
        let waits = match self.batches.find(counter) {
            None => false,
            Some(batch) => {
                let place = batch.place(counter);
                match &mut batch.state {
                    State::Told => return Err(OpenError::TooOld),
                    State::Waiting { .. } => true,
                    State::Complete { leaves, delivered, forged } => {
                        let genuine = leaves.get(place) == Some(&leaf);
                        let seen = if genuine { delivered } else { forged };
                        if seen.contains(place) {
                            return Err(OpenError::Replay);
                        }
                        open(&mut record)?;
                        seen.insert(place);
                        if !genuine {
                            return Err(OpenError::Forged);
                        }
                        let delivery =
                            Delivery::Verified(SourceVerified::new(self.name(counter, leaf), record));
                        return Ok(Opened { delivery, outcome: Outcome::default() });
                    }
                }
            }
        };
        match self.candidates.room(counter, &leaf) {
            Room::Free => {}
            Room::Known => return Err(OpenError::Replay),
            Room::Full => return Err(OpenError::Crowded),
        }
        open(&mut record)?;
        self.candidates.insert(counter, leaf, now);
        let delivery = Delivery::Member(FromMember::new(self.name(counter, leaf), record));
        // Nothing is asked for here: an insider would set the pace. The caller's timer does, by `missing`.
        let outcome = if waits { self.decide(counter) } else { Outcome::default() };
        Ok(Opened { delivery, outcome })
    }

    /// A record that was told before a restart and not upgraded is a candidate again. False if it is out of bounds or its
    /// counter has no room.
    pub fn remember(&mut self, now: Monotonic, name: &MessageName) -> bool {
        let MessageName { publisher, gid, epoch, counter, leaf } = *name;
        let ours =
            publisher == self.source.fingerprint && leaf.as_slice().len() == self.suite.hash().output_len();
        let header = Header { gid, epoch, counter };
        let open = !self.batches.find(counter).is_some_and(|b| !matches!(b.state, State::Waiting { .. }));
        let fits = ours && open && self.precheck(&header).is_ok();
        let free = fits && self.candidates.room(counter, &leaf) == Room::Free;
        if free {
            self.candidates.insert(counter, leaf, now);
        }
        free
    }

    /// Takes a seal that `certificate` made; the caller has checked that it is valid and may publish on the group's filter.
    /// What it decides must be written with the row before it is told.
    ///
    /// # Errors
    ///
    /// It is malformed, not the publisher's, too old, or contradicts another.
    pub fn receive_seal(
        &mut self,
        certificate: &VerifiedCertificate,
        packet: &SealPacket<'_>,
    ) -> Result<Outcome, SealError> {
        if packet.gid() != self.gid || packet.epoch() != self.epoch {
            return Err(SealError::UnknownGroup);
        }
        let algorithm = self.suite.hash();
        let (seal, signature) = packet.read(algorithm).ok_or(SealError::Malformed)?;
        let hash = seal.hash(algorithm, &self.commitment);
        if self.batches.knows(&hash) {
            return Err(SealError::Replay);
        }
        if seal.first < self.floor {
            return Err(SealError::TooOld);
        }
        if certificate.fingerprint() != self.source.fingerprint {
            return Err(SealError::BadSignature);
        }
        let signer = certificate.signer();
        let structure =
            seal.structure(signer.set(), signer.fingerprint(), &self.source, &self.filter, &self.commitment);
        signer.verify(&structure, signature).map_err(|_| SealError::BadSignature)?;
        let at = self.batches.place_for(&seal, &hash)?;
        let state = State::Waiting { ask_all: false };
        self.batches.kept.insert(at, SealedBatch { seal, hash, state });
        let mut outcome = self.decide_batch(at, false, |_| None).unwrap_or_default();
        outcome.unproved = self.advance(&seal);
        Ok(outcome)
    }

    /// Moves the window on for a verified seal, and erases what is before it; gives back what was still waited for there.
    fn advance(&mut self, seal: &Seal) -> Vec<MessageName> {
        self.head = self.head.max(seal.end());
        self.floor = self.floor.max(self.head.saturating_sub(MAX_BEHIND));
        while let Some(oldest) = self.batches.kept.front()
            && (self.batches.kept.len() > MAX_BATCHES || oldest.seal.first < self.floor)
        {
            self.floor = self.floor.max(oldest.seal.end());
            self.batches.anchor = (oldest.seal.end(), oldest.hash);
            self.batches.kept.pop_front();
        }
        let left = self.candidates.forget_before(self.floor);
        // If the library fails, older keys stay: nothing is lost, and the next seal tries again.
        let _ = self.blocks.advance(self.floor / BLOCK_LEN);
        left.into_iter().map(|(counter, leaf)| self.name(counter, leaf)).collect()
    }
}
