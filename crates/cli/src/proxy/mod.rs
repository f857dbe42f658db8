//! Plain MQTT inside the machine, sealed outside: a small MQTT server for local clients in front of one
//! [`SecureMqttClient`].
//!
//! ```text
//!   local client ──► session ──► publisher ──► sealer ──► SecureMqttClient ──► broker
//!                       ▲                                        │
//!                       └────── deliveries ◄── hub ◄─────────────┘
//! ```
//!
//! Each connection is a task of its own (`session`), each client's publishes another (`publisher`); the `hub` holds what
//! was received until it is taken. The protocol itself is the library's (`wire`), our own is who gets what. Everything a
//! local client can make the proxy hold has a bound in `limits`.

mod access;
mod answer;
mod delivery;
mod groups;
mod hub;
mod incoming;
mod input;
mod limits;
mod listen;
mod live;
mod outer;
mod peers;
mod publisher;
mod refusal;
mod report;
mod routes;
mod sealer;
mod session;
mod subscribe;
mod wire;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pqc_iiot_core::endpoint::{Event, Message};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_mqtt::client::{ClientEvent, Events, SecureMqttClient};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub(crate) use access::Access;
pub(crate) use incoming::{
    CLASS, COUNTER, EPOCH, GID, NAME, ORIGIN, PEER, PROTECTION, SEQUENCE, STREAM, VERIFIED, WARNING,
    user_properties,
};
pub(crate) use listen::{Socket, tcp};
pub(crate) use live::{Live, STATUS};
pub(crate) use report::ProxyEvent;
pub(crate) use routes::{Route, Routes};

use crate::commands::client;
use crate::commands::unproved::Unproved;
use crate::error::Result;
use crate::output::{Output, harmless};
use hub::{Hub, Outcome, Room, Seat};
use limits::{DRAIN_PATIENCE, MAX_CLIENTS};
use outer::Outer;
use peers::Peers;
use report::Journal;
use sealer::Sealer;

/// How often it says what waits, if that changed.
const QUEUES_EVERY: std::time::Duration = std::time::Duration::from_secs(30);
/// Under which name receipts are counted.
const CONFIRMED: &str = "confirmed";

/// What a proxy is told.
pub(crate) struct Settings {
    pub(crate) routes: Routes,
    /// Peers whose messages are accepted, beside those of the routes.
    pub(crate) from: Vec<PeerId>,
    /// Filters that are subscribed to whether or not a local client is there.
    pub(crate) subscribe: Vec<TopicFilter>,
}

/// A running proxy.
pub(crate) struct Proxy {
    client: SecureMqttClient,
    broker: String,
    hub: Arc<Hub>,
    /// What came to topic groups and waits for proof.
    unproved: Mutex<Unproved>,
    outer: Outer,
    peers: Arc<Peers>,
    sealer: Sealer,
    access: Option<Access>,
    journal: Journal,
    places: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
    publishers: watch::Sender<usize>,
    names: AtomicU64,
}

impl Proxy {
    /// A proxy in front of `client`.
    pub(crate) fn new(
        client: SecureMqttClient,
        broker: String,
        output: Output,
        settings: &Settings,
        access: Option<Access>,
    ) -> Arc<Self> {
        let hub = Arc::new(Hub::new(settings.subscribe.clone()));
        let peers = Arc::new(Peers::new(client.clone()));
        Arc::new(Self {
            outer: Outer::new(client.clone(), Arc::clone(&hub)),
            sealer: Sealer::new(client.clone(), Arc::clone(&peers), settings.routes.clone()),
            access,
            journal: Journal::new(output),
            places: Arc::new(Semaphore::new(MAX_CLIENTS)),
            stopping: watch::Sender::new(false),
            publishers: watch::Sender::new(0),
            names: AtomicU64::new(0),
            client,
            broker,
            unproved: Mutex::default(),
            hub,
            peers,
        })
    }

    /// Serves until `stop` resolves or the client fails, then ends in good order: what local clients have handed over is
    /// answered first, within bounds.
    pub(crate) async fn run(
        self: Arc<Self>,
        events: &mut Events,
        settings: &Settings,
        tcp: Option<TcpListener>,
        sockets: Vec<Socket>,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        let listening = ProxyEvent::Listening {
            peer: self.client.peer_id().as_str(),
            tcp: tcp.as_ref().and_then(|listener| listener.local_addr().ok()),
            sockets: sockets.iter().map(|socket| socket.path().display().to_string()).collect(),
        };
        self.journal.say(&listening);
        let mut accepting = tokio::task::JoinSet::new();
        if let Some(listener) = tcp {
            accepting.spawn(listen::accept_tcp(listener, Arc::clone(&self)));
        }
        for socket in sockets {
            accepting.spawn(listen::accept_unix(socket, Arc::clone(&self)));
        }
        let starting = self.clone().start(settings);
        let result = tokio::select! {
            result = self.pump(events) => result,
            never = starting => match never {},
            () = stop => Ok(()),
        };
        // Nobody new; the sockets vanish.
        accepting.shutdown().await;
        self.stopping.send_replace(true);
        self.peers.give_up();
        let drained = async {
            let all = u32::try_from(MAX_CLIENTS).unwrap_or(u32::MAX);
            let _ = self.places.acquire_many(all).await;
            let _ = self.publishers.subscribe().wait_for(|running| *running == 0).await;
        };
        tokio::select! {
            // A little longer than each client by itself.
            _ = tokio::time::timeout(DRAIN_PATIENCE * 2, drained) => {}
            // Receipts come as events, and the client must not wait for us.
            _ = discard(events) => {}
        }
        self.client.shutdown().await;
        self.journal.stopped();
        result
    }

    /// Follows the configured peers and filters; never ends.
    async fn start(self: Arc<Self>, settings: &Settings) -> std::convert::Infallible {
        let routed = settings.routes.0.iter().flat_map(|route| &route.peers);
        for peer in routed.chain(&settings.from) {
            if let Err(refusal) = self.peers.follow(peer).await {
                self.journal.publish_refused(peer.as_str(), &refusal);
            }
        }
        self.refused_subscriptions().await;
        self.tell_queues().await
    }

    /// Says what waits, whenever that changed since it was said last; never ends.
    async fn tell_queues(&self) -> std::convert::Infallible {
        let mut tick = tokio::time::interval(QUEUES_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = (0, 0, 0);
        loop {
            tick.tick().await;
            let Some(status) = self.client.status().await else { std::future::pending().await };
            let (outbox, inbox) = (status.endpoint.outbox, status.endpoint.inbox);
            let confirmed = self.journal.add(CONFIRMED, 0);
            let now = (outbox.messages, inbox.messages, confirmed);
            if std::mem::replace(&mut said, now) != now {
                self.journal.say(&ProxyEvent::Queues {
                    outbox: outbox.messages,
                    outbox_bytes: outbox.bytes,
                    oldest_seconds: outbox.oldest.as_secs(),
                    inbox: inbox.messages,
                    confirmed,
                });
            }
        }
    }

    async fn refused_subscriptions(&self) {
        for filter in self.outer.follow().await {
            let why = "see its access control list".to_owned();
            self.journal.say(&ProxyEvent::SubscriptionRefused { filter: harmless(filter.as_str()), why });
        }
    }

    /// Brings the subscriptions at the broker in step, in the background.
    fn follow_subscriptions(self: &Arc<Self>) {
        let proxy = Arc::clone(self);
        tokio::spawn(async move { proxy.refused_subscriptions().await });
    }

    /// Takes the client's events, messages as there is room for them.
    async fn pump(&self, events: &mut Events) -> Result<()> {
        let mut connected = true;
        let mut full = false;
        loop {
            let (room, outcome) = self.hub.room();
            self.settle(outcome);
            if let Room::After(at) = room {
                if at.is_none() && !std::mem::replace(&mut full, true) {
                    self.journal.say(&ProxyEvent::Full { waiting: self.hub.waiting() });
                }
                let moved = self.hub.moved.notified();
                match at {
                    Some(at) => drop(tokio::time::timeout_at(at, moved).await),
                    None => moved.await,
                }
                continue;
            }
            full = false;
            let Some(event) = events.recv().await else { return Ok(()) };
            self.take(event, &mut connected)?;
        }
    }

    fn take(&self, event: ClientEvent, connected: &mut bool) -> Result<()> {
        match event {
            ClientEvent::Protocol(Event::Message(message)) => {
                self.journal.count("received");
                self.hub.deliver(message);
            }
            ClientEvent::Protocol(
                event @ (Event::GroupMessage { .. }
                | Event::GroupVerified { .. }
                | Event::GroupUnproved { .. }
                | Event::GroupForged { .. }),
            ) => self.group(event),
            ClientEvent::Protocol(event) => self.protocol(event)?,
            ClientEvent::Connected { .. } => {
                *connected = true;
                self.journal.say(&ProxyEvent::Connected { broker: &self.broker });
            }
            ClientEvent::Disconnected { error } => {
                if std::mem::replace(connected, false) {
                    let why = harmless(&error.to_string());
                    self.journal.say(&ProxyEvent::Disconnected { broker: &self.broker, why });
                }
            }
            ClientEvent::SubscriptionRefused { filter, error } => {
                let (filter, why) = (harmless(&filter), error.to_string());
                self.journal.say(&ProxyEvent::SubscriptionRefused { filter, why });
            }
            ClientEvent::StoreWaits { reason } => self.journal.say(&ProxyEvent::StoreWaits { why: reason }),
            ClientEvent::StoreResumed => self.journal.say(&ProxyEvent::StoreResumed),
            event => client::fatal(&event)?,
        }
        Ok(())
    }

    fn protocol(&self, event: Event) -> Result<()> {
        self.peers.note(&event);
        match &event {
            Event::PeerReady { peer, .. } => self.journal.say(&ProxyEvent::PeerReady { peer: peer.as_str() }),
            Event::PeerLost { peer, reason } => {
                let why = client::loss(*reason);
                self.journal.say(&ProxyEvent::PeerLost { peer: peer.as_str(), why });
            }
            Event::Refused { reason, peer } => {
                let (reason, peer) = (reason.name(), peer.as_ref().map(PeerId::as_str));
                self.journal.repeated("refused", reason, |count| ProxyEvent::Refused { peer, reason, count });
            }
            Event::Delivered { count, .. } => {
                self.journal.add(CONFIRMED, *count as u64);
            }
            Event::Lost { peer, count, reason, outgoing, certain, .. } => {
                self.journal.lost(peer.as_str(), *count, reason.name(), *outgoing, *certain);
            }
            Event::LossConfirmed { peer, lost, arrived, .. } => {
                let peer = peer.as_str();
                self.journal.say(&ProxyEvent::LossConfirmed { peer, lost: *lost, arrived: *arrived });
            }
            Event::StateDropped { kind, count, .. } => {
                self.journal.say(&ProxyEvent::StateDropped { kind: format!("{kind:?}"), count: *count });
            }
            Event::RolledBack { peer, .. } => {
                let peer = peer.as_str();
                self.journal.repeated("rolled-back", "seen", |count| ProxyEvent::RolledBack { peer, count });
            }
            _ => client::fatal(&ClientEvent::Protocol(event))?,
        }
        Ok(())
    }

    /// What became of messages that were held.
    fn settle(&self, outcome: Outcome) {
        for message in &outcome.consumed {
            self.journal.count("delivered");
            self.consumed(message);
        }
        for message in &outcome.dropped {
            self.journal.repeated("dropped", "unclaimed", |count| ProxyEvent::Dropped {
                topic: harmless(&message.topic),
                peer: message.peer.as_str(),
                count,
            });
            self.consumed(message);
        }
    }

    /// The message need not be kept any longer: from here on nobody would get it again.
    fn consumed(&self, message: &Message) {
        if let Some(id) = message.id {
            self.client.consume_later(id);
        }
    }

    /// A client went.
    fn leave(self: &Arc<Self>, seat: Seat) {
        self.settle(self.hub.leave(seat));
        self.follow_subscriptions();
    }

    /// A name for a client that has none.
    fn client_id(&self) -> String {
        format!("local-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts a publisher for as long as the answer lives.
    fn working(self: &Arc<Self>) -> Working {
        self.publishers.send_modify(|running| *running += 1);
        Working(Arc::clone(self))
    }
}

struct Working(Arc<Proxy>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.publishers.send_modify(|running| *running -= 1);
    }
}

async fn discard(events: &mut Events) {
    while events.recv().await.is_some() {}
}
