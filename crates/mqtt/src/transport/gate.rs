//! Bounds the received messages between socket and application.
//!
//! A PUBLISH enters the library only when there is room for it in the application's queue, so that queue never
//! overflows and the event loop never waits for it: with the gate closed, pings, publishes and acknowledgements still
//! go out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

pub(super) struct Gate {
    capacity: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Messages inside the library, on this connection.
    decoding: usize,
    /// Messages in the application's queue, from any connection.
    queued: usize,
    reader: Option<Waker>,
}

impl Gate {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, counts: Mutex::default() }
    }

    /// Forgets what the last connection's library buffers held: they went with it.
    pub(super) fn start_connection(&self) {
        self.lock().decoding = 0;
    }

    /// Takes a place for one message, if there is one.
    pub(super) fn admit(&self) -> bool {
        let mut counts = self.lock();
        let open = counts.decoding + counts.queued < self.capacity;
        if open {
            counts.decoding += 1;
        }
        open
    }

    /// Whether a message would be admitted; if not, `waker` is woken when that may have changed.
    pub(super) fn poll_open(&self, waker: &Waker) -> bool {
        let mut counts = self.lock();
        let open = counts.decoding + counts.queued < self.capacity;
        counts.reader = (!open).then(|| waker.clone());
        open
    }

    /// A message left the library for the application's queue.
    pub(super) fn decoded(&self) {
        let mut counts = self.lock();
        counts.decoding = counts.decoding.saturating_sub(1);
        counts.queued += 1;
    }

    /// The application took a message.
    pub(super) fn taken(&self) {
        let mut counts = self.lock();
        counts.queued = counts.queued.saturating_sub(1);
        if let Some(reader) = counts.reader.take() {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
