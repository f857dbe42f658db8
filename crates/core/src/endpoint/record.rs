//! What is kept of a peer in its row: small, so that a hundred thousand load at once. Certificate and bundle are rows of
//! their own, named here by digest and loaded when they are needed.

use alloc::vec::Vec;

use crate::codec::signed::SignedObject;
use crate::codec::{DecodeError, Reader, Writer};
use crate::control::revocation::RevocationEntryId;
use crate::crypto::kdf::sha256;
use crate::identity::certificate::VerifiedCertificate;
use crate::identity::prekey::PrekeyBundle;
use crate::ids::{Digest, Fingerprint, PeerId};
use crate::store::{Change, RecordKind, RowKey};
use crate::time::UnixTime;

/// The highest of everything seen from a peer: the content of a [`RecordKind::Peer`] row, at most 256 bytes.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerRecord {
    /// The pinned key epoch.
    pub key_epoch: u64,
    /// The pinned identity.
    pub identity: Fingerprint,
    /// The certificate's `nbf`: an older certificate for the same keys is a rollback.
    pub not_before: UnixTime,
    /// The certificate's end, exclusive.
    pub not_after: UnixTime,
    /// Who signed the certificate: trust ends with the issuer's.
    pub issuer: Fingerprint,
    /// SHA-256 of the certificate in force, or of the last that was.
    pub certificate: Digest,
    /// What a revocation names these keys by.
    pub revocation: RevocationEntryId,
    /// The newest bundle of this identity.
    pub bundle: Option<BundleRecord>,
    /// Whether these keys were revoked.
    pub revoked: bool,
}

/// A peer's pinned prekey bundle.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleRecord {
    /// Its sequence: a lower one is a rollback.
    pub seq: u64,
    /// SHA-256 of what it says, whatever its signature: another content with the same sequence is a collision.
    pub content: Digest,
    /// When it ends, exclusive.
    pub not_after: UnixTime,
}

impl PeerRecord {
    /// Pins a certificate, so far without a bundle.
    pub(super) fn new(certificate: &VerifiedCertificate) -> Self {
        let claims = certificate.claims();
        Self {
            key_epoch: claims.key_epoch,
            identity: certificate.fingerprint(),
            not_before: claims.not_before,
            not_after: claims.not_after,
            issuer: claims.issuer,
            certificate: certificate_digest(certificate.encoded()),
            revocation: RevocationEntryId::new(&claims.subject, &certificate.key_id()),
            bundle: None,
            revoked: false,
        }
    }

    /// Reads a row's content.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is no such row.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        reader.array_of(9)?;
        let record = Self {
            key_epoch: reader.uint()?,
            identity: Fingerprint(reader.bytes_of()?),
            not_before: UnixTime(reader.uint()?),
            not_after: UnixTime(reader.uint()?),
            issuer: Fingerprint(reader.bytes_of()?),
            certificate: Digest(reader.bytes_of()?),
            revocation: RevocationEntryId::from_bytes(reader.bytes_of()?),
            bundle: BundleRecord::decode(&mut reader)?,
            revoked: reader.bool()?,
        };
        reader.finish()?;
        Ok(record)
    }

    /// The row's content.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .array(9)
            .uint(self.key_epoch)
            .bytes(self.identity.as_bytes())
            .uint(self.not_before.0)
            .uint(self.not_after.0)
            .bytes(self.issuer.as_bytes())
            .bytes(self.certificate.as_bytes())
            .bytes(self.revocation.as_bytes());
        match &self.bundle {
            None => writer.array(0),
            Some(bundle) => {
                writer.array(3).uint(bundle.seq).bytes(bundle.content.as_bytes()).uint(bundle.not_after.0)
            }
        };
        writer.bool(self.revoked);
        writer.finish()
    }

    /// The change that keeps this of `peer`.
    pub(super) fn change(&self, peer: &PeerId) -> Change {
        put(RecordKind::Peer, peer, self.encode())
    }

    /// Whether the certificate is valid at `at`.
    pub(super) fn valid_at(&self, at: UnixTime) -> bool {
        self.not_before <= at && at < self.not_after
    }

    /// The sequence of the newest bundle, 0 before the first.
    pub fn bundle_seq(&self) -> u64 {
        self.bundle.as_ref().map_or(0, |bundle| bundle.seq)
    }
}

impl BundleRecord {
    pub(super) fn new(bundle: &PrekeyBundle) -> Self {
        Self { seq: bundle.bundle_seq, content: bundle_digest(bundle), not_after: bundle.not_after }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        match reader.array_up_to(3)? {
            0 => Ok(None),
            3 => Ok(Some(Self {
                seq: reader.uint()?,
                content: Digest(reader.bytes_of()?),
                not_after: UnixTime(reader.uint()?),
            })),
            _ => Err(DecodeError::Shape),
        }
    }
}

pub(super) fn certificate_digest(encoded: &[u8]) -> Digest {
    Digest(sha256(&[encoded]))
}

pub(super) fn bundle_digest(bundle: &PrekeyBundle) -> Digest {
    let mut writer = Writer::new();
    bundle.encode(&mut writer);
    Digest(sha256(&[&writer.finish()]))
}

/// Keeps one of a peer's rows.
pub(super) fn put(kind: RecordKind, peer: &PeerId, value: Vec<u8>) -> Change {
    Change::Put { kind, key: peer.as_str().into(), value }
}

/// The name of one of a peer's rows.
pub(super) fn name(kind: RecordKind, peer: &PeerId) -> RowKey {
    RowKey { kind, key: peer.as_str().into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_record_is_small_and_reads_back() {
        let record = PeerRecord {
            key_epoch: u64::MAX,
            identity: Fingerprint([1; 32]),
            not_before: UnixTime(u64::MAX),
            not_after: UnixTime(u64::MAX),
            issuer: Fingerprint([2; 32]),
            certificate: Digest([3; 32]),
            revocation: RevocationEntryId::from_bytes([4; 16]),
            bundle: Some(BundleRecord {
                seq: u64::MAX,
                content: Digest([5; 32]),
                not_after: UnixTime(u64::MAX),
            }),
            revoked: true,
        };
        let encoded = record.encode();
        assert!(encoded.len() <= 256, "{}", encoded.len());
        assert!(PeerRecord::decode(&encoded).is_ok_and(|read| read == record));
        let plain = PeerRecord { bundle: None, ..record };
        assert!(PeerRecord::decode(&plain.encode()).is_ok_and(|read| read == plain));
    }
}
