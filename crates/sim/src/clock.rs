//! Simulated time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use pqc_iiot_core::time::{Monotonic, Now, UnixTime};

/// The wall clock at the start of every world: 2026-01-01 UTC.
pub const EPOCH: UnixTime = UnixTime(1_767_225_600);

/// Both clocks of the simulation; copies share them.
#[derive(Clone)]
pub struct SimClock(Rc<Cell<Now>>);

impl Default for SimClock {
    fn default() -> Self {
        // Not zero, so that "never" and "at the start" differ.
        let monotonic = Monotonic(Duration::from_secs(1_000));
        Self(Rc::new(Cell::new(Now { monotonic, wall: EPOCH })))
    }
}

impl SimClock {
    /// The present.
    pub fn now(&self) -> Now {
        self.0.get()
    }

    /// The wall clock alone.
    pub fn wall(&self) -> UnixTime {
        self.now().wall
    }

    /// Moves both clocks on.
    pub(crate) fn advance(&self, by: Duration) {
        let Now { monotonic, wall } = self.now();
        // Whole seconds of the wall clock follow the monotonic one, however small the steps.
        let start = Duration::from_secs(monotonic.0.as_secs());
        let seconds = (monotonic.0 + by).saturating_sub(start);
        self.0.set(Now { monotonic: monotonic.plus(by), wall: wall.plus(seconds) });
    }

    /// Sets the wall clock alone, as an administrator or an attacker on the time service would.
    pub fn set_wall(&self, wall: UnixTime) {
        self.0.set(Now { wall, ..self.now() });
    }
}
