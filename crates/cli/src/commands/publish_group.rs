//! `pqc-iiot pub --group`: sealed once for many.

mod members;
mod report;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Read;
use std::time::Duration;

use indicatif::ProgressBar;
use pqc_iiot_core::endpoint::{Event, MemberState, SendFailure};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::{Topic, TopicFilter};
use pqc_iiot_mqtt::client::{ClientEvent, Events, PublishError, SecureMqttClient};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::{self, Client};
use super::publish::{Line, READ_AHEAD, SESSION_EXPIRY_SECS, Source, progress_bar, read_lines};
use super::{Context, identity, local};
use crate::args::PubArgs;
use crate::error::{CliError, ErrorKind, Result};
use members::{Membership, group_error};
use report::GroupSent;

/// Between two tries while the link has no room, and two looks at who has the key.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

pub(super) fn run(filter: &TopicFilter, args: &PubArgs, context: &Context) -> Result<()> {
    let source = source(filter, args)?;
    let dir = identity::directory(args.client.dir.as_deref(), context)?;
    if local::at(&dir).is_some() {
        return Err(CliError::new(ErrorKind::Usage, "a running proxy sends nothing to topic groups")
            .because(format!("it holds {}, and hands on to single peers only", dir.display()))
            .fix(format!("stop `pqc-iiot proxy --dir '{}'`, or use another identity", dir.display())));
    }
    let prepared = client::prepare(&args.client, context, ".pub", |options| {
        options.session_expiry_secs = SESSION_EXPIRY_SECS;
    })?;
    super::runtime()?.block_on(async {
        let mut client = prepared.start().await?;
        let handle = client.handle.clone();
        let result = tokio::select! {
            result = send(&mut client, source, filter, args, context) => result,
            () = client::interrupted() => {
                Err(CliError::new(ErrorKind::Interrupted, "interrupted").because("not every message was sent; those sent are signed"))
            }
        };
        // Signs what was sent, and writes down counters and log, whatever happened.
        handle.shutdown().await;
        let sent = result?;
        context.output.report(&sent)?;
        sent.judge(args.wait)
    })
}

/// What to send and where, if the command line makes sense.
fn source<'a>(filter: &TopicFilter, args: &'a PubArgs) -> Result<Option<(Source, &'a Topic)>> {
    if args.message.is_none() && args.file.is_none() && !args.stdin_lines {
        return Ok(None);
    }
    let Some(topic) = &args.topic else {
        return Err(
            CliError::new(ErrorKind::Usage, "there is a message and no topic").fix("name it with -t TOPIC")
        );
    };
    if !filter.matches(topic.as_str()) {
        return Err(CliError::new(ErrorKind::Usage, format!("the group {filter} is not for {topic}"))
            .because("a group's filter says which topics its members read with its key")
            .fix("choose a topic that the filter matches, or another --group"));
    }
    Ok(Some((Source::open(args)?, topic)))
}

async fn send(
    client: &mut Client,
    source: Option<(Source, &Topic)>,
    filter: &TopicFilter,
    args: &PubArgs,
    context: &Context,
) -> Result<GroupSent> {
    client.connected().await?;
    let Client { handle, events, .. } = client;
    let named: BTreeSet<PeerId> = args.to.iter().cloned().collect();
    let membership = Membership { handle, filter, context };
    let removed = membership.restrict_to(&named).await?;
    membership.ready(events, &named, args.timeout).await?;
    let work = async {
        for peer in &named {
            membership.add(peer).await?;
        }
        let members = membership.await_keys(args.wait).await?;
        let mut report = GroupSent::new(filter, args.topic.as_ref(), &removed);
        let mut sent = 0;
        if let Some((source, topic)) = source {
            if !members.iter().any(|(_, state)| *state == MemberState::HasKey) {
                return Err(report::nobody(filter, members, args.wait));
            }
            sent = Sender { handle, filter, topic, patience: args.timeout }.all(source, context).await?;
        }
        report.sent(sent, membership.states().await?);
        if args.end {
            report.ended(&membership.end(args.wait).await?);
        }
        Ok(report)
    };
    // Somebody must take events while messages go out.
    tokio::select! {
        result = work => result,
        result = watch(events, &named, context) => match result? {},
    }
}

/// Ends with an error when nothing more can be sent.
async fn watch(events: &mut Events, named: &BTreeSet<PeerId>, context: &Context) -> Result<Infallible> {
    while let Some(event) = events.recv().await {
        client::fatal(&event)?;
        client::note_state(&event, context.output);
        if let ClientEvent::Protocol(Event::PeerLost { peer, reason }) = event
            && named.contains(&peer)
        {
            context.output.note(format_args!(
                "{peer} is no longer trusted, and reads nothing more: {}",
                client::loss(reason)
            ));
        }
    }
    Err(CliError::new(ErrorKind::Failed, "the client ended"))
}

struct Sender<'a> {
    handle: &'a SecureMqttClient,
    filter: &'a TopicFilter,
    topic: &'a Topic,
    /// How long the link may have no room, or be away.
    patience: Duration,
}

impl Sender<'_> {
    async fn all(&self, source: Source, context: &Context) -> Result<u64> {
        match source {
            Source::One(payload) => self.one(payload).await.map(|()| 1),
            Source::Lines { input, bytes } => self.lines(input, bytes, context).await,
        }
    }

    async fn lines(&self, input: Box<dyn Read + Send>, bytes: Option<u64>, context: &Context) -> Result<u64> {
        let shown = bytes.filter(|_| context.output.shows_progress());
        let progress = shown.map_or_else(ProgressBar::hidden, progress_bar);
        let (lines, mut incoming) = mpsc::channel(READ_AHEAD);
        // Standard input cannot be waited for otherwise; the thread ends with its input or with the process.
        std::thread::spawn(move || read_lines(input, &lines));
        let mut sent = 0;
        while let Some(line) = incoming.recv().await {
            let Line { content, bytes } = line?;
            self.one(content).await?;
            sent += 1;
            progress.inc(bytes);
        }
        progress.finish_and_clear();
        Ok(sent)
    }

    /// There is no outbox here: while the link has no room, it is tried again.
    async fn one(&self, payload: Vec<u8>) -> Result<()> {
        let until = Instant::now() + self.patience;
        loop {
            match self.handle.publish_topic(self.topic, payload.clone()).await {
                Err(PublishError::Refused(SendFailure::Busy | SendFailure::Offline))
                    if Instant::now() < until =>
                {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                done => return done.map_err(|error| group_error(self.filter, error)),
            }
        }
    }
}
