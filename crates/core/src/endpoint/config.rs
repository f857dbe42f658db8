//! How an endpoint is set up.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use thiserror::Error;

use crate::budget::BudgetLimits;
use crate::codec::DecodeError;
use crate::crypto::suite::SessionSuite;
use crate::identity::certificate::CertificateError;
use crate::identity::keys::PublicIdentity;
use crate::identity::trust::AnchorsError;
use crate::ids::PeerId;
use crate::limits::Limits;

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
