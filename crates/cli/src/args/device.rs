//! `pqc-iiot device …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::ids::PeerId;

use super::ca::signature_set;
use super::common::UnlockArgs;

/// A device's commands.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device's keys, sealed on disk, and its certificate request
    #[command(after_help = "\
Examples:
  pqc-iiot device keygen --dir press-7
  pqc-iiot device keygen --dir /var/lib/pqc-iiot/press-7 --id press-7 --key-file /etc/pqc-iiot/press-7.key

The request holds nothing secret. An existing directory is never overwritten.")]
    Keygen(KeygenArgs),
    /// Write the certificate request again
    #[command(after_help = "Example:\n  pqc-iiot device request --dir press-7 --out request.cbor")]
    Request(RequestArgs),
    /// Verify and install a certificate together with the trust anchors it stands under
    #[command(after_help = "\
Example:
  pqc-iiot device install --dir press-7 --anchors ca/anchors.cbor

Checks before anything is written: the anchors are signed by their own roots and follow those already pinned; \
an issuer that they appoint signed the certificate; it is valid now, names this device and holds this device's keys; its epoch \
is not below the installed one.")]
    Install(InstallArgs),
    /// Trust new peers again after you judged a contradiction in the revocations
    #[command(after_help = "\
Example:
  pqc-iiot status --dir gateway
  pqc-iiot device release-hold --dir gateway --seq 7

The authority signed two histories, or announced revocations that never came: the control key is stolen, or the authority \
was restored from a backup (`pqc-iiot ca recover`). Find out which first: until then this identity trusts nobody new, which is right. \
Only an operator ends that, it is recorded in the audit log, and it holds again if the contradiction comes again.")]
    ReleaseHold(ReleaseHoldArgs),
    /// Show a device's identity, certificate and grants
    #[command(after_help = "Example:\n  pqc-iiot device show --dir press-7 --json")]
    Show(ShowArgs),
}

/// `device keygen`.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The device's name: letters, digits, '_', '.' and '-', at most 128 [default: the directory's name]
    #[arg(long, value_name = "PEER_ID", value_parser = PeerId::new)]
    pub(crate) id: Option<PeerId>,
    /// Signature set: ed25519+ml-dsa-65 or ml-dsa-87
    #[arg(long, value_name = "SET", default_value = "ed25519+ml-dsa-65", value_parser = signature_set)]
    pub(crate) set: SignatureSet,
    /// Key encapsulation: x-wing (suites hybrid, hybrid-chacha) or ml-kem-1024 (suite cnsa-2)
    #[arg(long, value_name = "KEM", default_value = "x-wing", value_parser = kem)]
    pub(crate) kem: Kem,
    /// Where to write the request [default: `request.cbor` in the directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// `device request`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", env = "PQC_IIOT_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Where to write the request [default: `request.cbor` in the directory]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// `device install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", env = "PQC_IIOT_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The certificate that the authority issued [default: `certificate.cbor` in the directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// The authority's trust anchors, which came by a path you trust [default: those already pinned]
    #[arg(long, value_name = "FILE")]
    pub(crate) anchors: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// `device release-hold`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseHoldArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", env = "PQC_IIOT_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The sequence that you judged, as `pqc-iiot status` shows it: of the contradiction, or the newest one missing
    #[arg(long, value_name = "SEQ")]
    pub(crate) seq: u64,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// `device show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", env = "PQC_IIOT_DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

fn kem(name: &str) -> Result<Kem, String> {
    match name {
        "x-wing" => Ok(Kem::XWing),
        "ml-kem-1024" => Ok(Kem::MlKem1024),
        _ => Err("use x-wing or ml-kem-1024".into()),
    }
}
