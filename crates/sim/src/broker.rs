//! The broker: it carries everything, sees everything, and does with it what a test asks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::endpoint::DeliveryId;
use pqc_iiot_core::time::Monotonic;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_provider::random::SeededRandom;

use crate::chaos::{Arrivals, Forget};

/// A publish as the broker sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// Topic name; injected ones may be anything.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether it was to be retained.
    pub retain: bool,
}

#[derive(Default)]
struct Session {
    filters: Vec<TopicFilter>,
    queue: VecDeque<Packet>,
    unacknowledged: BTreeMap<DeliveryId, Packet>,
    online: bool,
    /// The last delivery before the present connection.
    before: u64,
}

/// An MQTT broker with QoS 1, retained messages and persistent sessions, under the attacker's control.
pub struct HostileBroker {
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Vec<u8>>,
    captured: Vec<Packet>,
    withheld: Vec<TopicFilter>,
    slowed: Vec<(TopicFilter, Duration)>,
    /// What arrives later, by time and then order of publishing.
    delayed: BTreeMap<(Monotonic, u64), (String, Packet)>,
    delays: u64,
    copies: usize,
    deliveries: u64,
    random: SeededRandom,
}

impl HostileBroker {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            captured: Vec::new(),
            withheld: Vec::new(),
            slowed: Vec::new(),
            delayed: BTreeMap::new(),
            delays: 0,
            copies: 1,
            deliveries: 0,
            random: SeededRandom::new(seed),
        }
    }

    /// Everything the nodes ever published, in order.
    pub fn captured(&self) -> &[Packet] {
        &self.captured
    }

    /// The payloads published on exactly `topic`, in order.
    pub fn captured_on(&self, topic: &str) -> Vec<Vec<u8>> {
        self.captured.iter().filter(|packet| packet.topic == topic).map(|p| p.payload.clone()).collect()
    }

    /// The last payload published on `topic`.
    pub fn last_on(&self, topic: &str) -> Vec<u8> {
        self.captured_on(topic).pop().unwrap_or_else(|| panic!("nothing was published on {topic}"))
    }

    /// Delivers bytes at a topic to every subscriber: forged, replayed or re-routed.
    pub fn inject(&mut self, topic: &str, payload: &[u8]) {
        let packet = Packet { topic: topic.into(), payload: payload.into(), retain: false };
        self.route(packet);
    }

    /// As [`HostileBroker::inject`], and keeps it as the topic's retained message.
    pub fn inject_retained(&mut self, topic: &str, payload: &[u8]) {
        self.substitute_retained(topic, payload);
        self.inject(topic, payload);
    }

    /// Delivers to one client whatever it subscribed to.
    pub fn deliver_to(&mut self, client: &str, topic: &str, payload: &[u8]) {
        let packet = Packet { topic: topic.into(), payload: payload.into(), retain: false };
        self.sessions.entry(client.into()).or_default().queue.push_back(packet);
    }

    /// Replaces a retained message without delivering it.
    pub fn substitute_retained(&mut self, topic: &str, payload: &[u8]) {
        self.retained.insert(topic.into(), payload.into());
    }

    /// What is retained on a topic.
    pub fn retained(&self, topic: &str) -> Option<&[u8]> {
        self.retained.get(topic).map(Vec::as_slice)
    }

    /// Forgets a retained message.
    pub fn hide_retained(&mut self, topic: &str) {
        self.retained.remove(topic);
    }

    /// From now on captures and drops whatever matches `filter`: neither delivered nor retained.
    pub fn withhold(&mut self, filter: &str) {
        self.withheld.push(TopicFilter::new(filter).expect("a valid filter"));
    }

    /// Withholds nothing any more; what was dropped stays dropped.
    pub fn withhold_nothing(&mut self) {
        self.withheld.clear();
    }

    /// From now on whatever matches `filter` is delivered this much later.
    pub fn delay(&mut self, filter: &str, by: Duration) {
        self.slowed.push((TopicFilter::new(filter).expect("a valid filter"), by));
    }

    /// Delays nothing any more; what is delayed arrives when its time comes.
    pub fn delay_nothing(&mut self) {
        self.slowed.clear();
    }

    /// How many messages are delayed.
    pub fn delayed(&self) -> usize {
        self.delayed.len()
    }

    /// Delivers every publish this many times.
    pub fn duplicate(&mut self, copies: usize) {
        self.copies = copies;
    }

    /// Shuffles what waits for delivery to `client`.
    pub fn reorder(&mut self, client: &str) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        let queue = session.queue.make_contiguous();
        for last in (1..queue.len()).rev() {
            let mut bytes = [0; 8];
            self.random.fill(&mut bytes);
            let below = u64::try_from(last).unwrap_or(u64::MAX) + 1;
            queue.swap(last, usize::try_from(u64::from_le_bytes(bytes) % below).unwrap_or(0));
        }
    }

    /// Drops what waits for delivery to `client`.
    pub fn drop_queue(&mut self, client: &str) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.queue.clear();
        }
    }

    /// Carries a publish; `arrivals` is asked for the fate of each copy on its way to each receiver.
    pub(crate) fn publish(&mut self, packet: Packet, now: Monotonic, arrivals: &mut dyn FnMut() -> Arrivals) {
        self.captured.push(packet.clone());
        if self.withheld.iter().any(|filter| filter.matches(&packet.topic)) {
            return;
        }
        if packet.retain {
            self.retained.insert(packet.topic.clone(), packet.payload.clone());
        }
        let slowed = self.slowed.iter().filter(|(filter, _)| filter.matches(&packet.topic));
        let slowed: Duration = slowed.map(|(_, by)| *by).sum();
        for _ in 0..self.copies {
            for (client, session) in &mut self.sessions {
                if !session.filters.iter().any(|filter| filter.matches(&packet.topic)) {
                    continue;
                }
                for arrival in arrivals() {
                    let after = slowed.saturating_add(arrival);
                    if after.is_zero() {
                        session.queue.push_back(packet.clone());
                    } else {
                        self.delays += 1;
                        let key = (now.plus(after), self.delays);
                        self.delayed.insert(key, (client.clone(), packet.clone()));
                    }
                }
            }
        }
    }

    /// When the next delayed message arrives.
    pub(crate) fn next_arrival(&self) -> Option<Monotonic> {
        self.delayed.keys().next().map(|(at, _)| *at)
    }

    /// Queues what was delayed until now; true if anything was.
    pub(crate) fn release(&mut self, now: Monotonic) -> bool {
        let later = self.delayed.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut self.delayed, later);
        let any = !due.is_empty();
        for (client, packet) in due.into_values() {
            // A session that is gone takes its messages with it.
            if let Some(session) = self.sessions.get_mut(&client) {
                session.queue.push_back(packet);
            }
        }
        any
    }

    /// Loses what was acknowledged. The caller has disconnected everybody.
    pub(crate) fn forget(&mut self, what: Forget) {
        self.delayed.clear();
        for session in self.sessions.values_mut() {
            session.queue.clear();
            session.unacknowledged.clear();
        }
        if what >= Forget::Sessions {
            self.sessions.clear();
        }
        if what >= Forget::Everything {
            self.retained.clear();
        }
    }

    fn route(&mut self, packet: Packet) {
        for session in self.sessions.values_mut() {
            if session.filters.iter().any(|filter| filter.matches(&packet.topic)) {
                session.queue.push_back(packet.clone());
            }
        }
    }

    pub(crate) fn subscribe(&mut self, client: &str, filter: &str) {
        let filter = TopicFilter::new(filter).expect("endpoints subscribe to valid filters");
        let session = self.sessions.entry(client.into()).or_default();
        if !session.filters.contains(&filter) {
            session.filters.push(filter.clone());
        }
        self.send_retained(client, &filter);
    }

    pub(crate) fn refetch(&mut self, client: &str, filter: &str) {
        self.send_retained(client, &TopicFilter::new(filter).expect("a valid filter"));
    }

    fn send_retained(&mut self, client: &str, filter: &TopicFilter) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        for (topic, payload) in self.retained.iter().filter(|(topic, _)| filter.matches(topic)) {
            let packet = Packet { topic: topic.clone(), payload: payload.clone(), retain: true };
            session.queue.push_back(packet);
        }
    }

    /// Connects a client; true if its session was kept. What it never acknowledged is delivered again.
    pub(crate) fn connect(&mut self, client: &str, keep_session: bool) -> bool {
        let present = keep_session && self.sessions.contains_key(client);
        let session = self.sessions.entry(client.into()).or_default();
        if !present {
            *session = Session::default();
        }
        session.online = true;
        session.before = self.deliveries;
        let again = std::mem::take(&mut session.unacknowledged);
        for packet in again.into_values().rev() {
            session.queue.push_front(packet);
        }
        present
    }

    pub(crate) fn disconnect(&mut self, client: &str) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.online = false;
        }
    }

    /// The next delivery to an online client.
    pub(crate) fn next(&mut self, client: &str) -> Option<(DeliveryId, Packet)> {
        let session = self.sessions.get_mut(client).filter(|session| session.online)?;
        let packet = session.queue.pop_front()?;
        self.deliveries += 1;
        let id = DeliveryId(self.deliveries);
        session.unacknowledged.insert(id, packet.clone());
        Some((id, packet))
    }

    pub(crate) fn acknowledge(&mut self, client: &str, id: DeliveryId) {
        let session = self.sessions.get_mut(client).expect("acknowledgements come from known clients");
        // Of an earlier connection: the transport drops it, as the delivery comes again.
        if id.0 <= session.before {
            return;
        }
        let known = session.unacknowledged.remove(&id).is_some();
        assert!(known, "{client} acknowledged a delivery twice");
    }

    /// Deliveries to `client` that it has not acknowledged.
    pub fn unacknowledged(&self, client: &str) -> usize {
        self.sessions.get(client).map_or(0, |session| session.unacknowledged.len())
    }

    /// Deliveries that wait for `client`.
    pub fn queued(&self, client: &str) -> usize {
        self.sessions.get(client).map_or(0, |session| session.queue.len())
    }
}
