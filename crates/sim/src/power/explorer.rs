//! Tries everything that a crash can leave, and what a crash during the recovery from it can leave.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_provider::random::SeededRandom;

use super::disk::{CrashDisk, Skip};
use super::file::Fate;
use super::state::DiskState;

/// What stands where a file was extended and never written: zeros, or what the disk held before.
const FILLS: [u8; 2] = [0, 0xa5];
/// How many violations are described.
const DESCRIBED: usize = 5;

/// How far an exploration goes.
#[derive(Debug, Clone)]
pub struct Explorer {
    /// Bytes that a disk writes as one.
    pub sector: usize,
    /// With so many unsynced changes or fewer, every subset is tried.
    pub exhaustive: usize,
    /// Beyond that: every prefix, every single loss, every single survivor, and this many random subsets.
    pub samples: usize,
    /// How many crashes follow each other.
    pub crashes: usize,
    /// What random subsets are drawn from.
    pub seed: u64,
    /// Syncs left out.
    pub skip: Skip,
}

impl Default for Explorer {
    /// Sectors of 512 bytes, all subsets of up to 8 changes, 24 samples beyond, 2 crashes, seed 7, a sound disk.
    fn default() -> Self {
        Self { sector: 512, exhaustive: 8, samples: 24, crashes: 2, seed: 7, skip: Skip::default() }
    }
}

/// What an exploration saw.
#[derive(Debug, Default)]
pub struct Report {
    /// States in which the power failed, or the process died.
    pub crash_points: usize,
    /// Those of which every subset was tried.
    pub exhausted: usize,
    /// The most unsynced changes at one of them.
    pub most_unsynced: usize,
    /// Disks that a crash may leave, counted with repetitions.
    pub survivors: usize,
    /// Different ones: so many restarts were tried.
    pub restarts: usize,
    /// How many restarts broke a promise.
    pub violations: usize,
    /// The first of these, described.
    pub described: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crash_points, exhausted, most_unsynced, survivors, restarts, violations, .. } = self;
        write!(
            f,
            "{crash_points} crash points ({exhausted} exhausted, at most {most_unsynced} unsynced changes), \
             {survivors} surviving states, {restarts} distinct and restarted, {violations} violations"
        )?;
        self.described.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

struct Search<'a, F> {
    explorer: &'a Explorer,
    run: &'a dyn Fn(&CrashDisk<F>) -> Result<(), String>,
    report: Report,
    points: HashSet<(u64, usize)>,
    restarted: HashSet<(u64, usize)>,
    random: SeededRandom,
}

impl Explorer {
    /// Runs on an empty disk and then on everything that crashes can leave. `run` starts the real code on what it
    /// finds, checks what [`CrashDisk::facts`] promise, goes on working, and says which promise was broken.
    pub fn explore<F>(&self, facts: F, run: impl Fn(&CrashDisk<F>) -> Result<(), String>) -> Report
    where
        F: Clone + Hash,
    {
        let mut search = Search {
            explorer: self,
            run: &run,
            report: Report::default(),
            points: HashSet::new(),
            restarted: HashSet::new(),
            random: SeededRandom::new(self.seed),
        };
        search.restart(DiskState::default(), facts, self.crashes, "an empty disk");
        search.report
    }
}

fn identity<F: Hash>(state: &DiskState, facts: &F, crashes: usize) -> (u64, usize) {
    let mut hasher = DefaultHasher::new();
    (state.digest(), facts).hash(&mut hasher);
    (hasher.finish(), crashes)
}

impl<F: Clone + Hash> Search<'_, F> {
    fn restart(&mut self, state: DiskState, facts: F, crashes: usize, from: &str) {
        if !self.restarted.insert(identity(&state, &facts, crashes)) {
            return;
        }
        self.report.restarts += 1;
        let disk = CrashDisk::new(state, facts, self.explorer.sector, self.explorer.skip);
        if let Err(violation) = (self.run)(&disk) {
            self.report.violations += 1;
            if self.report.described.len() < DESCRIBED {
                self.report.described.push(format!("{violation}, after {from}"));
            }
            return;
        }
        if crashes == 0 {
            return;
        }
        let points = std::mem::take(&mut disk.lock_inner().points);
        for (number, (state, facts)) in points.into_iter().enumerate() {
            self.crash(&state, &facts, crashes - 1, &format!("operation {number} from {from}"));
        }
    }

    fn crash(&mut self, state: &DiskState, facts: &F, crashes: usize, from: &str) {
        if !self.points.insert(identity(state, facts, crashes)) {
            return;
        }
        let tears = state.unsynced();
        self.report.crash_points += 1;
        self.report.most_unsynced = self.report.most_unsynced.max(tears.len());
        // A process that dies leaves everything in place, and unsynced as it is.
        self.report.survivors += 1;
        self.restart(state.clone(), facts.clone(), crashes, &format!("the process died at {from}"));
        for fates in self.fates(&tears) {
            for fill in FILLS {
                self.report.survivors += 1;
                let lost = format!("the power failed at {from}, leaving {fates:?}");
                self.restart(state.survive(&fates, fill), facts.clone(), crashes, &lost);
            }
        }
    }

    fn fates(&mut self, tears: &[bool]) -> Vec<Vec<Fate>> {
        let count = tears.len();
        let mut sets = Vec::new();
        if count <= self.explorer.exhaustive {
            self.report.exhausted += 1;
            for subset in 0..1usize << count {
                sets.push((0..count).map(|change| kept(subset >> change & 1 == 1)).collect());
            }
        } else {
            for at in 0..count {
                sets.push((0..count).map(|change| kept(change < at)).collect());
                sets.push((0..count).map(|change| kept(change != at)).collect());
                sets.push((0..count).map(|change| kept(change == at)).collect());
            }
            sets.push(vec![Fate::Kept; count]);
            for _ in 0..self.explorer.samples {
                let mut bytes = vec![0; count];
                self.random.fill(&mut bytes);
                sets.push(bytes.into_iter().map(|byte| kept(byte & 1 == 1)).collect());
            }
        }
        // Each sector torn, among neighbours that all survived and after neighbours that did until then.
        for (at, _) in tears.iter().enumerate().filter(|(_, tears)| **tears) {
            for torn in [Fate::Front, Fate::Back] {
                for all in [true, false] {
                    let fate = |change| if change == at { torn } else { kept(all || change < at) };
                    sets.push((0..count).map(fate).collect());
                }
            }
        }
        sets
    }
}

fn kept(kept: bool) -> Fate {
    if kept { Fate::Kept } else { Fate::Lost }
}
