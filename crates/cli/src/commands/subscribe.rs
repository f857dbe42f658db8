//! `pqc-iiot sub`.

mod group;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use pqc_iiot_core::endpoint::{Event, InboxId, Message};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_mqtt::client::{ClientEvent, Events, SecureMqttClient};
use serde::Serialize;
use tokio::time::Instant;

use super::certificate::hex;
use super::client::{self, Client};
use super::obstacles::Obstacles;
use super::unproved::Unproved;
use super::{Context, local, subscribe_local};
use crate::args::SubArgs;
use crate::error::{CliError, ErrorKind, Result};
use crate::output::{Report, harmless};
pub(super) use group::Proved;

/// When to look again for what stands in the way: once what was stored of peers has been read, and once what the broker
/// retains should have come.
const LOOKS: [(Duration, bool); 2] = [(Duration::from_millis(300), false), (LATE, true)];
/// When a peer that has not announced itself counts as one that may never.
pub(super) const LATE: Duration = Duration::from_secs(3);

/// Messages printed and not yet consumed, at most.
const CONSUME_AT_ONCE: usize = 256;

/// One message for programs.
#[derive(Serialize)]
struct Received<'a> {
    peer: &'a str,
    topic: &'a str,
    stream: u8,
    sequence: u64,
    /// With peer and stream the message's name for good; volatile messages have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    class: String,
    /// `envelope`, or `session:` and its epoch.
    protection: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    /// Instead of `payload` where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

impl Report for Received<'_> {
    fn human(&self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn run(args: &SubArgs, context: &Context) -> Result<()> {
    if let Some(proxy) = local::find(&args.client, context)? {
        return subscribe_local::run(proxy, args, context);
    }
    let prepared = client::prepare(&args.client, context, "", |options| {
        options.clean_start = !args.keep_session;
    })?;
    super::runtime()?.block_on(async {
        let mut client = prepared.start().await?;
        let handle = client.handle.clone();
        let mut inbox = Inbox::new(args, context);
        let result = tokio::select! {
            result = receive(&mut client, &mut inbox, args, context) => result,
            () = client::interrupted() => Err(CliError::new(ErrorKind::Interrupted, "interrupted")),
        };
        handle.shutdown().await;
        inbox.leave();
        result
    })
}

async fn receive(
    client: &mut Client,
    inbox: &mut Inbox<'_>,
    args: &SubArgs,
    context: &Context,
) -> Result<()> {
    client.connected().await?;
    for peer in &args.from {
        client.handle.add_peer(peer.clone()).await.map_err(|error| {
            CliError::new(ErrorKind::Failed, format!("cannot follow {peer}")).because(error)
        })?;
    }
    let handle = client.handle.clone();
    let subscribing = async move {
        for filter in &args.topics {
            handle.subscribe(filter).await.map_err(|error| {
                CliError::new(ErrorKind::Broker, format!("the broker refused the subscription to {filter}"))
                    .because(error)
                    .fix("allow it in the broker's access control list")
            })?;
        }
        let filters: Vec<_> = args.topics.iter().map(|filter| filter.as_str()).collect();
        context.output.note(format_args!("listening on {} as {}", filters.join(" "), handle.peer_id()));
        Ok(())
    };
    let started = Instant::now();
    let mut looks = LOOKS.into_iter().peekable();
    inbox.look(&client.handle, false).await;
    let mut subscribing = std::pin::pin!(subscribing);
    let mut subscribed = false;
    // Counts from the last message: refusals do not keep a silent subscription alive.
    let mut quiet_since = Instant::now();
    loop {
        let deadline = args.timeout.map(|patience| quiet_since + patience);
        let at_hand = if inbox.printed.len() < CONSUME_AT_ONCE { client.events.try_recv() } else { None };
        if let Some(event) = at_hand {
            let before = inbox.heard;
            let enough = inbox.take(event)?;
            if inbox.heard != before {
                quiet_since = Instant::now();
            }
            if enough {
                return inbox.consume(&client.handle).await;
            }
            continue;
        }
        inbox.consume(&client.handle).await?;
        inbox.look_at_changed(&client.handle).await;
        let look_at = looks.peek().map(|(after, _)| started + *after);
        // Events are taken while the broker is asked: it may wait for us to read.
        let event = tokio::select! {
            result = &mut subscribing, if !subscribed => {
                result?;
                subscribed = true;
                continue;
            }
            () = sleep_until(look_at) => {
                let late = looks.next().is_some_and(|(_, late)| late);
                inbox.look(&client.handle, late).await;
                continue;
            }
            event = next(&mut client.events, deadline) => event,
        };
        match event {
            Next::Event(event) => {
                let before = inbox.heard;
                if inbox.take(*event)? {
                    return inbox.consume(&client.handle).await;
                }
                if inbox.heard != before {
                    quiet_since = Instant::now();
                }
            }
            Next::Silence => {
                inbox.look(&client.handle, true).await;
                return inbox.silence();
            }
            Next::End => return Err(CliError::new(ErrorKind::Failed, "the client ended")),
        }
    }
}

enum Next {
    Event(Box<ClientEvent>),
    Silence,
    End,
}

async fn next(events: &mut Events, deadline: Option<Instant>) -> Next {
    let event = match deadline {
        Some(deadline) => match tokio::time::timeout_at(deadline, events.recv()).await {
            Ok(event) => event,
            Err(_) => return Next::Silence,
        },
        None => events.recv().await,
    };
    event.map_or(Next::End, |event| Next::Event(Box::new(event)))
}

pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What has come so far.
pub(super) struct Inbox<'a> {
    args: &'a SubArgs,
    context: &'a Context,
    /// Messages for `--count`.
    received: u64,
    /// Messages at all, proved or not.
    heard: u64,
    unproved: Unproved,
    /// Printed and not yet consumed.
    printed: Vec<InboxId>,
    /// What was said of what stands in the way.
    pub(super) obstacles: Obstacles,
    /// The connection was lost, and that was said.
    away: bool,
}

impl<'a> Inbox<'a> {
    /// Nothing yet.
    pub(super) fn new(args: &'a SubArgs, context: &'a Context) -> Self {
        Self {
            args,
            context,
            received: 0,
            heard: 0,
            unproved: Unproved::default(),
            printed: Vec::new(),
            obstacles: Obstacles::default(),
            away: false,
        }
    }

    /// Handles one event; true once enough messages came.
    fn take(&mut self, event: ClientEvent) -> Result<bool> {
        client::fatal(&event)?;
        client::note_state(&event, self.context.output);
        match event {
            ClientEvent::Protocol(Event::Message(message)) => return self.message(&message),
            ClientEvent::Protocol(Event::Refused { reason, peer }) => {
                if let Some(peer) = &peer {
                    self.obstacles.refused(peer, reason);
                }
                if !self.args.refusals {
                    return Ok(false);
                }
                let from = peer.map_or_else(|| "a stranger".to_owned(), |peer| peer.as_str().to_owned());
                self.context.output.note(format_args!("refused ({}) from {from}", reason.name()));
            }
            ClientEvent::Protocol(Event::PeerReady { peer, .. }) => {
                self.obstacles.changed(&peer);
                if self.args.refusals {
                    self.context.output.note(format_args!("trusted: {peer}"));
                }
            }
            ClientEvent::Protocol(Event::PeerRevoked { peer }) => self.obstacles.changed(&peer),
            ClientEvent::Protocol(Event::PeerLost { peer, reason }) => {
                self.obstacles.changed(&peer);
                self.context
                    .output
                    .note(format_args!("{peer} is no longer trusted: {}", client::loss(reason)));
            }
            ClientEvent::Protocol(Event::Lost { peer, count, reason, outgoing: false, .. }) => {
                self.context.output.note(format_args!("{peer} lost {count} messages ({reason})"));
            }
            ClientEvent::Protocol(Event::RolledBack { peer, .. }) => {
                self.context.output.note(format_args!(
                    "{peer} has seen newer messages of this identity than its disk knows of: somebody restored an older copy"
                ));
            }
            ClientEvent::Protocol(
                event @ (Event::GroupMessage { .. }
                | Event::GroupVerified { .. }
                | Event::GroupUnproved { .. }
                | Event::GroupForged { .. }),
            ) => return self.group(event),
            ClientEvent::Disconnected { error } if !std::mem::replace(&mut self.away, true) => {
                self.context
                    .output
                    .note(format_args!("disconnected: {}; connecting again", harmless(&error.to_string())));
            }
            ClientEvent::Connected { .. } if std::mem::take(&mut self.away) => {
                self.context.output.note("connected again");
            }
            _ => {}
        }
        Ok(false)
    }

    /// What was printed is done with. A process that dies before this prints it again at its next start.
    async fn consume(&mut self, handle: &SecureMqttClient) -> Result<()> {
        if self.printed.is_empty() {
            return Ok(());
        }
        let printed = std::mem::take(&mut self.printed);
        handle.consume(printed, Vec::new()).await.map_err(|error| {
            CliError::new(ErrorKind::Failed, "what was printed could not be noted as consumed").because(error)
        })
    }

    /// Says why nothing of a named peer's can arrive.
    async fn look(&mut self, client: &SecureMqttClient, late: bool) {
        let wanted = (self.args.from.as_slice(), self.args.topics.as_slice());
        self.obstacles.look(client, wanted, late, self.context.output).await;
    }

    /// The same, of peers of which something changed.
    async fn look_at_changed(&mut self, client: &SecureMqttClient) {
        let mut changed = self.obstacles.take_changed();
        changed.retain(|peer| self.args.from.contains(peer));
        let wanted = (changed.as_slice(), self.args.topics.as_slice());
        self.obstacles.look(client, wanted, false, self.context.output).await;
    }

    /// Prints a message; true once enough came.
    pub(super) fn message(&mut self, message: &Message) -> Result<bool> {
        // A kept session, or the inbox, may still hold what an earlier command subscribed to: it stays for the next.
        if !self.args.topics.iter().any(|filter| filter.matches(&message.topic)) {
            return Ok(false);
        }
        self.print(message)?;
        self.printed.extend(message.id);
        self.received += 1;
        self.heard += 1;
        Ok(self.args.count.is_some_and(|count| self.received >= count))
    }

    fn print(&self, message: &Message) -> Result<()> {
        let payload = &message.content.payload;
        if self.context.output.is_json() {
            let text = std::str::from_utf8(payload).ok();
            return self.context.output.report(&Received {
                peer: message.peer.as_str(),
                topic: &message.topic,
                stream: message.stream.value(),
                sequence: message.sequence,
                origin: message.origin.map(|origin| origin.to_string()),
                class: message.content.class.to_string(),
                protection: message.protection.to_string(),
                content_type: message.content.content_type.as_deref(),
                payload: text,
                payload_hex: text.is_none().then(|| hex(payload)),
            });
        }
        self.line("", &message.peer, &message.topic, payload)
    }

    fn line(&self, mark: &str, peer: &PeerId, topic: &str, payload: &[u8]) -> Result<()> {
        let mut line = mark.as_bytes().to_vec();
        if self.args.verbose {
            line.extend_from_slice(format!("{peer} {} ", harmless(topic)).as_bytes());
        }
        // A terminal must not obey what a device says; a file or a pipe gets the bytes as they are.
        if io::stdout().is_terminal() {
            line.extend_from_slice(for_terminal(payload).as_bytes());
        } else {
            line.extend_from_slice(payload);
        }
        if !self.args.no_newline {
            line.push(b'\n');
        }
        self.context.output.raw(&line)
    }

    /// Nothing came for as long as `--timeout` says.
    pub(super) fn silence(&self) -> Result<()> {
        match self.args.count {
            Some(count) => Err(CliError::new(
                ErrorKind::Failed,
                format!("only {} of {count} messages came", self.received),
            )
            .fix("see what was refused: --refusals, or `pqc-iiot audit export DIR`")),
            None => Ok(()),
        }
    }
}

/// Text with its control characters escaped, bytes that are no text replaced.
pub(super) fn for_terminal(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    text.chars()
        .flat_map(|c| {
            let keep = !c.is_control() || matches!(c, '\n' | '\t');
            let escaped = (!keep).then(|| c.escape_default());
            keep.then_some(c).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_cannot_speak_to_the_terminal() {
        assert_eq!(for_terminal(b"21.5 \xc2\xb0C\tok\n"), "21.5 °C\tok\n");
        assert_eq!(for_terminal(b"\x1b[2J\x07\r"), "\\u{1b}[2J\\u{7}\\r");
        assert_eq!(for_terminal(b"\xc2\x9b31m"), "\\u{9b}31m");
        assert_eq!(for_terminal(b"\xff"), "\u{fffd}");
    }
}
