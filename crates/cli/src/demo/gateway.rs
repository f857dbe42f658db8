//! The gateway's inbox: what really arrived, and what was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pqc_iiot_core::endpoint::{Event, Message, PeerLoss, Protection};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_mqtt::client::{ClientEvent, Events, SecureMqttClient};
use pqc_iiot_mqtt::transport::TlsInfo;
use tokio::task::JoinHandle;

use crate::error::{CliError, ErrorKind, Result};

use super::topics::Kind;

/// What arrived so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Distinct telemetry rows.
    pub(super) delivered: u64,
    /// Rows delivered more than once.
    pub(super) duplicates: u64,
    /// Messages of the device that is revoked later.
    pub(super) from_revoked: u64,
    /// Of the rows, those that came in a session.
    pub(super) in_sessions: u64,
    /// The highest session epoch that a row came in.
    pub(super) last_epoch: u16,
}

/// What arrived of the device whose session is copied.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    /// All its messages.
    pub(super) messages: u64,
    sessions: BTreeMap<u16, u64>,
}

impl Watched {
    /// Those that came in a session, in this epoch.
    pub(super) fn in_epoch(&self, epoch: u16) -> u64 {
        self.sessions.get(&epoch).copied().unwrap_or_default()
    }

    /// Those that came in a session, in a later epoch.
    pub(super) fn after_epoch(&self, epoch: u16) -> u64 {
        self.sessions.range(epoch.saturating_add(1)..).map(|(_, count)| count).sum()
    }
}

/// Turns the gateway's events into counts and the output file.
pub(super) struct Inbox;

/// The running inbox.
#[derive(Clone)]
pub(super) struct InboxHandle {
    client: SecureMqttClient,
    state: Arc<Mutex<State>>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    watched: Watched,
    ready: BTreeSet<PeerId>,
    lost: BTreeMap<PeerId, Instant>,
    refused: BTreeMap<&'static str, u64>,
    tls: Option<String>,
    writer: Option<RowWriter>,
    seen: BTreeSet<u64>,
    failed: Option<String>,
}

impl Inbox {
    pub(super) fn start(
        (client, events, tls): (SecureMqttClient, Events, Option<TlsInfo>),
        out: Option<&Path>,
        total: u64,
    ) -> Result<InboxHandle> {
        let writer = out.map(|path| RowWriter::create(path, total)).transpose()?;
        let state = Arc::new(Mutex::new(State { writer, tls: tls.map(shown), ..State::default() }));
        let task = tokio::spawn(run(events, state.clone()));
        Ok(InboxHandle { client, state, task: Arc::new(Mutex::new(Some(task))) })
    }
}

async fn run(mut events: Events, state: Arc<Mutex<State>>) {
    while let Some(event) = events.recv().await {
        lock(&state).take(event);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(tls: TlsInfo) -> String {
    format!("{} {} {}", tls.version, tls.group, tls.cipher)
}

impl State {
    fn take(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Connected { tls } => {
                self.tls = tls.map(shown);
            }
            ClientEvent::StoreFailed { reason } => self.failed = Some(reason),
            ClientEvent::Protocol(Event::PeerReady { peer, .. }) => {
                self.ready.insert(peer);
            }
            ClientEvent::Protocol(Event::PeerLost { peer, reason: PeerLoss::Revoked }) => {
                self.lost.insert(peer, Instant::now());
            }
            ClientEvent::Protocol(Event::Refused { reason, .. }) => {
                *self.refused.entry(reason.name()).or_default() += 1;
            }
            ClientEvent::Protocol(Event::Message(message)) => self.message(message),
            _ => {}
        }
    }

    fn message(&mut self, message: Message) {
        match Kind::of(&message.topic) {
            Kind::Meta => self.write(|writer| writer.header(&message.content.payload)),
            Kind::ToBeRevoked => self.counts.from_revoked += 1,
            Kind::Telemetry => {
                let number =
                    message.content.correlation_data.as_deref().and_then(|data| data.try_into().ok());
                let Some(number) = number.map(u64::from_be_bytes) else { return };
                if !self.seen.insert(number) {
                    self.counts.duplicates += 1;
                    return;
                }
                self.counts.delivered += 1;
                if let Protection::Session { epoch } = message.protection {
                    self.counts.in_sessions += 1;
                    self.counts.last_epoch = self.counts.last_epoch.max(epoch);
                }
                self.write(|writer| writer.row(number, message.content.payload));
            }
            Kind::Watched => {
                self.watched.messages += 1;
                if let Protection::Session { epoch } = message.protection {
                    *self.watched.sessions.entry(epoch).or_default() += 1;
                }
            }
            Kind::Other => {}
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut RowWriter) -> std::io::Result<()>) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = write(writer)
        {
            self.failed = Some(format!("{}: {error}", writer.path.display()));
            self.writer = None;
        }
    }
}

impl InboxHandle {
    pub(super) fn counts(&self) -> Counts {
        lock(&self.state).counts
    }

    /// Refusals so far, by reason, as the gateway's events tell them.
    pub(super) fn refused(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.state).refused.clone()
    }

    /// What arrived of the device whose session is copied.
    pub(super) fn watched(&self) -> Watched {
        lock(&self.state).watched.clone()
    }

    /// Whether these peers are ready.
    pub(super) fn knows(&self, peers: &[PeerId]) -> bool {
        let state = lock(&self.state);
        peers.iter().all(|peer| state.ready.contains(peer))
    }

    /// When the gateway withdrew its trust in `peer`.
    pub(super) fn lost(&self, peer: &PeerId) -> Option<Instant> {
        lock(&self.state).lost.get(peer).copied()
    }

    pub(super) fn tls(&self) -> Option<String> {
        lock(&self.state).tls.clone()
    }

    /// Whether the last row ends in a line break.
    pub(super) fn layout(&self, final_newline: bool) {
        if let Some(writer) = &mut lock(&self.state).writer {
            writer.final_newline = final_newline;
        }
    }

    /// Shuts the gateway down and finishes the output file.
    pub(super) async fn close(&self) -> Result<()> {
        self.client.shutdown().await;
        let task = lock(&self.task).take();
        if let Some(task) = task {
            let _ = task.await;
        }
        let mut state = lock(&self.state);
        state.write(|writer| writer.file.flush());
        match state.failed.take() {
            Some(reason) => {
                Err(CliError::new(ErrorKind::Failed, "the gateway could not write").because(reason))
            }
            None => Ok(()),
        }
    }
}

/// Writes rows in order, however they arrive.
struct RowWriter {
    path: PathBuf,
    file: BufWriter<File>,
    total: u64,
    next: u64,
    early: BTreeMap<u64, Vec<u8>>,
    final_newline: bool,
}

impl RowWriter {
    fn create(path: &Path, total: u64) -> Result<Self> {
        let file = File::create(path).map_err(|error| {
            CliError::new(ErrorKind::Usage, format!("{} cannot be written", path.display())).because(error)
        })?;
        let file = BufWriter::new(file);
        Ok(Self { path: path.into(), file, total, next: 0, early: BTreeMap::new(), final_newline: true })
    }

    fn header(&mut self, header: &[u8]) -> std::io::Result<()> {
        self.file.write_all(header)?;
        self.file.write_all(b"\n")
    }

    fn row(&mut self, number: u64, row: Vec<u8>) -> std::io::Result<()> {
        self.early.insert(number, row);
        while let Some(row) = self.early.remove(&self.next) {
            self.next += 1;
            self.file.write_all(&row)?;
            if self.next < self.total || self.final_newline {
                self.file.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}
