//! `pqc-iiot pub`.

mod permission;
mod progress;
mod source;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::time::Duration;

use indicatif::ProgressBar;
use pqc_iiot_core::endpoint::{Event, Obstacle, PeerLoss, SendFailure, SessionStage};
use pqc_iiot_core::envelope::{Content, MAX_PROPERTY, MessageClass};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::{Topic, TopicFilter};
use pqc_iiot_mqtt::client::{ClientEvent, Delivery, Events, PublishError, SecureMqttClient};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::client::{self, Client};
use super::{Context, local, publish_group, publish_local};
use crate::args::PubArgs;
use crate::error::{CliError, ErrorKind, Result};
use crate::output::{Output, Report, counted};
pub(super) use progress::progress_bar;
use progress::{show_backlog, waiting};
pub(super) use source::{Line, Source, read_lines};

/// Messages handed over and not yet known to be on disk.
pub(super) const ACCEPTING: usize = 64;
/// Messages on disk and not yet confirmed by the peer.
const CONFIRMING: usize = 4096;
/// Lines read ahead.
pub(super) const READ_AHEAD: usize = 64;
/// How long to look for the cause of a failure.
const CAUSE_PATIENCE: Duration = Duration::from_millis(200);
/// When to say that the peer's keys are waited for.
pub(super) const HINT_AFTER: Duration = Duration::from_secs(2);
/// How long the broker keeps the session of `pub` after it ended: long enough for a reconnect.
pub(super) const SESSION_EXPIRY_SECS: u32 = 300;

#[derive(Serialize)]
pub(super) struct Sent {
    /// Accepted: on disk, and sent until the peer confirms.
    pub(super) sent: u64,
    /// Confirmed by the peer; a proxy does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) confirmed: Option<u64>,
    pub(super) peer: String,
    pub(super) topic: String,
    /// The epoch of the session with the peer at the end, if there is one; a proxy does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_epoch: Option<u16>,
}

impl Sent {
    /// A short line for whoever watches, or asked for it; programs have the report.
    pub(super) fn succeeded(&self, args: &PubArgs, output: Output) {
        if output.is_json() || args.quiet || !(args.verbose || output.shows_progress()) {
            return;
        }
        let (peer, topic) = (&self.peer, &self.topic);
        let messages = counted(self.sent, "message", "messages");
        match (self.confirmed, self.session_epoch) {
            _ if self.sent == 0 => output.note("there was no message to send"),
            // What is missing was said.
            (Some(confirmed), _) if confirmed < self.sent => {}
            (Some(_), Some(epoch)) => output.note(format_args!(
                "delivered {messages} to {peer} on {topic} (its session is at epoch {epoch})"
            )),
            (Some(_), None) => {
                output
                    .note(format_args!("delivered {messages} to {peer} on {topic} (no session with it yet)"));
            }
            (None, _) => output.note(format_args!(
                "handed {messages} for {peer} on {topic} to the proxy, which sends until {peer} confirms"
            )),
        }
    }
}

impl Report for Sent {
    fn human(&self, _: &mut dyn Write) -> io::Result<()> {
        // As quiet as its model: what there is to know is a note.
        Ok(())
    }
}

pub(super) fn run(args: &PubArgs, context: &Context) -> Result<()> {
    if args.content_type.as_ref().is_some_and(|text| text.len() > MAX_PROPERTY) {
        return Err(CliError::new(
            ErrorKind::Usage,
            format!("--content-type has more than {MAX_PROPERTY} bytes"),
        ));
    }
    if let Some(filter) = &args.group {
        return publish_group::run(filter, args, context);
    }
    let args = &Direct::new(args)?;
    let source = Source::open(args)?;
    if let Some(proxy) = local::find(&args.client, context)? {
        return publish_local::run(proxy, source, args, context);
    }
    let prepared = client::prepare(&args.client, context, ".pub", |options| {
        options.session_expiry_secs = SESSION_EXPIRY_SECS;
    })?;
    super::runtime()?.block_on(async {
        let mut client = prepared.start().await?;
        let handle = client.handle.clone();
        let result = tokio::select! {
            result = send(&mut client, source, args, context) => result,
            () = client::interrupted() => {
                Err(CliError::new(ErrorKind::Interrupted, "interrupted").because("what was accepted stays in the outbox, which `pqc-iiot status` counts; the next `pub`, `sub` or `proxy` of this identity sends it"))
            }
        };
        // Writes down counters and log before the process ends, whatever happened.
        handle.shutdown().await;
        let sent = result?;
        let confirmed = sent.confirmed.unwrap_or(sent.sent);
        if confirmed < sent.sent {
            context.output.note(format_args!(
                "{} of {} messages are not confirmed by {} yet; they stay in the outbox and are sent again by the next `pub`, `sub` or `proxy` with this identity",
                sent.sent - confirmed, sent.sent, sent.peer
            ));
        }
        sent.succeeded(args, context.output);
        context.output.report(&sent)
    })
}

/// What is for one peer.
pub(super) struct Direct<'a> {
    args: &'a PubArgs,
    pub(super) to: &'a PeerId,
    pub(super) topic: &'a Topic,
}

impl<'a> Direct<'a> {
    fn new(args: &'a PubArgs) -> Result<Self> {
        let ([to], Some(topic)) = (args.to.as_slice(), &args.topic) else {
            return Err(CliError::new(ErrorKind::Usage, "more than one peer in --to")
                .because("a message is sealed to one peer, or to a topic group")
                .fix("name the group's topics: --group FILTER, for instance --group TOPIC"));
        };
        Ok(Self { args, to, topic })
    }
}

impl Deref for Direct<'_> {
    type Target = PubArgs;

    fn deref(&self) -> &PubArgs {
        self.args
    }
}

async fn send(client: &mut Client, source: Source, args: &Direct<'_>, context: &Context) -> Result<Sent> {
    client.connected().await?;
    permission::check(client, args, context)?;
    let peer = args.to;
    client.handle.add_peer(peer.clone()).await.map_err(|error| publish_error(peer, error))?;
    ready(client, args, context).await?;

    // Somebody must take events while messages go out, and learn when they can no longer go out.
    let (ended, mut watcher) = watch::channel(());
    let Client { handle, events, .. } = client;
    let mut sender = Sender {
        handle,
        args,
        accepting: VecDeque::new(),
        confirming: VecDeque::new(),
        sent: 0,
        confirmed: 0,
        progress: ProgressBar::hidden(),
    };
    // Before anything of this command is among it.
    let backlog = waiting(handle).await;
    let sending = async {
        match source {
            Source::One(payload) => sender.queue(payload).await?,
            Source::Lines { input, bytes } => sender.lines(input, bytes, context).await?,
        }
        sender.finish().await
    };
    let watching = async {
        let result = watch_events(&mut *events, peer, context).await;
        drop(ended);
        result
    };
    let result = tokio::select! {
        result = sending => result,
        never = show_backlog(handle, backlog, context) => match never {},
        result = watching => result.and_then(|()| Err(CliError::new(ErrorKind::Failed, "the client ended"))),
        // Never: the sender lives in `watching`.
        Ok(()) = watcher.changed() => Err(CliError::new(ErrorKind::Failed, "the client ended")),
    };
    if result.is_err() {
        // The cause may be among the events not yet taken: our own revocation, a store that failed.
        while let Ok(Some(event)) = tokio::time::timeout(CAUSE_PATIENCE, events.recv()).await {
            client::note_state(&event, context.output);
            client::fatal(&event)?;
        }
    }
    result
}

/// Waits until the peer can be sent to.
async fn ready(client: &mut Client, args: &Direct<'_>, context: &Context) -> Result<()> {
    let Client { handle, events, .. } = client;
    let (peer, patience) = (args.to, args.timeout);
    let mut refused = None;
    let waiting = tokio::time::timeout(patience, async {
        let mut hint = std::pin::pin!(tokio::time::sleep(HINT_AFTER));
        let mut hinted = false;
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = &mut hint, if !hinted => {
                    hinted = true;
                    context.output.note(format_args!(
                        "waiting up to {} for the announcement and prekey of {peer}",
                        humantime::format_duration(patience)
                    ));
                    continue;
                }
            };
            let Some(event) = event else { break };
            client::fatal(&event)?;
            client::note_state(&event, context.output);
            match event {
                ClientEvent::Protocol(Event::PeerReady { peer: ready, .. }) if ready == *peer => {
                    return Ok(());
                }
                ClientEvent::Protocol(Event::PeerLost { peer: lost, reason }) if lost == *peer => {
                    return Err(client::lost(peer, reason));
                }
                ClientEvent::Protocol(Event::PeerRevoked { peer: revoked }) if revoked == *peer => {
                    return Err(client::lost(peer, PeerLoss::Revoked));
                }
                ClientEvent::Protocol(Event::Refused { reason, peer: Some(from) }) if from == *peer => {
                    refused = Some(reason);
                }
                _ => {}
            }
        }
        Err(CliError::new(ErrorKind::Failed, "the client ended"))
    });
    if let Ok(result) = waiting.await {
        return result;
    }
    // As the store knows it, if the broker has no announcement of it any more.
    if let Ok(filter) = TopicFilter::new(args.topic.as_str())
        && handle.obstacle(peer, &filter).await == Some(Obstacle::Revoked)
    {
        return Err(client::lost(peer, PeerLoss::Revoked));
    }
    let what = format!("nothing can be sealed to {peer}");
    Err(match refused {
        Some(reason) => CliError::new(ErrorKind::Refused, what)
            .because(format!("its announcement was refused: {}", reason.name()))
            .fix(format!("see that {peer} holds a valid certificate of this identity's authority")),
        None => CliError::new(ErrorKind::Failed, what)
            .because(format!(
                "no announcement and prekey of {peer} came within {}",
                humantime::format_duration(patience)
            ))
            .fix(format!("start {peer} on this broker once, for instance with `pqc-iiot sub`; check the spelling and --prefix")),
    })
}

/// Ends with an error when nothing more can be sent.
async fn watch_events(events: &mut Events, peer: &PeerId, context: &Context) -> Result<()> {
    while let Some(event) = events.recv().await {
        client::fatal(&event)?;
        client::note_state(&event, context.output);
        if let ClientEvent::Protocol(Event::PeerLost { peer: lost, reason }) = event
            && lost == *peer
        {
            return Err(client::lost(peer, reason));
        }
    }
    Err(CliError::new(ErrorKind::Failed, "the client ended"))
}

struct Sender<'a> {
    handle: &'a SecureMqttClient,
    args: &'a Direct<'a>,
    /// Not known to be on disk yet, and not yet confirmed.
    accepting: VecDeque<Delivery>,
    confirming: VecDeque<Delivery>,
    sent: u64,
    confirmed: u64,
    progress: ProgressBar,
}

impl Sender<'_> {
    /// Queues one message, after waiting for room in the windows.
    async fn queue(&mut self, payload: Vec<u8>) -> Result<()> {
        let Direct { to, topic, .. } = *self.args;
        let PubArgs { stream, content_type, command, .. } = &**self.args;
        let class = if *command { MessageClass::Command } else { MessageClass::Telemetry };
        let content = Content { class, content_type: content_type.clone(), ..Content::telemetry(payload) };
        if self.accepting.len() >= ACCEPTING {
            self.accept_oldest().await?;
        }
        if self.confirming.len() >= CONFIRMING {
            self.confirm_oldest().await?;
        }
        let queued = self.handle.queue_encrypted(topic, to, *stream, content);
        self.accepting.push_back(queued.await.map_err(|error| publish_error(to, error))?);
        Ok(())
    }

    async fn accept_oldest(&mut self) -> Result<()> {
        let Some(mut delivery) = self.accepting.pop_front() else { return Ok(()) };
        delivery.accepted().await.map_err(|error| publish_error(self.args.to, error))?;
        self.sent += 1;
        self.confirming.push_back(delivery);
        Ok(())
    }

    async fn confirm_oldest(&mut self) -> Result<()> {
        let Some(delivery) = self.confirming.pop_front() else { return Ok(()) };
        delivery.await.map_err(|error| publish_error(self.args.to, error))?;
        self.confirmed += 1;
        Ok(())
    }

    /// Everything is on disk; then the peer gets some time to confirm it.
    async fn finish(&mut self) -> Result<Sent> {
        while !self.accepting.is_empty() {
            self.accept_oldest().await?;
        }
        let until = tokio::time::Instant::now() + self.args.wait;
        while !self.confirming.is_empty() {
            match tokio::time::timeout_at(until, self.confirm_oldest()).await {
                Ok(result) => result?,
                Err(_) => break,
            }
        }
        self.progress.finish_and_clear();
        let sessions = self.handle.sessions(Some(self.args.to)).await.unwrap_or_default();
        let in_use = sessions.iter().find(|session| session.stage == SessionStage::InUse);
        Ok(Sent {
            sent: self.sent,
            confirmed: Some(self.confirmed),
            peer: self.args.to.as_str().to_owned(),
            topic: self.args.topic.as_str().to_owned(),
            session_epoch: in_use.map(|session| session.epoch),
        })
    }

    async fn lines(
        &mut self,
        input: Box<dyn Read + Send>,
        bytes: Option<u64>,
        context: &Context,
    ) -> Result<()> {
        if let Some(bytes) = bytes.filter(|_| context.output.shows_progress()) {
            self.progress = progress_bar(bytes);
        }
        let (lines, mut incoming) = mpsc::channel(READ_AHEAD);
        // Standard input cannot be waited for otherwise; the thread ends with its input or with the process.
        std::thread::spawn(move || read_lines(input, &lines));
        while let Some(line) = incoming.recv().await {
            let Line { content, bytes } = line?;
            self.queue(content).await?;
            self.progress.inc(bytes);
        }
        Ok(())
    }
}

fn publish_error(peer: &PeerId, error: PublishError) -> CliError {
    let what = format!("the message to {peer} was not sent");
    match error {
        PublishError::Refused(SendFailure::NoGrant) => CliError::new(ErrorKind::Refused, what)
            .because(SendFailure::NoGrant)
            .fix("see `pqc-iiot device show` on both sides, and let the authority issue certificates with --grant 'publish:TOPIC' here (for a command 'command:TOPIC') and --grant 'subscribe:TOPIC' there"),
        PublishError::Refused(failure @ (SendFailure::Revoked | SendFailure::Expired)) => {
            CliError::new(ErrorKind::Refused, what).because(failure).fix("see `pqc-iiot status`")
        }
        PublishError::Refused(SendFailure::ControlTopic) => CliError::new(ErrorKind::Usage, what)
            .because(SendFailure::ControlTopic)
            .fix("choose a topic outside the control prefix"),
        PublishError::Refused(failure @ SendFailure::TooLarge) => {
            CliError::new(ErrorKind::Failed, what).because(failure).fix("send it in parts of at most 256 KiB")
        }
        PublishError::Refused(failure @ (SendFailure::OutboxFull | SendFailure::OutboxShare)) => CliError::new(ErrorKind::Failed, what)
            .because(failure)
            .fix("let the peer come online and confirm what waits, or raise the outbox's bound: see `pqc-iiot status`"),
        PublishError::Refused(failure) => CliError::new(ErrorKind::Refused, what).because(failure),
        error @ PublishError::Busy => CliError::new(ErrorKind::Failed, what)
            .because(error)
            .fix("see whether the disk of the data directory is full: free some space"),
        error => CliError::new(ErrorKind::Failed, what).because(error),
    }
}
