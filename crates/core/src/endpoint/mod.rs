//! The protocol endpoint: one deterministic state machine, driven by [`Endpoint::handle`] and drained by
//! [`Endpoint::poll_output`].
//!
//! Call `handle` with each input and the time, then `poll_output` until it gives `None`. It never blocks, never panics on
//! peer input and never returns an error for it: refusals are [`Event::Refused`], counted by reason. The order of checks
//! on everything received is cheap before dear: topic, size, peer id, version and suite, known peer, replay, budget,
//! and only then signatures and decapsulation. State changes only after authentication, and what depends on a change
//! comes out only once the change is durable.

mod anchors;
mod announcements;
mod arrival;
mod barrier;
mod clock;
mod config;
mod counters;
mod groups;
mod heard;
mod hold;
mod inbox;
mod incoming;
mod input;
mod loading;
mod obstacle;
mod outbox;
mod outgoing;
mod output;
mod own_keys;
mod peers;
mod pending;
mod receipts;
mod record;
mod refusal;
mod resending;
mod revocations;
mod sealing;
mod sessions;
mod start;
mod topics;
mod unreadable;
mod upgrade;

pub use clock::MAX_STEP;
pub use config::{DeliveryLimits, EndpointConfig, FullPolicy, PrekeyPolicy, StartError, TrustMode};
pub use counters::RESERVATION;
pub use groups::{FollowedGroup, FollowedStage, GroupStatus, MAX_OWN_GROUPS, MemberState, StoredGroup};
pub use heard::MAX_BOOTS;
pub use hold::{MAX_HELD, MAX_HELD_BYTES, MAX_HELD_FOR};
pub use inbox::{InboxStatus, RECEIPT_AFTER, RECEIPT_EVERY};
pub use input::{
    Command, Consume, DeliveryId, Durability, Effect, EffectTooLarge, InboxId, Input, MAX_APPLICATION_KEY,
    MAX_APPLICATION_VALUE, OperationId, OutboxId, Priority, Publish, Ticket,
};
pub use loading::{MAX_PARSED_PEERS, MAX_WAITING_PUBLISHES};
pub use obstacle::Obstacle;
pub use outbox::OutboxStatus;
pub use output::{
    Event, Message, Output, PeerLoss, Protection, Purpose, SendFailure, Transmit, UnknownProtection,
};
pub use peers::MAX_PEERS;
pub use record::{BundleRecord, PeerRecord};
pub use refusal::{AUDIT_INTERVAL, MAX_NAMED_REFUSALS, RefusalReason};
pub use sessions::{HALF_OPEN_FOR, HANDSHAKE_PATIENCE, SessionPolicy, SessionStage, SessionStatus};
pub use topics::ControlTopics;
pub use upgrade::{UpgradeFromFormat2, upgrade_from_format_1};

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::audit::{AuditEvent, AuditKind};
use crate::budget::Bucket;
use crate::control::revocation::{CheckpointAssembler, RevocationEntryId, RevocationState};
use crate::crypto::backend::{Backend, RandomSource};
use crate::envelope::Sender;
use crate::identity::certificate::VerifiedCertificate;
use crate::identity::trust::PinnedAnchors;
use crate::ids::{KeyId, PeerId, StreamId};
use crate::replay::ReplayWindow;
use crate::time::{Monotonic, Now, UnixTime};
use crate::topic::MAX_TOPIC;

use barrier::{Barrier, Durable};
use clock::Clock;
use counters::SendCounters;
use groups::Groups;
use hold::Hold;
use inbox::Inbox;
use loading::{Loads, Recency};
use outbox::Outbox;
use own_keys::OwnPrekeys;
use peers::Peer;
use pending::PendingOperations;
use refusal::RefusalLog;
use sessions::Sessions;
use topics::Place;

/// The state machine. See the module documentation for how to drive it.
pub struct Endpoint {
    config: EndpointConfig,
    topics: ControlTopics,
    backend: Backend,
    random: Box<dyn RandomSource + Send>,
    anchors: PinnedAnchors,
    own: OwnIdentity,
    prekeys: OwnPrekeys,
    clock: Clock,
    peers: BTreeMap<PeerId, Peer>,
    revocations: RevocationState,
    checkpoint: CheckpointAssembler,
    counters: SendCounters,
    windows: BTreeMap<(KeyId, StreamId), ReplayWindow>,
    /// Sequences whose decapsulation is under way. A copy meanwhile is a replay, acknowledged with the first.
    opening: BTreeMap<(KeyId, StreamId, u64), Vec<DeliveryId>>,
    budgets: Budgets,
    hold: Hold,
    sessions: Sessions,
    groups: Groups,
    outbox: Outbox,
    inbox: Inbox,
    /// The application's own rows.
    application: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Certificates on their way from the store.
    loads: Loads,
    recent: Recency,
    pending: PendingOperations,
    refusals: RefusalLog,
    barrier: Barrier,
    /// When CA-signed objects that found no budget are fetched again.
    control_retry: Option<Monotonic>,
    /// When announcements and bundles that could not be looked at are fetched again.
    missed_retry: Option<Monotonic>,
    /// When missing revocations are asked for again, and after what delay.
    gap_retry: Option<(Monotonic, core::time::Duration)>,
    /// When revocations were last asked for because a peer claimed to hold more.
    hinted: Option<Monotonic>,
    announced_timeout: Option<Monotonic>,
    /// Whether the link ever was up: then the transport keeps our subscriptions.
    connected: bool,
    /// Whether it is up now.
    online: bool,
    /// How many more messages the transport takes.
    room: usize,
    closed: bool,
}

struct OwnIdentity {
    certificate: VerifiedCertificate,
    sender: Sender,
    revocation: RevocationEntryId,
    /// The signed announcement, once made.
    announcement: Option<Vec<u8>>,
    revoked: bool,
}

struct Budgets {
    announcements: Bucket,
    messages: Bucket,
    control: Bucket,
    anchors: Bucket,
}

/// A summary for people and metrics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// Peers asked for.
    pub peers: usize,
    /// Peers with a certificate in force.
    pub ready: usize,
    /// The revocation chain's position.
    pub revocation_seq: u64,
    /// How many identities are revoked.
    pub revoked: usize,
    /// Whether revocations are known to be missing.
    pub revocations_behind: bool,
    /// Peers with a session in use.
    pub sessions: usize,
    /// Peers with a session that holds expanded keys; half a minute to a minute after its last record it rests.
    pub sessions_awake: usize,
    /// Refusals since the start, by reason.
    pub refused: Vec<(RefusalReason, u64)>,
    /// The pinned anchors' version.
    pub anchors_version: u64,
    /// Deliveries held back.
    pub held: usize,
    /// What waits for receipts.
    pub outbox: OutboxStatus,
    /// What waits for the application.
    pub inbox: InboxStatus,
}

impl Endpoint {
    /// Takes one input. Cost is bounded; follow with [`Endpoint::poll_output`] until `None`.
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.clock.observe(now) {
            let event = AuditEvent::new(AuditKind::ClockAnomaly, None, "clock behind the durable floor");
            let after = self.barrier.persist(Vec::new(), alloc::vec![event]);
            self.barrier.emit(after, Output::Event(Event::ClockBehindFloor));
        }
        match input {
            Input::Receive { delivery, topic, payload } => self.receive(delivery, topic, payload),
            Input::Oversized { delivery, topic: _ } => {
                self.refuse_delivery(delivery, RefusalReason::Oversized, None);
            }
            Input::Connected { session_present } => self.connected(session_present),
            Input::Disconnected => self.link_down(),
            Input::Room(messages) => {
                self.room = messages;
                self.pump();
            }
            Input::Undeliverable(id) => self.undeliverable(id),
            Input::Command(command) => self.command(command),
            Input::Timeout => self.timeout(),
            Input::Persisted(seq) => self.barrier.persisted(seq),
            Input::Provided(id, result) => self.provided(id, result),
            Input::Loaded(id, rows) => self.loaded(id, &rows),
        }
    }

    /// The next thing to do; `None` until the next [`Endpoint::handle`].
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.barrier.next() {
            return Some(output);
        }
        let deadline = self.deadline();
        if deadline != self.announced_timeout {
            self.announced_timeout = deadline;
            return deadline.map(Output::Timeout);
        }
        None
    }

    /// Operations under way and outputs waiting for the store. A driver stops reading from the network while this is
    /// above a bound of its choice.
    pub fn backlog(&self) -> usize {
        self.pending.len() + self.barrier.waiting() + self.loads.waiting_publishes()
    }

    /// Whether application messages wait for budget, for the application to consume earlier ones, or many for certificates
    /// of the store. A driver that feeds no more of them meanwhile, only what comes on control topics, loses none: beyond
    /// [`MAX_HELD`] they are refused.
    pub fn is_congested(&self) -> bool {
        self.hold.is_congested() || self.inbox.is_full()
    }

    /// A summary for people and metrics.
    pub fn status(&self) -> Status {
        Status {
            peers: self.peers.len(),
            ready: self.peers.values().filter(|peer| peer.in_force().is_some()).count(),
            revocation_seq: self.revocations.head().seq,
            revoked: self.revocations.revoked().len(),
            revocations_behind: self.revocations.is_behind(),
            sessions: self.sessions.established(),
            sessions_awake: self.sessions.awake(),
            refused: self.refusals.totals().iter().map(|(reason, count)| (*reason, *count)).collect(),
            anchors_version: self.anchors.anchors().version,
            held: self.hold.len(),
            outbox: self.outbox.status(self.clock.monotonic()),
            inbox: self.inbox.status(),
        }
    }

    /// One of the application's own rows, as last changed by [`Command::Consume`] or [`Command::Publish`].
    pub fn application_row(&self, key: &[u8]) -> Option<&[u8]> {
        self.application.get(key).map(Vec::as_slice)
    }

    /// The control topics of this endpoint's prefix.
    pub fn topics(&self) -> &ControlTopics {
        &self.topics
    }

    /// The time validity is judged by.
    pub fn effective_time(&self) -> UnixTime {
        self.clock.effective()
    }

    fn receive(&mut self, delivery: DeliveryId, topic: alloc::string::String, payload: Vec<u8>) {
        // It is kept with its message, in a row that must be read again.
        if topic.len() > MAX_TOPIC {
            return self.refuse_delivery(delivery, RefusalReason::InvalidTopic, None);
        }
        let place = self.topics.place(&topic);
        if payload.len() > place.limit(&self.config.limits) {
            return self.refuse_delivery(delivery, RefusalReason::Oversized, None);
        }
        match place {
            Place::Application => self.receive_message(delivery, topic, payload),
            Place::Keys(id) => self.for_peer(delivery, id, payload, Self::receive_announcement),
            Place::Prekeys(id) => self.for_peer(delivery, id, payload, Self::receive_bundle),
            Place::Control(id) if id == self.config.peer_id.as_str() => {
                self.receive_message(delivery, topic, payload);
            }
            Place::SessionInit(id) if id == self.config.peer_id.as_str() => {
                self.receive_m1(delivery, &payload);
            }
            Place::SessionResp(id) if id == self.config.peer_id.as_str() => {
                self.receive_answer(delivery, &payload);
            }
            Place::Anchors => self.receive_anchors(delivery, &payload),
            Place::Revocation => self.receive_revocation(delivery, payload),
            Place::Checkpoint => self.receive_checkpoint(delivery, payload),
            Place::CheckpointChunk(index) => self.receive_chunk(delivery, index, &payload),
            Place::SessionInit(_) | Place::SessionResp(_) | Place::Control(_) | Place::Unknown => {
                self.refuse_delivery(delivery, RefusalReason::InvalidTopic, None)
            }
        }
    }

    /// Checks the id of a per-peer control topic before anything is done with it (invariant I0).
    fn for_peer(
        &mut self,
        delivery: DeliveryId,
        id: &str,
        payload: Vec<u8>,
        accept: fn(&mut Self, &PeerId, Vec<u8>) -> Result<(), RefusalReason>,
    ) {
        let Ok(peer) = PeerId::new(id) else {
            return self.refuse_delivery(delivery, RefusalReason::InvalidPeerId, None);
        };
        if peer == self.config.peer_id {
            return self.acknowledge(delivery);
        }
        if !self.peers.contains_key(&peer) {
            return self.refuse_delivery(delivery, RefusalReason::UnknownPeer, None);
        }
        match accept(self, &peer, payload) {
            Ok(()) => self.barrier.emit(self.barrier.latest(), Output::Acknowledge(delivery)),
            Err(reason) => self.refuse_delivery(delivery, reason, Some(&peer)),
        }
    }

    fn connected(&mut self, session_present: bool) {
        self.connected = true;
        if !session_present {
            self.subscribe_control();
        }
        self.publish_own();
        self.link_up();
        self.sessions_link_up();
    }

    fn subscribe_control(&mut self) {
        let mut filters = alloc::vec![
            self.topics.anchors(),
            self.topics.revocations(),
            self.topics.checkpoint(),
            self.topics.checkpoint_chunks(),
            self.topics.control(&self.config.peer_id),
            self.topics.session_init(&self.config.peer_id),
            self.topics.session_resp(&self.config.peer_id),
        ];
        let until = self.clock.monotonic().plus(MAX_HELD_FOR);
        for (peer, known) in &mut self.peers {
            known.expected_until = Some(until);
            filters.push(self.topics.keys(peer));
            filters.push(self.topics.prekeys(peer));
        }
        for filter in filters {
            self.barrier.emit(Durable::NOW, Output::Subscribe(filter));
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::AddPeer(peer) => self.add_peer(peer),
            Command::Publish(publish) => self.publish(publish),
            Command::CreateGroup { ticket, filter } => self.create_group(ticket, filter),
            Command::AddSubscriber { ticket, filter, peer } => self.add_subscriber(ticket, &filter, peer),
            Command::RemoveSubscriber { ticket, filter, peer } => {
                self.remove_subscriber(ticket, &filter, &peer);
            }
            Command::EndGroup { ticket, filter } => self.end_group(ticket, &filter),
            Command::PublishTopic { ticket, topic, payload } => self.publish_topic(ticket, &topic, &payload),
            Command::Consume(consume) => self.consume(consume),
            Command::Shutdown => self.shutdown(),
        }
    }

    fn add_peer(&mut self, peer: PeerId) {
        let full = self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer);
        if peer == self.config.peer_id || full {
            return;
        }
        let until = self.clock.monotonic().plus(MAX_HELD_FOR);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.expected_until = Some(until);
            // Restored from the store: ready already.
            let at = self.clock.effective();
            if let Some(pins) = known.in_force().filter(|pins| known.trusted.is_some() || pins.valid_at(at)) {
                let forward_secret = pins.bundle.as_ref().is_some_and(|bundle| at < bundle.not_after);
                let event = Event::PeerReady { peer: peer.clone(), forward_secret };
                self.barrier.emit(Durable::NOW, Output::Event(event));
            }
        } else {
            let known = Peer { expected_until: Some(until), ..Peer::default() };
            self.peers.insert(peer.clone(), known);
        }
        if self.connected {
            for filter in [self.topics.keys(&peer), self.topics.prekeys(&peer)] {
                self.barrier.emit(Durable::NOW, Output::Subscribe(filter));
            }
        }
    }

    fn timeout(&mut self) {
        let now = self.clock.monotonic();
        let audit = self.refusals.flush(now, false);
        let changes: Vec<_> = self.clock.write(false).into_iter().collect();
        if !(audit.is_empty() && changes.is_empty()) {
            self.barrier.persist(changes, audit);
        }
        self.rotate_prekey();
        self.retry_held();
        self.retry_control();
        self.watch_gap();
        if self.missed_retry.is_some_and(|at| at <= now) {
            self.refetch_missed();
        }
        self.sessions_timeout();
        self.begin_anew();
        self.groups_timeout();
        self.send_receipts();
        self.outbox_timeout();
    }

    fn shutdown(&mut self) {
        // Senders need not wait for the next start to know what arrived.
        self.inbox.all_receipts_due(self.clock.monotonic());
        self.send_receipts();
        self.finish_groups();
        self.closed = true;
        let now = self.clock.monotonic();
        let mut audit = self.refusals.flush(now, true);
        audit.push(AuditEvent::new(AuditKind::ClientStopped, None, "shutdown"));
        let changes = self.clock.write(true).into_iter().collect();
        let after = self.barrier.persist(changes, audit);
        self.barrier.emit(after, Output::Event(Event::Closed));
    }

    fn deadline(&self) -> Option<Monotonic> {
        [
            self.refusals.deadline(),
            self.clock.deadline(),
            self.hold.deadline(&self.budgets.messages),
            self.prekeys.deadline(),
            self.control_retry,
            self.missed_retry,
            self.inbox.deadline(),
            self.outbox.deadline(),
            self.sessions.deadline(self.clock.monotonic(), self.clock.effective()),
            self.groups.deadline(),
            self.gap_retry.map(|(at, _)| at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn acknowledge(&mut self, delivery: impl Into<Option<DeliveryId>>) {
        if let Some(delivery) = delivery.into() {
            self.barrier.emit(Durable::NOW, Output::Acknowledge(delivery));
        }
    }

    /// Refuses, and acknowledges unless that was done before.
    fn refuse_delivery(
        &mut self,
        delivery: impl Into<Option<DeliveryId>>,
        reason: RefusalReason,
        peer: Option<&PeerId>,
    ) {
        self.refuse(reason, peer);
        self.acknowledge(delivery);
    }

    /// Counts, audits at a bounded rate, and tells. `peer` must be one we know.
    fn refuse(&mut self, reason: RefusalReason, peer: Option<&PeerId>) {
        let audit = self.refusals.count(self.clock.monotonic(), reason, peer);
        let after = match audit {
            Some(event) => self.barrier.persist(Vec::new(), alloc::vec![event]),
            None => Durable::NOW,
        };
        self.barrier.emit(after, Output::Event(Event::Refused { reason, peer: peer.cloned() }));
    }
}
