//! The sender's process: accepts every number once, in order, however often it dies.

use std::time::Duration;

use pqc_iiot_core::endpoint::{Effect, Event};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::topic::Topic;
use pqc_iiot_mqtt::client::{ClientEvent, Events, Publication, PublishError, SecureMqttClient};

use super::failed;
use super::identities::RECEIVER;
use super::process::{end_with_parent, say};
use super::progress::Word;
use crate::args::CrashClientArgs;
use crate::commands::{Context, client};
use crate::error::Result;

/// The row that says how many numbers are accepted, changed in the transaction that accepts the last of them.
pub(super) const ACCEPTED: &[u8] = b"accepted";

/// Numbers handed over together.
const BATCH: u64 = 64;
/// Messages in the outbox, at most, so that the run does not begin with accepting everything.
const WINDOW: usize = 1024;
/// Streams that share the numbers.
const STREAMS: u64 = 7;
/// How often to look whether the outbox has room, or is empty.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn run(args: &CrashClientArgs, context: &Context) -> Result<()> {
    end_with_parent();
    crate::commands::runtime()?.block_on(async {
        let client = client::prepare(&args.client, context, "", super::receiver::patient)?.start().await?;
        let peer = PeerId::new(RECEIVER).map_err(|error| failed("name the receiver", error))?;
        client.handle.add_peer(peer.clone()).await.map_err(|error| failed("follow the receiver", error))?;
        tokio::select! {
            result = watch(client.events) => result,
            result = accept(args, &client.handle, &peer) => result,
        }
    })
}

/// How many numbers an earlier process has accepted.
pub(super) fn count(row: Option<&[u8]>) -> Result<u64> {
    let Some(row) = row else { return Ok(0) };
    row.try_into().map(u64::from_be_bytes).map_err(|error| failed("read a row of one's own", error))
}

async fn accept(args: &CrashClientArgs, handle: &SecureMqttClient, peer: &PeerId) -> Result<()> {
    let mut next = count(handle.application_row(ACCEPTED).await.as_deref())?;
    say(Word::Accepted(next))?;
    while next < args.messages {
        wait_for(handle, |waiting| waiting < WINDOW).await?;
        let end = args.messages.min(next + BATCH);
        let mut deliveries = Vec::new();
        for number in next..end {
            let publication = publication(&args.topic, peer, number)?;
            let delivery = loop {
                match handle.queue(publication.clone()).await {
                    // It was not taken: the disk is slow.
                    Err(PublishError::Busy) => {}
                    other => break other,
                }
            };
            deliveries.push(delivery.map_err(not_accepted)?);
        }
        for delivery in &mut deliveries {
            delivery.accepted().await.map_err(not_accepted)?;
        }
        next = end;
        say(Word::Accepted(next))?;
    }
    wait_for(handle, |waiting| waiting == 0).await?;
    say(Word::Drained)?;
    std::future::pending().await
}

fn publication(topic: &Topic, peer: &PeerId, number: u64) -> Result<Publication> {
    let stream = u8::try_from(number % STREAMS).ok().and_then(StreamId::new).unwrap_or_default();
    let noted = Effect::put(ACCEPTED, &(number + 1).to_be_bytes());
    let noted = noted.map_err(|error| failed("note a number", error))?;
    let content = Content::telemetry(number.to_string());
    Ok(Publication::new(topic.clone(), peer.clone(), content).stream(stream).effects(vec![noted]))
}

fn not_accepted(error: PublishError) -> crate::error::CliError {
    failed("publish a number", error)
}

/// Waits until so many messages are in the outbox.
async fn wait_for(handle: &SecureMqttClient, enough: impl Fn(usize) -> bool) -> Result<()> {
    loop {
        let status = handle.status().await.ok_or_else(|| failed("go on", "the client ended"))?;
        if enough(status.endpoint.outbox.messages) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn watch(mut events: Events) -> Result<()> {
    while let Some(event) = events.recv().await {
        client::fatal(&event)?;
        if let ClientEvent::Protocol(Event::Lost { count, .. }) = event {
            say(Word::Lost(count))?;
        }
    }
    Err(failed("go on", "the client ended"))
}
