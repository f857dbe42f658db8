//! The list of what is measured.

use std::fmt;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::portable::PORTABLE;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::session::Class;

use super::BenchError;
use super::announcement::AnnouncementAccept;
use super::audit::AuditAppend;
use super::group::{GroupOpen, GroupProve, GroupSeal};
use super::junk::{Junk, RefuseJunk};
use super::lookup::{ReplayCheck, RevocationLookup};
use super::open::EnvelopeOpen;
use super::reference::{Aes256Gcm, MlDsa65Verify};
use super::seal::EnvelopeSeal;
use super::session::{HandshakeTotal, RecordOpen, RecordSeal};
use super::store::{StoreLoad, StoreUpdate};

/// A telemetry reading, and the largest payload that a constrained uplink would see in one message.
const PAYLOADS: [usize; 2] = [256, 64 * 1024];

/// An operation and its baseline. `prepare` is never timed and comes before each `run` and `baseline`.
pub trait Workload {
    /// How many operations one `run`, or one `baseline`, stands for.
    fn operations(&self) -> usize {
        1
    }

    /// The size of what each operation works on, in bytes; 0 where that means nothing.
    fn bytes(&self) -> usize;

    /// How many samples are enough of what takes long.
    fn most_samples(&self) -> usize {
        usize::MAX
    }

    /// What the first `run` took of memory, and the content that it holds there, in MiB.
    fn resident(&self) -> Option<(f64, f64)> {
        None
    }

    /// Makes the next inputs and checks the last outcome.
    fn prepare(&mut self) -> Result<(), BenchError>;

    /// The operation.
    fn run(&mut self) -> Result<(), BenchError>;

    /// The primitives that the operation cannot do without.
    fn baseline(&mut self) -> Result<(), BenchError>;
}

/// One row.
#[derive(Clone, Copy)]
pub struct Case {
    kind: Kind,
    suite: SessionSuite,
    backend: Backend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Aes256Gcm,
    MlDsa65Verify,
    Seal(usize),
    Open(usize),
    SessionSeal(Class),
    SessionOpen(Class),
    HandshakeTotal,
    GroupSeal,
    GroupOpen,
    GroupProve,
    AnnouncementAccept,
    AuditAppend,
    ReplayCheck,
    RevocationLookup,
    RefuseJunk(Junk),
    StoreLoad,
    StoreUpdate,
}

impl Case {
    /// Every row, in the order of the report.
    pub fn all() -> Vec<Self> {
        use SessionSuite::{Cnsa2, Hybrid, HybridChaCha};
        let mut cases = Vec::new();
        let mut add = |kind, suites: &[SessionSuite], backends: &[Backend]| {
            for &suite in suites {
                cases.extend(backends.iter().map(|&backend| Self { kind, suite, backend }));
            }
        };
        let both: [Backend; 2] = [&AWS_LC, &PORTABLE];
        add(Kind::Aes256Gcm, &[Hybrid], &both);
        add(Kind::MlDsa65Verify, &[Hybrid], &both);
        for bytes in PAYLOADS {
            add(Kind::Seal(bytes), &[Hybrid, Cnsa2, HybridChaCha], &both);
        }
        for bytes in PAYLOADS {
            add(Kind::Open(bytes), &[Hybrid, Cnsa2, HybridChaCha], &both);
        }
        for class in [Class::Telemetry, Class::Command] {
            add(Kind::SessionSeal(class), &[Hybrid, Cnsa2, HybridChaCha], &both);
            add(Kind::SessionOpen(class), &[Hybrid, Cnsa2, HybridChaCha], &both);
        }
        add(Kind::HandshakeTotal, &[Hybrid, Cnsa2, HybridChaCha], &both);
        for kind in [Kind::GroupSeal, Kind::GroupOpen, Kind::GroupProve] {
            add(kind, &[Hybrid, Cnsa2, HybridChaCha], &both);
        }
        // Suite 3 has the signature set of suite 1.
        add(Kind::AnnouncementAccept, &[Hybrid, Cnsa2], &both);
        add(Kind::AuditAppend, &[Hybrid, Cnsa2], &both);
        // No cryptography: neither suite nor backend makes a difference.
        add(Kind::ReplayCheck, &[Hybrid], &[&AWS_LC]);
        add(Kind::RevocationLookup, &[Hybrid], &[&AWS_LC]);
        for junk in Junk::ALL {
            add(Kind::RefuseJunk(junk), &[Hybrid], &[&AWS_LC]);
        }
        add(Kind::StoreLoad, &[Hybrid], &[&AWS_LC]);
        add(Kind::StoreUpdate, &[Hybrid], &[&AWS_LC]);
        cases
    }

    /// The row's name.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Aes256Gcm => "aes256gcm_256",
            Kind::MlDsa65Verify => "ml_dsa_65_verify",
            Kind::Seal(_) => "envelope_seal",
            Kind::Open(_) => "envelope_open",
            Kind::SessionSeal(Class::Command) => "session_seal_b1",
            Kind::SessionSeal(_) => "session_seal_b64",
            Kind::SessionOpen(Class::Command) => "session_open_b1",
            Kind::SessionOpen(_) => "session_open_b64",
            Kind::HandshakeTotal => "handshake_total",
            Kind::GroupSeal => "group_seal",
            Kind::GroupOpen => "group_open",
            Kind::GroupProve => "group_prove",
            Kind::AnnouncementAccept => "announcement_accept",
            Kind::AuditAppend => "audit_append",
            Kind::ReplayCheck => "replay_check",
            Kind::RevocationLookup => "revocation_lookup",
            Kind::RefuseJunk(junk) => junk.name(),
            Kind::StoreLoad => "store_load_100k",
            Kind::StoreUpdate => "store_update",
        }
    }

    /// The session suite; the signature set follows from it.
    pub fn suite(&self) -> SessionSuite {
        self.suite
    }

    /// The cryptographic library.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Makes keys, peers and messages.
    pub fn build(&self) -> Result<Box<dyn Workload>, BenchError> {
        let (suite, backend) = (self.suite, self.backend);
        Ok(match self.kind {
            Kind::Aes256Gcm => Box::new(Aes256Gcm::new(backend)),
            Kind::MlDsa65Verify => Box::new(MlDsa65Verify::new(backend)?),
            Kind::Seal(bytes) => Box::new(EnvelopeSeal::new(suite, backend, bytes)?),
            Kind::Open(bytes) => Box::new(EnvelopeOpen::new(suite, backend, bytes)?),
            Kind::SessionSeal(class) => Box::new(RecordSeal::new(suite, backend, class)?),
            Kind::SessionOpen(class) => Box::new(RecordOpen::new(suite, backend, class)?),
            Kind::HandshakeTotal => Box::new(HandshakeTotal::new(suite, backend)?),
            Kind::GroupSeal => Box::new(GroupSeal::new(suite, backend)?),
            Kind::GroupOpen => Box::new(GroupOpen::new(suite, backend)?),
            Kind::GroupProve => Box::new(GroupProve::new(suite, backend)?),
            Kind::AnnouncementAccept => Box::new(AnnouncementAccept::new(suite, backend)?),
            Kind::AuditAppend => Box::new(AuditAppend::new(suite, backend)?),
            Kind::ReplayCheck => Box::new(ReplayCheck::new()),
            Kind::RevocationLookup => Box::new(RevocationLookup::new()?),
            Kind::RefuseJunk(junk) => Box::new(RefuseJunk::new(junk)?),
            Kind::StoreLoad => Box::new(StoreLoad::new(suite, backend)?),
            Kind::StoreUpdate => Box::new(StoreUpdate::new(suite, backend)?),
        })
    }

    /// Whether each run takes long enough to be a sample of its own.
    pub fn is_slow(&self) -> bool {
        self.kind == Kind::StoreLoad
    }

    /// The unit of its times, and how many microseconds that is.
    pub(super) fn unit(&self) -> (&'static str, f64) {
        if self.is_slow() { ("s", 1e6) } else { ("us", 1.0) }
    }

    /// Whether this row makes signatures, whose cost varies from message to message.
    pub fn signs(&self) -> bool {
        matches!(self.kind, Kind::Seal(_) | Kind::HandshakeTotal | Kind::AuditAppend)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, suite {}, {}", self.kind, self.suite.id(), self.backend.name())
    }
}
