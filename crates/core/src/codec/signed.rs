//! `Signed<T>`: the one shape of every signed object, so that domain separation cannot be forgotten.
//!
//! An untagged COSE_Sign (RFC 9052 §4.1) over a deterministic CBOR payload. The body's protected header names the
//! signature set and the signer's full key hash, both critical; each signature's protected header is exactly
//! `{1: alg}`; unprotected maps are empty. `external_aad` is `[domain tag, …routing context…]`.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Deref;

use thiserror::Error;

use super::cbor::{DecodeError, Reader, Writer};
use crate::crypto::backend::{Backend, BadSignature, InvalidKey};
use crate::crypto::kdf::sha256;
use crate::crypto::labels;
use crate::crypto::signature::VerifyingKey;
use crate::crypto::suite::{SignatureAlgorithm, SignatureSet};
use crate::ids::Fingerprint;

/// Protected header: the signature set. Private-use label (RFC 9052 §11.2).
const HEADER_SET: i64 = -70_001;
/// Protected header: the signer's key fingerprint. Private-use label.
const HEADER_SIGNER: i64 = -70_002;
const HEADER_ALG: i64 = 1;
const HEADER_CRIT: i64 = 2;

/// A kind of signed object: its domain tag, what else its signature binds, and its payload.
pub trait SignedObject: Sized {
    /// Its domain tag, the first item of `external_aad`.
    const TAG: &'static str;
    /// What the signature binds besides tag and payload: topic, peer id, log id.
    type Context<'a>;
    /// The context as items of `external_aad`.
    fn context<'a>(context: &'a Self::Context<'_>) -> Vec<ContextItem<'a>>;
    /// Writes the payload: one CBOR item.
    fn encode(&self, writer: &mut Writer);
    /// Reads the payload; what remains unread is an error of the caller's.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// One item of `external_aad` after the tag.
#[derive(Debug, Clone, Copy)]
pub enum ContextItem<'a> {
    /// Text, such as a topic or a peer id.
    Text(&'a str),
    /// Bytes, such as a digest.
    Bytes(&'a [u8]),
}

/// A public signing key with its fingerprint, `SHA-256(CBOR[tag, set, key])`.
pub struct SignerKey {
    key: VerifyingKey,
    fingerprint: Fingerprint,
}

impl SignerKey {
    /// Parses the concatenated public keys of `set`.
    pub fn parse(backend: Backend, set: SignatureSet, bytes: &[u8]) -> Result<Self, InvalidKey> {
        let key = VerifyingKey::parse(backend, set, bytes)?;
        Ok(Self { key, fingerprint: signer_fingerprint(set, bytes) })
    }

    /// The full hash of set and key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Its signature set.
    pub fn set(&self) -> SignatureSet {
        self.key.set()
    }

    /// The concatenated public keys.
    pub fn as_bytes(&self) -> &[u8] {
        self.key.as_bytes()
    }

    /// Verifies a bare signature (halves concatenated) over `structure`.
    pub fn verify(&self, structure: &SigStructure, signature: &[u8]) -> Result<(), BadSignature> {
        self.key.verify(&|algorithm| structure.message(algorithm), signature)
    }
}

/// The fingerprint of a signing key.
pub fn signer_fingerprint(set: SignatureSet, key: &[u8]) -> Fingerprint {
    let mut writer = Writer::new();
    writer.array(3).text(labels::SIGNER_FINGERPRINT).uint(set.id().into()).bytes(key);
    Fingerprint(sha256(&[&writer.finish()]))
}

/// No more than this is around the parts of a `Sig_structure`: text, heads and the half's own protected header.
const MAX_FRAMING: usize = 64;

/// The COSE `Sig_structure` (RFC 9052 §4.4), of which each signature half covers its own variant.
#[derive(Clone, PartialEq, Eq)]
pub struct SigStructure {
    set: SignatureSet,
    body_protected: Vec<u8>,
    external_aad: Vec<u8>,
    payload: Vec<u8>,
}

impl SigStructure {
    /// The structure of a signature by `signer` under `tag` and `context` over `payload`.
    pub fn new(
        set: SignatureSet,
        signer: Fingerprint,
        tag: &str,
        context: &[ContextItem<'_>],
        payload: Vec<u8>,
    ) -> Self {
        let mut aad = Writer::new();
        aad.array(1 + context.len()).text(tag);
        for item in context {
            match item {
                ContextItem::Text(text) => aad.text(text),
                ContextItem::Bytes(bytes) => aad.bytes(bytes),
            };
        }
        Self { set, body_protected: body_protected(set, signer), external_aad: aad.finish(), payload }
    }

    /// The signature set that is to sign this.
    pub fn set(&self) -> SignatureSet {
        self.set
    }

    /// The bytes that the half with `algorithm` signs.
    pub fn message(&self, algorithm: SignatureAlgorithm) -> Vec<u8> {
        let parts = self.body_protected.len() + self.external_aad.len() + self.payload.len();
        let mut writer = Writer::with_capacity(parts + MAX_FRAMING);
        writer
            .array(5)
            .text("Signature")
            .bytes(&self.body_protected)
            .bytes(&sign_protected(algorithm))
            .bytes(&self.external_aad)
            .bytes(&self.payload);
        writer.finish()
    }
}

fn body_protected(set: SignatureSet, signer: Fingerprint) -> Vec<u8> {
    let mut writer = Writer::new();
    writer
        .map(3)
        .int(HEADER_CRIT)
        .array(2)
        .int(HEADER_SET)
        .int(HEADER_SIGNER)
        .int(HEADER_SET)
        .uint(set.id().into())
        .int(HEADER_SIGNER)
        .bytes(signer.as_bytes());
    writer.finish()
}

fn sign_protected(algorithm: SignatureAlgorithm) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(1).int(HEADER_ALG).int(algorithm.cose_id());
    writer.finish()
}

/// An object on its way to a signature: sign [`ToBeSigned::structure`], then [`ToBeSigned::assemble`].
pub struct ToBeSigned<T> {
    structure: SigStructure,
    kind: PhantomData<T>,
}

impl<T: SignedObject> ToBeSigned<T> {
    /// Frames `object` for `signer`.
    pub fn new(object: &T, set: SignatureSet, signer: Fingerprint, context: &T::Context<'_>) -> Self {
        let mut payload = Writer::new();
        object.encode(&mut payload);
        let items = T::context(context);
        let structure = SigStructure::new(set, signer, T::TAG, &items, payload.finish());
        Self { structure, kind: PhantomData }
    }

    /// What to sign.
    pub fn structure(&self) -> &SigStructure {
        &self.structure
    }

    /// The encoded object, given the concatenated halves; `None` if their length is not the set's.
    pub fn assemble(&self, signature: &[u8]) -> Option<Vec<u8>> {
        let set = self.structure.set;
        if signature.len() != set.signature_len() {
            return None;
        }
        let mut writer = Writer::new();
        writer.array(4).bytes(&self.structure.body_protected).map(0).bytes(&self.structure.payload);
        writer.array(set.halves().len());
        let mut rest = signature;
        for half in set.halves() {
            let (this, next) = rest.split_at(half.signature_len());
            writer.array(3).bytes(&sign_protected(*half)).map(0).bytes(this);
            rest = next;
        }
        Some(writer.finish())
    }
}

/// A decoded object whose signature nobody checked yet.
pub struct Unverified<T> {
    value: T,
    signer: Fingerprint,
    set: SignatureSet,
    payload: Vec<u8>,
    signature: Vec<u8>,
    encoded: Vec<u8>,
}

/// Why a signed object was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It names another signer than the one required.
    #[error("signed by another key than the one required")]
    WrongSigner,
    /// A half is missing, out of order or does not verify.
    #[error("the signature does not verify")]
    BadSignature,
}

impl<T: SignedObject> Unverified<T> {
    /// Decodes at most `limit` bytes: validates the item, both protected headers and the payload, and requires the
    /// exact shape. No cryptography happens here.
    pub fn decode(encoded: &[u8], limit: usize) -> Result<Self, DecodeError> {
        if encoded.len() > limit {
            return Err(DecodeError::TooLarge);
        }
        let mut reader = Reader::new(encoded)?;
        reader.array_of(4)?;
        let (set, signer) = read_body_protected(reader.bytes()?)?;
        reader.map_of(0)?;
        let payload = reader.bytes()?;
        reader.array_of(set.halves().len() as u64)?;
        let mut signature = Vec::with_capacity(set.signature_len());
        for half in set.halves() {
            reader.array_of(3)?;
            if reader.bytes()? != sign_protected(*half) {
                return Err(DecodeError::Shape);
            }
            reader.map_of(0)?;
            let bytes = reader.bytes()?;
            if bytes.len() != half.signature_len() {
                return Err(DecodeError::Shape);
            }
            signature.extend_from_slice(bytes);
        }
        reader.finish()?;

        let mut inner = Reader::new(payload)?;
        let value = T::decode(&mut inner)?;
        inner.finish()?;
        Ok(Self { value, signer, set, payload: payload.into(), signature, encoded: encoded.into() })
    }

    /// The content, to be trusted in nothing yet.
    pub fn unverified(&self) -> &T {
        &self.value
    }

    /// The key it claims to be signed by.
    pub fn claimed_signer(&self) -> Fingerprint {
        self.signer
    }

    /// Verifies every half under `key` with `context`; only this makes a [`Signed`].
    pub fn verify(self, key: &SignerKey, context: &T::Context<'_>) -> Result<Signed<T>, VerifyError> {
        self.verify_ref(key, context)?;
        Ok(Signed { value: self.value, signer: self.signer, payload: self.payload, encoded: self.encoded })
    }

    /// The check alone, for objects that several keys sign.
    pub(crate) fn verify_ref(&self, key: &SignerKey, context: &T::Context<'_>) -> Result<(), VerifyError> {
        if self.set != key.set() || self.signer != key.fingerprint() {
            return Err(VerifyError::WrongSigner);
        }
        let items = T::context(context);
        let structure = SigStructure::new(self.set, self.signer, T::TAG, &items, self.payload.clone());
        key.verify(&structure, &self.signature).map_err(|_| VerifyError::BadSignature)
    }
}

fn read_body_protected(bytes: &[u8]) -> Result<(SignatureSet, Fingerprint), DecodeError> {
    let mut reader = Reader::new(bytes)?;
    reader.map_of(3)?;
    reader.key(HEADER_CRIT)?;
    reader.array_of(2)?;
    reader.key(HEADER_SET)?;
    reader.key(HEADER_SIGNER)?;
    reader.key(HEADER_SET)?;
    let set = SignatureSet::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
    reader.key(HEADER_SIGNER)?;
    let signer = Fingerprint(reader.bytes_of()?);
    reader.finish()?;
    Ok((set, signer))
}

/// An object whose signature verified: the proof travels with the value.
pub struct Signed<T> {
    value: T,
    signer: Fingerprint,
    payload: Vec<u8>,
    encoded: Vec<u8>,
}

impl<T> Signed<T> {
    /// The key that signed it.
    pub fn signer(&self) -> Fingerprint {
        self.signer
    }

    /// The signed payload, which names the object (signature bytes never do).
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The whole object as it travelled.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The value without its proof.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Signed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
