//! How a certificate is shown.

use std::io::{self, Write};

use pqc_iiot_core::identity::certificate::OperationalCertificate;
use serde::Serialize;

use crate::output::table;
use crate::time::rfc3339;

/// The claims that a person cares about.
#[derive(Serialize)]
pub(super) struct CertificateSummary {
    pub(super) peer: String,
    pub(super) fingerprint: String,
    pub(super) key_id: String,
    pub(super) key_epoch: u64,
    pub(super) serial: String,
    pub(super) issuer: String,
    pub(super) tier: &'static str,
    pub(super) not_before: String,
    pub(super) not_after: String,
    pub(super) suites: Vec<&'static str>,
    pub(super) prekey_required: bool,
    pub(super) grants: Vec<String>,
}

impl CertificateSummary {
    pub(super) fn new(certificate: &OperationalCertificate) -> Self {
        let fingerprint = certificate.keys.fingerprint();
        let grant = |grant: &pqc_iiot_core::identity::grants::Grant| {
            format!("{}:{}", grant.action.name(), grant.filter)
        };
        Self {
            peer: certificate.subject.as_str().to_owned(),
            fingerprint: fingerprint.to_string(),
            key_id: fingerprint.key_id().to_string(),
            key_epoch: certificate.key_epoch,
            serial: hex(&certificate.serial.0),
            issuer: certificate.issuer.to_string(),
            tier: certificate.tier.name(),
            not_before: rfc3339(certificate.not_before),
            not_after: rfc3339(certificate.not_after),
            suites: certificate.suites.iter().map(|suite| suite.name()).collect(),
            prekey_required: certificate.prekey_required,
            grants: certificate.grants.iter().map(grant).collect(),
        }
    }

    /// As a table.
    pub(super) fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let grants = if self.grants.is_empty() { "none".to_owned() } else { self.grants.join(", ") };
        let prekey =
            if self.prekey_required { "required" } else { "not required: not forward secret without one" };
        table(
            out,
            &[
                ("peer", self.peer.clone()),
                ("fingerprint", self.fingerprint.clone()),
                ("key epoch", self.key_epoch.to_string()),
                ("tier", self.tier.to_owned()),
                ("valid", format!("{} to {}", self.not_before, self.not_after)),
                ("suites", self.suites.join(", ")),
                ("prekey", prekey.to_owned()),
                ("grants", grants),
                ("serial", self.serial.clone()),
                ("issuer", self.issuer.clone()),
            ],
        )
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
