//! The issuing authority: role keys, the anchors they stand under, and the rules of issuing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use thiserror::Error;

use super::certificate::{OperationalCertificate, Serial, Tier};
use super::grants::Grant;
use super::request::CertificateRequest;
use super::trust::{AnchorKey, TrustAnchors, assemble_anchors};
use crate::codec::signed::{Signed, SignedObject, ToBeSigned, signer_fingerprint};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::{Backend, BackendError, InvalidKey, RandomSource};
use crate::crypto::secret::SecretBytes;
use crate::crypto::signature::{SigningKey, generate_seeds};
use crate::crypto::suite::{SessionSuite, SignatureSet};
use crate::ids::{Fingerprint, KeyId, MAX_PEER_ID, PeerId};
use crate::store::{Change, RecordKind, Row};
use crate::time::UnixTime;

/// A private signing key of the authority, in one role.
pub struct RoleSigner {
    key: SigningKey,
    fingerprint: Fingerprint,
}

impl RoleSigner {
    /// From the concatenated seeds of `set`.
    pub fn from_seeds(backend: Backend, set: SignatureSet, seeds: &SecretBytes) -> Result<Self, InvalidKey> {
        let key = SigningKey::from_seeds(backend, set, seeds)?;
        let fingerprint = signer_fingerprint(set, key.public_key());
        Ok(Self { key, fingerprint })
    }

    /// The public key's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The public key as anchors list it.
    pub fn anchor_key(&self) -> AnchorKey {
        AnchorKey { set: self.key.set(), key: self.key.public_key().to_vec() }
    }

    /// Signs `object` and encodes it.
    pub fn sign<T: SignedObject>(
        &self,
        random: &mut dyn RandomSource,
        object: &T,
        context: &T::Context<'_>,
    ) -> Result<Vec<u8>, BackendError> {
        let framed = ToBeSigned::new(object, self.key.set(), self.fingerprint, context);
        let signature = self.key.sign(random, &|algorithm| framed.structure().message(algorithm))?;
        framed.assemble(&signature).ok_or(BackendError)
    }
}

/// The private seeds of a one-root authority, as a sealed file keeps them.
pub struct AuthoritySeeds {
    /// The signature set of every key.
    pub set: SignatureSet,
    /// The root's seeds; kept offline in production.
    pub root: SecretBytes,
    /// Role `issuer`.
    pub issuer: SecretBytes,
    /// Role `control`.
    pub control: SecretBytes,
}

impl AuthoritySeeds {
    /// Fresh seeds.
    pub fn generate(set: SignatureSet, random: &mut dyn RandomSource) -> Self {
        let mut seeds = || generate_seeds(set, random);
        Self { set, root: seeds(), issuer: seeds(), control: seeds() }
    }

    /// For a sealed file: never to be stored in clear.
    pub fn encode(&self) -> SecretBytes {
        let mut writer = Writer::new();
        writer.array(4).uint(self.set.id().into());
        for seed in [&self.root, &self.issuer, &self.control] {
            writer.bytes(seed.expose());
        }
        SecretBytes::new(writer.finish())
    }

    /// From a sealed file's content.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        reader.array_of(4)?;
        let set = SignatureSet::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let mut seeds = || reader.bytes().map(|bytes| SecretBytes::new(bytes.to_vec()));
        let (root, issuer, control) = (seeds()?, seeds()?, seeds()?);
        reader.finish()?;
        Ok(Self { set, root, issuer, control })
    }
}

/// What a certificate shall say beyond its request.
#[derive(Debug, Clone)]
pub struct IssueParameters {
    /// Valid from.
    pub not_before: UnixTime,
    /// Valid until, exclusive.
    pub not_after: UnixTime,
    /// The peer's rank.
    pub tier: Tier,
    /// Accepted suites, in order of preference.
    pub suites: Vec<SessionSuite>,
    /// Whether senders must use a prekey.
    pub prekey_required: bool,
    /// What the peer may do.
    pub grants: Vec<Grant>,
}

/// Why a certificate was not issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The suites do not fit the requested KEM key.
    #[error("no accepted suite, or one that does not fit the requested KEM key")]
    Suites,
    /// The validity is empty.
    #[error("the validity is empty")]
    Validity,
    /// More grants than a certificate holds.
    #[error("too many grants for one certificate")]
    Grants,
    /// The keys were revoked, or belong to an epoch that was replaced: a device returns with new keys.
    #[error("these keys were revoked or replaced; make new keys and a new request")]
    RevokedKeys,
    /// Signing failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// The latest certificate of a peer, as the authority remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its serial.
    pub serial: Serial,
    /// Its key epoch.
    pub key_epoch: u64,
    /// Its keys.
    pub key_id: KeyId,
    /// Until when.
    pub not_after: UnixTime,
    /// Whether the keys were revoked.
    pub revoked: bool,
}

/// An authority that issues certificates: one of one root, with roles `issuer` and `control` of their own.
pub struct Authority {
    root: RoleSigner,
    issuer: RoleSigner,
    control: RoleSigner,
    issued: BTreeMap<PeerId, Issued>,
}

impl Authority {
    /// Loads the keys and what was issued before.
    pub fn new(backend: Backend, seeds: &AuthoritySeeds, rows: &[Row]) -> Result<Self, AuthorityError> {
        let signer = |seed| RoleSigner::from_seeds(backend, seeds.set, seed);
        let (root, issuer, control) = (signer(&seeds.root)?, signer(&seeds.issuer)?, signer(&seeds.control)?);
        let mut issued = BTreeMap::new();
        for row in rows.iter().filter(|row| row.kind == RecordKind::Issued) {
            let peer = PeerId::from_bytes(&row.key).map_err(|_| DecodeError::Value)?;
            issued.insert(peer, Issued::decode(&row.value)?);
        }
        Ok(Self { root, issuer, control, issued })
    }

    /// The first version of the anchors, signed by the one root.
    pub fn first_anchors(
        &self,
        random: &mut dyn RandomSource,
        not_before: UnixTime,
        not_after: UnixTime,
    ) -> Result<Vec<u8>, BackendError> {
        let anchors = TrustAnchors {
            version: 1,
            threshold: 1,
            roots: alloc::vec![self.root.anchor_key()],
            issuers: alloc::vec![self.issuer.anchor_key()],
            control: alloc::vec![self.control.anchor_key()],
            status: Vec::new(),
            firmware: Vec::new(),
            not_before,
            not_after,
        };
        Ok(assemble_anchors(&[self.root.sign(random, &anchors, &())?]))
    }

    /// The signer of certificates.
    pub fn issuer(&self) -> &RoleSigner {
        &self.issuer
    }

    /// The signer of revocations.
    pub fn control(&self) -> &RoleSigner {
        &self.control
    }

    /// The root.
    pub fn root(&self) -> &RoleSigner {
        &self.root
    }

    /// What was issued last, per peer.
    pub fn issued(&self) -> impl Iterator<Item = (&PeerId, &Issued)> {
        self.issued.iter()
    }

    /// Issues a certificate. The same keys renew their epoch; other keys get the next one; revoked keys get none.
    ///
    /// The change must be durable before the certificate is handed out.
    pub fn issue(
        &mut self,
        random: &mut dyn RandomSource,
        request: &Signed<CertificateRequest>,
        parameters: &IssueParameters,
    ) -> Result<(Vec<u8>, Change), IssueError> {
        let suites_fit = parameters.suites.iter().all(|suite| suite.kem() == request.keys.kem);
        if parameters.suites.is_empty() || !suites_fit {
            return Err(IssueError::Suites);
        }
        if parameters.not_after <= parameters.not_before {
            return Err(IssueError::Validity);
        }
        if parameters.grants.len() > super::grants::MAX_GRANTS {
            return Err(IssueError::Grants);
        }
        let key_id = request.keys.key_id();
        let key_epoch = match self.issued.get(&request.subject) {
            None => 1,
            Some(last) if last.key_id == key_id && last.revoked => return Err(IssueError::RevokedKeys),
            Some(last) if last.key_id == key_id => last.key_epoch,
            Some(last) => last.key_epoch.saturating_add(1),
        };
        let mut serial = Serial([0; 16]);
        random.fill(&mut serial.0);
        let certificate = OperationalCertificate {
            issuer: self.issuer.fingerprint(),
            subject: request.subject.clone(),
            serial,
            not_before: parameters.not_before,
            not_after: parameters.not_after,
            keys: request.keys.clone(),
            key_epoch,
            tier: parameters.tier,
            suites: parameters.suites.clone(),
            prekey_required: parameters.prekey_required,
            grants: parameters.grants.clone(),
        };
        let encoded = self.issuer.sign(random, &certificate, &())?;
        let issued = Issued { serial, key_epoch, key_id, not_after: parameters.not_after, revoked: false };
        let change = issued.change(&request.subject);
        self.issued.insert(request.subject.clone(), issued);
        Ok((encoded, change))
    }

    /// Marks a peer's latest keys revoked; `None` if nothing was issued to it.
    pub fn mark_revoked(&mut self, peer: &PeerId) -> Option<(Issued, Change)> {
        let issued = self.issued.get_mut(peer)?;
        issued.revoked = true;
        Some((issued.clone(), issued.change(peer)))
    }
}

/// Why an authority does not load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A seed is not a valid key.
    #[error("the authority's keys are invalid")]
    InvalidKey(#[from] InvalidKey),
    /// A stored row does not decode.
    #[error("the authority's records are damaged: {0}")]
    Records(#[from] DecodeError),
}

impl Issued {
    fn change(&self, peer: &PeerId) -> Change {
        debug_assert!(peer.as_str().len() <= MAX_PEER_ID);
        let mut writer = Writer::new();
        writer
            .array(5)
            .bytes(&self.serial.0)
            .uint(self.key_epoch)
            .bytes(self.key_id.as_bytes())
            .uint(self.not_after.0)
            .bool(self.revoked);
        Change::Put { kind: RecordKind::Issued, key: peer.as_str().into(), value: writer.finish() }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        reader.array_of(5)?;
        let issued = Self {
            serial: Serial(reader.bytes_of()?),
            key_epoch: reader.uint()?,
            key_id: KeyId(reader.bytes_of()?),
            not_after: UnixTime(reader.uint()?),
            revoked: reader.bool()?,
        };
        reader.finish()?;
        Ok(issued)
    }
}
