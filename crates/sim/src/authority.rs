//! The authority of a world: one of one root, its roles, and its revocations.

use std::time::Duration;

use pqc_iiot_core::codec::signed::SignedObject;
use pqc_iiot_core::control::revocation::{
    Checkpoint, RevocationEntry, RevocationIssuer, RevocationReason, RevocationUpdate,
};
use pqc_iiot_core::crypto::backend::{Backend, RandomSource};
use pqc_iiot_core::crypto::suite::SignatureSet;
use pqc_iiot_core::identity::authority::{
    Authority, AuthoritySeeds, IssueError, IssueParameters, RoleSigner,
};
use pqc_iiot_core::identity::request::CertificateRequest;
use pqc_iiot_core::identity::trust::{TrustAnchors, assemble_anchors};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_provider::random::SeededRandom;

use crate::clock::EPOCH;

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Issues what the nodes of a world trust.
pub struct SimAuthority {
    backend: Backend,
    seeds: AuthoritySeeds,
    authority: Authority,
    /// Its revocation history.
    pub revocations: RevocationIssuer,
    random: SeededRandom,
    anchors: Vec<u8>,
    version: u64,
}

impl SimAuthority {
    /// A new authority whose keys use `set`.
    pub fn new(backend: Backend, set: SignatureSet, seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        let seeds = AuthoritySeeds::generate(set, &mut random);
        let authority = Authority::new(backend, &seeds, &[]).expect("fresh seeds are valid");
        let anchors =
            authority.first_anchors(&mut random, EPOCH, EPOCH.plus(TEN_YEARS)).expect("the root signs");
        Self { backend, seeds, authority, revocations: RevocationIssuer::new(), random, anchors, version: 1 }
    }

    /// The current anchors, as they travel.
    pub fn anchors(&self) -> &[u8] {
        &self.anchors
    }

    /// Signs the next version of the anchors, which `change` may alter, and makes it current.
    pub fn next_anchors(&mut self, change: impl FnOnce(&mut TrustAnchors)) -> Vec<u8> {
        self.version += 1;
        let keys = |signer: &RoleSigner| vec![signer.anchor_key()];
        let mut anchors = TrustAnchors {
            version: self.version,
            threshold: 1,
            roots: keys(self.authority.root()),
            issuers: keys(self.authority.issuer()),
            control: keys(self.authority.control()),
            status: Vec::new(),
            firmware: Vec::new(),
            not_before: EPOCH,
            not_after: EPOCH.plus(TEN_YEARS),
        };
        change(&mut anchors);
        let signed = self.authority.root().sign(&mut self.random, &anchors, &()).expect("the root signs");
        self.anchors = assemble_anchors(&[signed]);
        self.anchors.clone()
    }

    /// The keys by role.
    pub fn keys(&self) -> &Authority {
        &self.authority
    }

    /// Replaces the issuer key by a fresh one; [`SimAuthority::next_anchors`] then appoints it.
    pub fn replace_issuer(&mut self) {
        let fresh = AuthoritySeeds::generate(self.seeds.set, &mut self.random);
        self.seeds.issuer = fresh.issuer;
        self.authority = Authority::new(self.backend, &self.seeds, &[]).expect("fresh seeds are valid");
    }

    /// Verifies a request and issues its certificate.
    pub fn issue(&mut self, request: &[u8], parameters: &IssueParameters) -> Result<Vec<u8>, IssueError> {
        let request = CertificateRequest::verify(self.backend, request).expect("a genuine request");
        let (certificate, _) = self.authority.issue(&mut self.random, &request, parameters)?;
        Ok(certificate)
    }

    /// Revokes the latest keys of `peers`: the unsigned update.
    pub fn revoke(&mut self, peers: &[PeerId], at: UnixTime) -> RevocationUpdate {
        let entries: Vec<_> = peers
            .iter()
            .map(|peer| {
                let (issued, _) = self.authority.mark_revoked(peer).expect("a certificate was issued");
                RevocationEntry::new(peer, &issued.key_id, RevocationReason::KEY_COMPROMISE, issued.not_after)
            })
            .collect();
        self.revocations.revoke(&entries, at).expect("not revoked before")
    }

    /// Signs an object of role `control`.
    pub fn control<T: SignedObject>(&mut self, object: &T, context: &T::Context<'_>) -> Vec<u8> {
        self.authority.control().sign(&mut self.random, object, context).expect("role control signs")
    }

    /// Signs an object as role `issuer`, whatever it is.
    pub fn issuer<T: SignedObject>(&mut self, object: &T, context: &T::Context<'_>) -> Vec<u8> {
        self.authority.issuer().sign(&mut self.random, object, context).expect("role issuer signs")
    }

    /// A checkpoint of everything revoked, unsigned.
    pub fn checkpoint(&mut self, at: UnixTime) -> Checkpoint {
        self.revocations.checkpoint(at)
    }

    /// Random bytes of this authority's.
    pub fn random(&mut self) -> &mut dyn RandomSource {
        &mut self.random
    }
}
