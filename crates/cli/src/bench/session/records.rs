//! `session_seal_*` and `session_open_*`: from a payload to a record and back.

use std::hint::black_box;

use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::session::{Class, MAX_EPOCH_MESSAGES, Plain, RESERVED_BLOCKS};

use super::{NOT_OPENED, Pair};
use crate::bench::primitives::{BareAead, stamp};
use crate::bench::{BenchError, Workload};

/// A telemetry reading.
const PAYLOAD: usize = 256;
/// Of so many records sealed, one is opened afterwards.
const OPENED_EVERY: usize = 128;

/// Whole reservations, so that each sample has its share of a chain's steps.
fn operations(class: Class) -> usize {
    (class.block_len() * RESERVED_BLOCKS) as usize
}

/// Baseline: the AEAD of as many bytes under a ready key, in place.
pub(in crate::bench) struct RecordSeal {
    suite: SessionSuite,
    backend: Backend,
    class: Class,
    pair: Pair,
    payload: Vec<u8>,
    aead: BareAead,
    /// Of the run before: some on the way, as a receiver that missed more could not number the last, and the last.
    sealed: Vec<Vec<u8>>,
}

impl RecordSeal {
    pub(in crate::bench) fn new(
        suite: SessionSuite,
        backend: Backend,
        class: Class,
    ) -> Result<Self, BenchError> {
        let pair = Pair::new(suite, backend)?;
        let aead = BareAead::new(suite, backend, PAYLOAD)?;
        Ok(Self { suite, backend, class, pair, payload: vec![0x42; PAYLOAD], aead, sealed: Vec::new() })
    }
}

impl Workload for RecordSeal {
    fn operations(&self) -> usize {
        operations(self.class)
    }

    fn bytes(&self) -> usize {
        PAYLOAD
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        for record in self.sealed.drain(..) {
            let opened = self.pair.open(record)?;
            check(opened.plain, &self.payload)?;
        }
        // An epoch's end, which no record pays for here.
        if self.pair.sender.traffic().0 + operations(self.class) as u64 > MAX_EPOCH_MESSAGES {
            self.pair = Pair::new(self.suite, self.backend)?;
        }
        stamp(&mut self.payload, self.pair.sender.traffic().0);
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let operations = operations(self.class);
        for number in 1..=operations {
            let record = black_box(self.pair.seal(self.class, &self.payload)?);
            if number % OPENED_EVERY == 0 || number == operations {
                self.sealed.push(record);
            }
        }
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        (0..operations(self.class)).try_for_each(|_| self.aead.seal())
    }
}

/// Baseline: the AEAD of as many bytes under a ready key, in place.
pub(in crate::bench) struct RecordOpen {
    suite: SessionSuite,
    backend: Backend,
    class: Class,
    pair: Pair,
    payload: Vec<u8>,
    records: Vec<Vec<u8>>,
    aead: BareAead,
    last: Option<Plain>,
}

impl RecordOpen {
    pub(in crate::bench) fn new(
        suite: SessionSuite,
        backend: Backend,
        class: Class,
    ) -> Result<Self, BenchError> {
        let pair = Pair::new(suite, backend)?;
        let aead = BareAead::new(suite, backend, PAYLOAD)?;
        let records = Vec::with_capacity(operations(class));
        Ok(Self { suite, backend, class, pair, payload: vec![0x42; PAYLOAD], records, aead, last: None })
    }
}

impl Workload for RecordOpen {
    fn operations(&self) -> usize {
        operations(self.class)
    }

    fn bytes(&self) -> usize {
        PAYLOAD
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        if let Some(plain) = self.last.take() {
            check(plain, &self.payload)?;
        }
        if self.pair.sender.traffic().0 + operations(self.class) as u64 > MAX_EPOCH_MESSAGES {
            self.pair = Pair::new(self.suite, self.backend)?;
        }
        stamp(&mut self.payload, self.pair.sender.traffic().0);
        for _ in 0..operations(self.class) {
            self.records.push(self.pair.seal(self.class, &self.payload)?);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        for record in self.records.drain(..) {
            let opened = black_box(self.pair.open(record)?);
            self.last = Some(opened.plain);
        }
        Ok(())
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        (0..operations(self.class)).try_for_each(|_| self.aead.open())
    }
}

fn check(plain: Plain, expected: &[u8]) -> Result<(), BenchError> {
    match plain {
        Plain::Body(payload) | Plain::Telemetry { payload, .. } if payload == expected => Ok(()),
        _ => Err(NOT_OPENED),
    }
}
