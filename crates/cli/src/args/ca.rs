//! `pqc-iiot ca …`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use pqc_iiot_core::control::revocation::RevocationReason;
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureSet};
use pqc_iiot_core::identity::certificate::Tier;
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;

use super::common::{ConnectionArgs, UnlockArgs, broker_url};

/// The authority's commands.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make an authority: its keys (sealed), its records and the trust anchors that devices pin
    #[command(after_help = "\
Example:
  pqc-iiot ca init --dir ca

Give ca/anchors.cbor to each device by a path you trust: whoever replaces it there replaces the authority. \
Keep the directory and its key file apart in backups: together they are the authority.")]
    Init(InitArgs),
    /// Issue a certificate for a request that a device made
    #[command(after_help = "\
Examples:
  pqc-iiot ca issue press-7/request.cbor --grant 'publish:plant/press-7/#'
  pqc-iiot ca issue gw/request.cbor --tier gateway --grant 'subscribe:plant/#' --days 90

Compare the fingerprint printed here with the one that `device keygen` printed: that comparison is what makes \
the request trustworthy. Receivers refuse, and record, what no grant covers. The same keys renew; new keys get the next epoch \
and make the old ones worthless. A grant is ACTION:FILTER with publish, subscribe, command, attest or admin, and an MQTT \
filter.")]
    Issue(IssueArgs),
    /// Revoke a peer's current certificate, for good
    #[command(after_help = "\
Examples:
  pqc-iiot ca revoke press-7 --reason lost --broker mqtts://broker.example --tls-ca broker-ca.pem
  pqc-iiot ca revoke press-7 --out revocation/

The revocation is recorded before it is published. Give every broker that the fleet uses. A revocation is never \
undone: the device returns with new keys (`device keygen`) and a new certificate.")]
    Revoke(RevokeArgs),
    /// Show the authority, what it issued and what it revoked
    #[command(after_help = "Example:\n  pqc-iiot ca show --dir ca --json")]
    Show(CaDir),
    /// Publish the trust anchors and the full revocation list again, retained
    #[command(after_help = "\
Example:
  pqc-iiot ca publish --broker mqtt://localhost

For a new broker, or one that lost its retained messages.")]
    Publish(PublishArgs),
    /// After restoring the authority from a backup: take back what was revoked since, and go on past it
    #[command(after_help = "\
Examples:
  pqc-iiot ca recover --broker mqtts://broker.example --tls-ca broker-ca.pem
  pqc-iiot ca recover --from published/ --out recovered/
  pqc-iiot ca recover --seen 57 --broker mqtt://localhost

A restored authority has forgotten what it revoked since the backup. If it went on, it would sign a second history: receivers notice \
that, keep theirs, and trust nobody new. This reads the retained revocations, verifies that they are this authority's own, takes them \
over, jumps past every sequence it may have used, and publishes the result. Where a broker may have lost some, give the highest \
sequence that any device has seen (`pqc-iiot status`) with --seen. What was issued since the backup is forgotten too: issue new \
certificates for new keys.")]
    Recover(RecoverArgs),
}

/// Where the authority lives.
#[derive(Debug, Args)]
pub(crate) struct CaDir {
    /// The authority's directory [default: the configured one, or `ca`]
    #[arg(long, value_name = "DIR", env = "PQC_IIOT_CA_DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// `ca init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) ca: CaDir,
    /// Signature set of its keys: ed25519+ml-dsa-65 or ml-dsa-87
    #[arg(long, value_name = "SET", default_value = "ed25519+ml-dsa-65", value_parser = signature_set)]
    pub(crate) set: SignatureSet,
    /// How long the trust anchors are valid, in days
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

/// `ca issue`.
#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    #[command(flatten)]
    pub(crate) ca: CaDir,
    /// The device's request
    #[arg(value_name = "REQUEST", required_unless_present = "request_option")]
    pub(crate) request: Option<PathBuf>,
    /// The device's request, as an option
    #[arg(long = "request", value_name = "FILE", conflicts_with = "request")]
    pub(crate) request_option: Option<PathBuf>,
    /// Where to write the certificate [default: `certificate.cbor` beside the request]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The peer's rank: device, gateway or service
    #[arg(long, value_name = "TIER", default_value = "device", value_parser = tier)]
    pub(crate) tier: Tier,
    /// How long the certificate is valid, in days
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
    /// What the peer may do: ACTION:FILTER, as in `publish:plant/#`; repeatable
    #[arg(long = "grant", value_name = "ACTION:FILTER", value_parser = grant)]
    pub(crate) grants: Vec<Grant>,
    /// A suite the peer accepts, best first; repeatable: hybrid, cnsa-2 or hybrid-chacha
    /// [default: those that fit the requested keys]
    #[arg(long = "suite", value_name = "SUITE", value_parser = suite)]
    pub(crate) suites: Vec<SessionSuite>,
    /// Let senders use the certificate's own key when they hold no prekey: such messages are not forward secret
    #[arg(long = "no-prekey-required", action = ArgAction::SetFalse)]
    pub(crate) prekey_required: bool,
    /// Refuse unless the request's fingerprint begins with this (hex), as read from the device
    #[arg(long, value_name = "HEX")]
    pub(crate) fingerprint: Option<String>,
}

/// `ca revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) ca: CaDir,
    /// The peer
    #[arg(value_parser = PeerId::new, value_name = "PEER")]
    pub(crate) peer: PeerId,
    /// Why: unspecified, key-compromise, lost, decommissioned, superseded or affiliation
    #[arg(long, value_name = "REASON", default_value = "unspecified", value_parser = reason)]
    pub(crate) reason: RevocationReason,
    #[command(flatten)]
    pub(crate) publication: Publication,
}

/// `ca publish`.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) ca: CaDir,
    #[command(flatten)]
    pub(crate) publication: Publication,
}

/// `ca recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    pub(crate) ca: CaDir,
    /// Read the published revocations from this directory, as `--out` writes it, and not from the brokers
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// The highest revocation sequence that any device or broker has seen
    #[arg(long, value_name = "SEQ")]
    pub(crate) seen: Option<u64>,
    #[command(flatten)]
    pub(crate) publication: Publication,
}

/// Where control messages go.
#[derive(Debug, Args)]
pub(crate) struct Publication {
    /// A broker to publish on; repeatable [default: the configured one] [env: PQC_IIOT_BROKER=]
    #[arg(long = "broker", value_name = "URL", value_parser = broker_url)]
    pub(crate) brokers: Vec<String>,
    /// Write the messages to this directory instead, one file per topic
    #[arg(long, value_name = "DIR", conflicts_with = "brokers")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

pub(super) fn signature_set(name: &str) -> Result<SignatureSet, String> {
    match name {
        // Set 3 is verified everywhere but made only by hardware that holds its classical half.
        "ed25519+ml-dsa-65" | "ml-dsa-87" => SignatureSet::from_name(name),
        _ => None,
    }
    .ok_or_else(|| "use ed25519+ml-dsa-65 or ml-dsa-87".into())
}

fn tier(name: &str) -> Result<Tier, String> {
    Tier::from_name(name).ok_or_else(|| "use device, gateway or service".into())
}

fn suite(name: &str) -> Result<SessionSuite, String> {
    SessionSuite::from_name(name).ok_or_else(|| "use hybrid, cnsa-2 or hybrid-chacha".into())
}

fn reason(name: &str) -> Result<RevocationReason, String> {
    RevocationReason::from_name(name).ok_or_else(|| {
        "use unspecified, key-compromise, lost, decommissioned, superseded or affiliation".into()
    })
}

fn grant(text: &str) -> Result<Grant, String> {
    let (action, filter) = text.split_once(':').ok_or("write ACTION:FILTER, as in publish:plant/#")?;
    let action = Action::from_name(action).ok_or_else(|| {
        format!("`{action}` is no action: use publish, subscribe, command, attest or admin")
    })?;
    let filter = TopicFilter::new(filter).map_err(|error| error.to_string())?;
    Ok(Grant::new(action, filter))
}
