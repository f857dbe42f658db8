//! One client's publishes: handed over in order, and answered in order.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Proxy;
use super::limits::MAX_UNANSWERED;
use super::refusal::Refusal;
use super::sealer::{Handed, Publication};

/// A publish of a client's.
pub(super) struct Job {
    /// Its packet identifier, and whether it is at QoS 2; `None` at QoS 0.
    pub(super) reply: Option<(u16, bool)>,
    pub(super) publication: Publication,
}

impl Job {
    /// What it counts for in memory.
    pub(super) fn bytes(&self) -> usize {
        self.publication.content.payload.len() + self.publication.topic.len()
    }
}

/// What became of a publish.
pub(super) struct Published {
    pub(super) reply: Option<(u16, bool)>,
    pub(super) bytes: usize,
    pub(super) result: Result<(), Refusal>,
}

/// Starts it. What was put in is carried out to the end, also when the client is gone by then.
pub(super) fn start(proxy: Arc<Proxy>) -> (mpsc::Sender<Job>, mpsc::Receiver<Published>) {
    let (jobs, queue) = mpsc::channel(usize::from(MAX_UNANSWERED) + 1);
    let (published, results) = mpsc::channel(usize::from(MAX_UNANSWERED) + 1);
    let working = proxy.working();
    tokio::spawn(async move {
        run(proxy, queue, published).await;
        drop(working);
    });
    (jobs, results)
}

/// Handed over, with what is needed for the answer.
type Outstanding = (Option<(u16, bool)>, usize, String, Result<Handed, Refusal>);

async fn run(proxy: Arc<Proxy>, mut queue: mpsc::Receiver<Job>, published: mpsc::Sender<Published>) {
    let (outstanding, mut answers) = mpsc::channel::<Outstanding>(usize::from(MAX_UNANSWERED) + 1);
    let hand_over = async {
        while let Some(job) = queue.recv().await {
            let (reply, bytes) = (job.reply, job.bytes());
            let topic = job.publication.topic.clone();
            let handed = proxy.sealer.hand_over(job.publication).await;
            if outstanding.send((reply, bytes, topic, handed)).await.is_err() {
                break;
            }
        }
        drop(outstanding);
    };
    let answer = async {
        while let Some((reply, bytes, topic, handed)) = answers.recv().await {
            let result = match handed {
                Ok(handed) => handed.accepted().await,
                Err(refusal) => Err(refusal),
            };
            match &result {
                Ok(()) => drop(proxy.journal.count("published")),
                Err(refusal) => proxy.journal.publish_refused(&topic, refusal),
            }
            // Nobody waits for it once the client is gone.
            let _ = published.send(Published { reply, bytes, result }).await;
        }
    };
    tokio::join!(hand_over, answer);
}
