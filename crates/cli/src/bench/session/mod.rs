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
use pqc_iiot_core::session::{Class, Control, Header, Opened, Role, Session, SessionStart, Text};

use super::BenchError;
use super::fleet::{TOPIC, now};

const SETUP: BenchError = BenchError::Setup("two ends of a session");
const NOT_SEALED: BenchError = BenchError::Outcome("a record was not sealed");
const NOT_OPENED: BenchError = BenchError::Outcome("a genuine record was not opened");

/// Two ends that a handshake would leave, with the topic that their records are bound to.
struct Pair {
    sender: Session,
    receiver: Session,
    topic: HashOutput,
    number: u64,
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
        Ok(Self { sender, receiver, topic, number: 0 })
    }

    /// The steady state: the receiver's number base is confirmed, so that telemetry carries no numbers.
    fn settled(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let mut pair = Self::new(suite, backend)?;
        let first = pair.seal(Class::Telemetry, &[])?;
        pair.open(first)?;
        let base = *pair.receiver.number_bases().first().ok_or(SETUP)?;
        pair.sender.base_confirmed(pair.sender.epoch(), &base);
        Ok(pair)
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
            Text::Telemetry { number: self.number, payload }
        } else {
            Text::Body(payload)
        };
        let (ours, topic) = (boot(Role::Initiator), self.topic.as_slice());
        let sealed = self.sender.seal(ours, now().monotonic, class, StreamId::default(), topic, text);
        sealed.map(|sealed| sealed.record).map_err(|_| NOT_SEALED)
    }

    /// What the receiver makes of a record, header and all.
    fn open(&mut self, record: Vec<u8>) -> Result<Opened, BenchError> {
        let header = Header::parse(&record).ok_or(NOT_OPENED)?;
        let topic = self.topic.as_slice();
        self.receiver.open(now().monotonic, &header, topic, record).map_err(|_| NOT_OPENED)
    }

    /// A control record of the receiver's that the sender opens; its length.
    fn reply(&mut self, control: &Control) -> Result<usize, BenchError> {
        let (ours, at, topic) = (boot(Role::Responder), now().monotonic, self.topic.as_slice());
        let (class, stream, body) = (Class::Control, StreamId::CONTROL, control.encode());
        let sealed = self.receiver.seal(ours, at, class, stream, topic, Text::Body(&body));
        let record = sealed.map_err(|_| NOT_SEALED)?.record;
        let (length, header) = (record.len(), Header::parse(&record).ok_or(NOT_OPENED)?);
        self.sender.open(at, &header, topic, record).map_err(|_| NOT_OPENED)?;
        Ok(length)
    }
}

fn boot(role: Role) -> BootId {
    BootId([role as u8 + 1; BootId::LEN])
}
