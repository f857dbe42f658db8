//! Control messages on their way to brokers, or to files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pqc_iiot_mqtt::transport::{Event, Events, Outbound, Qos, Transport, TransportOptions};
use serde::Serialize;

use super::Context;
use super::certificate::hex;
use crate::args::{Publication, broker_url};
use crate::connection;
use crate::error::{CliError, ErrorKind, Result};
use crate::{files, unlock};

/// A broker for commands that name none.
const BROKER: &str = "PQC_IIOT_BROKER";

/// Time to connect to one broker, and for it to take one message.
const PATIENCE: Duration = Duration::from_secs(15);

/// A broker that sent nothing for so long has sent everything it retains.
const PAUSE: Duration = Duration::from_secs(2);

/// Chunks, manifest and update of the largest list, and room for what changes meanwhile.
const MAX_RETAINED: usize = 4 * pqc_iiot_core::control::revocation::MAX_CHECKPOINT_CHUNKS;

/// A message that the broker retains.
pub(super) struct ControlMessage {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

/// Where messages are to go, checked before anything else happens.
pub(super) enum Destination {
    /// Brokers.
    Brokers(Vec<TransportOptions>),
    /// A directory.
    Directory(PathBuf),
    /// Nobody said.
    Nowhere,
}

/// What happened to the messages.
#[derive(Default, Serialize)]
pub(super) struct Published {
    /// Topics, in order.
    topics: Vec<String>,
    /// Brokers that took all of them.
    brokers: Vec<String>,
    /// Files instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<PathBuf>,
    /// Brokers that did not, and why.
    failed: Vec<(String, String)>,
}

impl Destination {
    /// From flags and configuration.
    pub(super) fn find(publication: &Publication, context: &Context) -> Result<Self> {
        if let Some(directory) = &publication.out {
            return Ok(Self::Directory(directory.clone()));
        }
        connection::refuse_secrets(&publication.connection, &publication.brokers)?;
        let mut urls = publication.brokers.clone();
        // Not a default of the flag's, which `--out` would then contradict.
        if urls.is_empty()
            && let Ok(url) = std::env::var(BROKER)
        {
            let wrong = |why: String| {
                CliError::new(ErrorKind::Usage, format!("${BROKER} names no broker"))
                    .because(why)
                    .fix("set it to a URL such as mqtts://broker.example, or unset it")
            };
            urls.push(broker_url(&url).map_err(wrong)?);
        }
        if urls.is_empty() {
            urls.extend(context.config.broker.url.clone());
        }
        if urls.is_empty() {
            return Ok(Self::Nowhere);
        }
        let mut tag = [0; 8];
        pqc_iiot_core::crypto::backend::RandomSource::fill(&mut unlock::random()?, &mut tag);
        let client_id = format!("pqc-iiot-ca-{}", hex(&tag));
        let options = |url: &String| {
            let options = connection::options(url, &publication.connection, &context.config, &client_id);
            options.map(|mut options| {
                options.clean_start = true;
                options
            })
        };
        urls.iter().map(options).collect::<Result<_>>().map(Self::Brokers)
    }

    /// What the brokers retain under `filters`.
    pub(super) fn retained(&self, filters: &[String], context: &Context) -> Result<Vec<ControlMessage>> {
        let Self::Brokers(brokers) = self else { return Ok(Vec::new()) };
        let runtime = super::runtime()?;
        let mut messages = Vec::new();
        for options in brokers {
            let url = options.url.to_string();
            context.output.note(format_args!("reading what is retained on {url}"));
            let found = runtime.block_on(from_broker(options.clone(), filters)).map_err(|why| {
                CliError::new(ErrorKind::Broker, format!("cannot read from {url}"))
                    .because(why)
                    .fix("check broker and URL: pqc-iiot doctor --broker URL")
            })?;
            messages.extend(found);
        }
        Ok(messages)
    }

    /// Sends the messages in order. A broker that fails does not keep the others from being told.
    pub(super) fn publish(self, messages: &[ControlMessage], context: &Context) -> Result<Published> {
        let topics = messages.iter().map(|message| message.topic.clone()).collect();
        let mut published = Published { topics, ..Published::default() };
        match self {
            Self::Nowhere => published.topics.clear(),
            Self::Directory(directory) => published.files = write(&directory, messages)?,
            Self::Brokers(brokers) => {
                let runtime = super::runtime()?;
                for options in brokers {
                    let url = options.url.to_string();
                    context.output.note(format_args!("publishing {} messages on {url}", messages.len()));
                    match runtime.block_on(to_broker(options, messages)) {
                        Ok(()) => published.brokers.push(url),
                        Err(why) => published.failed.push((url, why)),
                    }
                }
            }
        }
        Ok(published)
    }
}

impl Published {
    /// For a person.
    pub(super) fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for broker in &self.brokers {
            writeln!(out, "published on {broker}: {}", self.topics.join(", "))?;
        }
        for (topic, file) in self.topics.iter().zip(&self.files) {
            writeln!(out, "written: {} (for topic {topic}, retained)", file.display())?;
        }
        if self.brokers.is_empty() && self.files.is_empty() && self.failed.is_empty() {
            writeln!(
                out,
                "NOT PUBLISHED, so nobody knows it yet: no --broker was named. Next: pqc-iiot ca publish --broker URL"
            )?;
        }
        Ok(())
    }

    /// An error if any broker was not told.
    pub(super) fn check(&self) -> Result<()> {
        let Some((url, why)) = self.failed.first() else { return Ok(()) };
        let urls: Vec<_> = self.failed.iter().map(|(url, _)| format!("--broker {url}")).collect();
        Err(CliError::new(ErrorKind::Broker, format!("not published on {url}")).because(why).fix(format!(
            "what was decided is recorded; once the broker is back: pqc-iiot ca publish {}",
            urls.join(" ")
        )))
    }
}

fn write(directory: &Path, messages: &[ControlMessage]) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory).map_err(|error| {
        CliError::new(ErrorKind::Failed, format!("cannot make {}", directory.display())).because(error)
    })?;
    let write = |message: &ControlMessage| {
        let path = directory.join(message.topic.replace('/', "."));
        files::write_public(&path, &message.payload, "control message").map(|()| path)
    };
    messages.iter().map(write).collect()
}

async fn to_broker(options: TransportOptions, messages: &[ControlMessage]) -> Result<(), String> {
    let (transport, mut events) = Transport::connect(options).map_err(|error| error.to_string())?;
    let connected = tokio::time::timeout(PATIENCE, connected(&mut events)).await;
    connected.unwrap_or_else(|_| Err("no connection within 15 s".into()))?;
    // Nobody else takes events, and publishing must never wait for them.
    let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let mut result = Ok(());
    for message in messages {
        result = publish_one(&transport, message).await;
        if result.is_err() {
            break;
        }
    }
    transport.close(Duration::from_secs(2)).await;
    drain.abort();
    result
}

/// Retained messages come at once after the subscription; the broker has no more when it pauses.
async fn from_broker(options: TransportOptions, filters: &[String]) -> Result<Vec<ControlMessage>, String> {
    let (transport, mut events) = Transport::connect(options).map_err(|error| error.to_string())?;
    let connected = tokio::time::timeout(PATIENCE, connected(&mut events)).await;
    connected.unwrap_or_else(|_| Err("no connection within 15 s".into()))?;
    let mut messages = Vec::new();
    let subscribe = async {
        for filter in filters {
            transport
                .subscribe(filter, Qos::AtLeastOnce)
                .await
                .map_err(|error| format!("{filter}: {error}"))?;
        }
        Ok::<_, String>(())
    };
    let mut subscribe = std::pin::pin!(subscribe);
    let mut subscribed = false;
    loop {
        let event = tokio::select! {
            result = &mut subscribe, if !subscribed => {
                result?;
                subscribed = true;
                continue;
            }
            event = tokio::time::timeout(if subscribed { PAUSE } else { PATIENCE }, events.recv()) => event,
        };
        match event {
            Ok(Some(Event::Message(message))) => {
                transport.acknowledge(message.token);
                messages.push(ControlMessage { topic: message.topic, payload: message.payload.to_vec() });
            }
            Ok(Some(Event::Oversized { token, .. })) => transport.acknowledge(token),
            Ok(Some(Event::Disconnected { error })) => return Err(error.to_string()),
            Ok(Some(_)) => {}
            Ok(None) => return Err("the transport ended".into()),
            Err(_) if subscribed => break,
            Err(_) => return Err("no answer to a subscription within 15 s".into()),
        }
        if messages.len() > MAX_RETAINED {
            return Err("more is retained there than revocations can be".into());
        }
    }
    transport.close(Duration::from_secs(2)).await;
    Ok(messages)
}

async fn publish_one(transport: &Transport, message: &ControlMessage) -> Result<(), String> {
    let mut outbound = Outbound::new(&message.topic, message.payload.clone());
    outbound.retain = true;
    let taken = async {
        let completion = transport.publish(outbound).await?;
        completion.await
    };
    let taken = tokio::time::timeout(PATIENCE, taken).await;
    let taken = taken.map_err(|_| format!("{} was not taken within 15 s", message.topic))?;
    taken.map_err(|error| format!("{}: {error}", message.topic))
}

/// Waits for the first connection; the first failure is an answer too.
async fn connected(events: &mut Events) -> Result<(), String> {
    loop {
        match events.recv().await {
            Some(Event::Connected { .. }) => return Ok(()),
            Some(Event::Disconnected { error }) => return Err(error.to_string()),
            Some(_) => {}
            None => return Err("the transport ended".into()),
        }
    }
}
