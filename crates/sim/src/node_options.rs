//! How a node is enrolled and configured.

use std::time::Duration;

use pqc_iiot_core::crypto::suite::{Kem, SessionSuite, SignatureSet};
use pqc_iiot_core::endpoint::EndpointConfig;
use pqc_iiot_core::identity::authority::IssueParameters;
use pqc_iiot_core::identity::certificate::Tier;
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::TopicFilter;

use crate::clock::EPOCH;

/// A publish grant.
pub fn publish(filter: &str) -> Grant {
    Grant::new(Action::Publish, TopicFilter::new(filter).expect("a valid filter"))
}

/// A subscribe grant.
pub fn subscribe(filter: &str) -> Grant {
    Grant::new(Action::Subscribe, TopicFilter::new(filter).expect("a valid filter"))
}

type Configure = Box<dyn FnOnce(&mut EndpointConfig)>;

/// A node's identity, certificate and configuration.
pub struct NodeOptions {
    /// Its peer id.
    pub name: String,
    /// Its signature set.
    pub set: SignatureSet,
    /// Its suites, all of one KEM, in order of preference.
    pub suites: Vec<SessionSuite>,
    /// Its rank.
    pub tier: Tier,
    /// Whether senders must use a prekey.
    pub prekey_required: bool,
    /// Its grants.
    pub grants: Vec<Grant>,
    /// Valid from.
    pub not_before: UnixTime,
    /// Valid until.
    pub not_after: UnixTime,
    pub(crate) configure: Option<Configure>,
}

impl NodeOptions {
    /// A device with suites 1 and 3, set 1, and a certificate of one year.
    pub fn new(name: &str, grants: &[Grant]) -> Self {
        Self {
            name: name.into(),
            set: SignatureSet::Ed25519MlDsa65,
            suites: vec![SessionSuite::Hybrid, SessionSuite::HybridChaCha],
            tier: Tier::Device,
            prekey_required: true,
            grants: grants.to_vec(),
            not_before: EPOCH,
            not_after: EPOCH.plus(Duration::from_secs(365 * 24 * 3600)),
            configure: None,
        }
    }

    /// With these suites.
    pub fn suites(self, suites: &[SessionSuite]) -> Self {
        Self { suites: suites.to_vec(), ..self }
    }

    /// With this signature set.
    pub fn set(self, set: SignatureSet) -> Self {
        Self { set, ..self }
    }

    /// With a certificate that ends at `not_after`.
    pub fn valid_until(self, not_after: UnixTime) -> Self {
        Self { not_after, ..self }
    }

    /// Senders may use the static key.
    pub fn static_key_allowed(self) -> Self {
        Self { prekey_required: false, ..self }
    }

    /// Changes the endpoint's configuration.
    pub fn configure(self, change: impl FnOnce(&mut EndpointConfig) + 'static) -> Self {
        Self { configure: Some(Box::new(change)), ..self }
    }

    pub(crate) fn kem(&self) -> Kem {
        self.suites.first().expect("at least one suite").kem()
    }

    /// What the authority is to certify.
    pub fn parameters(&self) -> IssueParameters {
        IssueParameters {
            not_before: self.not_before,
            not_after: self.not_after,
            tier: self.tier,
            suites: self.suites.clone(),
            prekey_required: self.prekey_required,
            grants: self.grants.clone(),
        }
    }
}
