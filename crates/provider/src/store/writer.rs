//! The writer thread: it commits whatever has queued as one transaction, after the audit entries of that transaction
//! are on disk, and answers reads in their order among the batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pqc_iiot_core::audit::AuditEvent;
use pqc_iiot_core::store::{Change, Row, RowKey};
use pqc_iiot_core::time::UnixTime;
use thiserror::Error;

use super::{Store, StoreError};
use crate::audit::{AuditError, ChainedAuditLogger};

/// How many batches and reads may wait.
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
    /// The answer to [`Writer::read`]: those of the rows that exist. Everything submitted before is visible in it;
    /// what was submitted later may be.
    Read {
        /// As it was asked with.
        token: u64,
        /// The rows.
        rows: Vec<Row>,
    },
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
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<Result<(), WriterError>>>,
    closing: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread. `completed` runs on it and must not block.
    pub fn spawn(
        store: Box<dyn Store>,
        audit: Option<ChainedAuditLogger>,
        completed: Box<dyn FnMut(Completion) + Send>,
    ) -> Result<Self, WriterError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let closing = Arc::new(AtomicBool::new(false));
        let worker = Worker { store, audit, completed, jobs, closing: Arc::clone(&closing) };
        let thread = std::thread::Builder::new()
            .name("pqc-iiot-writer".into())
            .spawn(move || worker.run())
            .map_err(|_| WriterError::Gone)?;
        Ok(Self { queue: Some(queue), thread: Some(thread), closing })
    }

    /// Hands over a batch, waiting for room in the queue (1,024 batches).
    pub fn submit(
        &self,
        seq: u64,
        time: UnixTime,
        changes: Vec<Change>,
        events: Vec<AuditEvent>,
    ) -> Result<(), SubmitError> {
        self.submit_all(vec![Batch { seq, time, changes, events }])
    }

    /// Hands over several batches, which take one place in the queue and wake the thread once.
    pub fn submit_all(&self, batches: Vec<Batch>) -> Result<(), SubmitError> {
        let queue = self.queue.as_ref().ok_or(SubmitError::Stopped)?;
        queue.send(Job::Commit(batches)).map_err(|_| SubmitError::Stopped)
    }

    /// Asks for rows of lazy kinds, waiting for room in the queue; answered by [`Completion::Read`]. A row that is not
    /// what was committed is answered by [`Completion::Failed`], which names it.
    pub fn read(&self, token: u64, rows: Vec<RowKey>) -> Result<(), SubmitError> {
        let queue = self.queue.as_ref().ok_or(SubmitError::Stopped)?;
        queue.send(Job::Read { token, rows }).map_err(|_| SubmitError::Stopped)
    }

    /// Hands over a batch, or gives it back if there is no room: never blocks.
    pub fn try_submit(&self, batch: Batch) -> Result<(), SubmitError> {
        let queue = self.queue.as_ref().ok_or(SubmitError::Stopped)?;
        queue.try_send(Job::Commit(vec![batch])).map_err(|error| match error {
            TrySendError::Full(Job::Commit(mut batches)) => {
                batches.pop().map_or(SubmitError::Stopped, SubmitError::Full)
            }
            _ => SubmitError::Stopped,
        })
    }

    /// Writes everything that was submitted and ends the thread. A full disk is then an error, not waited for.
    pub fn shutdown(mut self) -> Result<(), WriterError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), WriterError> {
        self.closing.store(true, Ordering::Relaxed);
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

/// Tells the store where a log ends that was just opened, before anything is appended: only of what comes later can a
/// garbled tail be told from tampering, and cut.
pub fn note_audit_end(store: &mut dyn Store, audit: &mut ChainedAuditLogger) -> Result<(), WriterError> {
    let head = audit.sync()?;
    if store.audit_head() == Some(head) {
        return Ok(());
    }
    store.note_audit_head(head);
    Ok(store.commit(&[])?)
}

enum Job {
    Commit(Vec<Batch>),
    Read { token: u64, rows: Vec<RowKey> },
}

struct Worker {
    store: Box<dyn Store>,
    audit: Option<ChainedAuditLogger>,
    completed: Box<dyn FnMut(Completion) + Send>,
    jobs: Receiver<Job>,
    closing: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) -> Result<(), WriterError> {
        if let Err(error) = self.retry(Self::note_audit_end) {
            (self.completed)(Completion::Failed(error.clone()));
            return Err(error);
        }
        while let Ok(first) = self.jobs.recv() {
            let (group, reads) = self.gather(first);
            if let Err(error) = self.write(group).and_then(|()| self.answer(reads)) {
                (self.completed)(Completion::Failed(error.clone()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes whatever has queued behind `first`.
    fn gather(&self, first: Job) -> (Vec<Batch>, Vec<(u64, Vec<RowKey>)>) {
        let (mut group, mut reads) = (Vec::new(), Vec::new());
        let started = Instant::now();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Commit(batches) => group.extend(batches),
                Job::Read { token, rows } => reads.push((token, rows)),
            }
            let room = group.len() + reads.len() < GROUP && started.elapsed() < GATHER;
            next = if room { self.jobs.try_recv().ok() } else { None };
        }
        (group, reads)
    }

    /// After what was committed with them: an answer may be newer than its question, never older.
    fn answer(&mut self, reads: Vec<(u64, Vec<RowKey>)>) -> Result<(), WriterError> {
        for (token, names) in reads {
            let mut rows = Vec::with_capacity(names.len());
            for RowKey { kind, key } in names {
                if let Some(value) = self.store.read(kind, &key)? {
                    rows.push(Row { kind, key, value });
                }
            }
            (self.completed)(Completion::Read { token, rows });
        }
        Ok(())
    }

    fn write(&mut self, group: Vec<Batch>) -> Result<(), WriterError> {
        if group.is_empty() {
            return Ok(());
        }
        let mut last = 0;
        let mut changes = Vec::new();
        for batch in group {
            last = batch.seq;
            changes.extend(batch.changes);
            self.append(batch.time, batch.events)?;
        }
        self.retry(Self::sync_audit)?;
        self.retry(|worker| worker.store.commit(&changes).map_err(WriterError::from))?;
        (self.completed)(Completion::Durable(last));
        Ok(())
    }

    fn append(&mut self, time: UnixTime, events: Vec<AuditEvent>) -> Result<(), WriterError> {
        let Some(audit) = &mut self.audit else { return Ok(()) };
        for event in events {
            audit.append(time, event)?;
        }
        Ok(())
    }

    fn note_audit_end(&mut self) -> Result<(), WriterError> {
        let Some(audit) = &mut self.audit else { return Ok(()) };
        note_audit_end(&mut *self.store, audit)
    }

    fn sync_audit(&mut self) -> Result<(), WriterError> {
        let Some(audit) = &mut self.audit else { return Ok(()) };
        let head = audit.sync()?;
        self.store.note_audit_head(head);
        Ok(())
    }

    /// Tries again while the disk is full and the owner is there.
    fn retry(&mut self, step: impl Fn(&mut Self) -> Result<(), WriterError>) -> Result<(), WriterError> {
        let mut told = false;
        loop {
            let error = match step(self) {
                Err(error) if error.disk_full() && !self.closing.load(Ordering::Relaxed) => error,
                result => return result,
            };
            if !told {
                told = true;
                (self.completed)(Completion::Waiting(error));
            }
            std::thread::sleep(RETRY);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "writer_tests.rs"]
mod tests;
