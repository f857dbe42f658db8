//! The durable outbox: every message that the application was told is accepted, until its receiver's receipt.

mod entry;
mod lane;
mod reports;

pub(super) use entry::{Entry, Item, LaneKey, RowId, Sealed, packet_deletion, size_of};
pub(super) use lane::{EnvelopeName, Lane, Source};

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;
use core::time::Duration;

use super::config::{DeliveryLimits, FullPolicy};
use super::input::Priority;
use super::output::SendFailure;
use crate::budget::Bucket;
use crate::codec::DecodeError;
use crate::crypto::backend::RandomSource;
use crate::delivery::{MAX_BOOTS_PER_RECEIPT, Origin, StreamReceipt};
use crate::ids::{BootId, KeyId, PeerId};
use crate::store::{Change, Row};
use crate::time::{Monotonic, UnixTime};

pub(super) struct Outbox {
    /// This start, in the names of messages.
    pub(super) boot: BootId,
    limits: DeliveryLimits,
    last_row: u64,
    /// Boxed, because a map moves its neighbours with every insertion and removal.
    entries: BTreeMap<RowId, Box<Entry>>,
    lanes: BTreeMap<LaneKey, Lane>,
    bytes: usize,
    /// The part of each peer that has any.
    bytes_to: BTreeMap<PeerId, usize>,
    /// Seals that the provider is asked for.
    pub(super) sealing: usize,
    /// Lanes that may have something to send now.
    attention: BTreeSet<LaneKey>,
    /// The lane that had the last turn.
    turn: Option<LaneKey>,
    timers: BTreeSet<(Monotonic, LaneKey)>,
    timer_of: BTreeMap<LaneKey, Monotonic>,
    /// The rate at which a backlog drains.
    pub(super) drain: Bucket,
    pub(super) next_age_check: Monotonic,
}

/// What is done with a message that does not fit.
pub(super) enum NoRoom {
    Refuse(SendFailure),
    /// Count this one as lost.
    DropNewest,
}

/// A summary of the outbox for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OutboxStatus {
    /// Messages accepted and without a receipt.
    pub messages: usize,
    /// What they count for, in bytes, of the configured bound.
    pub bytes: usize,
    /// What those to the peer with the most count for.
    pub largest_peer_bytes: usize,
    /// Transmitted, without a receipt.
    pub in_flight: usize,
    /// The age of the oldest.
    pub oldest: Duration,
}

impl Outbox {
    pub(super) fn new(limits: DeliveryLimits, random: &mut dyn RandomSource) -> Self {
        let mut boot = BootId([0; BootId::LEN]);
        random.fill(&mut boot.0);
        Self {
            boot,
            drain: Bucket::new(limits.drain),
            limits,
            last_row: 0,
            entries: BTreeMap::new(),
            lanes: BTreeMap::new(),
            bytes: 0,
            bytes_to: BTreeMap::new(),
            sealing: 0,
            attention: BTreeSet::new(),
            turn: None,
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            next_age_check: Monotonic::default(),
        }
    }

    /// What was in flight stays so under its old sequence; what is to be sealed again comes first, and the rest is backlog.
    /// `packet` is the row of the same key, if there is one.
    pub(super) fn restore(
        &mut self,
        row: &Row,
        packet: Option<&Row>,
        own: KeyId,
        floor: UnixTime,
        now: Monotonic,
    ) -> Result<PeerId, DecodeError> {
        let number = u64::from_be_bytes(row.key.as_slice().try_into().map_err(|_| DecodeError::Value)?);
        let mut entry = Entry::decode(&row.value, floor, now)?;
        let sealed = packet.map(|packet| Sealed::decode(&packet.value)).transpose()?;
        entry.transmitted = sealed.is_some();
        // What other keys of ours signed nobody accepts any more.
        entry.sealed = sealed.filter(|sealed| sealed.sender == own).map(Box::new);
        let id = RowId(number);
        self.last_row = self.last_row.max(number);
        self.weigh(&entry.lane.peer, 0, entry.size());
        let lane = self.lanes.entry(entry.lane.clone()).or_default();
        match (&entry.sealed, &entry.item) {
            (Some(sealed), _) => lane.depart((sealed.recipient, sealed.sequence), id),
            (None, _) if entry.transmitted => lane.push_again(id),
            (None, item) => {
                if let Item::Lost { loss, .. } = item {
                    lane.open_reports.insert((loss.boot, loss.first), id);
                }
                lane.push(id, true);
            }
        }
        let receiver = entry.lane.peer.clone();
        self.entries.insert(id, Box::new(entry));
        Ok(receiver)
    }

    /// The name of the next message accepted for this lane.
    pub(super) fn next_origin(&mut self, key: &LaneKey) -> Origin {
        Origin { boot: self.boot, msg_seq: self.lane_or_new(key).next_number() }
    }

    /// Something of so many bytes became something of so many.
    fn weigh(&mut self, peer: &PeerId, before: usize, after: usize) {
        self.bytes = self.bytes + after - before;
        if let Some(bytes) = self.bytes_to.get_mut(peer) {
            *bytes = *bytes + after - before;
            if *bytes == 0 {
                self.bytes_to.remove(peer);
            }
        } else if after > before {
            self.bytes_to.insert(peer.clone(), after - before);
        }
    }

    /// Whether a message of `size` bytes fits, after the oldest were named for dropping if that is the policy.
    pub(super) fn make_room(
        &self,
        lane: &LaneKey,
        size: usize,
        priority: Priority,
    ) -> Result<Vec<RowId>, NoRoom> {
        let limit = match priority {
            Priority::High => self.limits.outbox_bytes,
            Priority::Normal => self.limits.outbox_bytes - self.limits.outbox_bytes / DeliveryLimits::RESERVE,
        };
        // What a peer may have is never more than what the others leave, so this bounds the whole, too.
        let to_peer = self.bytes_to.get(&lane.peer).copied().unwrap_or_default();
        let left = limit.saturating_sub(self.bytes - to_peer);
        let mut excess = (to_peer + size).saturating_sub(percent_of(left, self.limits.peer_share));
        let mut dropped = Vec::new();
        if excess == 0 {
            return Ok(dropped);
        }
        let full = self.bytes + size > limit;
        let refused = NoRoom::Refuse(if full { SendFailure::OutboxFull } else { SendFailure::OutboxShare });
        match self.limits.when_full {
            FullPolicy::Refuse => return Err(refused),
            FullPolicy::DropNewest => return Err(NoRoom::DropNewest),
            FullPolicy::DropOldest => {}
        }
        let waiting = self.lanes.get(lane).into_iter().flat_map(Lane::waiting);
        for row in waiting {
            let Some(entry) = self.entries.get(&row) else { continue };
            if entry.priority == Priority::Normal && entry.is_message() {
                dropped.push(row);
                excess = excess.saturating_sub(entry.size());
                if excess == 0 {
                    return Ok(dropped);
                }
            }
        }
        Err(refused)
    }

    /// Adds an entry; what makes it durable comes back with its name.
    pub(super) fn push(&mut self, entry: Entry, backlog: bool) -> (RowId, Change) {
        self.last_row += 1;
        let row = RowId(self.last_row);
        self.weigh(&entry.lane.peer, 0, entry.size());
        let change = entry.change(row);
        self.lanes.entry(entry.lane.clone()).or_default().push(row, backlog);
        self.attention.insert(entry.lane.clone());
        self.entries.insert(row, Box::new(entry));
        (row, change)
    }

    pub(super) fn entry(&self, row: RowId) -> Option<&Entry> {
        self.entries.get(&row).map(Box::as_ref)
    }

    pub(super) fn entry_mut(&mut self, row: RowId) -> Option<&mut Entry> {
        self.entries.get_mut(&row).map(Box::as_mut)
    }

    pub(super) fn lane(&self, key: &LaneKey) -> Option<&Lane> {
        self.lanes.get(key)
    }

    pub(super) fn lane_mut(&mut self, key: &LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(key)
    }

    /// For messages that are in no queue.
    pub(super) fn lane_or_new(&mut self, key: &LaneKey) -> &mut Lane {
        self.lanes.entry(key.clone()).or_default()
    }

    pub(super) fn depart(&mut self, key: &LaneKey, envelope: EnvelopeName, row: RowId) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.open_reports.retain(|_, report| *report != row);
            lane.depart(envelope, row);
        }
        if let Some(entry) = self.entries.get_mut(&row) {
            entry.sealing = Some(envelope);
        }
    }

    /// It goes in the session: nothing of it is kept but that it went.
    pub(super) fn carry(&mut self, key: &LaneKey, row: RowId, now: Monotonic) {
        let Some(entry) = self.entries.get_mut(&row) else { return };
        entry.carried = Some(now);
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.open_reports.retain(|_, report| *report != row);
            lane.carry(row);
        }
    }

    /// Its envelope is of no use any more: it is sealed again under the same number.
    pub(super) fn seal_again(&mut self, key: &LaneKey, row: RowId) {
        let Some(entry) = self.entries.get_mut(&row) else { return };
        entry.sealed = None;
        entry.sealing = None;
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.remove(row);
            lane.push_again(row);
            self.attention.insert(key.clone());
        }
    }

    /// As [`Outbox::seal_again`], but not before `until`.
    pub(super) fn park(&mut self, key: &LaneKey, row: RowId, until: Monotonic) {
        let Some(entry) = self.entries.get_mut(&row) else { return };
        entry.sealed = None;
        entry.sealing = None;
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.remove(row);
            lane.park(row, until);
            self.attention.insert(key.clone());
        }
    }

    /// Removes an entry for good, wherever it is; `changes` make that durable.
    pub(super) fn remove(&mut self, row: RowId, changes: &mut Vec<Change>) -> Option<Box<Entry>> {
        let entry = self.entries.remove(&row)?;
        self.weigh(&entry.lane.peer, entry.size(), 0);
        if let Some(lane) = self.lanes.get_mut(&entry.lane) {
            lane.remove(row);
            lane.open_reports.retain(|_, report| *report != row);
        }
        self.attention.insert(entry.lane.clone());
        changes.extend(entry.deletions(row));
        Some(entry)
    }

    /// Whether messages of so many earlier starts are under way that one more is not to be among them: what its receiver
    /// confirms names few.
    pub(super) fn too_many_boots(&self, key: &LaneKey, row: RowId) -> bool {
        let (Some(lane), Some(entry)) = (self.lanes.get(key), self.entries.get(&row)) else { return false };
        let boot = entry.boot();
        if boot == self.boot {
            return false;
        }
        let boots = self.boots(lane.transmitted());
        !boots.contains(&boot) && boots.len() >= MAX_BOOTS_PER_RECEIPT - 1
    }

    /// What a receipt may speak of: of what is under way in a session, nothing beyond the newest that arrived.
    pub(super) fn confirmable(&self, key: &LaneKey, of: &StreamReceipt) -> Vec<RowId> {
        let Some(lane) = self.lanes.get(key) else { return Vec::new() };
        let newest = of.boots.iter().find(|boot| boot.boot == self.boot);
        let newest = newest.map_or(0, |boot| boot.received.highest());
        // They ascend with their numbers.
        let reached = |row: &RowId| match self.entries.get(row).map(|entry| &entry.item) {
            Some(Item::Message(_, origin)) => origin.boot != self.boot || origin.msg_seq <= newest,
            _ => true,
        };
        lane.transmitted_otherwise().chain(lane.carried().take_while(reached)).collect()
    }

    /// The starts in which these were accepted, without this one.
    pub(super) fn boots(&self, rows: impl Iterator<Item = RowId>) -> BTreeSet<BootId> {
        let boots = rows.filter_map(|row| self.entries.get(&row)).map(|entry| entry.boot());
        boots.filter(|boot| *boot != self.boot).collect()
    }

    pub(super) fn needs_attention(&mut self, key: LaneKey) {
        self.attention.insert(key);
    }

    /// What is in flight goes again when there is room.
    pub(super) fn resend_later(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.resend = true;
            self.attention.insert(key);
        }
    }

    /// The next lane in turn that may have something to send.
    pub(super) fn next_lane(&mut self) -> Option<LaneKey> {
        if self.attention.len() == 1 {
            self.turn = self.attention.pop_first();
            return self.turn.clone();
        }
        let after = self.turn.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self
            .attention
            .range((after, Bound::Unbounded))
            .next()
            .or_else(|| self.attention.first())
            .cloned()?;
        self.attention.remove(&next);
        self.turn = Some(next.clone());
        Some(next)
    }

    pub(super) fn look_at_none(&mut self) {
        self.attention.clear();
    }

    /// Every lane to a peer.
    pub(super) fn lanes_to(&self, peer: &PeerId) -> Vec<LaneKey> {
        let from = LaneKey { peer: peer.clone(), stream: crate::ids::StreamId::default() };
        self.lanes.range(from..).map(|(key, _)| key).take_while(|key| key.peer == *peer).cloned().collect()
    }

    pub(super) fn all_lanes(&self) -> Vec<LaneKey> {
        self.lanes.keys().cloned().collect()
    }

    pub(super) fn rows_in(&self, key: &LaneKey) -> Vec<RowId> {
        self.lanes.get(key).into_iter().flat_map(Lane::everything).collect()
    }

    pub(super) fn link_down(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.link_down();
        }
        self.timers.clear();
        self.timer_of.clear();
    }

    /// Notes when a lane is to be looked at next.
    pub(super) fn schedule(&mut self, key: &LaneKey) {
        let at = self.lanes.get(key).and_then(Lane::deadline);
        if self.timer_of.get(key).copied() == at {
            return;
        }
        if let Some(before) = self.timer_of.remove(key) {
            self.timers.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.timers.insert((at, key.clone()));
            self.timer_of.insert(key.clone(), at);
        }
    }

    /// Lanes whose time has come.
    pub(super) fn due(&mut self, now: Monotonic) -> Vec<LaneKey> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            self.timer_of.remove(&key);
            due.push(key);
        }
        due
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let age = if self.entries.is_empty() { None } else { Some(self.next_age_check) };
        [self.timers.first().map(|(at, _)| *at), age].into_iter().flatten().min()
    }

    /// Messages that waited too long and were never transmitted.
    pub(super) fn aged(&self, now: Monotonic) -> Vec<RowId> {
        let old = |row: &RowId| {
            self.entries
                .get(row)
                .is_some_and(|entry| entry.is_message() && entry.age_at(now) >= self.limits.outbox_age)
        };
        self.lanes.values().flat_map(Lane::waiting).filter(old).collect()
    }

    pub(super) fn status(&self, now: Monotonic) -> OutboxStatus {
        let messages = self.entries.values().filter(|entry| entry.is_message());
        OutboxStatus {
            messages: messages.count(),
            bytes: self.bytes,
            largest_peer_bytes: self.bytes_to.values().copied().max().unwrap_or_default(),
            in_flight: self.lanes.values().map(|lane| lane.in_flight().count()).sum(),
            oldest: self.entries.values().map(|entry| entry.age_at(now)).max().unwrap_or_default(),
        }
    }
}

/// Rounded down.
fn percent_of(bytes: usize, percent: u8) -> usize {
    let percent = usize::from(percent.min(100));
    bytes / 100 * percent + bytes % 100 * percent / 100
}
