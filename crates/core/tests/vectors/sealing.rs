//! Envelopes with every value on the way, computed a second time from the specification alone.

use pqc_iiot_core::crypto::kdf;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::envelope::{Body, PendingSeal, Recipient, Sender};
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::provider::PrekeyId;

use super::json::{Json, hex, number, object, text};
use super::world::{BACKEND, Draw, Peer, Prekey};

/// CBOR heads by hand: the specification's second opinion.
#[derive(Default)]
pub(crate) struct Cbor(pub(crate) Vec<u8>);

impl Cbor {
    pub(crate) fn head(mut self, major: u8, argument: u64) -> Self {
        let bytes = argument.to_be_bytes();
        let (low, width) = match argument {
            0..24 => (argument as u8, 0),
            24..0x100 => (24, 1),
            0x100..0x1_0000 => (25, 2),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 8),
        };
        self.0.push(major << 5 | low);
        self.0.extend_from_slice(&bytes[8 - width..]);
        self
    }

    pub(crate) fn uint(self, value: u64) -> Self {
        self.head(0, value)
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        let mut this = self.head(2, value.len() as u64);
        this.0.extend_from_slice(value);
        this
    }

    pub(crate) fn text(self, value: &str) -> Self {
        let mut this = self.head(3, value.len() as u64);
        this.0.extend_from_slice(value.as_bytes());
        this
    }
}

#[derive(Clone)]
pub(crate) struct Order<'a> {
    pub(crate) name: &'a str,
    pub(crate) from: &'a Peer,
    pub(crate) to: &'a Peer,
    /// The static key if none.
    pub(crate) prekey: Option<&'a Prekey>,
    pub(crate) suite: SessionSuite,
    pub(crate) topic: &'a str,
    pub(crate) stream: u8,
    pub(crate) sequence: u64,
    pub(crate) body: Body,
}

pub(crate) struct Sealed {
    pub(crate) packet: Vec<u8>,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) json: Json,
}

pub(crate) fn sender(peer: &Peer) -> Sender {
    Sender {
        id: peer.id.clone(),
        fingerprint: peer.identity.fingerprint(),
        set: peer.set,
        signer: peer.signer.fingerprint(),
    }
}

pub(crate) fn seal(order: &Order<'_>) -> Sealed {
    let (from, to, suite) = (order.from, order.to, order.suite);
    let prekey_id = order.prekey.map_or(0, |prekey| prekey.id);
    let key_bytes =
        order.prekey.map_or(&to.identity.encapsulation_key, |prekey| &prekey.encapsulation_key).clone();
    let key = EncapsulationKey::parse(BACKEND, suite.kem(), &key_bytes).unwrap();
    let recipient = Recipient {
        key_id: to.identity.key_id(),
        prekey: PrekeyId(prekey_id),
        encapsulation_key: &key,
        suite,
    };
    let mut draw = Draw::new(order.name);
    let stream = StreamId::new(order.stream).unwrap();
    let pending = PendingSeal::new(
        BACKEND,
        &mut draw,
        &sender(from),
        &recipient,
        order.topic,
        stream,
        order.sequence,
        &order.body,
    )
    .unwrap();
    let kem_random = std::mem::take(&mut draw.drawn);
    let structure = pending.structure().clone();
    let signature = from.signing_key().sign(&mut draw, &|half| structure.message(half)).unwrap();
    let packet = pending.finish(&signature).unwrap();

    // Again, from the specification.
    let (ciphertext, shared) = key.encapsulate(&mut Draw::new(order.name)).unwrap();
    let hash = suite.hash();
    let info = Cbor::default()
        .head(4, 11)
        .text("pqc-iiot:mqtt-msg-key:v1")
        .uint(suite.id().into())
        .text(from.id.as_str())
        .bytes(from.identity.fingerprint().as_bytes())
        .bytes(to.identity.key_id().as_bytes())
        .uint(prekey_id.into())
        .bytes(kdf::hash(hash, &[&key_bytes]).as_slice())
        .bytes(kdf::hash(hash, &[&ciphertext]).as_slice())
        .text(order.topic)
        .uint(order.stream.into())
        .uint(order.sequence)
        .0;
    let mut okm = [0; 44];
    kdf::hkdf(hash, &[], shared.expose(), &info, &mut okm).unwrap();
    let (aead_key, nonce) = okm.split_at(32);

    let mut aad = vec![1, suite.id()];
    aad.extend_from_slice(to.identity.key_id().as_bytes());
    aad.extend_from_slice(&prekey_id.to_be_bytes());
    aad.push(order.stream);
    aad.extend_from_slice(&order.sequence.to_be_bytes());
    aad.extend_from_slice(&ciphertext);
    let id = from.id.as_str().as_bytes();
    let blob = packet[1 + id.len()..packet.len() - signature.len()].to_vec();
    assert_eq!(packet[..=id.len()], [&[id.len() as u8], id].concat());
    assert_eq!(packet[packet.len() - signature.len()..], signature);
    let mut plaintext = blob.strip_prefix(aad.as_slice()).expect("header and KEM ciphertext").to_vec();
    let cipher = BACKEND.aead_key(suite.aead(), &aead_key.try_into().map(secret).unwrap());
    cipher.open(nonce.try_into().unwrap(), &aad, &mut plaintext).expect("the derived key opens the blob");

    let digest = kdf::sha256(&[&blob]);
    let external_aad = Cbor::default()
        .head(4, 4)
        .text("pqc-iiot:mqtt-msg:v1")
        .text(from.id.as_str())
        .text(order.topic)
        .bytes(&digest)
        .0;
    let structures: Vec<Json> = from
        .set
        .halves()
        .iter()
        .map(|half| {
            let message = structure.message(*half);
            let tail = Cbor::default().bytes(&external_aad).bytes(&[]).0;
            assert!(message.ends_with(&tail), "external_aad and an empty payload end the structure");
            object([("alg", number(half.cose_id())), ("bytes", hex(message))])
        })
        .collect();
    let json = object([
        ("name", text(order.name)),
        ("sender", text(from.id.as_str())),
        ("recipient", text(to.id.as_str())),
        ("topic", text(order.topic)),
        ("suite", number(suite.id())),
        ("prekey_id", number(prekey_id)),
        ("stream", number(order.stream)),
        ("sequence", number(order.sequence)),
        ("kem_random", hex(kem_random)),
        ("shared_secret", hex(shared.expose())),
        ("info", hex(&info)),
        ("aead_key", hex(aead_key)),
        ("nonce", hex(nonce)),
        ("plaintext", hex(&plaintext)),
        ("blob_digest", hex(digest)),
        ("sig_structures", Json::Array(structures)),
        ("signature_random", hex(&draw.drawn)),
        ("packet", hex(&packet)),
    ]);
    Sealed { packet, plaintext, json }
}

fn secret(bytes: [u8; 32]) -> pqc_iiot_core::crypto::secret::Secret<32> {
    pqc_iiot_core::crypto::secret::Secret::new(bytes)
}

/// `blob`, genuine but made by somebody else, under the signature of `thief`.
pub(crate) fn sign_again(thief: &Peer, blob: &[u8], topic: &str) -> Vec<u8> {
    use pqc_iiot_core::codec::signed::{ContextItem, SigStructure};
    let digest = kdf::sha256(&[blob]);
    let context =
        [ContextItem::Text(thief.id.as_str()), ContextItem::Text(topic), ContextItem::Bytes(&digest)];
    let structure = SigStructure::new(
        thief.set,
        thief.signer.fingerprint(),
        "pqc-iiot:mqtt-msg:v1",
        &context,
        Vec::new(),
    );
    let mut draw = Draw::new("blob under another signature");
    let signature = thief.signing_key().sign(&mut draw, &|half| structure.message(half)).unwrap();
    let id = thief.id.as_str().as_bytes();
    [&[id.len() as u8], id, blob, &signature].concat()
}
