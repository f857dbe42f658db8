//! One to many: a device tells the hall its rows in a topic group, each sealed once for three displays, of which one is
//! removed.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pqc_iiot_core::endpoint::{Event, SendFailure};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::group::MessageName;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::{Topic, TopicFilter};
use pqc_iiot_mqtt::client::{ClientEvent, Events, PublishError, SecureMqttClient};
use serde::Serialize;

use crate::error::{CliError, ErrorKind, Result};

use super::client::{Device, publish_failed, wait_until};
use super::fleet::Fleet;
use super::report::Claim;
use super::rows::Rows;
use super::topics;

/// Rows told to all displays, and once more to those that remain: as many as one seal covers.
const ROWS: usize = pqc_iiot_core::group::MAX_BATCH;
/// How far the slowest display may be behind: nobody sends again what a broker drops.
const AHEAD: usize = 128;
/// Between two tries while the link has no room, or while a display has no key yet.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What the displays were told.
#[derive(Debug, Serialize)]
pub(super) struct Hall {
    subscribers: usize,
    /// Rows told to all.
    rows: usize,
    /// Of these, by display: received as they were sent, and proved to be the publisher's.
    received: Vec<usize>,
    verified: Vec<usize>,
    /// Rows told once the last display was removed.
    rows_after_removal: usize,
    /// Of these, by remaining display.
    received_after_removal: Vec<usize>,
    verified_after_removal: Vec<usize>,
    /// Of these, what the removed display read, although the broker went on delivering to it.
    read_by_removed: usize,
    /// How often the group's key changed.
    key_changes: u16,
}

impl Hall {
    /// What was to be seen, and what was.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let each = |counts: &[usize], of: usize| counts.iter().all(|count| *count == of);
        let told = each(&self.received, self.rows) && each(&self.verified, self.rows);
        let after = self.rows_after_removal;
        let remain = each(&self.received_after_removal, after) && each(&self.verified_after_removal, after);
        let least = |counts: &[usize]| counts.iter().min().copied().unwrap_or_default();
        vec![
            Claim::new(
                "topic for three: rows, and proof of their sender",
                format!("{} of {} each, {} proved", least(&self.received), self.rows, least(&self.verified)),
                told && self.subscribers == 3,
            ),
            Claim::new(
                "one removed, topic for two: the same",
                format!(
                    "{} of {after} each, {} proved",
                    least(&self.received_after_removal),
                    least(&self.verified_after_removal)
                ),
                remain && self.key_changes > 0,
            ),
            Claim::new(
                "the removed one: rows since",
                format!("{} of {after} read", self.read_by_removed),
                self.read_by_removed == 0 && after > 0,
            ),
        ]
    }
}

/// What one display was told.
#[derive(Default)]
struct Told {
    /// Something came before the rows.
    greeted: bool,
    rows: Vec<(MessageName, Vec<u8>)>,
    verified: HashSet<MessageName>,
    epochs: BTreeSet<u16>,
    /// A message to it alone came.
    alone: bool,
}

struct Display {
    client: SecureMqttClient,
    told: Arc<Mutex<Told>>,
}

impl Told {
    fn take(&mut self, event: Event) {
        match event {
            Event::GroupMessage { topic, payload, name, verified, .. } => {
                self.epochs.insert(name.epoch);
                if verified {
                    self.verified.insert(name);
                }
                if topic.ends_with("/rows") {
                    self.rows.push((name, payload));
                } else {
                    self.greeted = true;
                }
            }
            Event::GroupVerified { name, .. } => {
                self.verified.insert(name);
            }
            Event::Message(_) => self.alone = true,
            _ => {}
        }
    }

    /// Of the rows from `first` on: how many are what was sent, in order, and how many of them are proved.
    fn count(&self, first: usize, sent: &[String]) -> (usize, usize) {
        let rows = self.rows.iter().skip(first).zip(sent);
        let right = rows.filter(|((_, row), sent)| row == sent.as_bytes());
        right.fold((0, 0), |(received, verified), ((name, _), _)| {
            (received + 1, verified + usize::from(self.verified.contains(name)))
        })
    }
}

impl Display {
    async fn start(
        (client, mut events): (SecureMqttClient, Events),
        filter: &TopicFilter,
        from: &PeerId,
    ) -> Result<Self> {
        client.add_peer(from.clone()).await.map_err(publish_failed)?;
        client.subscribe(filter).await.map_err(unsubscribed)?;
        let told: Arc<Mutex<Told>> = Arc::default();
        let ears = told.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let ClientEvent::Protocol(event) = event {
                    lock(&ears).take(event);
                }
            }
        });
        Ok(Self { client, told })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }
}

fn unsubscribed(error: impl std::fmt::Display) -> CliError {
    CliError::new(ErrorKind::Broker, "a display of the demo could not subscribe").because(error)
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays it, while everything else goes on.
pub(super) async fn play(fleet: &Fleet, publisher: &Device, rows: &Rows) -> Result<Hall> {
    let (client, own) = (publisher.client(), publisher.id());
    let (filter, topic) = (topics::hall_filter(own)?, topics::hall(own, "rows")?);
    let mut displays = Vec::new();
    for opened in fleet.open_displays().await? {
        displays.push(Display::start(opened, &filter, own).await?);
    }
    client.create_group(filter.clone()).await.map_err(publish_failed)?;
    for display in &displays {
        let id = display.client.peer_id();
        client.add_peer(id.clone()).await.map_err(publish_failed)?;
        client.add_subscriber(filter.clone(), id.clone()).await.map_err(publish_failed)?;
    }
    tracing::debug!("the group is made");
    greet(client, &topics::hall(own, "header")?, rows.header().unwrap_or_default(), &displays).await?;

    tracing::debug!("every display has the group's key");
    let sample: Vec<String> = rows.share(0, 1).take(ROWS).map(|(_, row)| row).collect();
    let sent: Vec<String> = sample.iter().cycle().take(ROWS).cloned().collect();
    tell(client, &topic, &sent, &displays, 0).await?;
    tracing::debug!("all displays were told");
    let epoch_before = displays.first().and_then(|display| display.told().epochs.last().copied());

    let (removed, remaining) = displays.split_last().ok_or_else(|| unsubscribed("there is none"))?;
    let gone = removed.client.peer_id();
    client.remove_subscriber(filter, gone.clone()).await.map_err(publish_failed)?;
    tell(client, &topic, &sent, remaining, ROWS).await?;
    tracing::debug!("the remaining displays were told");
    // What is for it alone comes after all that it cannot read.
    let content = Content::telemetry("you were removed");
    client.publish_encrypted(&topics::hall(own, "note")?, gone, content).await.map_err(publish_failed)?;
    wait_until("the removed display to get a message", super::PATIENCE, || removed.told().alone).await?;
    // A seal covers what came before it, and the end of a key brings one. What stays without is counted below.
    let _ = wait_until("the displays to have proof", super::PATIENCE, || {
        displays.iter().all(|display| display.told().count(0, &sent).1 == ROWS)
            && remaining.iter().all(|display| display.told().count(ROWS, &sent).1 == ROWS)
    })
    .await;

    tracing::debug!("the displays have proof");
    let count = |displays: &[Display], first| -> (Vec<usize>, Vec<usize>) {
        displays.iter().map(|display| display.told().count(first, &sent)).unzip()
    };
    let (received, verified) = count(&displays, 0);
    let (received_after_removal, verified_after_removal) = count(remaining, ROWS);
    let read_by_removed = removed.told().rows.len().saturating_sub(ROWS);
    let epoch_after = displays.first().and_then(|display| display.told().epochs.last().copied());
    let key_changes = epoch_after.unwrap_or_default().saturating_sub(epoch_before.unwrap_or_default());
    for display in &displays {
        display.client.shutdown().await;
    }
    Ok(Hall {
        subscribers: displays.len(),
        rows: sent.len(),
        received,
        verified,
        rows_after_removal: sent.len(),
        received_after_removal,
        verified_after_removal,
        read_by_removed,
        key_changes,
    })
}

/// Says something until every display has the key, and so reads it.
async fn greet(client: &SecureMqttClient, topic: &Topic, text: &str, displays: &[Display]) -> Result<()> {
    let until = tokio::time::Instant::now() + super::PATIENCE;
    while !displays.iter().all(|display| display.told().greeted) && tokio::time::Instant::now() < until {
        publish(client, topic, text).await?;
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    wait_until("the displays to get the group's key", Duration::ZERO, || {
        displays.iter().all(|display| display.told().greeted)
    })
    .await
}

/// Tells `rows`, and waits until `displays`, which were told `before` rows, have them.
async fn tell(
    client: &SecureMqttClient,
    topic: &Topic,
    rows: &[String],
    displays: &[Display],
    before: usize,
) -> Result<()> {
    let reached = |count: usize| displays.iter().all(|display| display.told().rows.len() >= before + count);
    for (sent, row) in rows.iter().enumerate() {
        publish(client, topic, row).await?;
        wait_until("the displays to keep up", super::PATIENCE, || reached((sent + 1).saturating_sub(AHEAD)))
            .await?;
    }
    wait_until("the displays to be told everything", super::PATIENCE, || reached(rows.len())).await
}

/// Nothing is kept for later here: while the link has no room, it is tried again.
async fn publish(client: &SecureMqttClient, topic: &Topic, row: &str) -> Result<()> {
    let until = tokio::time::Instant::now() + super::PATIENCE;
    loop {
        match client.publish_topic(topic, row.into()).await {
            Err(PublishError::Refused(SendFailure::Busy | SendFailure::Offline))
                if tokio::time::Instant::now() < until =>
            {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            done => return done.map_err(publish_failed),
        }
    }
}
