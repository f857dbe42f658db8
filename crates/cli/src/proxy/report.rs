//! What the proxy says about itself: one line per event, and how often each thing happened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::output::{Output, Report, harmless};

/// Something that happened. As JSON, an object with `event`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum ProxyEvent<'a> {
    /// Local clients may connect.
    Listening { peer: &'a str, tcp: Option<SocketAddr>, sockets: Vec<String> },
    /// The broker accepted the connection.
    Connected { broker: &'a str },
    /// There is no connection to the broker; it is tried again.
    Disconnected { broker: &'a str, why: String },
    /// A peer can be sent to and heard.
    PeerReady { peer: &'a str },
    /// A peer is no longer trusted.
    PeerLost { peer: &'a str, why: &'a str },
    /// A local client's message was not sealed.
    PublishRefused { topic: String, reason: &'a str, why: String, count: u64 },
    /// Something from the broker was refused.
    Refused { peer: Option<&'a str>, reason: &'a str, count: u64 },
    /// A local client was disconnected, or not let in.
    ClientDropped { reason: &'a str, count: u64 },
    /// A received message was given up for room: nobody has subscribed to its topic.
    Dropped { topic: String, peer: &'a str, count: u64 },
    /// Received messages wait for a subscriber, and there is no room for more: the broker keeps them.
    Full { waiting: usize },
    /// The disk is full: nothing is accepted, delivered or acknowledged until there is room. It is tried again.
    StoreWaits { why: String },
    /// There is room again.
    StoreResumed,
    /// What waits: said when it changed, every 30 s at most.
    Queues { outbox: usize, outbox_bytes: usize, oldest_seconds: u64, inbox: usize, confirmed: u64 },
    /// Messages were given up, exactly so many; unless that is certain, some may have arrived.
    Lost { peer: &'a str, count: u64, reason: &'a str, outgoing: bool, certain: bool, total: u64 },
    /// A receiver said what became of messages that were given up.
    LossConfirmed { peer: &'a str, lost: u64, arrived: u64 },
    /// A receiver saw newer messages of ours than this disk knows of: it is an older copy.
    RolledBack { peer: &'a str, count: u64 },
    /// Stored rows could not be read and were deleted; what they were for begins anew.
    StateDropped { kind: String, count: u64 },
    /// The broker refused a subscription.
    SubscriptionRefused { filter: String, why: String },
    /// A message to a topic group came, and waits for its sender's signature.
    GroupReceived { peer: &'a str, topic: String, count: u64 },
    /// A message to a topic group is not passed on: nothing proves its sender, too many wait, or a member forged it.
    GroupLost { peer: &'a str, topic: Option<String>, reason: &'a str, count: u64 },
    /// The end.
    Stopped { counts: BTreeMap<String, u64> },
}

impl Report for ProxyEvent<'_> {
    fn human(&self, _: &mut dyn std::io::Write) -> std::io::Result<()> {
        Ok(())
    }
}

impl ProxyEvent<'_> {
    fn line(&self) -> String {
        let times = |count: &u64| if *count > 1 { format!(" ({count} times so far)") } else { String::new() };
        match self {
            Self::Listening { peer, tcp, sockets } => {
                let tcp = tcp.map(|address| format!("mqtt://{address}")).into_iter();
                let places: Vec<String> = tcp.chain(sockets.iter().cloned()).collect();
                format!("listening on {} as {peer}", places.join(" and "))
            }
            Self::Connected { broker } => format!("connected to {broker}"),
            Self::Disconnected { broker, why } => format!("no connection to {broker}: {why}; trying again"),
            Self::PeerReady { peer } => format!("{peer} is trusted and can be sent to"),
            Self::PeerLost { peer, why } => format!("{peer} is no longer trusted: {why}"),
            Self::PublishRefused { topic, why, count, .. } => {
                format!("not sent: {topic}: {why}{}", times(count))
            }
            Self::Refused { peer, reason, count } => {
                format!("refused ({reason}) from {}{}", peer.unwrap_or("a stranger"), times(count))
            }
            Self::ClientDropped { reason, count } => {
                format!("a local client dropped: {reason}{}", times(count))
            }
            Self::Dropped { topic, peer, count } => {
                format!(
                    "a message of {peer} on {topic} given up: nobody has subscribed to it{}",
                    times(count)
                )
            }
            Self::Full { waiting } => {
                format!(
                    "{waiting} messages wait for a subscriber; the broker keeps further ones until they are taken"
                )
            }
            Self::StoreWaits { why } => {
                format!("nothing is accepted or delivered for now: {why}; trying again")
            }
            Self::StoreResumed => "there is room on the disk again".to_owned(),
            Self::Queues { outbox, outbox_bytes, oldest_seconds, inbox, confirmed } => format!(
                "waiting: {outbox} for a receipt ({outbox_bytes} bytes, the oldest {oldest_seconds} s), {inbox} to be taken; \
                 confirmed so far: {confirmed}"
            ),
            Self::Lost { peer, count, reason, outgoing, certain, total } => {
                let way = if *outgoing { "to" } else { "from" };
                let perhaps = if *certain { "" } else { "; some may have arrived" };
                format!("lost ({reason}) {way} {peer}: {count} messages, {total} so far{perhaps}")
            }
            Self::LossConfirmed { peer, lost, arrived } => {
                format!("of messages to {peer} that were given up, {lost} are lost and {arrived} had arrived")
            }
            Self::RolledBack { peer, count } => format!(
                "{peer} has seen newer messages than this disk knows of: it is an older copy{}",
                times(count)
            ),
            Self::GroupReceived { peer, topic, count } => {
                format!("a message to a group of {peer} on {topic} waits for its signature{}", times(count))
            }
            Self::GroupLost { peer, topic, reason, count } => {
                let topic = topic.as_ref().map(|topic| format!(" on {topic}")).unwrap_or_default();
                format!("a message to a group of {peer}{topic} not passed on ({reason}){}", times(count))
            }
            Self::StateDropped { kind, count } => format!(
                "{count} stored rows could not be read and were deleted ({kind}); what they were for begins anew"
            ),
            Self::SubscriptionRefused { filter, why } => {
                format!("the broker refused the subscription to {filter}: {why}")
            }
            Self::Stopped { counts } => {
                let counts: Vec<String> =
                    counts.iter().map(|(name, count)| format!("{name}: {count}")).collect();
                format!(
                    "stopped; {}",
                    if counts.is_empty() { "nothing passed".into() } else { counts.join(", ") }
                )
            }
        }
    }
}

/// Says and counts. What a client or a peer can cause any number of times is said when its count is a power of two.
pub(super) struct Journal {
    output: Output,
    /// A handful: every name is written in this program.
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Journal {
    pub(super) fn new(output: Output) -> Self {
        Self { output, counts: Mutex::default() }
    }

    /// Says it. That nobody listens any more ends no daemon.
    pub(super) fn say(&self, event: &ProxyEvent<'_>) {
        if self.output.is_json() {
            let _ = self.output.report(event);
        } else {
            self.output.note(event.line());
        }
    }

    /// Counts it.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.add(name, 1)
    }

    /// Counts many; gives all so far.
    pub(super) fn add(&self, name: &str, many: u64) -> u64 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if many == 0 {
            return counts.get(name).copied().unwrap_or_default();
        }
        let count = counts.entry(name.to_owned()).or_default();
        *count = count.saturating_add(many);
        *count
    }

    /// Messages are lost: said whenever their number passes a power of two.
    pub(super) fn lost(&self, peer: &str, count: u64, reason: &'static str, outgoing: bool, certain: bool) {
        let way = if outgoing { "lost outgoing" } else { "lost incoming" };
        let total = self.add(&format!("{way} {reason}"), count);
        if passes_a_power_of_two(total.saturating_sub(count), total) {
            self.say(&ProxyEvent::Lost { peer, count, reason, outgoing, certain, total });
        }
    }

    /// Counts it, and says so now and then.
    pub(super) fn repeated<'a>(&self, kind: &str, name: &str, event: impl FnOnce(u64) -> ProxyEvent<'a>) {
        let count = self.count(&format!("{kind} {name}"));
        if count.is_power_of_two() {
            self.say(&event(count));
        }
    }

    /// A local client is let go.
    pub(super) fn client_dropped(&self, reason: &'static str) {
        self.repeated("client-dropped", reason, |count| ProxyEvent::ClientDropped { reason, count });
    }

    /// A local client's message is not sealed.
    pub(super) fn publish_refused(&self, topic: &str, refusal: &super::refusal::Refusal) {
        let reason = refusal.name();
        self.repeated("publish-refused", reason, |count| ProxyEvent::PublishRefused {
            topic: harmless(topic),
            reason,
            why: refusal.to_string(),
            count,
        });
    }

    /// How often each thing happened.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last word.
    pub(super) fn stopped(&self) {
        let counts = self.counts();
        self.say(&ProxyEvent::Stopped { counts });
    }
}

/// Whether a power of two is in (before, after].
fn passes_a_power_of_two(before: u64, after: u64) -> bool {
    after.checked_ilog2() > before.checked_ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_said_at_the_powers_of_two() {
        for (before, after, said) in
            [(0, 1, true), (0, 100, true), (5, 7, false), (5, 8, true), (8, 15, false)]
        {
            assert_eq!(passes_a_power_of_two(before, after), said, "{before} to {after}");
        }
    }
}
