//! The durable outbox: every message that the application was told is accepted, until its receiver's receipt.

mod entry;
mod lane;

pub(super) use entry::{Entry, Item, LaneKey, RowId, Sealed, row_key, size_of};
pub(super) use lane::{EnvelopeName, Lane, Source};

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;
use core::time::Duration;

use super::config::{DeliveryLimits, FullPolicy};
use super::input::Priority;
use crate::budget::Bucket;
use crate::codec::DecodeError;
use crate::crypto::backend::RandomSource;
use crate::delivery::{Loss, LossReason};
use crate::ids::{BootId, KeyId, PeerId};
use crate::store::{Change, RecordKind, Row};
use crate::time::{Monotonic, UnixTime};

pub(super) struct Outbox {
    /// This start, in the names of messages.
    pub(super) boot: BootId,
    limits: DeliveryLimits,
    last_row: u64,
    entries: BTreeMap<RowId, Entry>,
    lanes: BTreeMap<LaneKey, Lane>,
    bytes: usize,
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
    Refuse,
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
            sealing: 0,
            attention: BTreeSet::new(),
            turn: None,
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            next_age_check: Monotonic::default(),
        }
    }

    /// What was in flight stays so under its old sequence and number; the rest is backlog.
    pub(super) fn restore(
        &mut self,
        row: &Row,
        own: KeyId,
        floor: UnixTime,
        now: Monotonic,
    ) -> Result<PeerId, DecodeError> {
        let number = u64::from_be_bytes(row.key.as_slice().try_into().map_err(|_| DecodeError::Value)?);
        let mut entry = Entry::decode(&row.value, floor, now)?;
        // What other keys of ours signed nobody accepts any more.
        entry.sealed = entry.sealed.filter(|sealed| sealed.sender == own);
        let id = RowId(number);
        self.last_row = self.last_row.max(number);
        self.bytes += entry.size();
        let lane = self.lanes.entry(entry.lane.clone()).or_default();
        match (&entry.sealed, &entry.item) {
            (Some(sealed), _) => lane.depart((sealed.recipient, sealed.sequence), id),
            (None, _) if entry.origin.is_some() => lane.push_again(id),
            (None, item) => {
                if let Item::Lost(loss) = item {
                    lane.open_reports.insert(loss.reason, id);
                }
                lane.push(id, true);
            }
        }
        let receiver = entry.lane.peer.clone();
        self.entries.insert(id, entry);
        Ok(receiver)
    }

    /// Whether a message of `size` bytes fits, after the oldest were named for dropping if that is the policy.
    pub(super) fn make_room(
        &self,
        lane: &LaneKey,
        size: usize,
        priority: Priority,
    ) -> Result<alloc::vec::Vec<RowId>, NoRoom> {
        let limit = match priority {
            Priority::High => self.limits.outbox_bytes,
            Priority::Normal => self.limits.outbox_bytes - self.limits.outbox_bytes / DeliveryLimits::RESERVE,
        };
        let mut excess = (self.bytes + size).saturating_sub(limit);
        let mut dropped = alloc::vec::Vec::new();
        if excess == 0 {
            return Ok(dropped);
        }
        match self.limits.when_full {
            FullPolicy::Refuse => return Err(NoRoom::Refuse),
            FullPolicy::DropNewest => return Err(NoRoom::DropNewest),
            FullPolicy::DropOldest => {}
        }
        let waiting = self.lanes.get(lane).into_iter().flat_map(Lane::waiting);
        for row in waiting {
            let Some(entry) = self.entries.get(&row) else { continue };
            if entry.priority == Priority::Normal && matches!(entry.item, Item::Message(_)) {
                dropped.push(row);
                excess = excess.saturating_sub(entry.size());
                if excess == 0 {
                    return Ok(dropped);
                }
            }
        }
        Err(NoRoom::Refuse)
    }

    /// Adds an entry; what makes it durable comes back with its name.
    pub(super) fn push(&mut self, entry: Entry, backlog: bool) -> (RowId, Change) {
        self.last_row += 1;
        let row = RowId(self.last_row);
        self.bytes += entry.size();
        let change = entry.change(row);
        self.lanes.entry(entry.lane.clone()).or_default().push(row, backlog);
        self.attention.insert(entry.lane.clone());
        self.entries.insert(row, entry);
        (row, change)
    }

    pub(super) fn entry(&self, row: RowId) -> Option<&Entry> {
        self.entries.get(&row)
    }

    pub(super) fn entry_mut(&mut self, row: RowId) -> Option<&mut Entry> {
        self.entries.get_mut(&row)
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

    /// Removes an entry for good, wherever it is.
    pub(super) fn remove(&mut self, row: RowId) -> Option<(Entry, Change)> {
        let entry = self.entries.remove(&row)?;
        self.bytes -= entry.size();
        if let Some(lane) = self.lanes.get_mut(&entry.lane) {
            lane.remove(row);
            lane.open_reports.retain(|_, report| *report != row);
        }
        self.attention.insert(entry.lane.clone());
        Some((entry, Change::Delete { kind: RecordKind::Outbox, key: row_key(row) }))
    }

    /// Gives a message up: it becomes a report for its receiver, or part of one that waits.
    pub(super) fn give_up(&mut self, row: RowId, reason: LossReason) -> alloc::vec::Vec<Change> {
        let Some(entry) = self.entries.get(&row) else { return alloc::vec::Vec::new() };
        let count = match entry.item {
            Item::Message(_) => 1,
            Item::Lost(loss) => loss.count,
        };
        let key = entry.lane.clone();
        let report = self.lanes.get(&key).and_then(|lane| lane.open_reports.get(&reason)).copied();
        if let Some(report) = report.filter(|report| *report != row && entry.origin.is_none())
            && let Some(Entry { item: Item::Lost(loss), .. }) = self.entries.get_mut(&report)
        {
            loss.count += count;
            let removed = self.remove(row).map(|(_, change)| change);
            let grown = self.entries.get(&report).map(|entry| entry.change(report));
            return grown.into_iter().chain(removed).collect();
        }
        let Some(entry) = self.entries.get_mut(&row) else { return alloc::vec::Vec::new() };
        self.bytes -= entry.size();
        entry.item = Item::Lost(Loss { count, reason });
        entry.attempts = 0;
        entry.sealed = None;
        entry.sealing = None;
        let change = entry.change(row);
        let named = entry.origin.is_some();
        if let Some(lane) = self.lanes.get_mut(&key) {
            if named {
                // The receiver misses it by its number: the report takes the message's place.
                lane.remove(row);
                lane.push_again(row);
            } else {
                lane.open_reports.insert(reason, row);
            }
        }
        self.attention.insert(key);
        alloc::vec![change]
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
    pub(super) fn lanes_to(&self, peer: &PeerId) -> alloc::vec::Vec<LaneKey> {
        let from = LaneKey { peer: peer.clone(), stream: crate::ids::StreamId::default() };
        self.lanes.range(from..).map(|(key, _)| key).take_while(|key| key.peer == *peer).cloned().collect()
    }

    pub(super) fn all_lanes(&self) -> alloc::vec::Vec<LaneKey> {
        self.lanes.keys().cloned().collect()
    }

    pub(super) fn rows_in(&self, key: &LaneKey) -> alloc::vec::Vec<RowId> {
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
    pub(super) fn due(&mut self, now: Monotonic) -> alloc::vec::Vec<LaneKey> {
        let mut due = alloc::vec::Vec::new();
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
    pub(super) fn aged(&self, now: Monotonic) -> alloc::vec::Vec<RowId> {
        let old = |row: &RowId| {
            self.entries.get(row).is_some_and(|entry| {
                matches!(entry.item, Item::Message(_)) && entry.age_at(now) >= self.limits.outbox_age
            })
        };
        self.lanes.values().flat_map(Lane::waiting).filter(old).collect()
    }

    pub(super) fn status(&self, now: Monotonic) -> OutboxStatus {
        let messages = self.entries.values().filter(|entry| matches!(entry.item, Item::Message(_)));
        OutboxStatus {
            messages: messages.count(),
            bytes: self.bytes,
            in_flight: self.lanes.values().map(|lane| lane.in_flight().count()).sum(),
            oldest: self.entries.values().map(|entry| entry.age_at(now)).max().unwrap_or_default(),
        }
    }
}
