//! The plaintext twin's disk: the clients' own store and writer, and what waits for them.

use std::collections::VecDeque;
use std::path::Path;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::store::Change;
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_provider::SoftwareProvider;
use pqc_iiot_provider::store::{Completion, SqliteStore, Writer};
use tokio::sync::mpsc;

use super::super::BenchError;
use super::super::fleet::{random, set_of};
use super::failed;

/// Does `T` once what it depends on is durable, in order.
pub(super) struct Disk<T> {
    writer: Writer,
    durable: mpsc::UnboundedReceiver<Completion>,
    last: u64,
    done: u64,
    held: VecDeque<(u64, T)>,
}

impl<T> Disk<T> {
    /// A new store in `directory`, its rows sealed at rest as every store's are.
    pub(super) fn create(directory: &Path) -> Result<Self, BenchError> {
        let suite = SessionSuite::Hybrid;
        let provider = SoftwareProvider::ephemeral(&AWS_LC, set_of(suite), suite.kem(), Box::new(random()?));
        let provider = provider.map_err(|error| failed("an identity", error))?;
        let store = SqliteStore::create(&directory.join("store.db"), &provider);
        let store = store.map_err(|error| failed("a store", error))?;
        let (sender, durable) = mpsc::unbounded_channel();
        let completed = move |completion| {
            // Nobody waits any more once the twin has ended.
            let _ = sender.send(completion);
        };
        let writer = Writer::spawn(Box::new(store), None, Box::new(completed));
        let writer = writer.map_err(|error| failed("a writer", error))?;
        Ok(Self { writer, durable, last: 0, done: 0, held: VecDeque::new() })
    }

    /// Hands over one transaction.
    pub(super) fn persist(&mut self, changes: Vec<Change>) -> Result<(), BenchError> {
        self.last += 1;
        let submitted = self.writer.submit(self.last, UnixTime(0), changes, Vec::new());
        submitted.map_err(|error| failed("the store", error))
    }

    /// `what` is done once everything handed over so far is durable.
    pub(super) fn then(&mut self, what: T) {
        self.held.push_back((self.last, what));
    }

    /// Transactions under way.
    pub(super) fn backlog(&self) -> u64 {
        self.last - self.done
    }

    /// Waits for a commit; gives what may be done now. Cancel safe.
    pub(super) async fn committed(&mut self) -> Result<Vec<T>, BenchError> {
        let durable_already = self.held.front().is_some_and(|(after, _)| *after <= self.done);
        if !durable_already {
            self.done = match self.durable.recv().await {
                Some(Completion::Durable(seq)) => seq,
                Some(Completion::Failed(error) | Completion::Waiting(error)) => {
                    return Err(failed("the store", error));
                }
                _ => return Err(BenchError::Outcome("the writer ended")),
            };
        }
        let ready = self.held.partition_point(|(after, _)| *after <= self.done);
        Ok(self.held.drain(..ready).map(|(_, what)| what).collect())
    }
}
