//! Sessions with every value on the way: handshake, records and a change of the epoch, computed a second time from the
//! specification alone.

use pqc_iiot_core::crypto::kdf::{PseudorandomKey, hash};
use pqc_iiot_core::crypto::kem::{DecapsulationKey, EncapsulationKey};
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::envelope::Sender;
use pqc_iiot_core::identity::certificate::VerifiedCertificate;
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_core::ids::{BootId, SessionId, StreamId};
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_core::session::handshake::{Established, Initiate, Initiation, M1, Responder};
use pqc_iiot_core::session::{Class, Control, Form, Header, Plain, Session, Settled, Text};
use pqc_iiot_core::time::{Monotonic, UnixTime};

use super::generate::MESSAGE_TOPIC;
use super::json::{Json, hex, number, object, text};
use super::sealing::{Cbor, sender};
use super::world::{BACKEND, Draw, NOW, Peer, World};

const LABELS: [(Class, &str); 3] =
    [(Class::Telemetry, "telemetry"), (Class::Command, "command"), (Class::Control, "control")];
const BOOTS: [BootId; 3] = [BootId(*b"boot-I-1"), BootId(*b"boot-R-1"), BootId(*b"boot-I-2")];

pub(crate) fn generate(world: &World, anchors: &[u8]) -> Json {
    let anchors = PinnedAnchors::pin(BACKEND, anchors).unwrap();
    let prekey = world.gateway_1.prekey(2, 2);
    let of = |name, initiator, responder, suite, prekey: Option<(u32, &SecretBytes)>| {
        session(&Order { name, initiator, responder, suite, prekey }, &anchors)
    };
    let (press, gateway) = (&world.press_7, &world.gateway_1);
    let sessions = vec![
        of("session/suite-1", press, gateway, SessionSuite::Hybrid, Some((2, &prekey.seed))),
        of("session/suite-2", &world.press_9, &world.vault, SessionSuite::Cnsa2, None),
        of("session/suite-3", press, gateway, SessionSuite::HybridChaCha, Some((2, &prekey.seed))),
    ];
    object([
        (
            "about",
            text(
                "Handshakes, records in both directions, and a change of the epoch. docs/protocol.md §§18, 20.",
            ),
        ),
        ("sessions", Json::Array(sessions)),
    ])
}

struct Order<'a> {
    name: &'a str,
    initiator: &'a Peer,
    responder: &'a Peer,
    suite: SessionSuite,
    /// Id and seed; the static key if none.
    prekey: Option<(u32, &'a SecretBytes)>,
}

fn session(order: &Order<'_>, anchors: &PinnedAnchors) -> Json {
    let (handshake, [initiator, responder]) = shake(order, anchors);
    let root = initiator.root.clone();
    let mut talk = Talk {
        suite: order.suite,
        ends: [initiator, responder].map(|end| Session::new(BACKEND, &end.start()).unwrap()),
        bases: vec![root],
        boots: [BOOTS[0], BOOTS[1]],
        records: Vec::new(),
    };
    let none = Settled::default();
    talk.control(0, &Control::Confirm);
    talk.control(1, &Control::Ask);
    talk.telemetry(0, 1, none);
    talk.telemetry(0, 2, none);
    talk.telemetry(0, 70_000, none);
    talk.telemetry(0, 70_001, Settled { cumulative: 2, highest: 70_000 });
    talk.telemetry(1, 1, none);
    talk.body(0, Class::Command, StreamId::default(), MESSAGE_TOPIC, b"an encoded body");
    talk.restart();
    talk.telemetry(0, 1, none);
    let epoch = talk.turn(order.name);
    talk.control(0, &Control::Confirm);
    talk.telemetry(0, 2, none);
    let (context, length) = (b"context", 42);
    let exported = talk.ends[0].export("vector", context, talk.boots[0], length).unwrap();
    assert_eq!(exported, talk.export("vector", context, length));
    let mut members = handshake;
    members.push(("records".to_owned(), Json::Array(talk.records)));
    members.push(("epoch".to_owned(), epoch));
    members.push(("exporter_vector".to_owned(), hex(exported)));
    Json::Object(members)
}

/// Both ends of a handshake, and what it was.
fn shake(order: &Order<'_>, anchors: &PinnedAnchors) -> (Vec<(String, Json)>, [Established; 2]) {
    let suite = order.suite;
    let [i, r] = [order.initiator, order.responder];
    let certificate = |peer: &Peer| -> VerifiedCertificate {
        anchors.verify_certificate(&peer.certificate.encoded, UnixTime(NOW)).unwrap()
    };
    let (theirs, ours) = (certificate(r), certificate(i));
    let (prekey, seed) = order.prekey.unwrap_or((0, &r.kem_seed));
    let key = DecapsulationKey::from_seed(BACKEND, suite.kem(), seed).unwrap();
    let encapsulation_key = EncapsulationKey::parse(BACKEND, suite.kem(), key.encapsulation_key()).unwrap();
    let senders: [Sender; 2] = [sender(i), sender(r)];
    let initiation = Initiation {
        us: &senders[0],
        boot: BOOTS[0],
        sid: SessionId([0x51; 4]),
        peer: &theirs,
        prekey: PrekeyId(prekey),
        encapsulation_key: &encapsulation_key,
        suite,
        revocation_seq: 2,
        attempt: 7,
        gate: None,
    };
    let mut draws = [Draw::new(&format!("{} m1", order.name)), Draw::new(&format!("{} m2", order.name))];
    let initiate = Initiate::new(BACKEND, &mut draws[0], &initiation).unwrap();
    let structure = initiate.structure().clone();
    let signature = i.signing_key().sign(&mut draws[0], &|half| structure.message(half)).unwrap();
    let expect = initiate.signed(&signature).unwrap();

    let with = Responder {
        us: &senders[1],
        accepted: &r.claims.suites,
        allowed: &SessionSuite::ALL,
        prekey_required: r.claims.prekey_required,
        encapsulation_key: encapsulation_key.as_bytes(),
    };
    let checked = M1::parse(expect.m1()).unwrap().check(BACKEND, &with, &ours).unwrap();
    let ct1_at = 3 + i.id.as_str().len() + 64 + 4 + 8 + 8 + suite.kem().encapsulation_key_len();
    let ct1 = &expect.m1()[ct1_at..ct1_at + suite.kem().ciphertext_len()];
    let ss1 = key.decapsulate(ct1).unwrap();
    let authentic = checked.decapsulated(&ss1, &ours).unwrap_or_else(|_| panic!("genuine"));
    let th1 = *authentic.th1();
    let answer = authentic.answer(&mut draws[1], &senders[1], SessionId([0x52; 4]), BOOTS[1]).unwrap();
    let structure = answer.structure().clone();
    let signature = r.signing_key().sign(&mut draws[1], &|half| structure.message(half)).unwrap();
    let (m2, responder) = answer.signed(&signature).unwrap();
    let initiator = expect.receive_m2(&m2, &theirs).unwrap_or_else(|_| panic!("genuine"));
    assert!(initiator.root.expose() == responder.root.expose());
    let members = object([
        ("name", text(order.name)),
        ("initiator", text(i.id.as_str())),
        ("responder", text(r.id.as_str())),
        ("suite", number(suite.id())),
        ("prekey_id", number(prekey)),
        ("m1_random", hex(&draws[0].drawn)),
        ("ss1", hex(ss1.expose())),
        ("th1", hex(th1.as_slice())),
        ("m1", hex(expect.m1())),
        ("m2_random", hex(&draws[1].drawn)),
        ("th2", hex(responder.th2.as_slice())),
        ("m2", hex(&m2)),
        ("root", hex(responder.root.expose())),
        ("gate", hex(responder.gate.expose())),
    ]);
    let Json::Object(members) = members else { panic!("an object") };
    (members, [initiator, responder])
}

/// Two ends, initiator first, and what they said.
struct Talk {
    suite: SessionSuite,
    ends: [Session; 2],
    /// Of each epoch.
    bases: Vec<PseudorandomKey>,
    boots: [BootId; 2],
    records: Vec<Json>,
}

impl Talk {
    fn control(&mut self, from: usize, control: &Control) {
        let topic = format!("pqc/control/{}", ["responder", "initiator"][from]);
        self.body(from, Class::Control, StreamId::CONTROL, &topic, &control.encode());
    }

    fn body(&mut self, from: usize, class: Class, stream: StreamId, topic: &str, body: &[u8]) {
        self.say(from, class, stream, topic, Text::Body(body));
    }

    fn telemetry(&mut self, from: usize, number: u64, confirmed: Settled) {
        let text = Text::Telemetry { number, confirmed, payload: b"73.9" };
        self.say(from, Class::Telemetry, StreamId::default(), MESSAGE_TOPIC, text);
    }

    fn say(&mut self, from: usize, class: Class, stream: StreamId, topic: &str, words: Text<'_>) {
        let (now, boot) = (Monotonic::default(), self.boots[from]);
        let topic_hash = hash(self.suite.hash(), &[topic.as_bytes()]);
        let end = &mut self.ends[from];
        if end.wants_reservation(class) {
            assert!(end.reserve(class));
            end.written(1);
        }
        let sealed = end.seal(boot, now, class, stream, topic_hash.as_slice(), words);
        let sealed = sealed.unwrap_or_else(|error| panic!("{error}"));
        let header = Header::parse(&sealed.record).unwrap();
        let settled = match words {
            Text::Telemetry { confirmed, .. } => confirmed,
            Text::Body(_) => Settled::default(),
        };
        let record = sealed.record.clone();
        let opened = self.ends[1 - from].open(now, &header, topic_hash.as_slice(), &|_| settled, record);
        let opened = opened.unwrap_or_else(|error| panic!("{error}"));

        // Again, from the specification.
        let (key, iv) = self.key(from, &header, boot);
        let clear = header.encoded_len();
        let mut aad = [&sealed.record[..clear], topic_hash.as_slice()].concat();
        let (plaintext, number) = match (&opened.plain, header.form) {
            (Plain::Body(body), Form::Body) => (body.clone(), None),
            (Plain::Telemetry { number, payload, .. }, Form::Numbered) => {
                ([&number.to_be_bytes()[..], payload].concat(), Some(*number))
            }
            (Plain::Telemetry { number, payload, .. }, Form::Implied) => {
                aad.extend_from_slice(&number.to_be_bytes());
                (payload.clone(), Some(*number))
            }
            _ => panic!("no such form"),
        };
        let mut nonce = iv;
        nonce[8..].iter_mut().zip(header.counter.to_be_bytes()).for_each(|(byte, counter)| *byte ^= counter);
        let mut record = sealed.record[clear..].to_vec();
        BACKEND.aead_key(self.suite.aead(), &key).open(&nonce, &aad, &mut record).expect("the derived key");
        assert_eq!(record, plaintext);
        let mut members = vec![
            ("from", text(["initiator", "responder"][from])),
            ("topic", text(topic)),
            ("boot", hex(boot.as_bytes())),
            ("key", hex(key.expose())),
            ("nonce", hex(nonce)),
            ("aad", hex(&aad)),
            ("plaintext", hex(&plaintext)),
            ("record", hex(&sealed.record)),
        ];
        if let Some(msg_seq) = number {
            members.insert(2, ("msg_seq", super::json::number(msg_seq)));
        }
        self.records
            .push(Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()));
    }

    /// The initiator restarts.
    fn restart(&mut self) {
        let row = self.ends[0].to_row();
        self.ends[0] = Session::from_row(BACKEND, &row, Monotonic::default()).unwrap();
        self.boots[0] = BOOTS[2];
    }

    /// The next epoch, which the initiator offers.
    fn turn(&mut self, name: &str) -> Json {
        let mut draws = [Draw::new(&format!("{name} offer")), Draw::new(&format!("{name} accept"))];
        let offer = self.ends[0].offer(&mut draws[0]).unwrap();
        self.control(0, &Control::Offer(offer.clone()));
        let accept = self.ends[1].accept(&mut draws[1], &offer).unwrap();
        self.control(1, &Control::Accept(accept.clone()));
        self.ends[0].accepted(&accept).unwrap();

        let seed = SecretBytes::new(draws[0].drawn.clone());
        let key = DecapsulationKey::from_seed(BACKEND, self.suite.kem(), &seed).unwrap();
        assert_eq!(key.encapsulation_key(), offer.encapsulation_key);
        let shared = key.decapsulate(&accept.ciphertext).unwrap();
        let said = Cbor::default().head(4, 3).bytes(&offer.encapsulation_key).bytes(&accept.ciphertext);
        let said = hash(self.suite.hash(), &[&said.uint(accept.epoch.into()).0]);
        let ratchet = self.derive(&info(&["pqc-iiot1 ratchet"]));
        let extracted = PseudorandomKey::extract(self.suite.hash(), ratchet.expose(), shared.expose());
        let base = self
            .expand(&extracted, &Cbor::default().head(4, 2).text("pqc-iiot1 epoch").bytes(said.as_slice()).0);
        let json = object([
            ("offer_random", hex(&draws[0].drawn)),
            ("accept_random", hex(&draws[1].drawn)),
            ("shared_secret", hex(shared.expose())),
            ("ratchet_secret", hex(ratchet.expose())),
            ("base", hex(base.expose())),
        ]);
        self.bases.push(base);
        json
    }

    fn expand(&self, from: &PseudorandomKey, info: &[u8]) -> PseudorandomKey {
        let mut out = vec![0; self.suite.hash().output_len()];
        from.expand(info, &mut out).unwrap();
        PseudorandomKey::from_slice(self.suite.hash(), &out).unwrap()
    }

    /// From the newest base.
    fn derive(&self, info: &[u8]) -> PseudorandomKey {
        self.expand(self.bases.last().unwrap(), info)
    }

    /// §20.1: a record's key, and the iv of its direction.
    fn key(&self, from: usize, header: &Header, boot: BootId) -> (Secret<32>, [u8; 12]) {
        let base = &self.bases[usize::from(header.epoch)];
        let role = ["initiator", "responder"][from];
        let label = LABELS.iter().find(|(class, _)| *class == header.class).unwrap().1;
        let mut chain = self.expand(base, &info(&["pqc-iiot1 chain", role, label]));
        let h = self.suite.hash().output_len();
        let mut step = vec![0; 2 * h];
        for _ in 0..=header.counter / if header.class == Class::Command { 1 } else { 64 } {
            chain.expand(b"pqc-iiot1 block", &mut step).unwrap();
            chain = PseudorandomKey::from_slice(self.suite.hash(), &step[h..]).unwrap();
        }
        let seed = PseudorandomKey::from_slice(self.suite.hash(), &step[..h]).unwrap();
        let mut key = Secret::new([0; 32]);
        seed.expand(&[b"pqc-iiot1 key", &boot.0[..]].concat(), key.expose_mut()).unwrap();
        let mut iv = [0; 12];
        base.expand(&info(&["pqc-iiot1 iv", role]), &mut iv).unwrap();
        (key, iv)
    }

    /// §20.7.
    fn export(&self, label: &str, context: &[u8], length: usize) -> Vec<u8> {
        let exporter = self.derive(&info(&["pqc-iiot1 exporter"]));
        let info = Cbor::default().head(4, 6).text("pqc-iiot1 export").text(label).bytes(context);
        let info = info.bytes(&self.boots[0].0).bytes(&self.boots[1].0).uint(length as u64).0;
        let mut out = vec![0; length];
        exporter.expand(&info, &mut out).unwrap();
        out
    }
}

fn info(parts: &[&str]) -> Vec<u8> {
    parts.iter().fold(Cbor::default().head(4, parts.len() as u64), |cbor, part| cbor.text(part)).0
}
