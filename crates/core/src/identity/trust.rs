//! Trust anchors: the pinned CA. Root keys with a threshold, and the role keys they appoint.

use alloc::vec::Vec;

use thiserror::Error;

use super::certificate::{CertificateError, MAX_CERTIFICATE, OperationalCertificate, VerifiedCertificate};
use crate::codec::signed::{ContextItem, Signed, SignedObject, SignerKey, Unverified, VerifyError};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::Backend;
use crate::crypto::labels;
use crate::crypto::suite::SignatureSet;
use crate::ids::Fingerprint;
use crate::time::UnixTime;

/// The largest encoded anchors, in bytes.
pub const MAX_ANCHORS: usize = 64 * 1024;
/// The most keys per role.
pub const MAX_KEYS_PER_ROLE: usize = 8;

/// What a key of the authority may sign. A role signs only its own tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Certificates.
    Issuer = 1,
    /// Revocations and policy.
    Control = 2,
    /// Freshness.
    Status = 3,
    /// Firmware metadata.
    Firmware = 4,
}

/// A public signing key as anchors list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorKey {
    /// Its signature set.
    pub set: SignatureSet,
    /// The concatenated public keys.
    pub key: Vec<u8>,
}

/// One version of the anchors, signed by a threshold of roots of the version before and of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustAnchors {
    /// Rises by one with each change.
    pub version: u64,
    /// How many roots must sign.
    pub threshold: u8,
    /// The offline roots.
    pub roots: Vec<AnchorKey>,
    /// Role `issuer`.
    pub issuers: Vec<AnchorKey>,
    /// Role `control`.
    pub control: Vec<AnchorKey>,
    /// Role `status`.
    pub status: Vec<AnchorKey>,
    /// Role `firmware`.
    pub firmware: Vec<AnchorKey>,
    /// Valid from.
    pub not_before: UnixTime,
    /// Valid until, exclusive.
    pub not_after: UnixTime,
}

impl TrustAnchors {
    fn lists(&self) -> [&Vec<AnchorKey>; 5] {
        [&self.roots, &self.issuers, &self.control, &self.status, &self.firmware]
    }
}

impl SignedObject for TrustAnchors {
    const TAG: &'static str = labels::ANCHORS;
    type Context<'a> = ();

    fn context<'a>(_: &'a ()) -> Vec<ContextItem<'a>> {
        Vec::new()
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(9);
        writer.int(1).uint(self.version);
        writer.int(2).uint(self.threshold.into());
        for (label, list) in (3..).zip(self.lists()) {
            writer.int(label).array(list.len());
            for key in list {
                writer.array(2).uint(key.set.id().into()).bytes(&key.key);
            }
        }
        writer.int(8).uint(self.not_before.0);
        writer.int(9).uint(self.not_after.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(9)?;
        reader.key(1)?;
        let version = reader.uint()?;
        reader.key(2)?;
        let threshold = reader.uint8()?;
        let mut list = |label| {
            reader.key(label)?;
            decode_keys(reader)
        };
        let roots = list(3)?;
        let (issuers, control, status, firmware) = (list(4)?, list(5)?, list(6)?, list(7)?);
        reader.key(8)?;
        let not_before = UnixTime(reader.uint()?);
        reader.key(9)?;
        let not_after = UnixTime(reader.uint()?);
        if threshold == 0 || usize::from(threshold) > roots.len() {
            return Err(DecodeError::Value);
        }
        Ok(Self { version, threshold, roots, issuers, control, status, firmware, not_before, not_after })
    }
}

fn decode_keys(reader: &mut Reader<'_>) -> Result<Vec<AnchorKey>, DecodeError> {
    let count = reader.array_up_to(MAX_KEYS_PER_ROLE as u64)?;
    let mut keys: Vec<AnchorKey> = Vec::new();
    for _ in 0..count {
        reader.array_of(2)?;
        let set = SignatureSet::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let key = reader.bytes()?.to_vec();
        let duplicate = keys.iter().any(|other| other.key == key);
        if key.len() != set.public_key_len() || duplicate {
            return Err(DecodeError::Value);
        }
        keys.push(AnchorKey { set, key });
    }
    Ok(keys)
}

/// Why anchors were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AnchorsError {
    /// They do not decode, or their copies differ.
    #[error("the trust anchors do not decode: {0}")]
    Decode(#[from] DecodeError),
    /// Too few roots signed, of the pinned version or of the new one.
    #[error("too few roots signed the trust anchors")]
    Threshold,
    /// Not the version after the pinned one.
    #[error("the trust anchors are not the next version")]
    Version,
    /// Not the pinned ones, although of the same version.
    #[error("the trust anchors contradict the pinned ones of the same version")]
    Conflict,
    /// Outside their validity.
    #[error("the trust anchors are outside their validity")]
    Validity,
    /// A listed key is not a valid key.
    #[error("the trust anchors list an invalid key")]
    InvalidKey,
}

/// Collects signatures of roots over the same anchors into the form that travels: an array of signed objects.
pub fn assemble_anchors(signed: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(signed.len());
    for object in signed {
        writer.bytes(object);
    }
    writer.finish()
}

/// Anchors that this peer trusts, with their role keys parsed.
pub struct PinnedAnchors {
    backend: Backend,
    anchors: TrustAnchors,
    encoded: Vec<u8>,
    roots: Vec<SignerKey>,
    issuers: Vec<SignerKey>,
    control: Vec<SignerKey>,
}

impl PinnedAnchors {
    /// Pins anchors that came by a trusted path, such as a file installed with the device: they must carry a threshold
    /// of their own roots' signatures.
    pub fn pin(backend: Backend, encoded: &[u8]) -> Result<Self, AnchorsError> {
        let copies = decode_copies(encoded)?;
        let parsed = Self::parse(backend, copies.first().ok_or(AnchorsError::Threshold)?, encoded)?;
        require_threshold(&copies, &parsed.roots, parsed.anchors.threshold)?;
        Ok(parsed)
    }

    /// Whether `encoded` claims to be the next version; costs no signature.
    ///
    /// # Errors
    ///
    /// [`AnchorsError::Decode`], [`AnchorsError::Version`], or [`AnchorsError::Threshold`] if it names too few of the
    /// pinned roots.
    pub fn precheck(&self, encoded: &[u8]) -> Result<(), AnchorsError> {
        let copies = decode_copies(encoded)?;
        let next = copies.first().ok_or(AnchorsError::Threshold)?.unverified();
        if Some(next.version) != self.anchors.version.checked_add(1) {
            return Err(AnchorsError::Version);
        }
        let named = |root: &&SignerKey| copies.iter().any(|copy| copy.claimed_signer() == root.fingerprint());
        let named = self.roots.iter().filter(named).count();
        if named < usize::from(self.anchors.threshold) { Err(AnchorsError::Threshold) } else { Ok(()) }
    }

    /// Applies the next version: signed by a threshold of the pinned roots *and* of its own.
    pub fn succeed(&self, encoded: &[u8], at: UnixTime) -> Result<Self, AnchorsError> {
        let copies = decode_copies(encoded)?;
        let first = copies.first().ok_or(AnchorsError::Threshold)?;
        let next = first.unverified();
        if Some(next.version) != self.anchors.version.checked_add(1) {
            return Err(AnchorsError::Version);
        }
        if at < next.not_before || next.not_after <= at {
            return Err(AnchorsError::Validity);
        }
        require_threshold(&copies, &self.roots, self.anchors.threshold)?;
        let parsed = Self::parse(self.backend, first, encoded)?;
        require_threshold(&copies, &parsed.roots, parsed.anchors.threshold)?;
        Ok(parsed)
    }

    fn parse(
        backend: Backend,
        first: &Unverified<TrustAnchors>,
        encoded: &[u8],
    ) -> Result<Self, AnchorsError> {
        let anchors = first.unverified().clone();
        let keys = |list: &[AnchorKey]| {
            list.iter()
                .map(|key| SignerKey::parse(backend, key.set, &key.key))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| AnchorsError::InvalidKey)
        };
        let (roots, issuers, control) =
            (keys(&anchors.roots)?, keys(&anchors.issuers)?, keys(&anchors.control)?);
        Ok(Self { backend, anchors, encoded: encoded.into(), roots, issuers, control })
    }

    /// The anchors.
    pub fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// As they travel.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Whether this issuer is still appointed.
    pub fn has_issuer(&self, issuer: Fingerprint) -> bool {
        self.issuers.iter().any(|key| key.fingerprint() == issuer)
    }

    /// The control key with this fingerprint.
    pub fn control_key(&self, signer: Fingerprint) -> Option<&SignerKey> {
        self.control.iter().find(|key| key.fingerprint() == signer)
    }

    /// Verifies an object that role `control` signs.
    pub fn verify_control<T: SignedObject>(
        &self,
        object: Unverified<T>,
        context: &T::Context<'_>,
    ) -> Result<Signed<T>, VerifyError> {
        let key = self.control_key(object.claimed_signer()).ok_or(VerifyError::WrongSigner)?;
        object.verify(key, context)
    }

    /// Verifies a certificate: size, shape, issuer, validity at `at`, and only then the signature and the keys.
    pub fn verify_certificate(
        &self,
        encoded: &[u8],
        at: UnixTime,
    ) -> Result<VerifiedCertificate, CertificateError> {
        let certificate = Unverified::<OperationalCertificate>::decode(encoded, MAX_CERTIFICATE)?;
        let signer = certificate.claimed_signer();
        let issuer = self.issuers.iter().find(|key| key.fingerprint() == signer);
        let issuer = issuer.ok_or(CertificateError::UnknownIssuer)?;
        let claims = certificate.unverified();
        if claims.issuer != signer {
            return Err(CertificateError::BadSignature);
        }
        if !claims.valid_at(at) {
            return Err(CertificateError::Validity);
        }
        VerifiedCertificate::new(self.backend, certificate.verify(issuer, &())?)
    }
}

fn decode_copies(encoded: &[u8]) -> Result<Vec<Unverified<TrustAnchors>>, AnchorsError> {
    if encoded.len() > MAX_ANCHORS {
        return Err(DecodeError::TooLarge.into());
    }
    let mut reader = Reader::new(encoded)?;
    let count = reader.array_up_to(2 * MAX_KEYS_PER_ROLE as u64)?;
    let mut copies: Vec<Unverified<TrustAnchors>> = Vec::new();
    for _ in 0..count {
        let copy = Unverified::decode(reader.bytes()?, MAX_ANCHORS)?;
        let differs = copies.first().is_some_and(|first| first.unverified() != copy.unverified());
        let repeated = copies.iter().any(|other| other.claimed_signer() == copy.claimed_signer());
        if differs || repeated {
            return Err(DecodeError::Value.into());
        }
        copies.push(copy);
    }
    reader.finish()?;
    Ok(copies)
}

fn require_threshold(
    copies: &[Unverified<TrustAnchors>],
    roots: &[SignerKey],
    threshold: u8,
) -> Result<(), AnchorsError> {
    let valid = |root: &SignerKey| {
        copies
            .iter()
            .filter(|copy| copy.claimed_signer() == root.fingerprint())
            .any(|copy| copy.verify_ref(root, &()).is_ok())
    };
    let count = roots.iter().filter(|root| valid(root)).count();
    if count >= usize::from(threshold) { Ok(()) } else { Err(AnchorsError::Threshold) }
}
