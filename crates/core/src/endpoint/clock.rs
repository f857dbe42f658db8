//! The durable time floor: the operating system's clock is believed forwards, never backwards past what was seen.

use alloc::vec::Vec;
use core::time::Duration;

use crate::store::{Change, RecordKind};
use crate::time::{Monotonic, Now, UnixTime};

/// How often the floor is written.
const WRITE_EVERY: Duration = Duration::from_secs(60 * 60);

/// The most one step raises the floor beyond monotonic elapsed time: nobody pushes a fleet to 2100.
pub const MAX_STEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How far the clock may run behind the floor before that is reported: brief corrections are ordinary.
const TOLERANCE: Duration = Duration::from_secs(120);

pub(super) struct Clock {
    floor: UnixTime,
    written: Option<Monotonic>,
    observed: Monotonic,
    now: Now,
    behind: bool,
}

impl Clock {
    pub(super) fn new(floor: UnixTime, now: Now) -> Self {
        Self { floor, written: None, observed: now.monotonic, now, behind: false }
    }

    /// Takes a reading; true when the clock has just fallen behind the floor.
    pub(super) fn observe(&mut self, now: Now) -> bool {
        let elapsed = now.monotonic.since(self.observed);
        self.observed = self.observed.max(now.monotonic);
        self.now = now;
        // Monotonic time that passed is certain; what the wall clock claims beyond it is bounded.
        let certain = self.floor.plus(elapsed);
        if self.floor != UnixTime::default() {
            self.floor = certain;
        }
        let was_behind = core::mem::replace(&mut self.behind, now.wall.plus(TOLERANCE) < self.floor);
        self.behind && !was_behind
    }

    /// The time validity is judged by: the clock, or the floor if that is later.
    pub(super) fn effective(&self) -> UnixTime {
        self.now.wall.max(self.floor)
    }

    /// The durable floor alone.
    pub(super) fn floor(&self) -> UnixTime {
        self.floor
    }

    pub(super) fn monotonic(&self) -> Monotonic {
        self.now.monotonic
    }

    /// The row to write, when it is due or `force`.
    pub(super) fn write(&mut self, force: bool) -> Option<Change> {
        let now = self.now.monotonic;
        if !force && self.written.is_some_and(|at| now.since(at) < WRITE_EVERY) {
            return None;
        }
        self.written = Some(now);
        let limit = if self.floor == UnixTime::default() { self.now.wall } else { self.floor.plus(MAX_STEP) };
        self.floor = self.floor.max(self.now.wall.min(limit));
        Some(Change::Put {
            kind: RecordKind::TimeFloor,
            key: Vec::new(),
            value: self.floor.0.to_be_bytes().to_vec(),
        })
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.written.map(|at| at.plus(WRITE_EVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn at(monotonic: u64, wall: u64) -> Now {
        Now { monotonic: Monotonic(Duration::from_secs(monotonic)), wall: UnixTime(wall) }
    }

    #[test]
    fn the_floor_never_falls_and_rises_in_bounded_steps() {
        let mut clock = Clock::new(UnixTime(1000 * DAY), at(0, 1000 * DAY));
        assert!(!clock.observe(at(1, 1000 * DAY + 1)));
        assert!(clock.observe(at(2, 1)), "rolled back");
        assert!(!clock.observe(at(3, 1)), "reported once");
        assert_eq!(clock.effective(), UnixTime(1000 * DAY + 3));
        clock.observe(at(4, 40_000 * DAY));
        clock.write(true);
        clock.observe(at(5, 1));
        assert_eq!(clock.effective(), UnixTime(1030 * DAY + 4 + 1));
    }
}
