//! Anchors and certificates from files, with errors that say which file and what to do.

use std::path::Path;

use pqc_iiot_core::codec::signed::{Unverified, signer_fingerprint};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::identity::certificate::{
    CertificateError, MAX_CERTIFICATE, OperationalCertificate, VerifiedCertificate,
};
use pqc_iiot_core::identity::trust::{MAX_ANCHORS, PinnedAnchors};
use pqc_iiot_core::time::UnixTime;

use crate::error::{CliError, ErrorKind, Result};
use crate::time::rfc3339;

/// Anchors that a threshold of their own roots signed.
pub(super) fn pin(encoded: &[u8], path: &Path) -> Result<PinnedAnchors> {
    PinnedAnchors::pin(default_backend(), encoded).map_err(|error| {
        CliError::new(ErrorKind::Verification, format!("the trust anchors {} do not verify", path.display()))
            .because(error)
            .fix("get anchors.cbor from the authority again, by a path you trust")
    })
}

/// Reads and checks anchors from a file.
pub(super) fn read_anchors(path: &Path) -> Result<PinnedAnchors> {
    let encoded = crate::files::read(path, MAX_ANCHORS, "trust anchors", ErrorKind::Failed)?;
    pin(&encoded, path)
}

/// A certificate that stands under `anchors` at `at`.
pub(super) fn verify(
    anchors: &PinnedAnchors,
    encoded: &[u8],
    at: UnixTime,
    path: &Path,
) -> Result<VerifiedCertificate> {
    anchors.verify_certificate(encoded, at).map_err(|error| {
        let what = format!("the certificate {} gives no trust", path.display());
        match error {
            CertificateError::Validity => {
                let claims = decode(encoded, path).ok();
                let validity = claims.map(|claims| (rfc3339(claims.not_before), rfc3339(claims.not_after)));
                let (from, until) = validity.unwrap_or_default();
                CliError::new(ErrorKind::Refused, what)
                    .because(format!("{error}: valid from {from} to {until}, and this machine's clock says {}", rfc3339(at)))
                    .fix("set the clock if it is wrong, else let the authority issue a new certificate: pqc-iiot ca issue")
            }
            CertificateError::UnknownIssuer => CliError::new(ErrorKind::Refused, what)
                .because(error)
                .fix("use the certificate and the anchors of the same authority"),
            error => CliError::new(ErrorKind::Verification, what)
                .because(error)
                .fix("get the certificate from the authority again; it was altered on the way"),
        }
    })
}

/// A certificate's claims, unverified.
pub(super) fn decode(encoded: &[u8], path: &Path) -> Result<OperationalCertificate> {
    let decoded = Unverified::<OperationalCertificate>::decode(encoded, MAX_CERTIFICATE);
    decoded.map(|certificate| certificate.unverified().clone()).map_err(|error| {
        CliError::new(ErrorKind::Verification, format!("{} is no certificate", path.display())).because(error)
    })
}

/// The fingerprints of the anchors' roots.
pub(super) fn root_fingerprints(anchors: &PinnedAnchors) -> Vec<String> {
    let roots = anchors.anchors().roots.iter();
    roots.map(|root| signer_fingerprint(root.set, &root.key).to_string()).collect()
}
