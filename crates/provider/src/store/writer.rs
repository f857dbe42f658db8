//! The writer thread: it commits whatever has queued as one transaction, after the audit entries of that transaction
//! are on disk.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pqc_iiot_core::audit::AuditEvent;
use pqc_iiot_core::store::Change;
use pqc_iiot_core::time::UnixTime;
use thiserror::Error;

use super::{Store, StoreError};
use crate::audit::{AuditError, ChainedAuditLogger};

/// How many batches may wait.
const QUEUE: usize = 1024;
/// The most batches in one commit.
const GROUP: usize = 256;
/// The longest time spent on gathering batches for one commit.
const GATHER: Duration = Duration::from_millis(5);
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What becomes durable together.
pub struct Batch {
    /// The core's number for it; batches are submitted in ascending order.
    pub seq: u64,
    /// When its events happened.
    pub time: UnixTime,
    /// Changes of rows.
    pub changes: Vec<Change>,
    /// Entries for the audit log, written before the changes are.
    pub events: Vec<AuditEvent>,
}

/// What the writer thread tells its owner, from its own thread.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// Every batch up to and including this number is durable.
    Durable(u64),
    /// The disk is full. Nothing is lost: the writer keeps the batches and tries again until there is room.
    Waiting(WriterError),
    /// Writing failed for good; no later batch becomes durable either. The owner stops and starts anew.
    Failed(WriterError),
}

/// Why the writer waits or stopped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error("the audit log: {0}")]
    Audit(#[from] AuditError),
    /// The thread could not start, or ended by a bug.
    #[error("the writer thread is gone")]
    Gone,
}

impl WriterError {
    fn disk_full(&self) -> bool {
        matches!(self, Self::Store(StoreError::DiskFull) | Self::Audit(AuditError::DiskFull))
    }
}

/// Why a batch was not taken.
#[derive(Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full; the batch comes back.
    #[error("the writer's queue is full")]
    Full(Batch),
    /// The writer stopped; [`Completion::Failed`] said why.
    #[error("the writer stopped")]
    Stopped,
}

impl std::fmt::Debug for SubmitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A handle on the writer thread. Dropping it flushes what was submitted; [`Writer::shutdown`] also says whether that
/// worked.
pub struct Writer {
    queue: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<Result<(), WriterError>>>,
}

impl Writer {
    /// Starts the thread. `completed` runs on it and must not block.
    pub fn spawn(
        store: Box<dyn Store>,
        audit: Option<ChainedAuditLogger>,
        completed: Box<dyn FnMut(Completion) + Send>,
    ) -> Result<Self, WriterError> {
        let (queue, batches) = sync_channel(QUEUE);
        let worker = Worker { store, audit, completed, batches, closing: false };
        let thread = std::thread::Builder::new()
            .name("pqc-iiot-writer".into())
            .spawn(move || worker.run())
            .map_err(|_| WriterError::Gone)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands over a batch, waiting for room in the queue (1,024 batches).
    pub fn submit(
        &self,
        seq: u64,
        time: UnixTime,
        changes: Vec<Change>,
        events: Vec<AuditEvent>,
    ) -> Result<(), SubmitError> {
        let queue = self.queue.as_ref().ok_or(SubmitError::Stopped)?;
        queue.send(Batch { seq, time, changes, events }).map_err(|_| SubmitError::Stopped)
    }

    /// Hands over a batch, or gives it back if there is no room: never blocks.
    pub fn try_submit(&self, batch: Batch) -> Result<(), SubmitError> {
        let queue = self.queue.as_ref().ok_or(SubmitError::Stopped)?;
        queue.try_send(batch).map_err(|error| match error {
            TrySendError::Full(batch) => SubmitError::Full(batch),
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })
    }

    /// Writes everything that was submitted and ends the thread. A full disk is then an error, not waited for.
    pub fn shutdown(mut self) -> Result<(), WriterError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), WriterError> {
        self.queue = None;
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(WriterError::Gone)),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever wants the result calls `shutdown`; `completed` was told in any case.
        let _ = self.finish();
    }
}

struct Worker {
    store: Box<dyn Store>,
    audit: Option<ChainedAuditLogger>,
    completed: Box<dyn FnMut(Completion) + Send>,
    batches: Receiver<Batch>,
    closing: bool,
}

impl Worker {
    fn run(mut self) -> Result<(), WriterError> {
        let mut waiting = Vec::new();
        while let Some(group) = self.gather(&mut waiting) {
            if let Err(error) = self.write(group, &mut waiting) {
                (self.completed)(Completion::Failed(error.clone()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for one batch and takes whatever else has queued; `None` once the owner is gone and all is written.
    fn gather(&mut self, waiting: &mut Vec<Batch>) -> Option<Vec<Batch>> {
        let mut group = std::mem::take(waiting);
        if group.is_empty() {
            group.push(self.batches.recv().ok()?);
        }
        let started = Instant::now();
        while group.len() < GROUP && started.elapsed() < GATHER {
            match self.batches.try_recv() {
                Ok(batch) => group.push(batch),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.closing = true;
                    break;
                }
            }
        }
        Some(group)
    }

    fn write(&mut self, group: Vec<Batch>, waiting: &mut Vec<Batch>) -> Result<(), WriterError> {
        let mut last = 0;
        let mut changes = Vec::new();
        let mut events = Vec::new();
        for batch in group {
            last = batch.seq;
            changes.extend(batch.changes);
            events.extend(batch.events.into_iter().map(|event| (batch.time, event)));
        }
        self.append(events)?;
        self.retry(waiting, Self::sync_audit)?;
        self.retry(waiting, |worker| worker.store.commit(&changes).map_err(WriterError::from))?;
        (self.completed)(Completion::Durable(last));
        Ok(())
    }

    fn append(&mut self, events: Vec<(UnixTime, AuditEvent)>) -> Result<(), WriterError> {
        let Some(audit) = &mut self.audit else { return Ok(()) };
        for (time, event) in events {
            audit.append(time, event)?;
        }
        Ok(())
    }

    fn sync_audit(&mut self) -> Result<(), WriterError> {
        let Some(audit) = &mut self.audit else { return Ok(()) };
        let head = audit.sync()?;
        self.store.note_audit_head(head);
        Ok(())
    }

    /// Tries again while the disk is full and the owner is there.
    fn retry(
        &mut self,
        waiting: &mut Vec<Batch>,
        mut step: impl FnMut(&mut Self) -> Result<(), WriterError>,
    ) -> Result<(), WriterError> {
        let mut told = false;
        loop {
            let error = match step(self) {
                Err(error) if error.disk_full() && !self.closing => error,
                result => return result,
            };
            if !told {
                told = true;
                (self.completed)(Completion::Waiting(error));
            }
            std::thread::sleep(RETRY);
            // Only to learn whether the owner is gone; at most one more group waits outside the queue.
            while waiting.len() < GROUP && !self.closing {
                match self.batches.try_recv() {
                    Ok(batch) => waiting.push(batch),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => self.closing = true,
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "writer_tests.rs"]
mod tests;
