//! How an endpoint is set up.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use thiserror::Error;

use crate::budget::{BudgetLimits, Rate};
use crate::codec::DecodeError;
use crate::crypto::suite::SessionSuite;
use crate::identity::certificate::CertificateError;
use crate::identity::keys::PublicIdentity;
use crate::identity::trust::AnchorsError;
use crate::ids::PeerId;
use crate::limits::Limits;

use super::sessions::SessionPolicy;

/// Whom an endpoint trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustMode {
    /// Only peers whose certificate a pinned issuer signed (invariant I1).
    #[default]
    Strict,
    /// Anyone who arrives first under a name. **Dangerous**: whoever controls the broker chooses your peers. Every start
    /// in this mode is audited.
    DangerousTrustOnFirstUse,
}

/// An endpoint's configuration.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Our own id.
    pub peer_id: PeerId,
    /// Our public keys, as the provider reports them.
    pub identity: PublicIdentity,
    /// Our certificate.
    pub certificate: Vec<u8>,
    /// The trust anchors installed with this endpoint; a newer pinned version in the store wins.
    pub anchors: Vec<u8>,
    /// The first level of every control topic.
    pub prefix: String,
    /// Size limits per object.
    pub limits: Limits,
    /// Budgets for work before authentication.
    pub budgets: BudgetLimits,
    /// Suites this endpoint will use at all.
    pub suites: Vec<SessionSuite>,
    /// How long a prekey is offered, and how long before its end the next one replaces it.
    pub prekeys: PrekeyPolicy,
    /// Whom to trust.
    pub trust: TrustMode,
    /// How many peers' certificates are kept parsed, at least 1: [`MAX_PARSED_PEERS`](super::MAX_PARSED_PEERS).
    pub parsed_peers: usize,
    /// What outbox and inbox hold.
    pub delivery: DeliveryLimits,
    /// How sessions live.
    pub sessions: SessionPolicy,
}

/// What happens to a message that finds the outbox full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FullPolicy {
    /// It is refused, and the application told.
    #[default]
    Refuse,
    /// The oldest messages of its stream that were never transmitted and have no high priority make room; both sides
    /// are told how many were lost.
    DropOldest,
    /// It is counted as lost, and both sides are told.
    DropNewest,
}

/// Bounds of durable delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryLimits {
    /// Payloads that the outbox holds, plus 256 bytes and the topic for each, in bytes. They are in memory and on disk.
    /// One [`DeliveryLimits::RESERVE`]th is for messages of high priority alone.
    pub outbox_bytes: usize,
    /// Of what the messages to all others leave of `outbox_bytes`, the part that those to one peer may take, in percent, 1
    /// to 100. So however many peers are silent, there is room for one more, if ever less.
    pub peer_share: u8,
    /// How long a message may wait to be transmitted for the first time. Counted in monotonic time while running;
    /// across a stop by the durable time floor, which one start raises by at most [`super::MAX_STEP`].
    pub outbox_age: Duration,
    /// What happens when `outbox_bytes` are used up, or a peer's share of them is.
    pub when_full: FullPolicy,
    /// How fast messages that waited for the link leave once it is up; fresh ones go in between.
    pub drain: Rate,
    /// Messages that the application has not consumed. At this bound no more are taken from the broker.
    pub inbox_messages: usize,
    /// Their bytes, counted as for the outbox.
    pub inbox_bytes: usize,
}

impl DeliveryLimits {
    /// The share of the outbox that only messages of high priority use.
    pub const RESERVE: usize = 8;
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            outbox_bytes: 64 * 1024 * 1024,
            peer_share: 75,
            outbox_age: Duration::from_secs(60 * DAY),
            when_full: FullPolicy::Refuse,
            drain: Rate { burst: 1_000, per_second: 2_000 },
            inbox_messages: 10_000,
            inbox_bytes: 64 * 1024 * 1024,
        }
    }
}

/// The life of a prekey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrekeyPolicy {
    /// From making a prekey to making the next.
    pub rotate_after: Duration,
    /// From making a prekey to senders no longer using it.
    pub lifetime: Duration,
    /// From the end of its lifetime to the erasure of its secret.
    pub keep_secret: Duration,
}

impl Default for PrekeyPolicy {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            rotate_after: Duration::from_secs(7 * DAY),
            lifetime: Duration::from_secs(28 * DAY),
            keep_secret: Duration::from_secs(30 * DAY),
        }
    }
}

impl EndpointConfig {
    /// The defaults for an identity: prefix `pqc`, every suite, strict trust.
    pub fn new(peer_id: PeerId, identity: PublicIdentity, certificate: Vec<u8>, anchors: Vec<u8>) -> Self {
        Self {
            peer_id,
            identity,
            certificate,
            anchors,
            prefix: "pqc".into(),
            limits: Limits::default(),
            budgets: BudgetLimits::default(),
            suites: SessionSuite::ALL.to_vec(),
            prekeys: PrekeyPolicy::default(),
            trust: TrustMode::Strict,
            delivery: DeliveryLimits::default(),
            sessions: SessionPolicy::default(),
            parsed_peers: super::MAX_PARSED_PEERS,
        }
    }
}

/// Why an endpoint does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The installed anchors are unusable, or contradict the pinned ones.
    #[error("trust anchors: {0}")]
    Anchors(#[from] AnchorsError),
    /// Our own certificate gives no identity.
    #[error("own certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// Our own certificate names another peer or other keys than the provider holds.
    #[error("own certificate names another peer or other keys than the provider holds")]
    NotOurs,
    /// None of our certificate's suites is allowed by the configuration.
    #[error("no suite is allowed by both the certificate and the configuration")]
    Suites,
    /// The control-topic prefix is not a topic.
    #[error("the control-topic prefix is not a topic")]
    Prefix,
    /// A stored row does not decode.
    #[error("a stored record is damaged: {0}")]
    Records(#[from] DecodeError),
}
