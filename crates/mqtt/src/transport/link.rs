//! What the handles and the background task share.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::library::{Ack, Client, NotQueued, packet_size};
use super::message::{AckToken, Outbound, Pending, PublishError, SubscribeError};
use super::options::{ProtocolVersion, Qos};
use super::{Completion, Event};

type Granted = Result<Qos, SubscribeError>;

pub(super) struct Link {
    version: ProtocolVersion,
    publishes: Arc<Semaphore>,
    /// Largest outgoing packet now.
    limit: AtomicUsize,
    state: Mutex<State>,
    events: mpsc::WeakSender<Event>,
    /// Ends the background task wherever it is.
    pub(super) stop: Notify,
    pub(super) ended: watch::Sender<bool>,
}

struct State {
    client: Client,
    connected: bool,
    closing: bool,
    /// Counts connections: an acknowledgement is only good on the connection its message came by.
    generation: u64,
    unacknowledged: HashMap<u16, Ack>,
    /// Acknowledgements the library's queue had no room for.
    deferred: VecDeque<Ack>,
    subscriptions: BTreeMap<String, Subscription>,
}

struct Subscription {
    qos: Qos,
    /// The broker has granted it in its present session.
    granted: bool,
    /// Tells a request's answer from an older request's.
    request: u64,
    waiting: Vec<oneshot::Sender<Granted>>,
}

impl Link {
    pub(super) fn new(
        version: ProtocolVersion,
        publish_queue: usize,
        limit: usize,
        client: Client,
        events: mpsc::WeakSender<Event>,
    ) -> Self {
        Self {
            version,
            publishes: Arc::new(Semaphore::new(publish_queue)),
            limit: AtomicUsize::new(limit),
            state: Mutex::new(State {
                client,
                connected: false,
                closing: false,
                generation: 0,
                unacknowledged: HashMap::new(),
                deferred: VecDeque::new(),
                subscriptions: BTreeMap::new(),
            }),
            events,
            stop: Notify::new(),
            ended: watch::Sender::new(false),
        }
    }

    pub(super) fn max_packet(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().connected
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    pub(super) fn check(&self, message: &Outbound) -> Result<(), PublishError> {
        message.check()?;
        let size = packet_size(self.version, message);
        let limit = self.max_packet();
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        Ok(())
    }

    pub(super) async fn publish_permit(&self) -> Result<OwnedSemaphorePermit, PublishError> {
        Arc::clone(&self.publishes).acquire_owned().await.map_err(|_| PublishError::Closed)
    }

    pub(super) fn try_publish_permit(&self) -> Result<OwnedSemaphorePermit, PublishError> {
        Arc::clone(&self.publishes).try_acquire_owned().map_err(|error| match error {
            tokio::sync::TryAcquireError::Closed => PublishError::Closed,
            tokio::sync::TryAcquireError::NoPermits => PublishError::QueueFull,
        })
    }

    pub(super) fn publish(
        &self,
        message: Outbound,
        permit: OwnedSemaphorePermit,
    ) -> Result<Completion, PublishError> {
        let state = self.lock();
        if state.closing {
            return Err(PublishError::Closed);
        }
        // The library's queue is no shorter than the permits, so it is only ever full when it has ended.
        let answer = state.client.publish(message).map_err(|NotQueued(_)| PublishError::Closed)?;
        Ok(Completion { answer: Some((answer, permit)) })
    }

    /// Remembers a delivery; the token brings its acknowledgement back.
    pub(super) fn deliver(&self, packet_id: u16, ack: Option<Ack>) -> AckToken {
        let Some(ack) = ack else { return AckToken(None) };
        let mut state = self.lock();
        state.unacknowledged.insert(packet_id, ack);
        AckToken(Some(Pending { generation: state.generation, packet_id }))
    }

    pub(super) fn acknowledge(&self, tokens: impl Iterator<Item = AckToken>) {
        let mut pending = tokens.filter_map(|token| token.0).peekable();
        if pending.peek().is_none() {
            return;
        }
        let mut state = self.lock();
        for Pending { generation, packet_id } in pending {
            if state.generation == generation
                && let Some(ack) = state.unacknowledged.remove(&packet_id)
            {
                state.deferred.push_back(ack);
            }
        }
        state.send_acks();
    }

    /// Hands the library acknowledgements it had no room for.
    pub(super) fn retry_acks(&self) {
        self.lock().send_acks();
    }

    pub(super) fn connected(link: &Arc<Self>, session_present: bool, limit: usize) {
        let mut state = link.lock();
        state.connected = true;
        link.limit.store(limit, Ordering::Relaxed);
        if !session_present {
            state.subscriptions.values_mut().for_each(|subscription| subscription.granted = false);
        }
        let missing: Vec<String> = state
            .subscriptions
            .iter()
            .filter(|(_, subscription)| !subscription.granted)
            .map(|(filter, _)| filter.clone())
            .collect();
        for filter in missing {
            Self::request(link, &mut state, filter);
        }
    }

    /// Forgets the connection; returns whether there was one. A `client` replaces the library's handle.
    pub(super) fn disconnected(&self, client: Option<Client>) -> bool {
        let mut state = self.lock();
        state.generation += 1;
        state.unacknowledged.clear();
        state.deferred.clear();
        if let Some(client) = client {
            state.client = client;
        }
        std::mem::replace(&mut state.connected, false)
    }

    pub(super) async fn subscribe(link: &Arc<Self>, filter: String, qos: Qos) -> Granted {
        let answer =
            {
                let mut state = link.lock();
                if state.closing {
                    return Err(SubscribeError::Closed);
                }
                let (tell, answer) = oneshot::channel();
                let subscription = state
                    .subscriptions
                    .entry(filter.clone())
                    .or_insert_with(|| Subscription { qos, granted: false, request: 0, waiting: Vec::new() });
                subscription.qos = qos;
                subscription.granted = false;
                subscription.waiting.retain(|waiting| !waiting.is_closed());
                subscription.waiting.push(tell);
                if state.connected {
                    Self::request(link, &mut state, filter);
                }
                answer
            };
        answer.await.unwrap_or(Err(SubscribeError::Closed))
    }

    /// Sends SUBSCRIBE; the answer is handled in a task of its own. If the session ends first, the next connection
    /// asks again.
    fn request(link: &Arc<Self>, state: &mut State, filter: String) {
        let Some(subscription) = state.subscriptions.get_mut(&filter) else { return };
        subscription.request += 1;
        let (request, qos, client) = (subscription.request, subscription.qos, state.client.clone());
        let link = Arc::clone(link);
        tokio::spawn(async move {
            if let Some(answer) = client.subscribe(filter.clone(), qos).await {
                link.subscribe_answered(filter, request, answer).await;
            }
        });
    }

    async fn subscribe_answered(&self, filter: String, request: u64, answer: Granted) {
        let unheard = {
            let mut state = self.lock();
            let Some(subscription) = state.subscriptions.get_mut(&filter) else { return };
            if subscription.request != request {
                return;
            }
            subscription.granted = answer.is_ok();
            let waiting = std::mem::take(&mut subscription.waiting);
            if answer.is_err() {
                state.subscriptions.remove(&filter);
            }
            let mut heard = false;
            for waiting in waiting {
                heard |= waiting.send(answer.clone()).is_ok();
            }
            answer.err().filter(|_| !heard)
        };
        if let (Some(error), Some(events)) = (unheard, self.events.upgrade()) {
            // The receiver is gone only when the transport has ended.
            let _ = events.send(Event::SubscriptionRefused { filter, error }).await;
        }
    }

    pub(super) async fn unsubscribe(&self, filter: &str) {
        let client = {
            let mut state = self.lock();
            if state.subscriptions.remove(filter).is_none() || !state.connected {
                return;
            }
            state.client.clone()
        };
        client.unsubscribe(filter.to_owned()).await;
    }

    pub(super) async fn close(&self, timeout: Duration) {
        let client = {
            let mut state = self.lock();
            state.send_acks();
            let first = !std::mem::replace(&mut state.closing, true);
            (first && state.connected).then(|| state.client.clone())
        };
        let mut ended = self.ended.subscribe();
        if let Some(client) = client {
            let graceful = async {
                client.disconnect(timeout).await;
                // Never errs: the sender lives in `self`.
                let _ = ended.wait_for(|ended| *ended).await;
            };
            // Beyond the drain the library needs only a write.
            if tokio::time::timeout(timeout + Duration::from_secs(1), graceful).await.is_ok() {
                return;
            }
        }
        self.stop.notify_one();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// The background task has ended: whoever waits learns it.
    pub(super) fn end(&self) {
        {
            let mut state = self.lock();
            state.closing = true;
            state.connected = false;
            state.subscriptions.clear();
        }
        self.publishes.close();
        self.ended.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send_acks(&mut self) {
        while let Some(ack) = self.deferred.pop_front() {
            if let Err(NotQueued(Some(ack))) = self.client.acknowledge(ack) {
                self.deferred.push_front(ack);
                return;
            }
        }
    }
}
