//! All group epochs that an endpoint reads, found by group id, epoch and topic.
//!
//! Ids are chosen by publishers, so two may have the same: by malice, since members know each other's. Each is tried; only the
//! right publisher's authenticates.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Source;
use super::handout::GroupKey;
use super::header::Header;
use super::outcome::{KeyError, OpenError, Opened, Outcome, SealError};
use super::seal::SealPacket;
use super::subscriber::Subscriber;
use crate::crypto::backend::Backend;
use crate::crypto::kdf::hash;
use crate::identity::certificate::VerifiedCertificate;
use crate::ids::{Fingerprint, GroupId, PeerId};
use crate::time::Monotonic;
use crate::topic::TopicFilter;

/// Group epochs at most, over all publishers.
pub const MAX_GROUPS: usize = 1024;
/// Group epochs of one publisher, over all filters.
pub const MAX_PER_SOURCE: usize = 64;
/// Group epochs of one publisher for one filter: the current and the one before. A third drops the oldest.
pub const MAX_EPOCHS: usize = 2;
/// Publishers with the same group id and epoch that a packet is tried with for nothing: by chance there is one. More are
/// conspirators, and what is tried with those has a budget.
pub const MAX_SAME_ID: usize = 4;

/// A group epoch: its publisher, group and epoch.
pub type GroupEpoch = (Fingerprint, GroupId, u16);

/// What became of a key that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// A new group epoch: its row is to be written. Of the dropped one, if any, the row is to be erased.
    New {
        /// What made room: the oldest epoch of the same publisher and filter, or of the publisher that has most.
        dropped: Option<GroupEpoch>,
    },
    /// It was there before.
    Known,
}

/// The group epochs of an endpoint.
#[derive(Default)]
pub struct Subscriptions {
    by_id: BTreeMap<(GroupId, u16), Vec<(u64, Subscriber)>>,
    taken: u64,
}

impl Subscriptions {
    /// How many group epochs there are.
    pub fn len(&self) -> usize {
        self.by_id.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The group epoch of this source, id and number.
    pub fn get(&self, source: &Fingerprint, gid: GroupId, epoch: u16) -> Option<&Subscriber> {
        let same = self.by_id.get(&(gid, epoch))?;
        same.iter().map(|(_, one)| one).find(|one| one.source().fingerprint == *source)
    }

    /// One group epoch.
    pub fn get_mut(&mut self, source: &Fingerprint, gid: GroupId, epoch: u16) -> Option<&mut Subscriber> {
        let same = self.by_id.get_mut(&(gid, epoch))?;
        same.iter_mut().map(|(_, one)| one).find(|one| one.source().fingerprint == *source)
    }

    /// Takes a key that `source` handed out over its pairwise session.
    ///
    /// # Errors
    ///
    /// It is not the one committed to, contradicts one before, or there are too many.
    pub fn accept(&mut self, backend: Backend, source: Source, key: &GroupKey) -> Result<Accepted, KeyError> {
        if let Some(known) = self.get_mut(&source.fingerprint, key.gid, key.epoch) {
            let same = *known.commitment() == key.commitment && *known.filter() == key.filter;
            return if same { Ok(Accepted::Known) } else { Err(KeyError::Equivocation) };
        }
        self.insert(Subscriber::new(backend, source, key)?)
    }

    /// Adds one that was restored from its row, in the order in which they were accepted.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub fn insert(&mut self, subscriber: Subscriber) -> Result<Accepted, KeyError> {
        let id = (subscriber.gid(), subscriber.epoch());
        let source = subscriber.source().fingerprint;
        let dropped = self.would_drop(&source, subscriber.filter())?;
        if let Some((source, gid, epoch)) = &dropped {
            self.remove(source, *gid, *epoch);
        }
        self.taken += 1;
        self.by_id.entry(id).or_default().push((self.taken, subscriber));
        Ok(Accepted::New { dropped })
    }

    pub(super) fn of_source(
        &self,
        source: &Fingerprint,
    ) -> impl Iterator<Item = (u64, (GroupId, u16), &Subscriber)> {
        let all =
            self.by_id.iter().flat_map(|(id, same)| same.iter().map(move |(age, one)| (*age, *id, one)));
        all.filter(move |(_, _, one)| one.source().fingerprint == *source)
    }

    /// The group epochs of a publisher for one filter, in the order in which they were accepted.
    pub fn epochs_of(&self, source: &Fingerprint, filter: &TopicFilter) -> Vec<(GroupId, u16)> {
        let similar = self.of_source(source).filter(|(_, _, one)| one.filter() == filter);
        let mut similar: Vec<_> = similar.map(|(age, id, _)| (age, id)).collect();
        similar.sort_unstable();
        similar.into_iter().map(|(_, id)| id).collect()
    }

    /// The publishers of group epochs with this id, and else of those for this topic.
    pub fn publishers(&self, gid: GroupId, topic: &str) -> Vec<PeerId> {
        let all = || self.by_id.iter().flat_map(|(id, same)| same.iter().map(move |(_, one)| (id.0, one)));
        let ids = |(_, one): (GroupId, &Subscriber)| one.source().id.clone();
        let mut found: Vec<PeerId> = all().filter(|(id, _)| *id == gid).map(ids).collect();
        if found.is_empty() {
            found = all().filter(|(_, one)| one.filter().matches(topic)).map(ids).collect();
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What makes room for another epoch of this publisher and filter. No publisher is kept out by what others have: where there
    /// is no room, one that has more gives way.
    ///
    /// # Errors
    ///
    /// It has its share.
    pub fn would_drop(
        &self,
        source: &Fingerprint,
        filter: &TopicFilter,
    ) -> Result<Option<GroupEpoch>, KeyError> {
        let epochs = self.epochs_of(source, filter);
        if let Some((gid, epoch)) = epochs.first().filter(|_| epochs.len() >= MAX_EPOCHS) {
            return Ok(Some((*source, *gid, *epoch)));
        }
        let has = self.of_source(source).count();
        if has >= MAX_PER_SOURCE {
            return Err(KeyError::Full);
        }
        if self.len() < MAX_GROUPS {
            return Ok(None);
        }
        let mut shares: BTreeMap<Fingerprint, (usize, (u64, GroupId, u16))> = BTreeMap::new();
        for ((gid, epoch), (age, one)) in
            self.by_id.iter().flat_map(|(id, same)| same.iter().map(move |one| (id, one)))
        {
            let (count, oldest) = shares.entry(one.source().fingerprint).or_insert((0, (*age, *gid, *epoch)));
            *count += 1;
            *oldest = (*oldest).min((*age, *gid, *epoch));
        }
        let largest = shares.into_iter().max_by_key(|(_, (count, _))| *count);
        let larger = largest.filter(|(_, (count, _))| *count > has + 1).ok_or(KeyError::Full)?;
        let (of, (_, (_, gid, epoch))) = larger;
        Ok(Some((of, gid, epoch)))
    }

    /// Something of this publisher's authenticated: packets of its group epoch are tried with it first from now on.
    pub fn prefer(&mut self, source: &Fingerprint, gid: GroupId, epoch: u16) {
        let Some(same) = self.by_id.get_mut(&(gid, epoch)) else { return };
        let place = same.iter().position(|(_, one)| one.source().fingerprint == *source);
        if let Some(first) = place.and_then(|place| same.get_mut(..=place)) {
            first.rotate_right(1);
        }
    }

    /// The newest epoch of a group that is there of each publisher that has one of that id.
    pub fn newest_epochs(&self, gid: GroupId) -> BTreeMap<Fingerprint, (PeerId, u16)> {
        let of_group = self.by_id.range((gid, 0)..=(gid, u16::MAX));
        let all =
            of_group.flat_map(|((_, epoch), same)| same.iter().map(move |(_, one)| (one.source(), *epoch)));
        // In the order of epochs, so that the newest is left.
        all.map(|(source, epoch)| (source.fingerprint, (source.id.clone(), epoch))).collect()
    }

    /// Erases one group epoch.
    pub fn remove(&mut self, source: &Fingerprint, gid: GroupId, epoch: u16) {
        if let Some(same) = self.by_id.get_mut(&(gid, epoch)) {
            same.retain(|(_, one)| one.source().fingerprint != *source);
            if same.is_empty() {
                self.by_id.remove(&(gid, epoch));
            }
        }
    }

    /// Erases all group epochs of a publisher, for instance because it is revoked.
    pub fn remove_source(&mut self, source: &Fingerprint) {
        self.by_id.retain(|_, same| {
            same.retain(|(_, one)| one.source().fingerprint != *source);
            !same.is_empty()
        });
    }

    fn candidates(&mut self, gid: GroupId, epoch: u16, topic: &str) -> impl Iterator<Item = &mut Subscriber> {
        let same = self.by_id.get_mut(&(gid, epoch)).into_iter().flatten();
        same.map(|(_, one)| one).filter(move |one| one.filter().matches(topic))
    }

    /// Opens a record that came on `topic`.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::open`]; [`OpenError::UnknownGroup`] if no key for it was handed out yet.
    pub fn open(
        &mut self,
        now: Monotonic,
        topic: &str,
        header: &Header,
        record: &[u8],
    ) -> Result<Opened, OpenError> {
        let mut refused = OpenError::UnknownGroup;
        for one in self.candidates(header.gid, header.epoch, topic) {
            let topic_hash = hash(one.suite().hash(), &[topic.as_bytes()]);
            match one.open(now, header, topic_hash.as_slice(), record.to_vec()) {
                Err(error) if !error.is_decided() => refused = refused.or(error),
                decided => return decided,
            }
        }
        Err(refused)
    }

    /// Takes a seal that came on `topic` and that the peer with `certificate` is to have made.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::receive_seal`]; [`SealError::UnknownGroup`] if that peer handed no key out for it.
    pub fn receive_seal(
        &mut self,
        topic: &str,
        certificate: &VerifiedCertificate,
        packet: &SealPacket<'_>,
    ) -> Result<Outcome, SealError> {
        let source = certificate.fingerprint();
        let mut candidates = self.candidates(packet.gid(), packet.epoch(), topic);
        let one = candidates.find(|one| one.source().fingerprint == source);
        one.ok_or(SealError::UnknownGroup)?.receive_seal(certificate, packet)
    }

    /// The publishers whose seal a packet on `topic` may be.
    pub fn sources(&mut self, topic: &str, packet: &SealPacket<'_>) -> Vec<Source> {
        self.sources_of(topic, packet.gid(), packet.epoch())
    }

    /// The publishers whose group epoch this may be, on `topic`.
    pub fn sources_of(&mut self, topic: &str, gid: GroupId, epoch: u16) -> Vec<Source> {
        self.candidates(gid, epoch, topic).map(|one| one.source().clone()).collect()
    }
}
