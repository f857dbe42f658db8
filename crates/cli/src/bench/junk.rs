//! `refuse_junk_*`: what anybody who can publish can make an endpoint do.

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::endpoint::{Command, Event, Input, Output, RefusalReason};
use pqc_iiot_core::envelope::{Content, PendingSeal, Recipient};
use pqc_iiot_core::ids::{MAX_PEER_ID, PeerId, StreamId};
use pqc_iiot_core::limits::Limits;
use pqc_iiot_core::provider::PrekeyId;

use super::fleet::{Fleet, Gateway, Member, TOPIC, now, random, receive};
use super::{BenchError, Workload};

/// Peers that the gateway follows.
const PEERS: usize = 1_000;

/// What the junk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Junk {
    /// One byte over the message limit.
    Size,
    /// A sender id of the greatest length whose last character is not allowed.
    Id,
    /// A packet of a peer that nobody asked for.
    UnknownPeer,
    /// A genuine packet that was accepted before.
    Replay,
}

impl Junk {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Size, Self::Id, Self::UnknownPeer, Self::Replay];

    /// The row's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Size => "refuse_junk_size",
            Self::Id => "refuse_junk_id",
            Self::UnknownPeer => "refuse_junk_unknown_peer",
            Self::Replay => "refuse_junk_replay",
        }
    }

    fn reason(self) -> RefusalReason {
        match self {
            Self::Size => RefusalReason::Oversized,
            Self::Id => RefusalReason::InvalidPeerId,
            Self::UnknownPeer => RefusalReason::UnknownPeer,
            Self::Replay => RefusalReason::Replayed,
        }
    }

    /// Deliveries per sample: enough that reading the clock does not count, few enough that all fit into the cache.
    fn batch(self) -> usize {
        match self {
            Self::Size => 4,
            _ => 64,
        }
    }
}

/// Baseline: dropping the same deliveries unread, as whoever received them must in any case.
pub(super) struct RefuseJunk {
    junk: Junk,
    gateway: Gateway,
    payload: Vec<u8>,
    handled: Vec<Input>,
    dropped: Vec<Input>,
}

impl RefuseJunk {
    pub(super) fn new(junk: Junk) -> Result<Self, BenchError> {
        let backend: Backend = &AWS_LC;
        let mut fleet = Fleet::new(SessionSuite::Hybrid)?;
        let member = fleet.enrol("press-7")?;
        let announcement = fleet.announcement(&member)?;
        let mut gateway = Gateway::start(&mut fleet, backend)?;
        for number in 0..PEERS {
            let peer = PeerId::new(&format!("press-{number}")).map_err(|_| BenchError::Setup("peers"))?;
            gateway.settle(Input::Command(Command::AddPeer(peer)));
        }
        gateway.settle(receive(format!("pqc/keys/{}", member.id), announcement));
        let genuine = genuine(&member, &gateway)?;
        let events = gateway.settle(receive(TOPIC, genuine.clone()));
        if !events.iter().any(|event| matches!(event, Event::Message(_))) {
            return Err(BenchError::Setup("a genuine message"));
        }
        let payload = match junk {
            Junk::Size => vec![0x42; Limits::default().message + 1],
            Junk::Id => from_sender(&genuine, &member, &[[b'a'; MAX_PEER_ID - 1].as_slice(), b"/"].concat()),
            Junk::UnknownPeer => from_sender(&genuine, &member, b"press-4711"),
            Junk::Replay => genuine,
        };
        // The first of a kind is audited at once, later ones are counted: what a flood costs is the latter.
        gateway.settle(receive(TOPIC, payload.clone()));
        Ok(Self { junk, gateway, payload, handled: Vec::new(), dropped: Vec::new() })
    }

    fn deliveries(&self) -> Vec<Input> {
        (0..self.junk.batch()).map(|_| receive(TOPIC, self.payload.clone())).collect()
    }
}

fn genuine(member: &Member, gateway: &Gateway) -> Result<Vec<u8>, BenchError> {
    const FAILED: BenchError = BenchError::Setup("a genuine message");
    let keys = &gateway.certificate.keys;
    let encapsulation_key =
        EncapsulationKey::parse(&AWS_LC, keys.kem, &keys.encapsulation_key).map_err(|_| FAILED)?;
    let recipient = Recipient {
        key_id: keys.key_id(),
        prekey: PrekeyId::STATIC,
        encapsulation_key: &encapsulation_key,
        suite: SessionSuite::Hybrid,
    };
    let content = Content::telemetry(vec![0x42; 256]);
    let (mut random, sender, stream) = (random()?, member.sender(), StreamId::default());
    let pending =
        PendingSeal::new(&AWS_LC, &mut random, &sender, &recipient, TOPIC, stream, 1, &content.into())
            .map_err(|_| FAILED)?;
    let message = |algorithm| pending.structure().message(algorithm);
    let signature = member.signing.sign(&mut random, &message).map_err(|_| FAILED)?;
    pending.finish(&signature).ok_or(FAILED)
}

/// `packet` of `member`'s, as if sent by `sender`.
fn from_sender(packet: &[u8], member: &Member, sender: &[u8]) -> Vec<u8> {
    let rest = packet.get(1 + member.id.as_str().len()..).unwrap_or_default();
    // At most 128 long.
    let length = [sender.len() as u8];
    [&length, sender, rest].concat()
}

impl Workload for RefuseJunk {
    fn operations(&self) -> usize {
        self.junk.batch()
    }

    fn bytes(&self) -> usize {
        self.payload.len()
    }

    fn prepare(&mut self) -> Result<(), BenchError> {
        self.handled = self.deliveries();
        self.dropped = self.deliveries();
        Ok(())
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let expected = self.junk.reason();
        let mut refused = 0;
        for input in self.handled.drain(..) {
            self.gateway.endpoint.handle(now(), input);
            while let Some(output) = self.gateway.endpoint.poll_output() {
                if matches!(output, Output::Event(Event::Refused { reason, .. }) if reason == expected) {
                    refused += 1;
                }
            }
        }
        let all = refused == self.junk.batch();
        if all { Ok(()) } else { Err(BenchError::Outcome("junk was not refused for its reason")) }
    }

    fn baseline(&mut self) -> Result<(), BenchError> {
        self.dropped.clear();
        Ok(())
    }
}
