//! A receiver of the vectors: a real endpoint over a store and a provider in memory.

use std::collections::BTreeMap;

use pqc_iiot_core::codec::Writer;
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kem::DecapsulationKey;
use pqc_iiot_core::crypto::secret::SecretBytes;
use pqc_iiot_core::crypto::suite::Kem;
use pqc_iiot_core::endpoint::{
    Command, DeliveryId, Endpoint, EndpointConfig, Event, Input, OperationId, Output,
};
use pqc_iiot_core::provider::{PrekeyId, ProviderFailure, ProviderRequest, ProviderResponse};
use pqc_iiot_core::store::{RecordKind, Row};
use pqc_iiot_core::time::{Monotonic, Now, UnixTime};

use super::world::{Draw, NOW, Peer, Prekey, World};

pub(crate) struct Receiver {
    endpoint: Endpoint,
    backend: Backend,
    signing: pqc_iiot_core::crypto::signature::SigningKey,
    keys: BTreeMap<PrekeyId, DecapsulationKey>,
    random: Draw,
    now: Now,
    deliveries: u64,
}

impl Receiver {
    /// `peer` with its static key and `prekey`, knowing of all other peers' names, at `time`.
    pub(crate) fn new(
        backend: Backend,
        world: &World,
        anchors: &[u8],
        peer: &Peer,
        prekey: Option<&Prekey>,
        time: u64,
    ) -> Self {
        let mut config = EndpointConfig::new(
            peer.id.clone(),
            peer.identity.clone(),
            peer.certificate.encoded.clone(),
            anchors.to_vec(),
        );
        // The receiver keeps its prekey for as long as it runs here.
        config.prekeys.keep_secret = std::time::Duration::from_secs(u32::MAX.into());
        config.prekeys.rotate_after = std::time::Duration::from_secs(u32::MAX.into());
        let now = Now { monotonic: Monotonic::default(), wall: UnixTime(time) };
        let rows: Vec<Row> = prekey.into_iter().flat_map(|prekey| rows(peer.identity.kem, prekey)).collect();
        let random = Box::new(Draw::new("receiver"));
        let endpoint = Endpoint::new(config, backend, random, &rows, now).unwrap();
        let fixed = DecapsulationKey::from_seed(backend, peer.identity.kem, &peer.kem_seed).unwrap();
        let mut receiver = Self {
            endpoint,
            backend,
            signing: peer.signing_key(),
            keys: BTreeMap::from([(PrekeyId::STATIC, fixed)]),
            random: Draw::new("receiver's provider"),
            now,
            deliveries: 0,
        };
        receiver.drain();
        for other in world.peers().into_iter().filter(|other| other.id != peer.id) {
            receiver.handle(Input::Command(Command::AddPeer(other.id.clone())));
        }
        receiver
    }

    /// What a delivery leads to, acknowledgement excepted.
    pub(crate) fn deliver(&mut self, topic: &str, payload: &[u8]) -> Vec<Event> {
        self.deliveries += 1;
        let delivery = DeliveryId(self.deliveries);
        self.handle(Input::Receive { delivery, topic: topic.to_owned(), payload: payload.to_vec() })
    }

    fn handle(&mut self, input: Input) -> Vec<Event> {
        self.endpoint.handle(self.now, input);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Persist { seq, .. } => self.endpoint.handle(self.now, Input::Persisted(seq)),
                Output::Provider(id, request) => self.provide(id, request),
                Output::Event(event) => events.push(event),
                _ => {}
            }
        }
        events
    }

    fn provide(&mut self, id: OperationId, request: ProviderRequest) {
        let result = match request {
            ProviderRequest::Sign(structure) => {
                let message = |half| structure.message(half);
                Ok(ProviderResponse::Signature(self.signing.sign(&mut self.random, &message).unwrap()))
            }
            ProviderRequest::Decapsulate { key, ciphertext } => match self.keys.get(&key) {
                Some(key) => key
                    .decapsulate(&ciphertext)
                    .map(ProviderResponse::SharedSecret)
                    .map_err(|_| ProviderFailure::Refused),
                None => Err(ProviderFailure::UnknownKey),
            },
            ProviderRequest::GeneratePrekey { id, kem } => {
                let seed = SecretBytes::new(self.random.bytes(kem.seed_len()));
                let key = DecapsulationKey::from_seed(self.backend, kem, &seed).unwrap();
                let encapsulation_key = key.encapsulation_key().to_vec();
                self.keys.insert(id, key);
                Ok(ProviderResponse::Prekey { encapsulation_key, sealed: seed.expose().to_vec() })
            }
            ProviderRequest::ImportPrekey { id, kem, sealed } => {
                let key = DecapsulationKey::from_seed(self.backend, kem, &SecretBytes::new(sealed)).unwrap();
                self.keys.insert(id, key);
                Ok(ProviderResponse::Done)
            }
            _ => Ok(ProviderResponse::Done),
        };
        self.endpoint.handle(self.now, Input::Provided(id, result));
    }
}

/// The stored form of an own prekey: its "sealed" secret is the plain seed, which only a test provider would do.
fn rows(kem: Kem, prekey: &Prekey) -> [Row; 2] {
    let mut value = Writer::new();
    value.array(5).uint(kem.id().into()).bytes(&prekey.encapsulation_key).uint(NOW).uint(NOW + 28 * 86_400);
    value.bytes(prekey.seed.expose());
    let mut state = Writer::new();
    state.array(2).uint(prekey.seq).uint(prekey.id.into());
    [
        Row { kind: RecordKind::Prekey, key: prekey.id.to_be_bytes().to_vec(), value: value.finish() },
        Row { kind: RecordKind::PrekeyState, key: Vec::new(), value: state.finish() },
    ]
}
