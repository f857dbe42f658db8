//! The task that feeds the endpoint and carries out what it asks for.

mod batch;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use pqc_iiot_core::endpoint::{
    Command, Consume, DeliveryId, Endpoint, Event, InboxId, Input, OperationId, Output, Purpose, Ticket,
};
use pqc_iiot_core::time::{Monotonic, Now, UnixTime};
use pqc_iiot_provider::datadir::DataDir;
use pqc_iiot_provider::store::{Completion, Writer, WriterError};

use super::acks::Acks;
use super::event::{ClientEvent, Taken};
use super::handle::{ClientStatus, PublishError, Request, Sender, Work};
use super::open::Storage;
use super::outgoing::{Finished, Outgoing};
use super::provider_thread::{Answer, ProviderThread};
use crate::transport::{self, Qos, SubscribeError, Transport};

/// Operations and writes under way at which no more input is fed to the endpoint.
const MAX_BACKLOG: usize = 256;
/// Deliveries taken from the transport and not yet fed; beyond it QoS 0 is dropped.
const MAX_INBOUND: usize = 512;
/// The same in bytes; beyond it nothing more is read.
const MAX_INBOUND_BYTES: usize = 64 * 1024 * 1024;
/// Packets handed over to the transport or waiting for it, at which the endpoint is asked for no more messages.
const MAX_OUTGOING: usize = 256;
/// How long a shutdown waits for outstanding acknowledgements.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
/// How long it waits for the application to be done with the message it took last.
const IN_HAND_WAIT: Duration = Duration::from_millis(200);

/// The host's clocks.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: Monotonic(self.0.elapsed()), wall: UnixTime(wall.as_secs()) }
    }

    fn instant(self, at: Monotonic) -> tokio::time::Instant {
        (self.0 + at.0.min(Duration::from_secs(86_400 * 365))).into()
    }
}

pub(super) struct Driver {
    endpoint: Endpoint,
    clock: Clock,
    transport: Transport,
    network: transport::Events,
    provider: ProviderThread,
    answers: mpsc::UnboundedReceiver<Answer>,
    writer: Writer,
    durable: mpsc::UnboundedReceiver<Completion>,
    requests: mpsc::Receiver<Request>,
    work: mpsc::Receiver<Work>,
    events: mpsc::Sender<ClientEvent>,
    /// Events the application has not made room for. Messages among them are in the inbox, whose bound holds for them.
    undelivered: VecDeque<ClientEvent>,
    /// How many of them there may be before nothing received is fed.
    max_undelivered: usize,
    /// On control topics: fed before anything else, so that no flood of messages delays a revocation.
    control: VecDeque<(DeliveryId, Received)>,
    inbound: VecDeque<(DeliveryId, Received)>,
    inbound_bytes: usize,
    dropped: u64,
    acks: Acks,
    outgoing: Outgoing,
    subscriptions: mpsc::UnboundedSender<(String, bool)>,
    tickets: HashMap<Ticket, Sender>,
    consumers: HashMap<Ticket, oneshot::Sender<()>>,
    consumed: mpsc::UnboundedReceiver<InboxId>,
    taken: Arc<Taken>,
    last_ticket: u64,
    /// What the endpoint was last told that the transport takes.
    room: usize,
    deadline: Option<tokio::time::Instant>,
    connected_before: bool,
    /// Why nothing becomes durable at present.
    store_waits: Option<String>,
    closing: Option<Closing>,
    /// Held for its lock.
    _directory: Option<DataDir>,
}

enum Received {
    Message { topic: String, payload: bytes::Bytes },
    Oversized { topic: String },
}

impl Received {
    fn len(&self) -> usize {
        match self {
            Self::Message { payload, .. } => payload.len(),
            Self::Oversized { .. } => 0,
        }
    }

    fn into_input(self, delivery: DeliveryId) -> Input {
        match self {
            Self::Message { topic, payload } => Input::Receive { delivery, topic, payload: payload.into() },
            Self::Oversized { topic } => Input::Oversized { delivery, topic },
        }
    }
}

struct Closing {
    done: oneshot::Sender<()>,
    closed: bool,
    /// How long the application may take for the message it has in hand.
    in_hand: tokio::time::Instant,
    until: tokio::time::Instant,
}

/// Why the driver stopped.
enum Stop {
    Shutdown,
    StoreFailed(String),
    Gone,
}

impl Driver {
    #[allow(clippy::too_many_arguments, reason = "assembled in one place")]
    pub(super) fn new(
        endpoint: Endpoint,
        clock: Clock,
        transport: Transport,
        network: transport::Events,
        provider: ProviderThread,
        answers: mpsc::UnboundedReceiver<Answer>,
        storage: Storage,
        requests: mpsc::Receiver<Request>,
        work: mpsc::Receiver<Work>,
        events: mpsc::Sender<ClientEvent>,
        (consumed, taken): (mpsc::UnboundedReceiver<InboxId>, Arc<Taken>),
        (window, max_undelivered): (usize, usize),
    ) -> Result<Self, WriterError> {
        let (subscriptions, filters) = mpsc::unbounded_channel();
        tokio::spawn(subscribe_in_order(transport.clone(), events.clone(), filters));
        let (durable_sender, durable) = mpsc::unbounded_channel();
        let completed = move |completion| {
            let _ = durable_sender.send(completion);
        };
        let writer = Writer::spawn(storage.store, Some(storage.audit), Box::new(completed))?;
        Ok(Self {
            endpoint,
            clock,
            transport,
            network,
            provider,
            answers,
            writer,
            durable,
            requests,
            work,
            events,
            undelivered: VecDeque::new(),
            max_undelivered,
            control: VecDeque::new(),
            inbound: VecDeque::new(),
            inbound_bytes: 0,
            dropped: 0,
            acks: Acks::default(),
            outgoing: Outgoing::new(window),
            subscriptions,
            tickets: HashMap::new(),
            consumers: HashMap::new(),
            consumed,
            taken,
            room: usize::MAX,
            last_ticket: 0,
            deadline: None,
            connected_before: false,
            store_waits: None,
            closing: None,
            _directory: storage.directory,
        })
    }

    pub(super) async fn run(mut self) {
        let stop = loop {
            if let Err(stop) = self.turn() {
                break stop;
            }
            if let Err(stop) = self.wait().await {
                break stop;
            }
        };
        if let Stop::StoreFailed(reason) = stop {
            tracing::error!(%reason, "state could not be written: the client stops");
            // Everything else ends now, whether or not the application takes this: publishers and whoever opens the
            // directory next must not wait for it.
            let events = self.events.clone();
            let _ = tokio::task::spawn_blocking(move || drop(self)).await;
            let _ = events.send(ClientEvent::StoreFailed { reason }).await;
            return;
        }
        self.transport.close(SHUTDOWN_WAIT).await;
        // Everything was answered as durable, or the shutdown's time is over: the writer flushes what is left.
        let Self { writer, closing, _directory: directory, .. } = self;
        let flushed = tokio::task::spawn_blocking(move || writer.shutdown()).await;
        if let Ok(Err(error)) = flushed {
            tracing::error!(%error, "what was not accepted yet at the shutdown is not on disk");
        }
        // Whoever waits for the shutdown may open the directory again at once.
        drop(directory);
        if let Some(closing) = closing {
            let _ = closing.done.send(());
        }
    }

    /// Everything that can be done without waiting.
    fn turn(&mut self) -> Result<(), Stop> {
        loop {
            self.drain()?;
            let can_feed =
                self.undelivered.len() < self.max_undelivered && self.endpoint.backlog() < MAX_BACKLOG;
            let next = match can_feed {
                false => None,
                // Out of budget, messages wait here and not in the endpoint, which would have to drop some.
                true if self.endpoint.is_congested() => self.control.pop_front(),
                true => self.control.pop_front().or_else(|| self.inbound.pop_front()),
            };
            let Some((delivery, inbound)) = next else { break };
            self.inbound_bytes -= inbound.len();
            self.feed(inbound.into_input(delivery));
        }
        while let Some(finished) = self.outgoing.submit(&self.transport) {
            self.finish(finished);
        }
        let room = MAX_OUTGOING.saturating_sub(self.outgoing.len());
        if room != self.room {
            self.room = room;
            self.feed(Input::Room(room));
            self.drain()?;
            while let Some(finished) = self.outgoing.submit(&self.transport) {
                self.finish(finished);
            }
        }
        match &self.closing {
            Some(closing) if closing.closed && self.is_at_rest() => Err(Stop::Shutdown),
            _ => Ok(()),
        }
    }

    /// Whether a shutdown has nothing more to wait for.
    fn is_at_rest(&self) -> bool {
        // Without a link, what is under way waits in the outbox.
        let sent = self.outgoing.len() == 0 || !self.transport.is_connected();
        let in_hand =
            self.closing.as_ref().is_some_and(|closing| tokio::time::Instant::now() < closing.in_hand);
        self.endpoint.backlog() == 0 && sent && (self.taken.is_consumed() || !in_hand)
    }

    /// One thing that had to be waited for.
    async fn wait(&mut self) -> Result<(), Stop> {
        let waiting = self.control.len() + self.inbound.len();
        let read = self.inbound_bytes < MAX_INBOUND_BYTES && waiting < 2 * MAX_INBOUND;
        let accept = self.closing.is_none();
        let room = self.endpoint.backlog() < MAX_BACKLOG;
        let until = self.closing.as_ref().map(|closing| closing.until);
        let in_hand = self.closing.as_ref().map(|closing| closing.in_hand);
        let in_hand = in_hand.filter(|at| *at > tokio::time::Instant::now());
        let events = self.events.clone();
        tokio::select! {
            event = self.network.recv(), if read => match event {
                Some(event) => self.network_event(event),
                None => return Err(Stop::Gone),
            },
            Some(request) = self.requests.recv(), if accept => self.request(request),
            Some(work) = self.work.recv(), if accept && room => self.work(work),
            Some((id, result)) = self.answers.recv() => self.feed(Input::Provided(id, result)),
            Some(completion) = self.durable.recv() => self.completed(completion)?,
            Some(message) = self.consumed.recv() => self.consume(message),
            finished = self.outgoing.finished() => self.finish(finished),
            permit = events.reserve(), if !self.undelivered.is_empty() => {
                if let (Ok(permit), Some(event)) = (permit, self.undelivered.pop_front()) {
                    permit.send(event);
                } else {
                    // The application dropped its events: it wants none.
                    self.undelivered.clear();
                }
            },
            () = sleep_until(self.deadline) => {
                self.deadline = None;
                self.feed(Input::Timeout);
            },
            () = sleep_until(in_hand) => {}
            () = sleep_until(until) => return Err(Stop::Shutdown),
        }
        self.take_ready()
    }

    fn completed(&mut self, completion: Completion) -> Result<(), Stop> {
        match completion {
            Completion::Durable(seq) => {
                if self.store_waits.take().is_some() {
                    tracing::warn!("the store writes again");
                    self.tell(ClientEvent::StoreResumed);
                }
                self.feed(Input::Persisted(seq));
            }
            Completion::Read { token, rows } => self.feed(Input::Loaded(OperationId(token), rows)),
            Completion::Waiting(error) => {
                tracing::error!(%error, "the store waits");
                let reason = error.to_string();
                // It may be told once for the log and once for the rows.
                if self.store_waits.replace(reason.clone()).is_none() {
                    self.tell(ClientEvent::StoreWaits { reason });
                }
            }
            Completion::Failed(error) => return Err(Stop::StoreFailed(error.to_string())),
            _ => {}
        }
        Ok(())
    }

    fn feed(&mut self, input: Input) {
        self.endpoint.handle(self.clock.now(), input);
    }

    fn drain(&mut self) -> Result<(), Stop> {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Persist { seq, changes, audit } => {
                    let submitted = self.writer.submit(seq, self.clock.now().wall, changes, audit);
                    submitted.map_err(|error| Stop::StoreFailed(error.to_string()))?;
                }
                Output::Load(OperationId(token), rows) => {
                    let asked = self.writer.read(token, rows);
                    asked.map_err(|error| Stop::StoreFailed(error.to_string()))?;
                }
                Output::Provider(id, request) => {
                    let gone = || Stop::StoreFailed("the provider's thread ended".into());
                    self.provider.submit(id, request).ok_or_else(gone)?;
                }
                Output::Transmit(transmit) if !transmit.acknowledged() && !self.transport.is_connected() => {}
                Output::Transmit(transmit) => self.outgoing.push(transmit),
                Output::Withdraw(peer) => self.outgoing.withdraw(&peer),
                Output::Subscribe(filter) => self.subscribe(filter, false),
                Output::Refetch(filter) => self.subscribe(filter, true),
                Output::Acknowledge(delivery) => {
                    let transport = &self.transport;
                    self.acks.finished(delivery, |token| transport.acknowledge(token));
                }
                Output::Event(event) => self.protocol_event(event),
                Output::Timeout(at) => self.deadline = Some(self.clock.instant(at)),
                _ => {}
            }
        }
        Ok(())
    }

    fn protocol_event(&mut self, event: Event) {
        match event {
            Event::Accepted { ticket, durable } => {
                if let Some(sender) = self.tickets.get_mut(&ticket) {
                    sender.accept();
                    if !durable {
                        self.resolve(ticket, Ok(()));
                    }
                }
            }
            Event::GroupChanged { ticket } => {
                if let Some(sender) = self.tickets.get_mut(&ticket) {
                    sender.accept();
                }
                self.resolve(ticket, Ok(()));
            }
            Event::Delivered { peer, stream, count, mut tickets } => {
                for ticket in tickets.drain(..) {
                    self.resolve(ticket, Ok(()));
                }
                self.tell(ClientEvent::Protocol(Event::Delivered { peer, stream, count, tickets }));
            }
            Event::Consumed { ticket } => {
                if let Some(done) = self.consumers.remove(&ticket) {
                    let _ = done.send(());
                }
            }
            Event::SendFailed { ticket, reason } => self.resolve(ticket, Err(reason.into())),
            Event::Message(_) if self.closing.is_some() => {
                // It is in the inbox, and told again at the next start.
            }
            Event::Closed => {
                if let Some(closing) = &mut self.closing {
                    closing.closed = true;
                }
            }
            event => self.tell(ClientEvent::Protocol(event)),
        }
    }

    fn tell(&mut self, event: ClientEvent) {
        if self.undelivered.is_empty() {
            match self.events.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => self.undelivered.push_back(event),
            }
        } else {
            self.undelivered.push_back(event);
        }
    }

    fn network_event(&mut self, event: transport::Event) {
        match event {
            transport::Event::Connected { tls, .. } => {
                // The transport renews subscriptions; only a new process has to make them.
                let session_present = std::mem::replace(&mut self.connected_before, true);
                self.feed(Input::Connected { session_present });
                self.tell(ClientEvent::Connected { tls });
            }
            transport::Event::Disconnected { error } => {
                tracing::debug!(%error, "disconnected");
                self.outgoing.link_down();
                self.feed(Input::Disconnected);
                self.tell(ClientEvent::Disconnected { error });
            }
            transport::Event::Message(inbound) => {
                if inbound.qos == Qos::AtMostOnce && self.inbound.len() >= MAX_INBOUND {
                    self.dropped += 1;
                    return;
                }
                let delivery = self.acks.arrived(inbound.token);
                self.inbound_bytes += inbound.payload.len();
                let control = self.endpoint.topics().is_control(&inbound.topic);
                let queue = if control { &mut self.control } else { &mut self.inbound };
                queue.push_back((
                    delivery,
                    Received::Message { topic: inbound.topic, payload: inbound.payload },
                ));
            }
            transport::Event::Oversized { topic, token, .. } => {
                if self.inbound.len() >= MAX_INBOUND {
                    // More than a broker's window of QoS 1: this one expects no acknowledgement, or its broker is
                    // hostile.
                    self.dropped += 1;
                    self.transport.acknowledge(token);
                    return;
                }
                // In its turn, like any delivery: a flood must not outgrow what the application takes.
                let delivery = self.acks.arrived(token);
                self.inbound.push_back((delivery, Received::Oversized { topic }));
            }
            transport::Event::SubscriptionRefused { filter, error } => {
                self.tell(ClientEvent::SubscriptionRefused { filter, error });
            }
        }
    }

    fn subscribe(&self, filter: String, again: bool) {
        // The task ends only with the transport, and nothing is subscribed to after that.
        let _ = self.subscriptions.send((filter, again));
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Status(answer) => {
                let _ = answer.send(ClientStatus {
                    endpoint: self.endpoint.status(),
                    connected: self.transport.is_connected(),
                    store_waits: self.store_waits.clone(),
                    unacknowledged: self.acks.len(),
                    outgoing: self.outgoing.len(),
                    dropped: self.dropped,
                });
            }
            Request::Row(key, answer) => {
                let _ = answer.send(self.endpoint.application_row(&key).map(<[u8]>::to_vec));
            }
            Request::Shutdown(done) => {
                // What was queued before goes first.
                for _ in 0..self.work.len() {
                    if let Ok(work) = self.work.try_recv() {
                        self.work(work);
                    }
                }
                if let Ok(message) = self.consumed.try_recv() {
                    self.consume(message);
                }
                let now = tokio::time::Instant::now();
                let (in_hand, until) = (now + IN_HAND_WAIT, now + SHUTDOWN_WAIT);
                self.closing = Some(Closing { done, closed: false, in_hand, until });
                // What the application has not taken yet is told again at the next start.
                self.taken.close();
                self.undelivered.retain(|event| !event.is_in_inbox());
                self.feed(Input::Command(Command::Shutdown));
            }
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::AddPeer(peer) => self.feed(Input::Command(Command::AddPeer(peer))),
            Work::Publish(publication, sender) => {
                let ticket = self.next_ticket();
                self.tickets.insert(ticket, sender);
                self.feed(Input::Command(Command::Publish(publication.into_publish(ticket))));
            }
            Work::Group(work, sender) => {
                let ticket = self.next_ticket();
                self.tickets.insert(ticket, sender);
                self.feed(Input::Command(work.into_command(ticket)));
            }
            Work::Consume { messages, effects, done } => {
                let ticket = self.next_ticket();
                self.consumers.insert(ticket, done);
                self.feed(Input::Command(Command::Consume(Consume { ticket, messages, effects })));
            }
        }
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Everything the application has gone past, in one transaction.
    fn consume(&mut self, first: InboxId) {
        let mut messages = vec![first];
        while let Ok(message) = self.consumed.try_recv() {
            messages.push(message);
        }
        let ticket = self.next_ticket();
        self.feed(Input::Command(Command::Consume(Consume { ticket, messages, effects: Vec::new() })));
    }

    fn resolve(&mut self, ticket: Ticket, result: Result<(), PublishError>) {
        if let Some(sender) = self.tickets.remove(&ticket) {
            sender.finish(result);
        }
    }

    fn finish(&mut self, finished: Finished) {
        let Err(error) = finished.result else { return };
        tracing::warn!(%error, "the transport did not publish a message");
        let never =
            matches!(error, transport::PublishError::TooLarge { .. } | transport::PublishError::Invalid(_));
        if let Purpose::Message { id, .. } = finished.purpose
            && never
        {
            self.feed(Input::Undeliverable(id));
        }
    }
}

/// Subscribes in order: a peer's announcement is then fetched before its prekeys, which are worth nothing without it.
/// What is fetched again is unsubscribed first, as some brokers (rumqttd) send retained messages to new subscriptions only.
async fn subscribe_in_order(
    transport: Transport,
    events: mpsc::Sender<ClientEvent>,
    mut filters: mpsc::UnboundedReceiver<(String, bool)>,
) {
    while let Some((filter, again)) = filters.recv().await {
        if again {
            transport.unsubscribe(&filter).await;
        }
        if let Err(error) = transport.subscribe(filter.clone(), Qos::AtLeastOnce).await {
            if error == SubscribeError::Closed {
                return;
            }
            // An application that takes no events must not hold up the next subscription.
            let _ = events.try_send(ClientEvent::SubscriptionRefused { filter, error });
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
