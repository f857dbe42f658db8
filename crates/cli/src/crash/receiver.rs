//! The receiver's process: counts how often each number comes, in the transaction that consumes it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use pqc_iiot_core::endpoint::{Effect, Event, InboxId, Message, RefusalReason};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_mqtt::client::{ClientEvent, PublishError, SecureMqttClient};
use pqc_iiot_mqtt::transport::{SubscribeError, TransportOptions};

use super::failed;
use super::identities::SENDER;
use super::process::{end_with_parent, say};
use super::progress::Word;
use crate::args::CrashClientArgs;
use crate::commands::{Context, client};
use crate::error::Result;

/// The row that says how many messages are consumed.
const CONSUMED: &[u8] = b"consumed";
/// Numbers whose counts share a row, one byte each.
pub(super) const BLOCK: u64 = 1024;
/// Messages consumed in one transaction, at most.
const BATCH: usize = 256;
/// How long a killed broker is given before the next attempt, at most.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// The broker comes back at once.
pub(super) fn patient(options: &mut TransportOptions) {
    options.backoff_max = LONGEST_BACKOFF;
}

/// The row with the counts of a block.
pub(super) fn block_key(block: u64) -> Vec<u8> {
    format!("block-{block}").into_bytes()
}

pub(crate) fn run(args: &CrashClientArgs, context: &Context) -> Result<()> {
    end_with_parent();
    crate::commands::runtime()?.block_on(async {
        let mut client = client::prepare(&args.client, context, "", patient)?.start().await?;
        let handle = client.handle.clone();
        let peer = PeerId::new(SENDER).map_err(|error| failed("name the sender", error))?;
        handle.add_peer(peer).await.map_err(|error| failed("follow the sender", error))?;
        let filter = TopicFilter::new(args.topic.as_str());
        let filter = filter.map_err(|error| failed("subscribe", error))?;
        tokio::spawn(subscribe(handle.clone(), filter));
        let mut total = super::sender::count(handle.application_row(CONSUMED).await.as_deref())?;
        say(Word::Consumed(total))?;
        loop {
            let mut batch = Vec::new();
            let mut event = client.events.recv().await;
            if event.is_none() {
                return Err(failed("go on", "the client ended"));
            }
            while let Some(happened) = event.take() {
                client::fatal(&happened)?;
                batch.extend(message(happened)?);
                event = if batch.len() < BATCH { client.events.try_recv() } else { None };
            }
            if !batch.is_empty() {
                total += batch.len() as u64;
                consume(&handle, &batch, total).await?;
                say(Word::Consumed(total))?;
            }
        }
    })
}

async fn subscribe(handle: SecureMqttClient, filter: TopicFilter) {
    // A broker that dies meanwhile is asked again.
    while let Err(error) = handle.subscribe(&filter).await
        && error != SubscribeError::Closed
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The message in an event, if it is one.
fn message(event: ClientEvent) -> Result<Option<Message>> {
    match event {
        ClientEvent::Protocol(Event::Message(message)) => return Ok(Some(message)),
        ClientEvent::Protocol(Event::Lost { count, .. }) => say(Word::Lost(count))?,
        ClientEvent::Protocol(Event::Refused {
            reason: RefusalReason::Replayed | RefusalReason::Repeated,
            ..
        }) => {
            say(Word::Repeated)?;
        }
        _ => {}
    }
    Ok(None)
}

/// Counts and consumes, in one transaction.
async fn consume(handle: &SecureMqttClient, batch: &[Message], total: u64) -> Result<()> {
    let mut rows: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for message in batch {
        let text = std::str::from_utf8(&message.content.payload).ok();
        let number = text.and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or_else(|| failed("read a message", "it is no number"))?;
        let (block, at) = (number / BLOCK, number % BLOCK);
        let row = match rows.entry(block) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(place) => {
                let row = handle.application_row(&block_key(block)).await;
                place.insert(row.unwrap_or_else(|| vec![0; BLOCK as usize]))
            }
        };
        if let Some(count) = row.get_mut(at as usize) {
            *count = count.saturating_add(1);
        }
    }
    let rows = rows.into_iter().map(|(block, row)| Effect::put(&block_key(block), &row));
    let effects = rows.chain([Effect::put(CONSUMED, &total.to_be_bytes())]).collect::<Result<Vec<_>, _>>();
    let effects = effects.map_err(|error| failed("count", error))?;
    let ids: Vec<InboxId> = batch.iter().filter_map(|message| message.id).collect();
    loop {
        match handle.consume(ids.clone(), effects.clone()).await {
            // It was not taken: the disk is slow.
            Err(PublishError::Busy) => {}
            other => return other.map_err(|error| failed("consume", error)),
        }
    }
}
