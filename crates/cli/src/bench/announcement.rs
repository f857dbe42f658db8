//! `announcement_accept`: an endpoint comes to trust a peer it has not heard before.

use pqc_iiot_core::codec::signed::{SigStructure, ToBeSigned, signer_fingerprint};
use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::signature::{SigningKey, generate_seeds};
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::endpoint::{Command, Event, Input, Output};
use pqc_iiot_core::identity::announcement::PublishedBy;
use pqc_iiot_core::ids::PeerId;

use super::fleet::{Fleet, Gateway, Member, now, random, receive};
use super::primitives::Verifiers;
use super::{BenchError, Workload};

/// Peers that announce themselves before the endpoint starts anew.
const PEERS: usize = 200;

const FAILED: BenchError = BenchError::Outcome("a genuine announcement was not accepted");

/// Baseline: one hybrid verification for the certificate and one for the announcement.
pub(super) struct AnnouncementAccept {
    backend: Backend,
    fleet: Fleet,
    announcements: Vec<Announced>,
    gateway: Gateway,
    next: usize,
    input: Option<Input>,
    /// What the last acceptance is to make durable.
    persist: Option<u64>,
    verifiers: [Verifiers; 2],
    bytes: usize,
}

struct Announced {
    peer: PeerId,
    payload: Vec<u8>,
}

impl AnnouncementAccept {
    pub(super) fn new(suite: SessionSuite, backend: Backend) -> Result<Self, BenchError> {
        let mut fleet = Fleet::new(suite)?;
        let mut announcements = Vec::with_capacity(PEERS);
        let mut verifiers = None;
        for number in 0..PEERS {
            let member = fleet.enrol(&format!("press-{number}"))?;
            let payload = fleet.announcement(&member)?;
            if verifiers.is_none() {
                verifiers = Some(baseline(&member, backend)?);
            }
            announcements.push(Announced { peer: member.id, payload });
        }
        let gateway = gateway(&mut fleet, backend, &announcements)?;
        let bytes = announcements.first().map_or(0, |announced| announced.payload.len());
        Ok(Self {
            backend,
            fleet,
            announcements,
            gateway,
            next: 0,
            input: None,
            persist: None,
            verifiers: verifiers.ok_or(BenchError::Setup("peers"))?,
            bytes,
        })
    }
}

/// Signatures over messages as long as the certificate's and the announcement's.
fn baseline(member: &Member, backend: Backend) -> Result<[Verifiers; 2], BenchError> {
    const FAILED: BenchError = BenchError::Setup("signatures to verify");
    let mut random = random()?;
    let set = member.signing.set();
    let issuer = generate_seeds(set, &mut random);
    let issuer = SigningKey::from_seeds(&AWS_LC, set, &issuer).map_err(|_| FAILED)?;
    let topic = format!("pqc/keys/{}", member.id);
    let published = PublishedBy { peer: &member.id, topic: &topic };
    let certificate =
        ToBeSigned::new(&member.certificate, set, signer_fingerprint(set, issuer.public_key()), &());
    let announcement = ToBeSigned::new(&member.announcement(), set, member.sender().signer, &published);
    let mut verifiers = |key: &SigningKey, structure: &SigStructure| {
        let signature =
            key.sign(&mut random, &|algorithm| structure.message(algorithm)).map_err(|_| FAILED)?;
        let mut verifiers = Verifiers::new(backend, set, key.public_key())?;
        verifiers.load(structure, &signature)?;
        Ok::<_, BenchError>(verifiers)
    };
    Ok([verifiers(&issuer, certificate.structure())?, verifiers(&member.signing, announcement.structure())?])
}

fn gateway(fleet: &mut Fleet, backend: Backend, peers: &[Announced]) -> Result<Gateway, BenchError> {
    let mut gateway = Gateway::start(fleet, backend)?;
    for announced in peers {
        gateway.settle(Input::Command(Command::AddPeer(announced.peer.clone())));
    }
    Ok(gateway)
}

impl Workload for AnnouncementAccept {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        if let Some(seq) = self.persist.take() {
            let events = self.gateway.settle(Input::Persisted(seq));
            if !events.iter().any(|event| matches!(event, Event::PeerReady { .. })) {
                return Err(FAILED);
            }
        }
        if self.next == self.announcements.len() {
            self.next = 0;
            self.gateway = gateway(&mut self.fleet, self.backend, &self.announcements)?;
        }
        let announced = self.announcements.get(self.next).ok_or(FAILED)?;
        self.next += 1;
        self.input = Some(receive(format!("pqc/keys/{}", announced.peer), announced.payload.clone()));
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let Some(input) = self.input.take() else { return Err(FAILED) };
        self.gateway.endpoint.handle(now(), input);
        while let Some(output) = self.gateway.endpoint.poll_output() {
            if let Output::Persist { seq, .. } = output {
                self.persist = Some(seq);
            }
        }
        if self.persist.is_some() { Ok(()) } else { Err(FAILED) }
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        self.verifiers.iter().try_for_each(Verifiers::verify)
    }
}
