//! The queue to one peer on one stream.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::time::Duration;

use super::entry::RowId;
use crate::ids::{BootId, KeyId};
use crate::replay::MAX_IN_FLIGHT;
use crate::session::Settled;
use crate::time::Monotonic;

/// How long after the last transmission without a receipt the oldest message is sent again, at first and at last.
pub(super) const PROBE_FIRST: Duration = Duration::from_secs(2);
pub(super) const PROBE_LAST: Duration = Duration::from_secs(15 * 60);

/// After how many losses of the link within one backlog nothing fresh overtakes it any more: each time that it does, the
/// receiver has one more gap to remember.
const MAX_INTERLEAVED: u32 = 16;

/// The most messages under way in a session, per stream.
pub(in crate::endpoint) const MAX_CARRIED: usize = 1_024;

/// Of how many messages one may be such that was sent before and does not arrive.
const LATE_EVERY: u32 = 16;

/// An envelope of ours: the recipient's keys and the sequence for them.
pub(in crate::endpoint) type EnvelopeName = (KeyId, u64);

/// Entries in the order in which they leave.
#[derive(Default)]
pub(in crate::endpoint) struct Lane {
    /// Transmitted once, to be sealed again under the same number: first of all.
    again: VecDeque<RowId>,
    /// Accepted before the link was up.
    backlog: VecDeque<RowId>,
    /// Accepted since.
    fresh: VecDeque<RowId>,
    /// By envelope; sealed or being sealed, without a receipt.
    in_flight: BTreeMap<EnvelopeName, RowId>,
    /// Sent in the session, without a receipt.
    carried: BTreeSet<RowId>,
    /// To be sealed again, but not before: they do not arrive although later ones do.
    parked: BTreeSet<(Monotonic, RowId)>,
    /// Was parked: goes when nothing else does, and now and then in between.
    late: VecDeque<RowId>,
    /// How many went since the last late one.
    since_late: u32,
    /// The one that was sent again for want of a receipt.
    pub(in crate::endpoint) probed: Option<RowId>,
    /// Whether a backlog entry went last.
    backlog_went: bool,
    /// How often the link was lost since the backlog was last empty, before all of it was sent.
    interleaved: u32,
    /// The last number given to a message that was accepted in this start.
    last_number: u64,
    /// The same for volatile messages.
    last_volatile: u64,
    /// What of the messages that were accepted in this start the receiver confirmed.
    pub(in crate::endpoint) confirmed: Settled,
    /// Reports that were never sealed, by where they begin: they take their neighbours in.
    pub(super) open_reports: BTreeMap<(BootId, u64), RowId>,
    /// When the oldest in flight is sent again, and after what delay.
    probe: Option<(Monotonic, Duration)>,
    /// What is in flight is to be sent again, once there is room.
    pub(super) resend: bool,
    /// When a receipt last told that our state is an older copy.
    pub(in crate::endpoint) rollback_noticed: Option<Monotonic>,
    /// Nothing is sealed before: the provider failed, or the drain's rate is used up.
    pub(in crate::endpoint) not_before: Option<Monotonic>,
}

/// Which queue an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::endpoint) enum Source {
    Again,
    Backlog,
    Fresh,
    Late,
}

impl Lane {
    pub(super) fn push(&mut self, row: RowId, backlog: bool) {
        if backlog { self.backlog.push_back(row) } else { self.fresh.push_back(row) }
    }

    pub(super) fn push_again(&mut self, row: RowId) {
        let at = self.again.partition_point(|other| *other < row);
        self.again.insert(at, row);
    }

    /// The link is down: all that waits becomes backlog, in order of acceptance.
    pub(super) fn link_down(&mut self) {
        self.interleaved = if self.backlog.is_empty() { 0 } else { self.interleaved.saturating_add(1) };
        self.backlog.append(&mut self.fresh);
        self.backlog.make_contiguous().sort_unstable();
        self.probe = None;
    }

    /// What goes next: first what goes again, then backlog and fresh in turn.
    pub(in crate::endpoint) fn next(&self) -> Option<(RowId, Source)> {
        let again = self.again.front().map(|row| (*row, Source::Again));
        let backlog = self.backlog.front().map(|row| (*row, Source::Backlog));
        let fresh = self.next_in_fresh();
        let in_turn = if self.backlog_went { fresh.or(backlog) } else { backlog.or(fresh) };
        let late = self.late.front().map(|row| (*row, Source::Late));
        let late_now = late.filter(|_| self.since_late >= LATE_EVERY);
        again.or(late_now).or(in_turn).or(late)
    }

    /// As [`Lane::next`] without the backlog.
    pub(in crate::endpoint) fn next_fresh(&self) -> Option<(RowId, Source)> {
        let again = self.again.front().map(|row| (*row, Source::Again));
        let fresh = self.next_in_fresh();
        again.or(fresh).or_else(|| self.late.front().map(|row| (*row, Source::Late)))
    }

    fn next_in_fresh(&self) -> Option<(RowId, Source)> {
        let may = self.backlog.is_empty() || self.interleaved < MAX_INTERLEAVED;
        self.fresh.front().filter(|_| may).map(|row| (*row, Source::Fresh))
    }

    /// Whether it has something to send, as far as it is for the lane to say.
    pub(in crate::endpoint) fn has_work(&self) -> bool {
        self.next().is_some() || (self.resend && !(self.in_flight.is_empty() && self.carried.is_empty()))
    }

    pub(in crate::endpoint) fn take(&mut self, source: Source) {
        match source {
            Source::Again => self.again.pop_front(),
            Source::Backlog => self.backlog.pop_front(),
            Source::Fresh => self.fresh.pop_front(),
            Source::Late => self.late.pop_front(),
        };
        self.since_late = if source == Source::Late { 0 } else { self.since_late.saturating_add(1) };
        if matches!(source, Source::Backlog | Source::Fresh) {
            self.backlog_went = source == Source::Backlog;
        }
    }

    /// Whether an envelope may be sealed under `sequence`: a resend of the oldest without a receipt must still fall
    /// inside the receiver's window.
    pub(in crate::endpoint) fn has_room_for(&self, recipient: KeyId, sequence: u64) -> bool {
        let to_these_keys = (recipient, 0)..=(recipient, u64::MAX);
        let oldest = self.in_flight.range(to_these_keys).next();
        oldest.is_none_or(|((_, oldest), _)| sequence.saturating_sub(*oldest) < MAX_IN_FLIGHT)
    }

    /// Whether one more may go in the session.
    pub(in crate::endpoint) fn has_room_in_session(&self) -> bool {
        self.carried.len() < MAX_CARRIED
    }

    pub(in crate::endpoint) fn take_resend(&mut self) -> bool {
        core::mem::take(&mut self.resend)
    }

    pub(in crate::endpoint) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(in crate::endpoint) fn next_volatile(&mut self) -> u64 {
        self.last_volatile += 1;
        self.last_volatile
    }

    pub(super) fn depart(&mut self, envelope: EnvelopeName, row: RowId) {
        self.in_flight.insert(envelope, row);
    }

    pub(in crate::endpoint) fn is_carried(&self, row: RowId) -> bool {
        self.carried.contains(&row)
    }

    pub(super) fn carry(&mut self, row: RowId) {
        self.carried.insert(row);
    }

    /// Whether it was under way.
    pub(super) fn land(&mut self, row: RowId) -> bool {
        let carried = self.carried.remove(&row);
        let before = self.in_flight.len();
        if !carried {
            self.in_flight.retain(|_, other| *other != row);
        }
        if self.in_flight.is_empty() && self.carried.is_empty() {
            self.probe = None;
        }
        carried || self.in_flight.len() < before
    }

    /// What has no receipt, oldest first for each key of the recipient's.
    pub(in crate::endpoint) fn in_flight(&self) -> impl Iterator<Item = RowId> + '_ {
        self.in_flight.values().chain(&self.carried).copied()
    }

    /// Everything that was transmitted at least once.
    pub(in crate::endpoint) fn transmitted(&self) -> impl Iterator<Item = RowId> + '_ {
        self.transmitted_otherwise().chain(self.carried())
    }

    /// Of that, what is not under way in a session.
    pub(super) fn transmitted_otherwise(&self) -> impl Iterator<Item = RowId> + '_ {
        let parked = self.parked.iter().map(|(_, row)| row);
        self.in_flight.values().chain(&self.again).chain(&self.late).chain(parked).copied()
    }

    /// What is under way in a session, in order of acceptance.
    pub(super) fn carried(&self) -> impl Iterator<Item = RowId> + '_ {
        self.carried.iter().copied()
    }

    /// Those that do not arrive although later ones do.
    pub(in crate::endpoint) fn parked(&self) -> impl Iterator<Item = RowId> + '_ {
        self.parked.iter().map(|(_, row)| row).chain(&self.late).copied()
    }

    pub(super) fn park(&mut self, row: RowId, until: Monotonic) {
        self.parked.insert((until, row));
    }

    /// Those whose time has come go again, after all that never failed to arrive.
    pub(in crate::endpoint) fn unpark(&mut self, now: Monotonic) {
        while let Some((until, _)) = self.parked.first()
            && *until <= now
            && let Some((_, row)) = self.parked.pop_first()
        {
            self.late.push_back(row);
        }
    }

    /// Everything that was never transmitted, oldest first of each queue.
    pub(in crate::endpoint) fn waiting(&self) -> impl Iterator<Item = RowId> + '_ {
        self.backlog.iter().chain(&self.fresh).copied()
    }

    pub(super) fn everything(&self) -> impl Iterator<Item = RowId> + '_ {
        self.transmitted().chain(self.waiting())
    }

    /// Removes a row from wherever it is.
    pub(super) fn remove(&mut self, row: RowId) {
        if self.land(row) {
            return;
        }
        self.parked.retain(|(_, other)| *other != row);
        for queue in [&mut self.again, &mut self.backlog, &mut self.fresh, &mut self.late] {
            // Nearly always near the front.
            if let Some(at) = queue.iter().position(|other| *other == row) {
                queue.remove(at);
                return;
            }
        }
    }

    /// Something was transmitted: a receipt is due.
    pub(in crate::endpoint) fn expect_receipt(&mut self, now: Monotonic) {
        if self.probe.is_none() {
            self.probe = Some((now.plus(PROBE_FIRST), PROBE_FIRST));
        }
    }

    /// A receipt came: patience starts anew.
    pub(in crate::endpoint) fn receipt_came(&mut self, now: Monotonic) {
        self.probe = if self.in_flight.is_empty() && self.carried.is_empty() {
            None
        } else {
            Some((now.plus(PROBE_FIRST), PROBE_FIRST))
        };
    }

    /// The oldest in flight if it is time to send it again; the next time is twice as far off, spread by `jitter`
    /// (0–255 of 256 eighths).
    pub(in crate::endpoint) fn probe(&mut self, now: Monotonic, jitter: u8) -> Option<RowId> {
        let (at, delay) = self.probe?;
        if now < at {
            return None;
        }
        let next = (2 * delay).min(PROBE_LAST);
        self.probe = Some((now.plus(next + next * u32::from(jitter) / 2048), next));
        self.in_flight().next()
    }

    pub(in crate::endpoint) fn deadline(&self) -> Option<Monotonic> {
        let probe = self.probe.map(|(at, _)| at);
        let waits = !(self.again.is_empty()
            && self.backlog.is_empty()
            && self.fresh.is_empty()
            && self.late.is_empty());
        let resume = self.not_before.filter(|_| waits);
        let parked = self.parked.first().map(|(until, _)| *until);
        [probe, resume, parked].into_iter().flatten().min()
    }
}
