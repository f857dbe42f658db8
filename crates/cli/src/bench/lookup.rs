//! `replay_check` and `revocation_lookup`: the checks made for every message, before any cryptography.

use std::hint::black_box;

use pqc_iiot_core::control::revocation::{
    ExpiryDay, RevocationEntry, RevocationEntryId, RevocationReason, RevocationSet,
};
use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::ids::{KeyId, PeerId};
use pqc_iiot_core::replay::{ReplayWindow, WINDOW};
use pqc_iiot_provider::random::SeededRandom;

use super::{BenchError, Workload};

/// Checks per sample: enough that reading the clock does not count.
const CHECKS: usize = 1024;

/// Baseline: comparing each sequence with the highest, which a receiver without a window would do.
pub(super) struct ReplayCheck {
    window: ReplayWindow,
    sequences: Vec<u64>,
    fresh: usize,
}

impl ReplayCheck {
    pub(super) fn new() -> Self {
        let mut random = SeededRandom::new(4);
        let mut window = ReplayWindow::default();
        let last = 1_000_000;
        // Every other one of the window was seen.
        for sequence in (last - WINDOW..=last).step_by(2) {
            // All are fresh.
            let _ = window.commit(sequence);
        }
        // New, seen, missing and too old.
        let draw = |_| last - 80 + u64::from(small(&mut random)) % 100;
        let sequences: Vec<u64> = (0..CHECKS).map(draw).collect();
        let fresh = sequences.iter().filter(|&&sequence| window.check(sequence).is_ok()).count();
        Self { window, sequences, fresh }
    }
}

fn small(random: &mut SeededRandom) -> u32 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    u32::from_be_bytes(bytes)
}

impl Workload for ReplayCheck {
    fn operations(&self) -> usize {
        CHECKS
    }

    fn bytes(&self) -> usize {
        0
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let window = black_box(&self.window);
        let fresh =
            self.sequences.iter().filter(|&&sequence| window.check(black_box(sequence)).is_ok()).count();
        if fresh == self.fresh { Ok(()) } else { Err(BenchError::Outcome("the replay window erred")) }
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        let last = black_box(self.window.last_sequence());
        black_box(self.sequences.iter().filter(|&&sequence| black_box(sequence) > last).count());
        Ok(())
    }
}

/// How many identities are revoked.
const REVOKED: usize = 100_000;

/// Baseline: reading as many entries of an array of the same size at random places.
pub(super) struct RevocationLookup {
    set: RevocationSet,
    entries: Vec<RevocationEntry>,
    /// Half of them revoked, in no order.
    probes: Vec<RevocationEntryId>,
    places: Vec<usize>,
    start: usize,
}

impl RevocationLookup {
    pub(super) fn new() -> Result<Self, BenchError> {
        const FAILED: BenchError = BenchError::Setup("100,000 revocations");
        let id = |number: usize| {
            let peer = PeerId::new(&format!("device-{number}")).map_err(|_| FAILED)?;
            let mut key = [0; KeyId::LEN];
            SeededRandom::new(number as u64).fill(&mut key);
            Ok(RevocationEntryId::new(&peer, &KeyId(key)))
        };
        let ids = (0..2 * REVOKED).map(id).collect::<Result<Vec<_>, BenchError>>()?;
        let (revoked, _) = ids.split_at(REVOKED);
        let entry = |&id| RevocationEntry {
            id,
            reason: RevocationReason::LOST,
            expires: ExpiryDay::from_days(4_000),
        };
        let entries: Vec<RevocationEntry> = revoked.iter().map(entry).collect();
        let mut set = RevocationSet::new();
        let added = set.merge(&entries).map_err(|_| FAILED)?;
        if added.len() != REVOKED {
            return Err(FAILED);
        }
        let mut random = SeededRandom::new(7);
        let mut draw = |count: usize| small(&mut random) as usize % count;
        // Alternately revoked and not.
        let probes =
            (0..64 * CHECKS).filter_map(|n| ids.get(draw(REVOKED) + n % 2 * REVOKED).copied()).collect();
        let places = (0..64 * CHECKS).map(|_| draw(REVOKED)).collect();
        Ok(Self { set, entries, probes, places, start: 0 })
    }
}

impl Workload for RevocationLookup {
    fn operations(&self) -> usize {
        CHECKS
    }

    fn bytes(&self) -> usize {
        RevocationEntryId::LEN
    }

    /// Other identities than last time, so that caches hold no more than they would.
    fn prepare(&mut self) -> Result<(), BenchError> {
        self.start = (self.start + CHECKS) % self.probes.len();
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let probes = self.probes.iter().skip(self.start).take(CHECKS);
        let found = probes.filter(|id| self.set.contains(black_box(id))).count();
        let correct = found == CHECKS / 2;
        if correct { Ok(()) } else { Err(BenchError::Outcome("a revoked identity was not found")) }
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        let places = self.places.iter().skip(self.start).take(CHECKS);
        let read = places.filter_map(|&place| self.entries.get(black_box(place)));
        black_box(read.map(|entry| u64::from(entry.reason.code())).sum::<u64>());
        Ok(())
    }
}
