//! The task that feeds the endpoint and carries out what it asks for.

mod alarm;
mod batch;
mod inputs;
mod outputs;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use pqc_iiot_core::endpoint::{DeliveryId, Endpoint, InboxId, Input, OperationId, Ticket};
use pqc_iiot_core::time::{Monotonic, Now, UnixTime};
use pqc_iiot_provider::datadir::DataDir;
use pqc_iiot_provider::store::{Batch, Completion, Writer, WriterError};

use self::alarm::Alarm;
use super::acks::Acks;
use super::event::{ClientEvent, Taken};
use super::handle::{PublishError, Request, Sender, Work};
use super::numbered::Numbered;
use super::open::Storage;
use super::outgoing::{Finished, Outgoing};
use super::provider_thread::{Answer, ProviderThread};
use crate::transport::{self, AckToken, Qos, SubscribeError, Transport};

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
    /// The clocks, as read when the turn began.
    now: Now,
    transport: Transport,
    network: transport::Events,
    provider: ProviderThread,
    answers: mpsc::UnboundedReceiver<Answer>,
    writer: Writer,
    /// For the disk, at the end of the turn.
    batches: Vec<Batch>,
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
    /// For the broker, at the end of the turn.
    acknowledged: Vec<AckToken>,
    outgoing: Outgoing,
    subscriptions: mpsc::UnboundedSender<(String, bool)>,
    tickets: Numbered<Ticket, Sender>,
    /// For whoever waits for them, at the end of the turn.
    settled: Vec<(Sender, Result<(), PublishError>)>,
    consumers: Numbered<Ticket, oneshot::Sender<()>>,
    consumed: mpsc::UnboundedReceiver<InboxId>,
    taken: Arc<Taken>,
    last_ticket: u64,
    /// What the endpoint was last told that the transport takes.
    room: usize,
    deadline: Option<tokio::time::Instant>,
    alarm: Alarm,
    connected_before: bool,
    /// Why nothing becomes durable at present.
    store_waits: Option<String>,
    closing: Option<Closing>,
    /// Held for its lock.
    _directory: Option<DataDir>,
}

/// What a driver stands between.
pub(super) struct Parts {
    pub(super) endpoint: Endpoint,
    pub(super) clock: Clock,
    pub(super) transport: Transport,
    pub(super) network: transport::Events,
    pub(super) provider: ProviderThread,
    pub(super) answers: mpsc::UnboundedReceiver<Answer>,
    pub(super) storage: Storage,
    pub(super) application: Application,
    pub(super) limits: Limits,
}

/// The driver's ends of what it shares with the application.
pub(super) struct Application {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) work: mpsc::Receiver<Work>,
    pub(super) events: mpsc::Sender<ClientEvent>,
    pub(super) consumed: mpsc::UnboundedReceiver<InboxId>,
    pub(super) taken: Arc<Taken>,
}

/// How much may be under way.
pub(super) struct Limits {
    /// Packets that the broker has not acknowledged.
    pub(super) window: usize,
    /// Events that the application has not made room for, before nothing received is fed.
    pub(super) undelivered: usize,
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

/// What ended a wait.
enum Woken {
    Network(Option<transport::Event>),
    Request(Request),
    Work(Work),
    Answered(Answer),
    Completed(Completion),
    Consumed(InboxId),
    Finished(Finished),
    Room,
    Deadline,
}

/// Why the driver stopped.
enum Stop {
    Shutdown,
    StoreFailed(String),
    Gone,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Result<Self, WriterError> {
        let Parts { endpoint, clock, transport, network, provider, answers, storage, application, limits } =
            parts;
        let Application { requests, work, events, consumed, taken } = application;
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
            now: clock.now(),
            transport,
            network,
            provider,
            answers,
            writer,
            batches: Vec::new(),
            durable,
            requests,
            work,
            events,
            undelivered: VecDeque::new(),
            max_undelivered: limits.undelivered,
            control: VecDeque::new(),
            inbound: VecDeque::new(),
            inbound_bytes: 0,
            dropped: 0,
            acks: Acks::default(),
            acknowledged: Vec::new(),
            outgoing: Outgoing::new(limits.window),
            subscriptions,
            tickets: Numbered::default(),
            settled: Vec::new(),
            consumers: Numbered::default(),
            consumed,
            taken,
            room: usize::MAX,
            last_ticket: 0,
            deadline: None,
            alarm: Alarm::new(clock.0.into()),
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
            if self.undelivered.len() >= self.max_undelivered {
                self.deliver();
            }
            if !self.feed_inbound() {
                break;
            }
        }
        self.transmit()?;
        self.flush()?;
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
        let woken = tokio::select! {
            event = self.network.recv(), if read => Woken::Network(event),
            Some(request) = self.requests.recv(), if accept => Woken::Request(request),
            Some(work) = self.work.recv(), if accept && room => Woken::Work(work),
            Some((id, result)) = self.answers.recv() => Woken::Answered((id, result)),
            Some(completion) = self.durable.recv() => Woken::Completed(completion),
            Some(message) = self.consumed.recv() => Woken::Consumed(message),
            finished = self.outgoing.finished() => Woken::Finished(finished),
            _ = self.events.reserve(), if !self.undelivered.is_empty() => Woken::Room,
            () = self.alarm.rings(self.deadline) => Woken::Deadline,
            () = sleep_until(in_hand) => Woken::Room,
            () = sleep_until(until) => return Err(Stop::Shutdown),
        };
        self.now = self.clock.now();
        match woken {
            Woken::Network(Some(event)) => self.network_event(event),
            Woken::Network(None) => return Err(Stop::Gone),
            Woken::Request(request) => self.request(request),
            Woken::Work(work) => self.work(work),
            Woken::Answered((id, result)) => self.feed(Input::Provided(id, result)),
            Woken::Completed(completion) => self.completed(completion)?,
            Woken::Consumed(message) => self.consume(message),
            Woken::Finished(finished) => {
                self.finish(finished);
                while let Some(finished) = self.outgoing.finished_too() {
                    self.finish(finished);
                }
            }
            // The turn that follows does what there is room for.
            Woken::Room => {}
            Woken::Deadline => {
                self.deadline = None;
                self.feed(Input::Timeout);
            }
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
        self.endpoint.handle(self.now, input);
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
