//! A thief with root on the gateway: it copies the data directory and its key while the gateway runs, and opens with them
//! what it hears at the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pqc_iiot_core::codec::Reader;
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::kdf;
use pqc_iiot_core::ids::{MAX_PEER_ID, PeerId};
use pqc_iiot_core::session::{Class, Control, Header, Plain, Session, Settled};
use pqc_iiot_core::store::{RecordKind, Row};
use pqc_iiot_core::time::Monotonic;
use pqc_iiot_provider::datadir::{DataDir, DataFile};
use pqc_iiot_provider::software::SoftwareProvider;
use pqc_iiot_provider::store::{SqliteStore, Store};
use tempfile::TempDir;

use crate::error::{CliError, ErrorKind, Result};
use crate::unlock::{Source, random};

/// A copy made while the store is being written may be torn; the store says so, and the thief tries again.
const ATTEMPTS: usize = 20;
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A packet as the broker carried it: topic and payload.
pub(super) type Packet = (String, Vec<u8>);

/// The session with one device, as the thief took it from the gateway's disk.
pub(super) struct Loot {
    session: Session,
    answered: u64,
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::new(ErrorKind::Failed, "the demo's thief could not copy the gateway's directory").because(error)
}

/// Copies the gateway's directory and key file, and takes the session with `device` out of the copy. Nothing of the copy
/// stays.
pub(super) async fn rob(gateway: PathBuf, key: PathBuf, device: PeerId) -> Result<Loot> {
    let work = tokio::task::spawn_blocking(move || {
        let mut last = failed("no attempt was made");
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(AGAIN_AFTER);
            }
            match copy(&gateway, &key).and_then(|rows| take(&rows, &device)) {
                Ok(loot) => return Ok(loot),
                Err(error) => last = error,
            }
        }
        Err(last)
    });
    work.await.map_err(failed)?
}

/// The rows of a fresh copy.
fn copy(gateway: &Path, key: &Path) -> Result<Vec<Row>> {
    let hideout = TempDir::with_prefix("pqc-iiot-demo-thief-").map_err(failed)?;
    // Not by this process: closing a file that SQLite has open would release SQLite's locks on it.
    let copied =
        Command::new("cp").arg("-Rp").args([gateway, key, hideout.path()]).output().map_err(failed)?;
    if !copied.status.success() {
        return Err(failed(crate::output::harmless(&String::from_utf8_lossy(&copied.stderr))));
    }
    let inside = |path: &Path| path.file_name().map(|name| hideout.path().join(name)).unwrap_or_default();
    let directory = DataDir::open(inside(gateway)).map_err(failed)?;
    let unlock = Source::KeyFile(inside(key)).read()?;
    let provider = SoftwareProvider::open(&directory, &unlock).map_err(failed)?;
    let mut store = SqliteStore::open(&directory.file(DataFile::Store), &provider).map_err(failed)?;
    store.load().map_err(failed)
}

fn take(rows: &[Row], device: &PeerId) -> Result<Loot> {
    let sessions = rows.iter().filter(|row| row.kind == RecordKind::Session);
    let session = sessions.filter_map(|row| read_session(row, device)).next();
    session.map(|session| Loot { session, answered: 0 }).ok_or_else(|| failed("it holds no such session"))
}

/// The session in use with `device`, if `row` is that one: what docs/state.md calls *sessions*.
fn read_session(row: &Row, device: &PeerId) -> Option<Session> {
    const IN_USE: u64 = 0;
    let mut reader = Reader::new(&row.value).ok()?;
    reader.array_of(12).ok()?;
    let theirs = reader.text(MAX_PEER_ID).ok()? == device.as_str();
    let in_use = reader.uint().ok()? == IN_USE;
    // Rank, identities, handshake, times, m2.
    for _ in 0..9 {
        reader.skip().ok()?;
    }
    let session = reader.bytes().ok().filter(|_| theirs && in_use)?;
    Session::from_row(default_backend(), session, Monotonic(Duration::ZERO)).ok()
}

/// A record that was heard, and whether the thief read in it what the device had written.
pub(super) struct Tried {
    pub(super) epoch: u16,
    pub(super) block: u32,
    pub(super) opened: bool,
}

impl Loot {
    /// The epoch of the stolen keys.
    pub(super) fn epoch(&self) -> u16 {
        self.session.epoch()
    }

    /// Whether the next epoch had begun to be made: then its secrets are stolen too, and the one after it heals.
    pub(super) fn is_within_a_change(&self) -> bool {
        self.session.has_offered() || self.session.has_accepted()
    }

    /// How many offers of a next epoch the thief answered in the gateway's place.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// Tries everything that was heard of this session. The thief does what the gateway does: it also reads what the two
    /// ends tell each other, and answers the offer of new keys, so that it has keys of the next epoch to try.
    pub(super) fn read(&mut self, heard: &[Packet], written: &BTreeSet<Vec<u8>>) -> Result<Vec<Tried>> {
        let mut random = random()?;
        let mut tried = BTreeMap::new();
        for class in [Class::Control, Class::Telemetry] {
            for (topic, record) in heard {
                let header = Header::parse(record).filter(|header| header.sid == self.session.sid_in());
                let Some(header) = header.filter(|header| header.class == class) else { continue };
                let plain = self.open(&header, topic, record, heard.len());
                if class == Class::Telemetry {
                    let opened = plain.as_ref().is_some_and(|plain| is_one_of(plain, written));
                    let of_record = tried.entry((header.epoch, header.counter)).or_insert(Tried {
                        epoch: header.epoch,
                        block: header.block(),
                        opened: false,
                    });
                    of_record.opened |= opened;
                } else if let Some(Plain::Body(body)) = plain
                    && let Ok(Control::Offer(offer)) = Control::decode(&body)
                {
                    self.answered += u64::from(self.session.accept(&mut random, &offer).is_ok());
                }
            }
        }
        Ok(tried.into_values().collect())
    }

    /// Tries all numbers that a message may have: there are no more than packets.
    fn open(&mut self, header: &Header, topic: &str, record: &[u8], packets: usize) -> Option<Plain> {
        let topic = kdf::hash(self.session.suite().hash(), &[topic.as_bytes()]);
        (0..=packets as u64).step_by(1_024).find_map(|around| {
            let settled = |_| Settled { cumulative: around, highest: around };
            let now = Monotonic(Duration::ZERO);
            let opened = self.session.open(now, header, topic.as_slice(), &settled, record.to_vec());
            opened.ok().map(|opened| opened.plain)
        })
    }
}

fn is_one_of(plain: &Plain, written: &BTreeSet<Vec<u8>>) -> bool {
    match plain {
        Plain::Telemetry { payload, .. } => written.contains(payload),
        Plain::Body(body) => written.iter().any(|text| body.windows(text.len()).any(|part| part == text)),
        Plain::Malformed => false,
    }
}
