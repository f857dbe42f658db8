//! Sessions: what a record costs, what a handshake costs, and what both are on the wire and in memory.

mod devices;
mod handshake;
mod hub;
mod records;
mod sizes;

pub(super) use handshake::HandshakeTotal;
pub(super) use hub::hub;
pub(super) use records::{RecordOpen, RecordSeal};
pub(super) use sizes::sizes;

use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kdf::{HashOutput, PseudorandomKey, hash};
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::ids::{BootId, SessionId, StreamId};
use pqc_iiot_core::session::{
    Class, Control, Header, Opened, Plain, Role, Session, SessionStart, Settled, Text,
};

use super::BenchError;
use super::fleet::{TOPIC, now};

/// Messages under way, as in the end-to-end benchmark.
const WINDOW: u64 = 100;

const SETUP: BenchError = BenchError::Setup("two ends of a session");
const NOT_SEALED: BenchError = BenchError::Outcome("a record was not sealed");
const NOT_OPENED: BenchError = BenchError::Outcome("a genuine record was not opened");

/// Two ends that a handshake would leave, with the topic that their records are bound to.
struct Pair {
    sender: Session,
    receiver: Session,
    topic: HashOutput,
    /// The sender's start.
    ours: BootId,
    /// The numbers sealed and opened last.
    number: u64,
    arrived: u64,
}

impl Pair {
    fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let key = |byte| {
            let bytes = vec![byte; suite.hash().output_len()];
            PseudorandomKey::from_slice(suite.hash(), &bytes).ok_or(SETUP)
        };
        let (root, gate) = (key(7)?, key(8)?);
        let end = |role: Role| {
            let (ours, theirs) = (role as u8, role.other() as u8);
            let start = SessionStart {
                suite,
                role,
                root: root.clone(),
                gate: gate.clone(),
                sid_in: SessionId([ours; 4]),
                sid_out: SessionId([theirs; 4]),
                boot_out: boot(role),
                boot_in: boot(role.other()),
            };
            Session::new(backend, &start).ok_or(SETUP)
        };
        let (sender, receiver) = (end(Role::Initiator)?, end(Role::Responder)?);
        let topic = hash(suite.hash(), &[TOPIC.as_bytes()]);
        Ok(Self { sender, receiver, topic, ours: boot(Role::Initiator), number: 0, arrived: 0 })
    }

    /// The sender after a restart, until its receiver's word about it arrives.
    fn restarted(mut self, backend: Backend) -> Result<Self, BenchError> {
        let row = self.sender.to_row();
        self.sender = Session::from_row(backend, &row, now().monotonic).map_err(|_| SETUP)?;
        self.ours = BootId([7; BootId::LEN]);
        (self.number, self.arrived) = (0, 0);
        Ok(self)
    }

    /// One record of the sender's, with the steps of a reservation where one is due, but nothing that is written.
    fn seal(&mut self, class: Class, payload: &[u8]) -> Result<Vec<u8>, BenchError> {
        if self.sender.wants_reservation(class) {
            if !self.sender.reserve(class) {
                return Err(NOT_SEALED);
            }
            self.sender.written(1);
        }
        let text = if class == Class::Telemetry {
            self.number += 1;
            let confirmed = settled(self.number.saturating_sub(WINDOW));
            Text::Telemetry { number: self.number, confirmed, payload }
        } else {
            Text::Body(payload)
        };
        let topic = self.topic.as_slice();
        let sealed = self.sender.seal(self.ours, now().monotonic, class, StreamId::default(), topic, text);
        sealed.map(|sealed| sealed.record).map_err(|_| NOT_SEALED)
    }

    /// What the receiver makes of a record, header and all.
    fn open(&mut self, record: Vec<u8>) -> Result<Opened, BenchError> {
        let header = Header::parse(&record).ok_or(NOT_OPENED)?;
        let topic = self.topic.as_slice();
        let arrived = settled(self.arrived);
        let opened = self.receiver.open(now().monotonic, &header, topic, &|_| arrived, record);
        let opened = opened.map_err(|_| NOT_OPENED)?;
        if let Plain::Telemetry { number, .. } = opened.plain {
            self.arrived = number;
        }
        Ok(opened)
    }

    /// A control record of the receiver's that the sender opens; its length.
    fn reply(&mut self, control: &Control) -> Result<usize, BenchError> {
        let (ours, at, topic) = (boot(Role::Responder), now().monotonic, self.topic.as_slice());
        let (class, stream, body) = (Class::Control, StreamId::CONTROL, control.encode());
        let sealed = self.receiver.seal(ours, at, class, stream, topic, Text::Body(&body));
        let record = sealed.map_err(|_| NOT_SEALED)?.record;
        let (length, header) = (record.len(), Header::parse(&record).ok_or(NOT_OPENED)?);
        self.sender.open(at, &header, topic, &|_| settled(0), record).map_err(|_| NOT_OPENED)?;
        Ok(length)
    }
}

/// What of a stream is settled without gaps.
fn settled(up_to: u64) -> Settled {
    Settled { cumulative: up_to, highest: up_to }
}

fn boot(role: Role) -> BootId {
    BootId([role as u8 + 1; BootId::LEN])
}
