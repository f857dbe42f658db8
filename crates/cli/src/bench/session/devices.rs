//! Very many devices in one thread. Each keeps its session on disk between two packets, so that the process's memory is the
//! hub's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use pqc_iiot_core::codec::signed::signer_fingerprint;
use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::kdf::{HashOutput, hash};
use pqc_iiot_core::endpoint::ControlTopics;
use pqc_iiot_core::envelope::Sender;
use pqc_iiot_core::identity::certificate::VerifiedCertificate;
use pqc_iiot_core::identity::keys::PublicIdentity;
use pqc_iiot_core::ids::{PeerId, SessionId, StreamId};
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_core::session::handshake::{ExpectM2, Initiate, Initiation};
use pqc_iiot_core::session::{Class, Control, Header, Plain, Role, Session, Settled, Text};
use pqc_iiot_provider::random::{SeededRandom, SystemRandom};

use super::boot;
use crate::bench::fleet::{Fleet, keys, now, random, set_of};
use crate::bench::{BenchError, interrupted};

/// Devices that begin together.
pub(super) const BATCH: u32 = 32;
/// Devices under way at once.
const WINDOW: usize = 128;
/// A session's place in the file.
const SLOT: usize = 4096;

const FAILED: BenchError = BenchError::Outcome("a device got no further");
const DISK: BenchError = BenchError::Setup("a file of sessions");

/// Topic and payload of what a device publishes.
pub(super) type Packet = (String, Vec<u8>);
/// What the hub publishes for a device.
pub(super) type Answer = (u32, Vec<u8>);

/// What all devices do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Announce their certificates.
    Enrol,
    /// Begin a session.
    Handshake,
    /// Propose an epoch.
    Propose,
    /// Ask the hub to propose one.
    AskFor,
}

/// All devices.
pub(super) struct Devices {
    fleet: Fleet,
    random: SystemRandom,
    hub: VerifiedCertificate,
    topics: ControlTopics,
    /// What the records to the hub are bound to.
    to_hub: HashOutput,
    sessions: File,
    handshakes: BTreeMap<u32, ExpectM2>,
    /// Sessions of devices that wait for the hub.
    waiting: BTreeMap<u32, Session>,
}

impl Devices {
    pub(super) fn new(fleet: Fleet, hub: VerifiedCertificate) -> Result<Self, BenchError> {
        let topics = ControlTopics::new("pqc");
        let to_hub = hash(fleet.suite.hash(), &[topics.control(&hub.claims().subject).as_bytes()]);
        let sessions = tempfile::tempfile().map_err(|_| DISK)?;
        let (handshakes, waiting) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { fleet, random: random()?, hub, topics, to_hub, sessions, handshakes, waiting })
    }

    /// Takes `total` devices through a phase. Whoever is under way comes before who begins.
    pub(super) fn drive(
        &mut self,
        phase: Phase,
        total: u32,
        flights: &SyncSender<Vec<Packet>>,
        answers: &Receiver<Vec<Answer>>,
        done: &AtomicU32,
        stop: &AtomicBool,
    ) -> Result<(), BenchError> {
        let (mut next, mut unanswered, mut again) = (0, 0, 0);
        while next < total || !self.is_idle() {
            interrupted(stop)?;
            let full = next == total || self.handshakes.len() + self.waiting.len() >= WINDOW;
            let silent = full && unanswered == 0;
            let answered = match full {
                true if silent => None,
                true => answers.recv().ok(),
                false => answers.try_recv().ok(),
            };
            let mut flight = Vec::new();
            if let Some(answered) = answered {
                unanswered -= 1;
                again = if answered.is_empty() { again } else { 0 };
                for (device, payload) in answered {
                    flight.extend(self.answer(device, payload)?);
                }
            } else if silent && again < 3 {
                // The hub loads a certificate and drops the m1 that made it do so: it comes again.
                again += 1;
                let to = self.topics.session_init(&self.hub.claims().subject);
                flight.extend(self.handshakes.values().map(|expected| (to.clone(), expected.m1().to_vec())));
            } else if full {
                return Err(FAILED);
            } else {
                for device in next..total.min(next + BATCH) {
                    flight.push(self.begin(phase, device)?);
                }
                next = total.min(next + BATCH);
            }
            if !flight.is_empty() {
                flights.send(flight).map_err(|_| FAILED)?;
                unanswered += 1;
            }
            let under_way = (self.handshakes.len() + self.waiting.len()) as u32;
            done.store(next - under_way, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The epoch that a device ended in.
    pub(super) fn epoch(&mut self, device: u32) -> Result<u16, BenchError> {
        self.load(device).map(|session| session.epoch())
    }

    fn is_idle(&self) -> bool {
        self.handshakes.is_empty() && self.waiting.is_empty()
    }

    fn begin(&mut self, phase: Phase, device: u32) -> Result<Packet, BenchError> {
        match phase {
            Phase::Enrol => self.announce(device),
            Phase::Handshake => self.initiate(device),
            Phase::Propose => {
                let mut session = self.load(device)?;
                let offer = session.offer(&mut self.random).map_err(|_| FAILED)?;
                let packet = self.seal(&mut session, &Control::Offer(offer))?;
                self.waiting.insert(device, session);
                Ok(packet)
            }
            Phase::AskFor => {
                let mut session = self.load(device)?;
                let packet = self.seal(&mut session, &Control::YourTurn)?;
                self.waiting.insert(device, session);
                Ok(packet)
            }
        }
    }

    /// What the hub says, and what goes back.
    fn answer(&mut self, device: u32, payload: Vec<u8>) -> Result<Option<Packet>, BenchError> {
        if let Some(expected) = self.handshakes.remove(&device) {
            let established = expected.receive_m2(&payload, &self.hub).map_err(|_| FAILED)?;
            let mut session = Session::new(&AWS_LC, &established.start()).ok_or(FAILED)?;
            let packet = self.seal(&mut session, &Control::Confirm)?;
            self.save(device, &session)?;
            return Ok(Some(packet));
        }
        let mut session = self.waiting.remove(&device).ok_or(FAILED)?;
        let header = Header::parse(&payload).ok_or(FAILED)?;
        let topic = hash(self.fleet.suite.hash(), &[self.topics.control(&name(device)?).as_bytes()]);
        let opened =
            session.open(now().monotonic, &header, topic.as_slice(), &|_| Settled::default(), payload);
        let opened = opened.map_err(|_| FAILED)?;
        let Plain::Body(told) = opened.plain else { return Err(FAILED) };
        let answer = match Control::decode(&told).map_err(|_| FAILED)? {
            Control::Accept(accept) => {
                session.accepted(&accept).map_err(|_| FAILED)?;
                Control::Confirm
            }
            Control::Offer(offer) => {
                let accept = session.accept(&mut self.random, &offer).map_err(|_| FAILED)?;
                let packet = self.seal(&mut session, &Control::Accept(accept))?;
                self.waiting.insert(device, session);
                return Ok(Some(packet));
            }
            // The hub's first record of its epoch; with one of ours it can erase the epoch before.
            Control::Confirm if opened.switched => Control::Confirm,
            _ => return Err(FAILED),
        };
        let packet = self.seal(&mut session, &answer)?;
        self.save(device, &session)?;
        Ok(Some(packet))
    }

    fn announce(&mut self, device: u32) -> Result<Packet, BenchError> {
        let keys = keys(self.fleet.suite, &mut seed(device))?;
        let member = self.fleet.enrol_with(name(device)?.as_str(), keys)?;
        Ok((self.topics.keys(&member.id), self.fleet.announcement(&member)?))
    }

    fn initiate(&mut self, device: u32) -> Result<Packet, BenchError> {
        let (suite, set) = (self.fleet.suite, set_of(self.fleet.suite));
        let (signing, kem) = keys(suite, &mut seed(device))?;
        let public = PublicIdentity {
            set,
            signing_key: signing.public_key().to_vec(),
            kem: kem.kem(),
            encapsulation_key: kem.encapsulation_key().to_vec(),
        };
        let us = Sender {
            id: name(device)?,
            fingerprint: public.fingerprint(),
            set,
            signer: signer_fingerprint(set, &public.signing_key),
        };
        let with = Initiation {
            us: &us,
            boot: boot(Role::Initiator),
            sid: SessionId(device.to_be_bytes()),
            peer: &self.hub,
            prekey: PrekeyId::STATIC,
            encapsulation_key: self.hub.encapsulation_key(),
            suite,
            revocation_seq: 0,
            attempt: 1,
            gate: None,
        };
        let initiate = Initiate::new(&AWS_LC, &mut self.random, &with).map_err(|_| FAILED)?;
        let message = |algorithm| initiate.structure().message(algorithm);
        let signature = signing.sign(&mut self.random, &message).map_err(|_| FAILED)?;
        let expected = initiate.signed(&signature).map_err(|_| FAILED)?;
        let m1 = expected.m1().to_vec();
        self.handshakes.insert(device, expected);
        Ok((self.topics.session_init(&self.hub.claims().subject), m1))
    }

    fn seal(&self, session: &mut Session, control: &Control) -> Result<Packet, BenchError> {
        if session.wants_reservation(Class::Control) {
            if !session.reserve(Class::Control) {
                return Err(FAILED);
            }
            session.written(1);
        }
        let (ours, body, at) = (boot(Role::Initiator), control.encode(), now().monotonic);
        let (class, stream) = (Class::Control, StreamId::CONTROL);
        let sealed = session.seal(ours, at, class, stream, self.to_hub.as_slice(), Text::Body(&body));
        let record = sealed.map_err(|_| FAILED)?.record;
        Ok((self.topics.control(&self.hub.claims().subject), record))
    }

    fn save(&mut self, device: u32, session: &Session) -> Result<(), BenchError> {
        let row = session.to_row();
        let mut slot = (row.len() as u16).to_be_bytes().to_vec();
        slot.extend_from_slice(&row);
        if slot.len() > SLOT {
            return Err(DISK);
        }
        self.seek(device)?;
        self.sessions.write_all(&slot).map_err(|_| DISK)
    }

    fn load(&mut self, device: u32) -> Result<Session, BenchError> {
        self.seek(device)?;
        let mut length = [0; 2];
        self.sessions.read_exact(&mut length).map_err(|_| DISK)?;
        let mut row = vec![0; u16::from_be_bytes(length).into()];
        self.sessions.read_exact(&mut row).map_err(|_| DISK)?;
        Session::from_row(&AWS_LC, &row, now().monotonic).map_err(|_| FAILED)
    }

    fn seek(&mut self, device: u32) -> Result<(), BenchError> {
        let at = u64::from(device) * SLOT as u64;
        self.sessions.seek(SeekFrom::Start(at)).map(|_| ()).map_err(|_| DISK)
    }
}

/// A device's id.
pub(super) fn name(device: u32) -> Result<PeerId, BenchError> {
    PeerId::new(&format!("device-{device:06}")).map_err(|_| FAILED)
}

/// The device with an id.
pub(super) fn number(id: &PeerId) -> Option<u32> {
    id.as_str().strip_prefix("device-")?.parse().ok()
}

/// Where a device's keys come from, whenever it needs them.
fn seed(device: u32) -> SeededRandom {
    SeededRandom::new(0xdece_0000_0000 | u64::from(device))
}
