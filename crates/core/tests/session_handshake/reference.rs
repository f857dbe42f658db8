//! A second reading of `docs/protocol.md` §18, from the document: what it computes has to be what the core computes.
//! It is also the attacker's tool, who holds a prekey's secret and can seal anew.

use minicbor::Encoder;
use pqc_iiot_core::codec::Reader;
use pqc_iiot_core::codec::signed::{ContextItem, SigStructure};
use pqc_iiot_core::crypto::kdf::{HashOutput, PseudorandomKey, hash};
use pqc_iiot_core::crypto::kem::DecapsulationKey;
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureSet};
use pqc_iiot_core::session::handshake::ExpectM2;

use crate::support::*;

/// m1's parts, owned, to be changed and put together again.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) suite: SessionSuite,
    pub(crate) id: String,
    pub(crate) fp_i: Vec<u8>,
    pub(crate) fp_r: Vec<u8>,
    pub(crate) prekey: u32,
    pub(crate) revocation_seq: u64,
    pub(crate) attempt: u64,
    pub(crate) ek_e: Vec<u8>,
    pub(crate) ct1: Vec<u8>,
    pub(crate) gate: Vec<u8>,
    pub(crate) c1: Vec<u8>,
}

impl Parts {
    pub(crate) fn cut(m1: &[u8]) -> Self {
        let mut rest = m1;
        let mut take = |length: usize| {
            let (now, later) = rest.split_at(length);
            rest = later;
            now.to_vec()
        };
        assert_eq!(take(1), [0xc1]);
        let suite = SessionSuite::from_id(take(1)[0]).unwrap();
        let id_len = take(1)[0].into();
        let (ek_len, ct_len) = if suite == SessionSuite::Cnsa2 { (1568, 1568) } else { (1216, 1120) };
        Self {
            suite,
            id: String::from_utf8(take(id_len)).unwrap(),
            fp_i: take(32),
            fp_r: take(32),
            prekey: u32::from_be_bytes(take(4).try_into().unwrap()),
            revocation_seq: u64::from_be_bytes(take(8).try_into().unwrap()),
            attempt: u64::from_be_bytes(take(8).try_into().unwrap()),
            ek_e: take(ek_len),
            ct1: take(ct_len),
            gate: take(16),
            c1: rest.to_vec(),
        }
    }

    fn clear(&self) -> Vec<u8> {
        let mut out = vec![0xc1, self.suite.id(), u8::try_from(self.id.len()).unwrap()];
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.fp_i);
        out.extend_from_slice(&self.fp_r);
        out.extend_from_slice(&self.prekey.to_be_bytes());
        for number in [self.revocation_seq, self.attempt] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for part in [&self.ek_e, &self.ct1, &self.gate] {
            out.extend_from_slice(part);
        }
        out
    }

    pub(crate) fn join(&self) -> Vec<u8> {
        [self.clear(), self.c1.clone()].concat()
    }

    /// th1 for this responder, its prekey and the initiator's set.
    pub(crate) fn th1(&self, responder: &Peer, initiator_set: SignatureSet, ek: &[u8]) -> HashOutput {
        let mut cbor = Encoder::new(Vec::new());
        cbor.array(16).unwrap().str("m1").unwrap().u8(self.suite.id()).unwrap().u8(1).unwrap();
        cbor.array(responder.accepted().len() as u64).unwrap();
        for suite in responder.accepted() {
            cbor.u8(suite.id()).unwrap();
        }
        cbor.str(&self.id).unwrap().str(responder.sender.id.as_str()).unwrap();
        cbor.bytes(&self.fp_i).unwrap().bytes(&self.fp_r).unwrap();
        cbor.u8(initiator_set.id()).unwrap().u8(responder.sender.set.id()).unwrap();
        cbor.u32(self.prekey).unwrap().bytes(ek).unwrap();
        cbor.u64(self.revocation_seq).unwrap().u64(self.attempt).unwrap();
        cbor.bytes(&self.ek_e).unwrap().bytes(&self.ct1).unwrap();
        hash(self.suite.hash(), &[&cbor.into_writer()])
    }

    /// What c1 holds, for whoever has the first shared secret.
    pub(crate) fn open(&self, ss1: &Secret<32>, th1: &HashOutput) -> (Vec<u8>, Vec<u8>) {
        let k1 = key32(&es0(self.suite, ss1), "pqc-iiot1 k1", th1);
        let mut plain = self.c1.clone();
        let aead = backend().aead_key(self.suite.aead(), &k1);
        aead.open(&[0; 12], &self.clear(), &mut plain).unwrap();
        split(&plain)
    }

    /// Puts another inner part and signature under seal.
    pub(crate) fn seal(&mut self, ss1: &Secret<32>, th1: &HashOutput, inner: &[u8], signature: &[u8]) {
        let k1 = key32(&es0(self.suite, ss1), "pqc-iiot1 k1", th1);
        let aead = backend().aead_key(self.suite.aead(), &k1);
        self.c1 = cbor_pair(inner, signature);
        let clear = self.clear();
        aead.seal(&[0; 12], &clear, &mut self.c1).unwrap();
    }
}

/// What a signature of `peer` covers.
pub(crate) fn signed_by(
    peer: &Peer,
    suite: SessionSuite,
    tag: &str,
    transcript: &HashOutput,
    inner: &[u8],
) -> SigStructure {
    let digest = hash(suite.hash(), &[inner]);
    let context = [ContextItem::Bytes(transcript.as_slice()), ContextItem::Bytes(digest.as_slice())];
    SigStructure::new(peer.sender.set, peer.sender.signer, tag, &context, Vec::new())
}

/// The initiator's secrets, from its row.
pub(crate) struct Thief {
    suite: SessionSuite,
    th1: HashOutput,
    es0: PseudorandomKey,
    key: DecapsulationKey,
    c1: Vec<u8>,
}

/// What m2 derives.
pub(crate) struct Derived {
    pub(crate) th2: HashOutput,
    es1: PseudorandomKey,
    k2: Secret<32>,
}

impl Thief {
    pub(crate) fn new(expect: &ExpectM2) -> Self {
        let row = expect.to_row();
        let mut reader = Reader::new(row.expose()).unwrap();
        reader.array_of(7).unwrap();
        assert_eq!(reader.uint().unwrap(), 1);
        let parts = Parts::cut(reader.bytes().unwrap());
        let hash = parts.suite.hash();
        let th1 = HashOutput::from_slice(hash, reader.bytes().unwrap()).unwrap();
        let es0 = PseudorandomKey::from_slice(hash, reader.bytes().unwrap()).unwrap();
        let seed = SecretBytes::new(reader.bytes().unwrap().to_vec());
        let key = DecapsulationKey::from_seed(backend(), parts.suite.kem(), &seed).unwrap();
        Self { suite: parts.suite, th1, es0, key, c1: parts.c1 }
    }

    pub(crate) fn derive(&self, m2: &[u8]) -> Derived {
        let ct2 = &m2[18..18 + self.suite.kem().ciphertext_len()];
        let ss2 = self.key.decapsulate(ct2).unwrap();
        let mut cbor = Encoder::new(Vec::new());
        let c1 = hash(self.suite.hash(), &[&self.c1]);
        cbor.array(4).unwrap().str("m2").unwrap();
        cbor.bytes(self.th1.as_slice()).unwrap().bytes(c1.as_slice()).unwrap().bytes(ct2).unwrap();
        let th2 = hash(self.suite.hash(), &[&cbor.into_writer()]);
        let salt = key_hash(self.suite, &self.es0, "pqc-iiot1 es", &self.th1);
        let es1 = PseudorandomKey::extract(self.suite.hash(), salt.expose(), ss2.expose());
        let k2 = key32(&es1, "pqc-iiot1 k2", &th2);
        Derived { th2, es1, k2 }
    }

    pub(crate) fn open(&self, derived: &Derived, m2: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (clear, sealed) = m2.split_at(18 + self.suite.kem().ciphertext_len());
        let mut plain = sealed.to_vec();
        let aead = backend().aead_key(self.suite.aead(), &derived.k2);
        aead.open(&[0; 12], clear, &mut plain).unwrap();
        split(&plain)
    }

    pub(crate) fn seal(&self, derived: &Derived, m2: &[u8], inner: &[u8], signature: &[u8]) -> Vec<u8> {
        let (clear, _) = m2.split_at(18 + self.suite.kem().ciphertext_len());
        let mut sealed = cbor_pair(inner, signature);
        let aead = backend().aead_key(self.suite.aead(), &derived.k2);
        aead.seal(&[0; 12], clear, &mut sealed).unwrap();
        [clear, &sealed].concat()
    }

    fn secrets(&self, derived: &Derived) -> [PseudorandomKey; 2] {
        let salt = key_hash(self.suite, &derived.es1, "pqc-iiot1 es", &derived.th2);
        let zeros = vec![0; self.suite.hash().output_len()];
        let ms = PseudorandomKey::extract(self.suite.hash(), salt.expose(), &zeros);
        ["pqc-iiot1 root", "pqc-iiot1 gate"].map(|label| key_hash(self.suite, &ms, label, &derived.th2))
    }
}

pub(crate) fn es0(suite: SessionSuite, ss1: &Secret<32>) -> PseudorandomKey {
    let salt = hash(suite.hash(), &[&[suite.id()]]);
    PseudorandomKey::extract(suite.hash(), salt.as_slice(), ss1.expose())
}

fn info(label: &str, transcript: &HashOutput) -> Vec<u8> {
    let mut cbor = Encoder::new(Vec::new());
    cbor.array(2).unwrap().str(label).unwrap().bytes(transcript.as_slice()).unwrap();
    cbor.into_writer()
}

pub(crate) fn key32(from: &PseudorandomKey, label: &str, transcript: &HashOutput) -> Secret<32> {
    let mut key = Secret::new([0; 32]);
    from.expand(&info(label, transcript), key.expose_mut()).unwrap();
    key
}

fn key_hash(suite: SessionSuite, from: &PseudorandomKey, label: &str, at: &HashOutput) -> PseudorandomKey {
    let mut bytes = vec![0; suite.hash().output_len()];
    from.expand(&info(label, at), &mut bytes).unwrap();
    PseudorandomKey::from_slice(suite.hash(), &bytes).unwrap()
}

fn cbor_pair(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut cbor = Encoder::new(Vec::new());
    cbor.array(2).unwrap().bytes(first).unwrap().bytes(second).unwrap();
    cbor.into_writer()
}

fn split(plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut reader = Reader::new(plain).unwrap();
    reader.array_of(2).unwrap();
    (reader.bytes().unwrap().to_vec(), reader.bytes().unwrap().to_vec())
}

/// `[sid, boot, {}]`.
pub(crate) fn inner(peer: &Peer) -> Vec<u8> {
    let mut cbor = Encoder::new(Vec::new());
    cbor.array(3).unwrap().bytes(&peer.sid.0).unwrap().bytes(&peer.boot.0).unwrap().map(0).unwrap();
    cbor.into_writer()
}

#[test]
fn the_document_and_the_core_read_one_exchange_alike() {
    let world = World::new(backend());
    for (suite, set) in [
        (SessionSuite::Hybrid, SignatureSet::Ed25519MlDsa65),
        (SessionSuite::Cnsa2, SignatureSet::MlDsa87),
        (SessionSuite::HybridChaCha, SignatureSet::P256MlDsa65),
    ] {
        let press = world.peer("press-7", set, &[suite], true);
        let gateway = world.peer("gateway-1", SignatureSet::MlDsa87, &[suite], true);
        let expect = begin(&press, &gateway, suite, 77);
        let (m2, end) = answer(&gateway, &press, expect.m1()).unwrap();

        let parts = Parts::cut(expect.m1());
        assert_eq!((parts.id.as_str(), parts.prekey), ("press-7", PREKEY.0));
        assert_eq!((parts.revocation_seq, parts.attempt), (4, 77));
        assert_eq!(parts.fp_i, press.sender.fingerprint.0);
        assert_eq!(parts.fp_r, gateway.sender.fingerprint.0);
        let th1 = parts.th1(&gateway, set, gateway.prekey(PREKEY).as_bytes());
        assert_eq!(expect.handshake().as_bytes(), &th1.as_slice()[..16]);

        let ss1 = gateway.decapsulate(PREKEY, &parts.ct1);
        let (inner_i, sig_i) = parts.open(&ss1, &th1);
        assert_eq!(inner_i, inner(&press));
        let structure = signed_by(&press, suite, "pqc-iiot:session-m1:v1", &th1, &inner_i);
        press.certificate.signer().verify(&structure, &sig_i).unwrap();

        let thief = Thief::new(&expect);
        assert_eq!(&m2[..2], &[0xc2, suite.id()]);
        assert_eq!(&m2[2..18], &th1.as_slice()[..16]);
        let derived = thief.derive(&m2);
        let (inner_r, sig_r) = thief.open(&derived, &m2);
        assert_eq!(inner_r, inner(&gateway));
        let structure = signed_by(&gateway, suite, "pqc-iiot:session-m2:v1", &derived.th2, &inner_r);
        gateway.certificate.signer().verify(&structure, &sig_r).unwrap();

        assert_eq!(end.th2, derived.th2);
        let [root, gate] = thief.secrets(&derived);
        assert!(root.expose() == end.root.expose());
        assert!(gate.expose() == end.gate.expose());
    }
}
