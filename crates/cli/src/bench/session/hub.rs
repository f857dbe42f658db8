//! `hub_*`: one process with a session with each of very many devices, and what it takes for all of them to rekey.
//!
//! A real endpoint with a real store: every packet of a flight is handled, one commit makes what came of them durable, and
//! what waited for it leaves. The devices' sessions are in another thread, and at rest in a file ([`Devices`]).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pqc_iiot_core::budget::Rate;
use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::kem::{DecapsulationKey, EncapsulationKey, generate_seed};
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::endpoint::{Command, DeliveryId, Event, Input, MAX_PEERS, Output, Purpose};
use pqc_iiot_core::store::{Change, RecordKind, Row as Stored};
use pqc_iiot_core::time::{Monotonic, Now, UnixTime};
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::store::{SqliteStore, Store};
use tempfile::TempDir;

use super::devices::{Answer, Devices, Packet, Phase, name, number};
use crate::bench::fleet::{Fleet, Gateway, NOW, random};
use crate::bench::report::{Row, rounded};
use crate::bench::store::{MIB, resident};
use crate::bench::{BenchError, Effort, Progress, interrupted};

const SUITE: SessionSuite = SessionSuite::Hybrid;
/// What passes for the hub from one flight to the next: far more than it needs, so that sessions come to rest as they would.
const TICK: Duration = Duration::from_millis(250);
/// Certificates kept parsed, so that their memory is nothing beside that of sessions.
const PARSED: usize = if cfg!(debug_assertions) { 8 } else { 256 };
/// The time in which all are to rekey.
const TARGET: f64 = 600.0;

const SETUP: BenchError = BenchError::Setup("a hub");
const FAILED: BenchError = BenchError::Outcome("the hub did not do its part");

/// What was measured; the hub itself stays, so that what is measured later is not given its memory.
pub(in crate::bench) struct Measured {
    pub(in crate::bench) rows: Vec<Row>,
    pub(in crate::bench) note: String,
    _hub: Hub,
}

/// How many sessions.
fn sessions(effort: Effort) -> u32 {
    match effort {
        _ if cfg!(debug_assertions) => 40,
        Effort::Quick => 2_000,
        Effort::Full | Effort::Thorough => MAX_PEERS as u32,
    }
}

/// The rows of suite 1.
pub(in crate::bench) fn hub(
    effort: Effort,
    stop: &AtomicBool,
    progress: &mut impl FnMut(Progress),
) -> Result<Measured, BenchError> {
    let total = sessions(effort);
    let mut fleet = Fleet::new(SUITE)?;
    let mut hub = Hub::new(&mut fleet)?;
    let certificate = hub.gateway.verified(&fleet)?;
    let mut devices = Devices::new(fleet, certificate)?;
    let mut memory = vec![resident()];
    let mut times = Vec::new();
    for (phase, name) in [
        (Phase::Enrol, "certificates of a hub"),
        (Phase::Handshake, "sessions of a hub"),
        (Phase::Propose, "epochs of a hub"),
        (Phase::AskFor, "further epochs of a hub"),
    ] {
        let mut show = |done: usize| progress(Progress { done, total: total as usize, name });
        times.push(run(&mut hub, &mut devices, phase, total, stop, &mut show)?.as_secs_f64());
        hub.rest()?;
        memory.push(resident());
    }
    let status = hub.gateway.endpoint.status();
    let mut epochs = (0..total).map(|device| devices.epoch(device));
    if status.sessions != total as usize || epochs.any(|epoch| !matches!(epoch, Ok(2))) {
        return Err(BenchError::Outcome("not every session of the hub has rekeyed"));
    }
    let count = f64::from(total);
    let since = |from: usize, to: usize| {
        let taken = memory.get(to).copied().flatten()? - memory.get(from).copied().flatten()?;
        Some((taken * MIB / count).round())
    };
    let mut rows = Vec::new();
    let mut size = |name, bytes: Option<f64>, content, target| {
        rows.extend(bytes.map(|bytes| Row::size(name, SUITE, 0, bytes, content, target)));
    };
    size("hub_peer_memory", since(0, 1), hub.peer_row, None);
    // Fewer say nothing about a hundred thousand: what the process has once weighs most.
    let whole = total as usize == MAX_PEERS;
    let idle = Some(2_048.0).filter(|_| whole);
    size("hub_session_memory", since(1, 2), hub.session_row, idle);
    size("hub_session_memory_rekeyed", since(1, 4), hub.session_row, idle);
    let [_, handshakes, proposed, asked] = times.as_slice() else { return Err(FAILED) };
    let epochs = epoch_baseline()? * count;
    let slower = proposed.max(*asked);
    let target = whole.then_some(TARGET);
    let time = [rounded(slower), rounded(epochs)];
    rows.push(Row::counted("hub_rekey_all", SUITE, 0, "s", time, target));
    let rate = [rounded(count / slower), rounded(count / epochs)];
    rows.push(Row::counted("hub_rekeys", SUITE, 0, "/s", rate, None));
    let note = format!(
        "hub rows: {total} sessions in one process, established in {handshakes:.1} s; all rekeyed in {proposed:.1} s when \
         their devices proposed, in {asked:.1} s when the hub did"
    );
    Ok(Measured { rows, note, _hub: hub })
}

/// Hub and devices side by side, as far as there are processors.
fn run(
    hub: &mut Hub,
    devices: &mut Devices,
    phase: Phase,
    total: u32,
    stop: &AtomicBool,
    show: &mut impl FnMut(usize),
) -> Result<Duration, BenchError> {
    let began = Instant::now();
    let done = &AtomicU32::new(0);
    std::thread::scope(|scope| {
        let (flights, arriving) = mpsc::sync_channel(2);
        let (answers, answered) = mpsc::channel();
        let driver = scope.spawn(move || devices.drive(phase, total, &flights, &answered, done, stop));
        let mut handled = Ok(());
        for flight in arriving {
            handled = interrupted(stop).and_then(|()| hub.handle(phase, flight)).map(|given| {
                // Who does not listen any more says why.
                let _ = answers.send(given);
            });
            if handled.is_err() {
                break;
            }
            show(done.load(Ordering::Relaxed) as usize);
        }
        drop(answers);
        let driven = driver.join().map_err(|_| FAILED)?;
        handled.and(driven)
    })?;
    Ok(began.elapsed())
}

/// What an epoch's primitives take, in seconds: a key pair, its parsing, an encapsulation and a decapsulation.
fn epoch_baseline() -> Result<f64, BenchError> {
    const EPOCHS: u32 = 200;
    let (mut random, kem) = (random()?, SUITE.kem());
    let began = Instant::now();
    for _ in 0..EPOCHS {
        let seed = generate_seed(kem, &mut random);
        let key = DecapsulationKey::from_seed(&AWS_LC, kem, &seed).map_err(|_| FAILED)?;
        let parsed = EncapsulationKey::parse(&AWS_LC, kem, key.encapsulation_key()).map_err(|_| FAILED)?;
        let (ciphertext, _) = parsed.encapsulate(&mut random).map_err(|_| FAILED)?;
        key.decapsulate(&ciphertext).map_err(|_| FAILED)?;
    }
    Ok(began.elapsed().as_secs_f64() / f64::from(EPOCHS))
}

struct Hub {
    gateway: Gateway,
    store: SqliteStore,
    clock: Duration,
    timer: Option<Monotonic>,
    enrolled: u32,
    /// The lengths of the rows last written of a peer and of a session.
    peer_row: f64,
    session_row: f64,
    _directory: TempDir,
}

impl Hub {
    fn new(fleet: &mut Fleet) -> Result<Self, BenchError> {
        // Whoever comes is genuine here.
        let enough = Rate { burst: 1_000_000, per_second: 1_000_000 };
        let gateway = Gateway::start_with(fleet, &AWS_LC, |config| {
            (config.budgets.announcements, config.budgets.handshakes) = (enough, enough);
            config.budgets.messages = enough;
            config.parsed_peers = PARSED;
        })?;
        let directory = TempDir::new().map_err(|_| SETUP)?;
        let path = directory.path().join("store.sqlite");
        let store = SqliteStore::create(&path, &*gateway.provider()).map_err(|_| SETUP)?;
        Ok(Self {
            gateway,
            store,
            clock: Duration::from_secs(1),
            timer: None,
            enrolled: 0,
            peer_row: 0.0,
            session_row: 0.0,
            _directory: directory,
        })
    }

    fn now(&self) -> Now {
        Now { monotonic: Monotonic(self.clock), wall: UnixTime(NOW.0 + self.clock.as_secs()) }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.gateway.endpoint.handle(now, input);
    }

    /// Takes what devices sent, and gives what goes to them.
    fn handle(&mut self, phase: Phase, flight: Vec<Packet>) -> Result<Vec<Answer>, BenchError> {
        let mut given = Vec::new();
        for (topic, payload) in flight {
            if phase == Phase::Enrol {
                self.input(Input::Command(Command::AddPeer(name(self.enrolled)?)));
                self.enrolled += 1;
            }
            self.input(Input::Receive { delivery: DeliveryId(1), topic, payload });
        }
        self.settle(&mut given)?;
        self.pass(TICK, &mut given)?;
        Ok(given)
    }

    fn pass(&mut self, time: Duration, given: &mut Vec<Answer>) -> Result<(), BenchError> {
        self.clock += time;
        if self.timer.is_some_and(|at| at <= self.now().monotonic) {
            self.input(Input::Timeout);
            self.settle(given)?;
        }
        Ok(())
    }

    /// Until nothing uses a session any more.
    fn rest(&mut self) -> Result<(), BenchError> {
        let mut given = Vec::new();
        for _ in 0..1_000_000 {
            if self.gateway.endpoint.status().sessions_awake == 0 {
                return Ok(());
            }
            self.pass(TICK, &mut given)?;
        }
        Err(BenchError::Outcome("sessions that nothing uses did not come to rest"))
    }

    /// Does all that comes of what was handed in: with one commit for all that is to be durable, as the store's writer does.
    fn settle(&mut self, given: &mut Vec<Answer>) -> Result<(), BenchError> {
        loop {
            let (mut written, mut batch, mut loads) = (None, Vec::new(), Vec::new());
            while let Some(output) = self.gateway.endpoint.poll_output() {
                match output {
                    Output::Persist { seq, changes, .. } => {
                        batch.extend(changes);
                        written = Some(seq);
                    }
                    Output::Provider(id, request) => {
                        let response = self.gateway.provider().execute(request);
                        self.input(Input::Provided(id, response));
                    }
                    Output::Load(id, rows) => loads.push((id, rows)),
                    Output::Transmit(transmit) => match transmit.purpose {
                        Purpose::Handshake { peer, .. } | Purpose::Session { peer, .. } => {
                            given.push((number(&peer).ok_or(FAILED)?, transmit.payload));
                        }
                        _ => {}
                    },
                    Output::Timeout(at) => self.timer = Some(at),
                    Output::Event(Event::Refused { .. }) => {
                        return Err(BenchError::Outcome("the hub refused a genuine packet"));
                    }
                    _ => {}
                }
            }
            if written.is_none() && loads.is_empty() {
                return Ok(());
            }
            self.count(&batch);
            self.store.commit(&batch).map_err(|_| FAILED)?;
            if let Some(seq) = written {
                self.input(Input::Persisted(seq));
            }
            for (id, keys) in loads {
                let mut rows = Vec::new();
                for key in keys {
                    let value = self.store.read(key.kind, &key.key).map_err(|_| FAILED)?;
                    rows.extend(value.map(|value| Stored { kind: key.kind, key: key.key, value }));
                }
                self.input(Input::Loaded(id, rows));
            }
        }
    }

    fn count(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Put { kind, value, .. } = change else { continue };
            match kind {
                RecordKind::Peer => self.peer_row = value.len() as f64,
                RecordKind::Session => self.session_row = value.len() as f64,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn all_devices_get_a_session_and_rekey_twice() {
        let mut shown = Vec::new();
        let measured =
            hub(Effort::Quick, &AtomicBool::new(false), &mut |progress| shown.push(progress.name)).unwrap();
        shown.dedup();
        assert_eq!(shown.len(), 4, "{shown:?}");
        let names: Vec<_> = measured.rows.iter().map(|row| row.name).collect();
        let expected = [
            "hub_peer_memory",
            "hub_session_memory",
            "hub_session_memory_rekeyed",
            "hub_rekey_all",
            "hub_rekeys",
        ];
        assert!(names == expected || names == expected[3..], "without a system that tells: {names:?}");
        assert!(measured.note.contains("40 sessions"));
    }

    #[test]
    fn a_stopped_run_ends_both_threads() {
        let stopped = hub(Effort::Quick, &AtomicBool::new(true), &mut |_| {});
        assert!(matches!(stopped, Err(BenchError::Interrupted)));
    }
}
