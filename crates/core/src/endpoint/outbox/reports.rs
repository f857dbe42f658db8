//! Messages that are given up, and the reports that tell their receiver.

use alloc::vec::Vec;

use super::{Entry, Item, LaneKey, Outbox, RowId, packet_deletion};
use crate::delivery::{Loss, LossReason};
use crate::store::Change;

impl Outbox {
    /// Gives a message up: it becomes a report for its receiver, or part of one that waits. `None` if it is none.
    pub(in crate::endpoint) fn give_up(&mut self, row: RowId, reason: LossReason) -> Option<Vec<Change>> {
        let entry = self.entries.get(&row)?;
        let Item::Message(_, origin) = entry.item else { return None };
        let (loss, certain, key) =
            (Loss::of(origin, reason), !entry.may_have_left(self.boot), entry.lane.clone());
        if let Some(mut changes) = self.merge(&key, loss, certain) {
            self.remove(row, &mut changes);
            return Some(changes);
        }
        let entry = self.entries.get_mut(&row)?;
        let size = entry.size();
        let carried = entry.carried.take().is_some();
        let was_taken = carried || entry.transmitted || entry.sealing.is_some();
        entry.item = Item::Lost { loss, certain };
        entry.attempts = 0;
        entry.sealed = None;
        entry.sealing = None;
        let mut changes = alloc::vec![entry.change(row)];
        if core::mem::take(&mut entry.transmitted) {
            changes.push(packet_deletion(row));
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.open_reports.insert((loss.boot, loss.first), row);
            if was_taken {
                lane.remove(row);
                lane.push_again(row);
            }
        }
        self.weigh(&key.peer, size, 0);
        self.attention.insert(key);
        Some(changes)
    }

    /// Adds lost messages to the open reports beside them, which become one; `None` if there are none of their kind.
    pub(in crate::endpoint) fn merge(
        &mut self,
        key: &LaneKey,
        loss: Loss,
        certain: bool,
    ) -> Option<Vec<Change>> {
        let lane = self.lanes.get(key)?;
        let like = |row: &RowId| match self.entries.get(row)?.item {
            Item::Lost { loss: other, certain: also }
                if (other.boot, other.reason, also) == (loss.boot, loss.reason, certain) =>
            {
                Some((*row, other))
            }
            _ => None,
        };
        let before = lane.open_reports.range(..(loss.boot, loss.first)).next_back();
        let before = before.and_then(|(_, row)| like(row));
        let before = before.filter(|(_, other)| other.last.checked_add(1) == Some(loss.first));
        let after = loss.last.checked_add(1).and_then(|next| lane.open_reports.get(&(loss.boot, next)));
        let after = after.and_then(like);
        let first = before.map_or(loss.first, |(_, before)| before.first);
        let last = after.map_or(loss.last, |(_, after)| after.last);
        let (kept, other) = match (before, after) {
            (Some((kept, _)), other) => (kept, other),
            (None, Some((kept, _))) => (kept, None),
            (None, None) => return None,
        };
        let mut changes = Vec::new();
        if let Some((other, _)) = other {
            self.remove(other, &mut changes);
        }
        let entry = self.entries.get_mut(&kept)?;
        entry.item = Item::Lost { loss: Loss { first, last, ..loss }, certain };
        changes.push(entry.change(kept));
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.open_reports.retain(|_, report| *report != kept);
            lane.open_reports.insert((loss.boot, first), kept);
        }
        Some(changes)
    }

    /// Adds a report; what makes it durable.
    pub(in crate::endpoint) fn report(&mut self, entry: Entry, loss: Loss, backlog: bool) -> Vec<Change> {
        let key = entry.lane.clone();
        if let Some(changes) = self.merge(&key, loss, true) {
            return changes;
        }
        let (row, change) = self.push(Entry { item: Item::Lost { loss, certain: true }, ..entry }, backlog);
        self.lane_or_new(&key).open_reports.insert((loss.boot, loss.first), row);
        alloc::vec![change]
    }
}
