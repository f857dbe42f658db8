//! `pqc-iiot pub` and `pqc-iiot sub`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::topic::{Topic, TopicFilter};

use super::common::{ConnectionArgs, UnlockArgs, broker_url};
use crate::time::duration;

/// Send sealed messages to a peer, or to a topic group of many.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("source").args(["message", "file", "stdin_lines", "end"]).required(true).multiple(true),
    after_help = "\
Examples:
  pqc-iiot pub --dir press-7 --broker mqtt://localhost --to gateway -t plant/temp -m 21.5
  pqc-iiot pub --dir press-7 --broker mqtts://broker.example --to gateway -t plant/log -l < log.txt
  pqc-iiot pub --dir press-7 --broker mqtt://localhost --to gateway -t plant/rows -l -f rows.csv
  pqc-iiot pub --dir press-7 --broker mqtt://localhost --group 'plant/hall/#' --to hall-1,hall-2,hall-3 -t plant/hall/rows -l < rows.csv
  pqc-iiot pub --dir press-7 --broker mqtt://localhost --group 'plant/hall/#' --end

Every message is on disk before it counts as sent, and is sent again until the peer has confirmed it, by whatever command \
runs next with this identity. While `pqc-iiot proxy` runs on the same directory, goes through it. The peer must be online, or have been, so that its keys are known: its announcement and \
prekeys are retained on the broker.

With --group each message is sealed once for all peers of --to: they become the group's members, whoever was one and is not named is \
removed, and the key changes, so that the removed read nothing from then on. Members must run (`pqc-iiot sub`) to be handed the key: \
nothing is kept for those that do not. Before the command ends it signs what it sent; until then members know only that one of them sent it.

A DURATION is a number of seconds, or has units: 5, 500ms, 2m, 1h30m."
)]
pub(crate) struct PubArgs {
    /// The peer it is sealed to; with --group all its members, separated by commas
    #[arg(long, value_name = "PEER", value_parser = PeerId::new, value_delimiter = ',', required_unless_present = "end")]
    pub(crate) to: Vec<PeerId>,
    /// The topic
    #[arg(short, long, value_name = "TOPIC", value_parser = Topic::new, required_unless_present = "end")]
    pub(crate) topic: Option<Topic>,
    /// Seal once for all peers of --to: the topic group for these topics, made if there is none
    #[arg(long, value_name = "FILTER", value_parser = TopicFilter::new, conflicts_with_all = ["command", "content_type", "stream"])]
    pub(crate) group: Option<TopicFilter>,
    /// End the group once everything is sent: its members forget it, and so does this identity
    #[arg(long, requires = "group")]
    pub(crate) end: bool,
    /// The message
    #[arg(short, long, value_name = "TEXT", conflicts_with_all = ["file", "stdin_lines"])]
    pub(crate) message: Option<String>,
    /// Send this file's content as one message, at most what the peers' limits allow (256 KiB by default)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Send each line of standard input (or of --file) as one message
    #[arg(short = 'l', long)]
    pub(crate) stdin_lines: bool,
    /// Send as a command rather than telemetry: only in a session, and only with a grant `command:TOPIC`
    #[arg(long)]
    pub(crate) command: bool,
    /// MIME type of the content, sealed with it
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// Independent message stream, 0 to 6
    #[arg(long, value_name = "N", default_value = "0", value_parser = stream)]
    pub(crate) stream: StreamId,
    /// Give up when the keys of a peer do not come within this time
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: std::time::Duration,
    /// How long to wait for the peer to confirm the last message; what is not confirmed then stays in the outbox. With
    /// --group: for its members to have its key, before anything is sent
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) wait: std::time::Duration,
    /// Say on standard error what was delivered, also where that is no terminal
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Say nothing of a success, also at a terminal
    #[arg(short, long)]
    pub(crate) quiet: bool,
    // Last: the heading of the connection's options holds for all that follow.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Receive sealed messages from peers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pqc-iiot sub --dir gateway --broker mqtt://localhost --from press-7 -t 'plant/#' -v
  pqc-iiot sub --dir gateway --broker mqtt://localhost --from press-7 -t 'plant/+/temp' -C 10 --json
  pqc-iiot sub --dir hall-1 --broker mqtt://localhost --from press-7 -t 'plant/hall/#' -v

Prints only what a named peer signed, sealed to this identity, for its topic, once. Everything else is refused, counted and \
recorded in the audit log. Ends with Ctrl-C. While `pqc-iiot proxy` runs on the same directory, goes through it.

Messages to a topic group (`pub --group`) prove at first only that some member of it sent them. They are printed once their sender's \
signature came, seconds to minutes later. With --json they are told at once as unverified, and again when that is decided. Through a \
proxy they come once that is decided.

A DURATION is a number of seconds, or has units: 5, 500ms, 2m, 1h30m.")]
pub(crate) struct SubArgs {
    /// A peer to trust messages from, once its announcement verifies; repeatable
    #[arg(long, value_name = "PEER", required = true, value_parser = PeerId::new)]
    pub(crate) from: Vec<PeerId>,
    /// A topic filter; repeatable
    #[arg(short, long = "topic", value_name = "FILTER", required = true, value_parser = TopicFilter::new)]
    pub(crate) topics: Vec<TopicFilter>,
    /// Stop after this many messages
    #[arg(short = 'C', short_alias = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Stop when no message came for this long
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<std::time::Duration>,
    /// Print sender and topic before each message
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Keep the broker's session: what arrives while this command does not run, for at most a day, is delivered
    /// at its next start
    #[arg(long)]
    pub(crate) keep_session: bool,
    /// Print messages to a topic group at once, marked [unverified]: any member of it may have made them
    #[arg(long)]
    pub(crate) unverified: bool,
    /// Print no newline after each message
    #[arg(short = 'N', long)]
    pub(crate) no_newline: bool,
    /// Also say, on standard error, what was refused and why
    #[arg(long)]
    pub(crate) refusals: bool,
    // Last, as above.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// An identity and its broker.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The identity's data directory
    #[arg(long, visible_alias = "data-dir", value_name = "DIR", env = "PQC_IIOT_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The broker: mqtt://HOST[:PORT], or mqtts:// with TLS 1.3
    #[arg(long, value_name = "URL", env = "PQC_IIOT_BROKER", value_parser = broker_url)]
    pub(crate) broker: Option<String>,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

fn stream(text: &str) -> Result<StreamId, String> {
    let stream = text.parse().ok().and_then(StreamId::new).filter(|stream| *stream != StreamId::CONTROL);
    stream.ok_or_else(|| "use 0 to 6".into())
}
