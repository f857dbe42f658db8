//! Rows of earlier store formats, as this format keeps them.

use alloc::vec::Vec;

use super::record::{BundleRecord, PeerRecord, certificate_digest, put};
use crate::codec::signed::Unverified;
use crate::codec::{DecodeError, Reader};
use crate::control::revocation::RevocationEntryId;
use crate::identity::certificate::{MAX_CERTIFICATE, OperationalCertificate};
use crate::identity::prekey::PrekeyBundle;
use crate::ids::{Fingerprint, PeerId};
use crate::limits::Limits;
use crate::store::{Change, RecordKind, Row};
use crate::time::UnixTime;

/// What replaces a row of store format 1; `None` if it stays as it is.
///
/// Format 1 kept certificate and bundle in the peer's row. The content is that of an authentic store, which wrote down
/// nothing unverified; it is verified again when it is loaded.
///
/// # Errors
///
/// [`DecodeError`] if the row is none of format 1.
pub fn upgrade_from_format_1(row: &Row) -> Result<Option<Vec<Change>>, DecodeError> {
    if row.kind != RecordKind::Peer {
        return Ok(None);
    }
    let peer = PeerId::from_bytes(&row.key).map_err(|_| DecodeError::Value)?;
    let mut reader = Reader::new(&row.value)?;
    reader.array_of(7)?;
    let key_epoch = reader.uint()?;
    let identity = Fingerprint(reader.bytes_of()?);
    let not_before = UnixTime(reader.uint()?);
    let certificate = reader.bytes()?;
    let bundle_seq = reader.uint()?;
    let bundle = reader.bytes()?;
    let revoked = reader.bool()?;
    reader.finish()?;

    let claims = Unverified::<OperationalCertificate>::decode(certificate, MAX_CERTIFICATE)?;
    let claims = claims.unverified();
    let pinned = match bundle {
        [] if bundle_seq == 0 => None,
        encoded => {
            let decoded = Unverified::<PrekeyBundle>::decode(encoded, Limits::default().largest())?;
            let pinned = BundleRecord::new(decoded.unverified());
            if pinned.seq != bundle_seq {
                return Err(DecodeError::Value);
            }
            Some(pinned)
        }
    };
    let record = PeerRecord {
        key_epoch,
        identity,
        not_before,
        not_after: claims.not_after,
        issuer: claims.issuer,
        certificate: certificate_digest(certificate),
        revocation: RevocationEntryId::new(&peer, &identity.key_id()),
        bundle: pinned,
        revoked,
    };
    let mut changes =
        alloc::vec![record.change(&peer), put(RecordKind::Certificate, &peer, certificate.to_vec())];
    if record.bundle.is_some() {
        changes.push(put(RecordKind::Bundle, &peer, bundle.to_vec()));
    }
    Ok(Some(changes))
}
