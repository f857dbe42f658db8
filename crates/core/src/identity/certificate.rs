//! The operational certificate: a CWT (RFC 8392) that binds a peer id to its keys and grants.

use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

use super::grants::{self, Action, Grant};
use super::keys::PublicIdentity;
use crate::codec::signed::{ContextItem, Signed, SignedObject, SignerKey, VerifyError};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::{Backend, InvalidKey};
use crate::crypto::kem::EncapsulationKey;
use crate::crypto::labels;
use crate::crypto::suite::SessionSuite;
use crate::ids::{Fingerprint, KeyId, PeerId};
use crate::time::UnixTime;

/// The largest encoded certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 32 * 1024;

// CWT claims (RFC 8392 §4) and private-use claims.
const ISS: i64 = 1;
const SUB: i64 = 2;
const EXP: i64 = 4;
const NBF: i64 = 5;
const CTI: i64 = 7;
const CNF: i64 = 8;
const KEY_EPOCH: i64 = -70_010;
const TIER: i64 = -70_011;
const SUITES: i64 = -70_012;
const PREKEY_REQUIRED: i64 = -70_013;
const GRANTS: i64 = -70_014;
/// Inside `cnf`: the array of public keys.
const CNF_KEYS: i64 = -70_015;

/// The rank of a peer, for tie-breaks and policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// A device.
    Device = 1,
    /// A gateway.
    Gateway = 2,
    /// A cloud service.
    Service = 3,
}

impl Tier {
    const ALL: [Self; 3] = [Self::Device, Self::Gateway, Self::Service];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Gateway => "gateway",
            Self::Service => "service",
        }
    }

    /// The tier with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

/// A certificate's serial (`cti`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(pub [u8; 16]);

/// What an issuer asserts about a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationalCertificate {
    /// The issuing key's fingerprint (`iss`, as lower-case hex).
    pub issuer: Fingerprint,
    /// The peer (`sub`).
    pub subject: PeerId,
    /// Serial (`cti`), unique per issuer.
    pub serial: Serial,
    /// Valid from (`nbf`).
    pub not_before: UnixTime,
    /// Valid until, exclusive (`exp`).
    pub not_after: UnixTime,
    /// The keys (`cnf`).
    pub keys: PublicIdentity,
    /// The generation of the keys: rises with every re-enrolment.
    pub key_epoch: u64,
    /// The peer's rank.
    pub tier: Tier,
    /// Session suites the peer accepts, in order of preference; all with the KEM of `keys`.
    pub suites: Vec<SessionSuite>,
    /// Whether senders must use a prekey rather than the static KEM key.
    pub prekey_required: bool,
    /// What the peer may do.
    pub grants: Vec<Grant>,
}

impl OperationalCertificate {
    /// Whether the certificate is valid at `at`.
    pub fn valid_at(&self, at: UnixTime) -> bool {
        self.not_before <= at && at < self.not_after
    }

    /// The lookup key of the certified keys.
    pub fn key_id(&self) -> KeyId {
        self.keys.key_id()
    }

    /// Whether a grant allows `action` on `topic` at `at`.
    pub fn allows(&self, action: Action, topic: &str, at: UnixTime) -> bool {
        grants::allowed(&self.grants, action, topic, at)
    }
}

impl SignedObject for OperationalCertificate {
    const TAG: &'static str = labels::OPERATIONAL_CERTIFICATE;
    type Context<'a> = ();

    fn context<'a>(_: &'a ()) -> Vec<ContextItem<'a>> {
        Vec::new()
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(11);
        writer.int(ISS).text(&alloc::format!("{}", self.issuer));
        writer.int(SUB).text(self.subject.as_str());
        writer.int(EXP).uint(self.not_after.0);
        writer.int(NBF).uint(self.not_before.0);
        writer.int(CTI).bytes(&self.serial.0);
        writer.int(CNF).map(1).int(CNF_KEYS);
        self.keys.encode(writer);
        writer.int(KEY_EPOCH).uint(self.key_epoch);
        writer.int(TIER).uint(self.tier as u64);
        writer.int(SUITES).array(self.suites.len());
        for suite in &self.suites {
            writer.uint(suite.id().into());
        }
        writer.int(PREKEY_REQUIRED).bool(self.prekey_required);
        writer.int(GRANTS);
        grants::encode(&self.grants, writer);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(11)?;
        reader.key(ISS)?;
        let issuer = parse_hex(&reader.text(64)?).ok_or(DecodeError::Value)?;
        reader.key(SUB)?;
        let subject = PeerId::new(&reader.text(crate::ids::MAX_PEER_ID)?).map_err(|_| DecodeError::Value)?;
        reader.key(EXP)?;
        let not_after = UnixTime(reader.uint()?);
        reader.key(NBF)?;
        let not_before = UnixTime(reader.uint()?);
        reader.key(CTI)?;
        let serial = Serial(reader.bytes_of()?);
        reader.key(CNF)?;
        reader.map_of(1)?;
        reader.key(CNF_KEYS)?;
        let keys = PublicIdentity::decode(reader)?;
        reader.key(KEY_EPOCH)?;
        let key_epoch = reader.uint()?;
        reader.key(TIER)?;
        let tier = reader.uint()?;
        let tier = Tier::ALL.into_iter().find(|known| *known as u64 == tier).ok_or(DecodeError::Value)?;
        reader.key(SUITES)?;
        let suites = decode_suites(reader, &keys)?;
        reader.key(PREKEY_REQUIRED)?;
        let prekey_required = reader.bool()?;
        reader.key(GRANTS)?;
        let grants = grants::decode(reader)?;
        Ok(Self {
            issuer,
            subject,
            serial,
            not_before,
            not_after,
            keys,
            key_epoch,
            tier,
            suites,
            prekey_required,
            grants,
        })
    }
}

fn decode_suites(reader: &mut Reader<'_>, keys: &PublicIdentity) -> Result<Vec<SessionSuite>, DecodeError> {
    let count = reader.array_up_to(SessionSuite::ALL.len() as u64)?;
    let mut suites = Vec::new();
    for _ in 0..count {
        let suite = SessionSuite::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        if suite.kem() != keys.kem || suites.contains(&suite) {
            return Err(DecodeError::Value);
        }
        suites.push(suite);
    }
    if suites.is_empty() { Err(DecodeError::Value) } else { Ok(suites) }
}

fn parse_hex(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0u8; Fingerprint::LEN];
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(*pair.first()?)? << 4 | value(*pair.get(1)?)?;
    }
    Some(Fingerprint(bytes))
}

/// Why a certificate gives no trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It does not decode.
    #[error("the certificate does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// No pinned issuer signed it.
    #[error("no pinned issuer signed the certificate")]
    UnknownIssuer,
    /// Its signature does not verify, or it names another issuer than the one that signed.
    #[error("the certificate's signature does not verify")]
    BadSignature,
    /// Not yet valid, or expired.
    #[error("the certificate is outside its validity")]
    Validity,
    /// A certified key is not a valid key.
    #[error("the certificate holds an invalid key")]
    InvalidKey,
}

impl From<VerifyError> for CertificateError {
    fn from(_: VerifyError) -> Self {
        Self::BadSignature
    }
}

impl From<InvalidKey> for CertificateError {
    fn from(_: InvalidKey) -> Self {
        Self::InvalidKey
    }
}

/// Proof that a pinned issuer signed a certificate, with its keys parsed and ready for use.
///
/// Only [`super::trust::PinnedAnchors::verify_certificate`] makes one. Validity in time is checked at every use.
pub struct VerifiedCertificate {
    certificate: Signed<OperationalCertificate>,
    fingerprint: Fingerprint,
    signer: SignerKey,
    encapsulation_key: EncapsulationKey,
}

impl VerifiedCertificate {
    pub(super) fn new(
        backend: Backend,
        certificate: Signed<OperationalCertificate>,
    ) -> Result<Self, CertificateError> {
        let keys = &certificate.keys;
        let signer = SignerKey::parse(backend, keys.set, &keys.signing_key)?;
        let encapsulation_key = EncapsulationKey::parse(backend, keys.kem, &keys.encapsulation_key)?;
        let fingerprint = keys.fingerprint();
        Ok(Self { certificate, fingerprint, signer, encapsulation_key })
    }

    /// For a certificate that its own key signed: only where trust on first use was asked for.
    pub(crate) fn self_issued(
        backend: Backend,
        certificate: Signed<OperationalCertificate>,
    ) -> Result<Self, CertificateError> {
        Self::new(backend, certificate)
    }

    /// The claims.
    pub fn claims(&self) -> &OperationalCertificate {
        &self.certificate
    }

    /// The whole certificate as it travels.
    pub fn encoded(&self) -> &[u8] {
        self.certificate.encoded()
    }

    /// The identity's full fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The lookup key of the identity.
    pub fn key_id(&self) -> KeyId {
        self.fingerprint.key_id()
    }

    /// The peer's verifying key.
    pub fn signer(&self) -> &SignerKey {
        &self.signer
    }

    /// The peer's static KEM key.
    pub fn encapsulation_key(&self) -> &EncapsulationKey {
        &self.encapsulation_key
    }

    /// The issuer's text form.
    pub fn issuer_text(&self) -> String {
        alloc::format!("{}", self.certificate.issuer)
    }
}
