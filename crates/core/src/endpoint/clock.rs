//! The durable time floor: the operating system's clock is believed forwards, never backwards past what was seen.

use alloc::vec::Vec;
use core::time::Duration;

use crate::store::{Change, RecordKind};
use crate::time::{Monotonic, Now, UnixTime};

/// How often the floor is written.
const WRITE_EVERY: Duration = Duration::from_secs(60 * 60);

/// The most that the operating system's clock raises the floor beyond monotonic elapsed time between a start and the
/// next: nobody pushes a fleet to 2100.
pub const MAX_STEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How far the clock may run behind the floor before that is reported: brief corrections are ordinary.
const TOLERANCE: Duration = Duration::from_secs(120);

pub(super) struct Clock {
    /// The floor, and when it was that.
    floor: (UnixTime, Monotonic),
    /// The floor at the start: all that this start may add to it counts from there.
    start: (UnixTime, Monotonic),
    written: Option<Monotonic>,
    now: Now,
    behind: bool,
}

impl Clock {
    pub(super) fn new(floor: UnixTime, now: Now) -> Self {
        let floor = (floor, now.monotonic);
        Self { floor, start: floor, written: None, now, behind: false }
    }

    /// Takes a reading; true when the clock has just fallen behind the floor.
    pub(super) fn observe(&mut self, now: Now) -> bool {
        self.now = Now { monotonic: self.now.monotonic.max(now.monotonic), ..now };
        let behind = now.wall.plus(TOLERANCE) < self.floor();
        let was_behind = core::mem::replace(&mut self.behind, behind);
        self.behind && !was_behind
    }

    /// The time validity is judged by: the clock, or the floor if that is later.
    pub(super) fn effective(&self) -> UnixTime {
        self.now.wall.max(self.floor())
    }

    /// The durable floor alone, and the time certain to have passed since it was written.
    pub(super) fn floor(&self) -> UnixTime {
        self.after(self.floor)
    }

    fn after(&self, (time, at): (UnixTime, Monotonic)) -> UnixTime {
        if time == UnixTime::default() { time } else { time.plus(self.now.monotonic.since(at)) }
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
        if self.start.0 == UnixTime::default() {
            self.start = (self.now.wall, now);
        }
        // Many small steps are one large one: the bound is on their sum.
        let limit = self.after(self.start).plus(MAX_STEP);
        self.floor = (self.floor().max(self.now.wall.min(limit)), now);
        Some(Change::Put {
            kind: RecordKind::TimeFloor,
            key: Vec::new(),
            value: self.floor.0.0.to_be_bytes().to_vec(),
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
        clock.observe(at(6, 40_000 * DAY));
        clock.write(true);
        clock.observe(at(7, 1));
        assert_eq!(clock.effective(), UnixTime(1030 * DAY + 7), "steps do not add up");
    }

    #[test]
    fn moments_shorter_than_a_second_add_up() {
        let mut clock = Clock::new(UnixTime(1000 * DAY), at(0, 1));
        for quarter in 0..=40 {
            let monotonic = Monotonic(Duration::from_millis(250 * quarter));
            clock.observe(Now { monotonic, wall: UnixTime(1) });
        }
        assert_eq!(clock.effective(), UnixTime(1000 * DAY + 10));
    }
}
