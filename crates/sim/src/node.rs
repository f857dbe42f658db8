//! A node: a real endpoint, its provider, its store, and everything it said.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use pqc_iiot_core::audit::{AuditEvent, AuditKind};
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::endpoint::{
    Command, Consume, DeliveryId, Durability, Effect, Endpoint, EndpointConfig, Event, InboxId, Input,
    Message, OperationId, Output, Priority, Publish, RefusalReason, SendFailure, StartError, Status, Ticket,
};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::provider::{ProviderFailure, ProviderRequest, ProviderResponse};
use pqc_iiot_core::store::{Change, RecordKind, Row, RowKey};
use pqc_iiot_core::time::Monotonic;
use pqc_iiot_core::topic::Topic;
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::store::{MemoryStore, Store};

use crate::broker::Packet;
use crate::clock::SimClock;
use crate::crash::{Crash, Mutant};
use crate::identity::Identity;
use crate::peer;

/// The application's row that counts its log.
const COUNT: &[u8] = b"count";

pub(crate) enum ToBroker {
    /// To whom, if it is for one peer.
    Publish(Option<PeerId>, Packet),
    Subscribe(String),
    Refetch(String),
    Acknowledge(DeliveryId),
}

/// Answered in order.
pub(crate) enum ToStore {
    Persist { seq: u64, changes: Vec<Change>, audit: Vec<AuditEvent> },
    Load(OperationId, Vec<RowKey>),
}

/// An endpoint with its surroundings.
pub struct Node {
    identity: Identity,
    config: EndpointConfig,
    backend: Backend,
    clock: SimClock,
    seed: u64,
    starts: u64,
    pub(crate) store: MemoryStore,
    endpoint: Endpoint,
    pub(crate) online: bool,
    /// In this start.
    pub(crate) connected_before: bool,
    timeout: Option<Monotonic>,
    hold_persists: bool,
    pub(crate) held_persists: VecDeque<ToStore>,
    hold_provider: bool,
    held_requests: VecDeque<(OperationId, ProviderRequest)>,
    pub(crate) outbox: VecDeque<ToBroker>,
    pub(crate) tickets: u64,
    consume: bool,
    to_consume: Vec<(InboxId, Vec<u8>)>,
    pub(crate) crash: Crash,
    events: Vec<Event>,
    pub(crate) audit: Vec<AuditEvent>,
    provider_calls: u64,
    loads: u64,
}

/// The durable state of a node, to be compared. The time floor is left out: it moves by itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = |bytes: &[u8]| bytes.iter().fold(7u32, |hash, b| hash.wrapping_mul(31) ^ u32::from(*b));
        let rows = self.0.iter().map(|((kind, key), value)| (*kind, hash(key), hash(value)));
        f.debug_list().entries(rows).finish()
    }
}

impl Node {
    pub(crate) fn start(
        identity: Identity,
        config: EndpointConfig,
        backend: Backend,
        clock: SimClock,
        seed: u64,
        mut store: MemoryStore,
    ) -> Result<Self, StartError> {
        let endpoint = endpoint(&config, backend, seed, Self::found(&mut store, None), &clock)?;
        let mut node = Self {
            identity,
            config,
            backend,
            clock,
            seed,
            starts: 1,
            store,
            endpoint,
            online: false,
            connected_before: false,
            timeout: None,
            hold_persists: false,
            held_persists: VecDeque::new(),
            hold_provider: false,
            held_requests: VecDeque::new(),
            outbox: VecDeque::new(),
            tickets: 0,
            consume: true,
            to_consume: Vec::new(),
            crash: Crash::default(),
            events: Vec::new(),
            audit: Vec::new(),
            provider_calls: 0,
            loads: 0,
        };
        node.drain();
        Ok(node)
    }

    /// Loses everything that is not durable and starts again from the store. The caller connects it.
    pub(crate) fn restart(&mut self) -> Result<(), StartError> {
        self.forget_everything();
        self.starts += 1;
        self.crash.dead = false;
        let seed = self.seed.wrapping_add(self.starts);
        let rows = Self::found(&mut self.store, self.crash.mutant);
        self.endpoint = endpoint(&self.config, self.backend, seed, rows, &self.clock)?;
        self.drain();
        Ok(())
    }

    pub(crate) fn forget_everything(&mut self) {
        self.held_persists.clear();
        self.held_requests.clear();
        self.outbox.clear();
        self.to_consume.clear();
        self.timeout = None;
        self.online = false;
        self.connected_before = false;
    }

    /// Feeds one input and does everything that follows from it, except what is held.
    pub fn input(&mut self, input: Input) {
        if self.crash.dead {
            return;
        }
        self.endpoint.handle(self.clock.now(), input);
        self.drain();
    }

    /// Does whatever there is to do; what is written lazily is written last, one transaction at a time.
    fn drain(&mut self) {
        loop {
            self.take_outputs();
            if !self.crash.lazy || self.hold_persists || self.crash.dead || self.held_persists.is_empty() {
                return;
            }
            if self.crash.strikes() {
                return self.die();
            }
            if let Some(next) = self.held_persists.pop_front() {
                self.write(next);
            }
        }
    }

    /// Does one thing at the store, and tells the endpoint.
    fn write(&mut self, next: ToStore) {
        let answer = match next {
            ToStore::Persist { seq, changes, audit } => {
                self.audit.extend(audit);
                if !self.commit(&changes) {
                    return self.die();
                }
                Input::Persisted(seq)
            }
            ToStore::Load(id, names) => {
                let rows = names.into_iter().filter_map(|RowKey { kind, key }| {
                    let value = self.store.read(kind, &key).expect("only lazy rows are asked for")?;
                    Some(Row { kind, key, value })
                });
                Input::Loaded(id, rows.collect())
            }
        };
        self.endpoint.handle(self.clock.now(), answer);
    }

    fn take_outputs(&mut self) {
        while !self.crash.dead
            && let Some(output) = self.endpoint.poll_output()
        {
            if self.crash.strikes() {
                if let Output::Persist { seq, changes, audit } = output {
                    self.held_persists.push_back(ToStore::Persist { seq, changes, audit });
                }
                return self.die();
            }
            match output {
                Output::Persist { seq, changes, audit } => {
                    self.held_persists.push_back(ToStore::Persist { seq, changes, audit });
                    if self.crash.mutant == Some(Mutant::PersistedEarly) {
                        self.endpoint.handle(self.clock.now(), Input::Persisted(seq));
                    }
                    self.persist();
                }
                Output::Load(id, rows) => {
                    self.loads += 1;
                    self.held_persists.push_back(ToStore::Load(id, rows));
                    self.persist();
                }
                Output::Provider(id, request) => {
                    self.provider_calls += 1;
                    self.held_requests.push_back((id, request));
                    self.execute();
                }
                Output::Transmit(transmit) if !self.online && !transmit.acknowledged() => {}
                Output::Transmit(transmit) => self.outbox.push_back(ToBroker::Publish(
                    transmit.purpose.peer().cloned(),
                    Packet { topic: transmit.topic, payload: transmit.payload, retain: transmit.retain },
                )),
                Output::Subscribe(filter) => self.outbox.push_back(ToBroker::Subscribe(filter)),
                Output::Refetch(filter) => self.outbox.push_back(ToBroker::Refetch(filter)),
                Output::Acknowledge(id) => self.outbox.push_back(ToBroker::Acknowledge(id)),
                Output::Withdraw(peer) => self.outbox.retain(|message| match message {
                    ToBroker::Publish(to, _) => to.as_ref() != Some(&peer),
                    _ => true,
                }),
                Output::Event(event) => {
                    if let Event::Message(Message { id: Some(id), content, .. }) = &event {
                        self.to_consume.push((*id, content.payload.clone()));
                    }
                    self.events.push(event);
                }
                Output::Timeout(at) => self.timeout = Some(at),
                _ => panic!("an output that the simulation does not know"),
            }
        }
        if self.consume && !self.to_consume.is_empty() {
            self.consume_now();
            self.take_outputs();
        }
    }

    /// From now on messages are consumed at once (the default), or only by [`Node::consume_all`].
    pub fn consume_at_once(&mut self, consume: bool) {
        self.consume = consume;
    }

    /// Consumes everything told in this start and not consumed yet.
    pub fn consume_all(&mut self) {
        self.consume_now();
        self.drain();
    }

    fn consume_now(&mut self) {
        // The application's log: entries under ascending numbers, and how many there are.
        let count = self.endpoint.application_row(COUNT).and_then(|row| row.try_into().ok());
        let mut count = count.map_or(0, u64::from_be_bytes);
        let (mut messages, mut effects) = (Vec::new(), Vec::new());
        for (id, payload) in std::mem::take(&mut self.to_consume) {
            count += 1;
            messages.push(id);
            effects.push(Effect::put(&count.to_be_bytes(), &payload).expect("a small message"));
        }
        effects.push(Effect::put(COUNT, &count.to_be_bytes()).expect("a small row"));
        self.tickets += 1;
        let consume = Consume { ticket: Ticket(self.tickets), messages, effects };
        self.endpoint.handle(self.clock.now(), Input::Command(Command::Consume(consume)));
    }

    fn persist(&mut self) {
        while !self.hold_persists
            && !self.crash.lazy
            && let Some(next) = self.held_persists.pop_front()
        {
            self.write(next);
        }
    }

    fn execute(&mut self) {
        while !self.hold_provider
            && let Some((id, request)) = self.held_requests.pop_front()
        {
            let result: Result<ProviderResponse, ProviderFailure> = self.identity.provider().execute(request);
            self.endpoint.handle(self.clock.now(), Input::Provided(id, result));
        }
    }

    /// From now on nothing becomes durable and nothing is read, until called with `false`.
    pub fn hold_persists(&mut self, hold: bool) {
        self.hold_persists = hold;
        self.persist();
        self.drain();
    }

    /// Makes the oldest `count` of what is held durable, and what follows from it; nothing after them. False if there were
    /// fewer.
    pub fn release_persists(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(next) = self.held_persists.pop_front() else { return false };
            self.write(next);
            self.drain();
        }
        true
    }

    /// From now on the provider does not answer, until called with `false`.
    pub fn hold_provider(&mut self, hold: bool) {
        self.hold_provider = hold;
        self.execute();
        self.drain();
    }

    /// Answers the oldest `count` of what the provider is held back with, and nothing after them.
    pub fn release_provider(&mut self, count: usize) {
        for _ in 0..count {
            let Some((id, request)) = self.held_requests.pop_front() else { return };
            let result = self.identity.provider().execute(request);
            self.endpoint.handle(self.clock.now(), Input::Provided(id, result));
            self.drain();
        }
    }

    pub(crate) fn due(&self) -> Option<Monotonic> {
        self.timeout
    }

    pub(crate) fn fire(&mut self) {
        self.timeout = None;
        self.input(Input::Timeout);
    }

    /// Its name.
    pub fn id(&self) -> &PeerId {
        &self.identity.peer
    }

    /// Its keys: a clone is a stolen copy.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gives the endpoint another certificate for the same keys; in force from the next restart.
    pub fn install_certificate(&mut self, certificate: Vec<u8>) {
        self.identity.certificate.clone_from(&certificate);
        self.config.certificate = certificate;
    }

    /// Follows a peer.
    pub fn add_peer(&mut self, id: &str) {
        self.input(Input::Command(Command::AddPeer(peer(id))));
    }

    /// Publishes telemetry on stream 0.
    pub fn publish(&mut self, to: &str, topic: &str, payload: impl Into<Vec<u8>>) -> Ticket {
        self.publish_content(to, topic, Content::telemetry(payload))
    }

    /// Publishes any content on stream 0.
    pub fn publish_content(&mut self, to: &str, topic: &str, content: Content) -> Ticket {
        self.publish_noting(to, topic, content, Vec::new())
    }

    /// As [`Node::publish_content`], changing the application's own rows in the same transaction.
    pub fn publish_noting(
        &mut self,
        to: &str,
        topic: &str,
        content: Content,
        effects: Vec<Effect>,
    ) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let topic = Topic::new(topic).expect("a valid topic");
        let publish = Publish {
            ticket,
            peer: peer(to),
            topic,
            stream: StreamId::default(),
            content,
            durability: Durability::Durable,
            priority: Priority::Normal,
            effects,
        };
        self.input(Input::Command(Command::Publish(publish)));
        ticket
    }

    /// Every message delivered to the application so far.
    pub fn inbox(&self) -> Vec<&Message> {
        let messages = self.events.iter().filter_map(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        });
        messages.collect()
    }

    /// The payloads of [`Node::inbox`], as text.
    pub fn received(&self) -> Vec<String> {
        let text = |message: &&Message| String::from_utf8_lossy(&message.content.payload).into_owned();
        self.inbox().iter().map(text).collect()
    }

    /// How often this was refused, over all starts.
    pub fn refused(&self, reason: RefusalReason) -> usize {
        let of = |event: &&Event| matches!(event, Event::Refused { reason: why, .. } if *why == reason);
        self.events.iter().filter(of).count()
    }

    /// All refusals, in order.
    pub fn refusals(&self) -> Vec<RefusalReason> {
        let reason = |event: &Event| match event {
            Event::Refused { reason, .. } => Some(*reason),
            _ => None,
        };
        self.events.iter().filter_map(reason).collect()
    }

    /// The reason for which a publish failed, if it did.
    pub fn send_failure(&self, of: Ticket) -> Option<SendFailure> {
        self.events.iter().find_map(|event| match event {
            Event::SendFailed { ticket, reason } if *ticket == of => Some(*reason),
            _ => None,
        })
    }

    /// Every event so far, over all starts.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Whether a peer was ever reported ready.
    pub fn was_ready(&self, id: &str) -> bool {
        self.events.iter().any(|event| matches!(event, Event::PeerReady { peer, .. } if peer.as_str() == id))
    }

    /// Every audit event that became durable.
    pub fn audit(&self) -> &[AuditEvent] {
        &self.audit
    }

    /// How many durable audit events are of this kind.
    pub fn audited(&self, kind: AuditKind) -> usize {
        self.audit.iter().filter(|event| event.kind == kind).count()
    }

    /// How often the provider was asked for anything.
    pub fn provider_calls(&self) -> u64 {
        self.provider_calls
    }

    /// How often the store was asked for rows.
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// The endpoint's own summary.
    pub fn status(&self) -> Status {
        self.endpoint.status()
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Everything durable but the time floor.
    pub fn snapshot(&mut self) -> Snapshot {
        let rows = self.store.rows();
        let rows = rows.into_iter().filter(|row| row.kind != RecordKind::TimeFloor);
        Snapshot(rows.map(|row| ((row.kind, row.key), row.value)).collect())
    }

    /// A copy of the disk.
    pub fn disk(&self) -> MemoryStore {
        self.store.clone()
    }

    /// Replaces the disk; in force from the next restart.
    pub fn replace_disk(&mut self, disk: MemoryStore) {
        self.store = disk;
    }
}

fn endpoint(
    config: &EndpointConfig,
    backend: Backend,
    seed: u64,
    rows: Vec<Row>,
    clock: &SimClock,
) -> Result<Endpoint, StartError> {
    Endpoint::new(config.clone(), backend, Box::new(SeededRandom::new(seed)), &rows, clock.now())
}
