//! Who is subscribed to what, and which messages nobody has taken yet.
//!
//! A message is offered to every client whose filters match. It is consumed once each of them has taken it or gone, and at
//! least one has taken it; until then it is held, so that one who comes later, or comes back, gets it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pqc_iiot_core::endpoint::Message;
use pqc_iiot_core::group::MessageName;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::{MAX_FILTERS, MAX_HELD, MAX_HELD_BYTES, STALL_PATIENCE};

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seat(u64);

/// One message that is held, in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HeldId(u64);

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eviction {
    /// Another client came with its identifier.
    TakenOver,
    /// It left messages lying while others found no room.
    Stalled,
}

/// One filter of a client's.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) filter: TopicFilter,
    /// At QoS 1.
    pub(super) acknowledged: bool,
    /// Whose messages alone; everybody's when empty.
    pub(super) from: BTreeSet<PeerId>,
}

impl Subscription {
    fn matches(&self, message: &Message) -> bool {
        (self.from.is_empty() || self.from.contains(&message.peer)) && self.filter.matches(&message.topic)
    }
}

/// A message as local clients get it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) message: Message,
    /// Its name, if it came to a topic group; its sender's signature covers it.
    pub(super) group: Option<MessageName>,
}

impl From<Message> for Received {
    fn from(message: Message) -> Self {
        Self { message, group: None }
    }
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// A message for one client.
pub(super) struct Offer {
    pub(super) id: HeldId,
    pub(super) message: Arc<Received>,
    /// At QoS 1.
    pub(super) acknowledged: bool,
}

struct Client {
    client_id: String,
    subscriptions: Vec<Subscription>,
    /// Offered and not handed to the connection yet.
    queue: VecDeque<HeldId>,
    wake: Arc<Notify>,
    eviction: Option<Eviction>,
}

impl Client {
    /// The best quality of service of the filters that match.
    fn wants(&self, message: &Message) -> Option<bool> {
        let matching = self.subscriptions.iter().filter(|subscription| subscription.matches(message));
        matching.map(|subscription| subscription.acknowledged).reduce(|a, b| a | b)
    }
}

struct Held {
    message: Arc<Received>,
    /// Who was offered it and has neither taken it nor gone, and at which quality of service.
    offered: BTreeMap<Seat, bool>,
    offered_at: Instant,
    taken: bool,
}

#[derive(Default)]
struct State {
    clients: HashMap<Seat, Client>,
    held: BTreeMap<HeldId, Held>,
    bytes: usize,
    next: u64,
}

/// What became of held messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Taken by everybody who was there.
    pub(super) consumed: Vec<Arc<Received>>,
    /// Given up for room.
    pub(super) dropped: Vec<Arc<Received>>,
}

/// Whether another message finds room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    /// At this time a client counts as stalled; never, when everything held waits for a subscriber.
    After(Option<Instant>),
}

/// The clients and the messages between them.
pub(super) struct Hub {
    state: Mutex<State>,
    /// Filters whose messages are never given up for room.
    kept: Vec<TopicFilter>,
    /// Something was taken, or somebody came or went.
    pub(super) moved: Notify,
}

impl Hub {
    pub(super) fn new(kept: Vec<TopicFilter>) -> Self {
        Self { state: Mutex::default(), kept, moved: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client came. One of the same identifier has to go.
    pub(super) fn join(&self, client_id: &str) -> (Seat, Arc<Notify>) {
        let mut state = self.lock();
        for client in state.clients.values_mut().filter(|client| client.client_id == client_id) {
            client.eviction = Some(Eviction::TakenOver);
            client.wake.notify_one();
        }
        let seat = Seat(state.take_number());
        let wake = Arc::new(Notify::new());
        let client = Client {
            client_id: client_id.to_owned(),
            subscriptions: Vec::new(),
            queue: VecDeque::new(),
            wake: Arc::clone(&wake),
            eviction: None,
        };
        state.clients.insert(seat, client);
        (seat, wake)
    }

    /// A client went: what it had not taken is offered to others, or waits.
    pub(super) fn leave(&self, seat: Seat) -> Outcome {
        let mut state = self.lock();
        state.clients.remove(&seat);
        let mut outcome = Outcome::default();
        let offered: Vec<HeldId> = state
            .held
            .iter()
            .filter(|(_, held)| held.offered.contains_key(&seat))
            .map(|(id, _)| *id)
            .collect();
        for id in offered {
            outcome.consumed.extend(state.settle(id, seat, false));
        }
        drop(state);
        self.moved.notify_one();
        outcome
    }

    /// Adds filters, in place of equal ones; false for each that is over the limit. What is held and matches is offered
    /// to the client too.
    pub(super) fn subscribe(&self, seat: Seat, wanted: Vec<Subscription>) -> Vec<bool> {
        let mut state = self.lock();
        let State { clients, held, .. } = &mut *state;
        let Some(client) = clients.get_mut(&seat) else { return vec![false; wanted.len()] };
        let mut granted = Vec::with_capacity(wanted.len());
        for subscription in wanted {
            client.subscriptions.retain(|old| old.filter != subscription.filter);
            let room = client.subscriptions.len() < MAX_FILTERS;
            if room {
                client.subscriptions.push(subscription);
            }
            granted.push(room);
        }
        for (id, held) in held.iter_mut().filter(|(_, held)| held.offered.is_empty()) {
            if let Some(acknowledged) = client.wants(&held.message) {
                held.offered.insert(seat, acknowledged);
                held.offered_at = Instant::now();
                client.queue.push_back(*id);
            }
        }
        client.wake.notify_one();
        granted
    }

    /// Removes filters; false for each that was not there. What was offered already stays.
    pub(super) fn unsubscribe(&self, seat: Seat, filters: &[String]) -> Vec<bool> {
        let mut state = self.lock();
        let Some(client) = state.clients.get_mut(&seat) else { return vec![false; filters.len()] };
        let remove = |filter: &String| {
            let before = client.subscriptions.len();
            client.subscriptions.retain(|subscription| subscription.filter.as_str() != filter);
            client.subscriptions.len() != before
        };
        filters.iter().map(remove).collect()
    }

    /// Every filter that somebody has.
    pub(super) fn filters(&self) -> BTreeSet<TopicFilter> {
        let state = self.lock();
        let subscriptions = state.clients.values().flat_map(|client| &client.subscriptions);
        subscriptions
            .map(|subscription| subscription.filter.clone())
            .chain(self.kept.iter().cloned())
            .collect()
    }

    /// Offers a message to everybody whose filters match.
    pub(super) fn deliver(&self, message: impl Into<Received>) {
        let message = message.into();
        let mut state = self.lock();
        let id = HeldId(state.take_number());
        state.bytes += size(&message);
        let mut offered = BTreeMap::new();
        for (seat, client) in &mut state.clients {
            if let Some(acknowledged) = client.wants(&message) {
                offered.insert(*seat, acknowledged);
                client.queue.push_back(id);
                client.wake.notify_one();
            }
        }
        let held = Held { message: Arc::new(message), offered, offered_at: Instant::now(), taken: false };
        state.held.insert(id, held);
    }

    /// The next message for a client.
    pub(super) fn next(&self, seat: Seat) -> Option<Offer> {
        let mut state = self.lock();
        let State { clients, held, .. } = &mut *state;
        let id = clients.get_mut(&seat)?.queue.pop_front()?;
        let held = held.get(&id)?;
        let acknowledged = held.offered.get(&seat).copied().unwrap_or_default();
        Some(Offer { id, message: Arc::clone(&held.message), acknowledged })
    }

    /// A client has taken a message.
    pub(super) fn taken(&self, seat: Seat, id: HeldId) -> Outcome {
        let consumed = self.lock().settle(id, seat, true);
        self.moved.notify_one();
        Outcome { consumed: consumed.into_iter().collect(), dropped: Vec::new() }
    }

    /// Why the client has to go, once it has to.
    pub(super) fn eviction(&self, seat: Seat) -> Option<Eviction> {
        self.lock().clients.get(&seat).and_then(|client| client.eviction)
    }

    /// Whether there is room for another message. Makes room by giving up messages that nobody has subscribed to and no
    /// configured filter keeps, oldest first, and by telling clients to go that have let others wait for too long.
    pub(super) fn room(&self) -> (Room, Outcome) {
        let mut state = self.lock();
        let mut outcome = Outcome::default();
        while state.is_full() {
            let free = |held: &Held| held.offered.is_empty() && !self.keeps(&held.message.topic);
            let Some(id) = state.held.iter().find(|(_, held)| free(held)).map(|(id, _)| *id) else { break };
            outcome.dropped.extend(state.remove(id));
        }
        if !state.is_full() {
            return (Room::Yes, outcome);
        }
        let oldest =
            state.held.values().filter(|held| !held.offered.is_empty()).min_by_key(|held| held.offered_at);
        let Some((at, seats)) = oldest
            .map(|held| (held.offered_at + STALL_PATIENCE, held.offered.keys().copied().collect::<Vec<_>>()))
        else {
            return (Room::After(None), outcome);
        };
        if Instant::now() < at {
            return (Room::After(Some(at)), outcome);
        }
        for seat in seats {
            if let Some(client) = state.clients.get_mut(&seat) {
                client.eviction = client.eviction.or(Some(Eviction::Stalled));
                client.wake.notify_one();
            }
        }
        // They go in a moment, which moves things.
        (Room::After(None), outcome)
    }

    fn keeps(&self, topic: &str) -> bool {
        self.kept.iter().any(|filter| filter.matches(topic))
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().held.len()
    }
}

impl State {
    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_full(&self) -> bool {
        self.held.len() >= MAX_HELD || self.bytes >= MAX_HELD_BYTES
    }

    fn remove(&mut self, id: HeldId) -> Option<Arc<Received>> {
        let held = self.held.remove(&id)?;
        self.bytes -= size(&held.message);
        Some(held.message)
    }

    /// A client is done with a message; gives it back if that consumes it.
    fn settle(&mut self, id: HeldId, seat: Seat, taken: bool) -> Option<Arc<Received>> {
        let held = self.held.get_mut(&id)?;
        held.offered.remove(&seat)?;
        held.taken |= taken;
        if !held.offered.is_empty() {
            return None;
        }
        if held.taken {
            return self.remove(id);
        }
        // Whoever subscribed while it was on offer was passed over.
        let late = self.clients.iter_mut().filter_map(|(seat, client)| {
            let acknowledged = client.wants(&held.message)?;
            client.queue.push_back(id);
            client.wake.notify_one();
            Some((*seat, acknowledged))
        });
        held.offered = late.collect();
        held.offered_at = Instant::now();
        None
    }
}

fn size(message: &Message) -> usize {
    message.content.payload.len() + message.topic.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "hub_tests.rs"]
mod tests;
