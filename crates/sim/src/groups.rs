//! Topic groups: a node's commands and what it was told, and a member that seals what only the publisher should.

use std::collections::BTreeMap;

use pqc_iiot_core::codec::{Reader, Writer};
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kdf::{HashOutput, PseudorandomKey, hash};
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::suite::{HashAlgorithm, SessionSuite};
use pqc_iiot_core::endpoint::{Command, Event, Input, Ticket};
use pqc_iiot_core::group::{BLOCK_LEN, MessageName};
use pqc_iiot_core::store::{RecordKind, Row};
use pqc_iiot_core::topic::{Topic, TopicFilter};

use crate::node::Node;
use crate::peer;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).expect("a valid filter")
}

impl Node {
    fn group_command(&mut self, command: impl FnOnce(Ticket) -> Command) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(Input::Command(command(ticket)));
        ticket
    }

    /// Has a group for these topics.
    pub fn create_group(&mut self, of: &str) -> Ticket {
        self.group_command(|ticket| Command::CreateGroup { ticket, filter: filter(of) })
    }

    /// Makes a peer a member.
    pub fn add_subscriber(&mut self, of: &str, id: &str) -> Ticket {
        self.group_command(|ticket| Command::AddSubscriber { ticket, filter: filter(of), peer: peer(id) })
    }

    /// Ends a membership.
    pub fn remove_subscriber(&mut self, of: &str, id: &str) -> Ticket {
        self.group_command(|ticket| Command::RemoveSubscriber { ticket, filter: filter(of), peer: peer(id) })
    }

    /// Ends a group.
    pub fn end_group(&mut self, of: &str) -> Ticket {
        self.group_command(|ticket| Command::EndGroup { ticket, filter: filter(of) })
    }

    /// Publishes to a group.
    pub fn publish_topic(&mut self, topic: &str, payload: &str) -> Ticket {
        let topic = Topic::new(topic).expect("a valid topic");
        self.group_command(|ticket| Command::PublishTopic { ticket, topic, payload: payload.into() })
    }

    /// Every message to a group that was told so far, in all starts, as text, with its name and whether it came verified.
    pub fn group_messages(&self) -> Vec<(String, MessageName, bool)> {
        let message = |event: &Event| match event {
            Event::GroupMessage { payload, name, verified, .. } => {
                Some((String::from_utf8_lossy(payload).into_owned(), *name, *verified))
            }
            _ => None,
        };
        self.events().iter().filter_map(message).collect()
    }

    /// As text, verified or not, in the order in which they were told.
    pub fn group_texts(&self) -> Vec<String> {
        self.group_messages().into_iter().map(|(text, ..)| text).collect()
    }

    /// Those that were verified, at once or later: each as often as it was, in the order of verification.
    pub fn group_verified(&self) -> Vec<String> {
        let mut texts = BTreeMap::new();
        let mut verified = Vec::new();
        for event in self.events() {
            match event {
                Event::GroupMessage { payload, name, verified: at_once, .. } => {
                    let text = String::from_utf8_lossy(payload).into_owned();
                    if *at_once {
                        verified.push(text.clone());
                    }
                    texts.insert((name.gid, name.epoch, name.counter, name.leaf.as_slice().to_vec()), text);
                }
                Event::GroupVerified { name, .. } => {
                    let key = (name.gid, name.epoch, name.counter, name.leaf.as_slice().to_vec());
                    verified.push(texts.get(&key).expect("told before it is verified").clone());
                }
                _ => {}
            }
        }
        verified
    }

    /// Counters of forgeries that were told of.
    pub fn group_forged(&self) -> Vec<u32> {
        let counter = |event: &Event| match event {
            Event::GroupForged { counter, .. } => Some(*counter),
            _ => None,
        };
        self.events().iter().filter_map(counter).collect()
    }

    /// Messages that were told of as never proved, as text, in that order.
    pub fn group_unproved(&self) -> Vec<String> {
        let messages = self.group_messages();
        let text = |event: &Event| match event {
            Event::GroupUnproved { name, .. } => {
                let message = messages.iter().find(|(_, told, _)| told == name);
                Some(message.expect("told before it is unproved").0.clone())
            }
            _ => None,
        };
        self.events().iter().filter_map(text).collect()
    }

    /// The rows of its own groups and their members.
    pub fn own_groups(&mut self) -> Vec<Row> {
        self.store.rows().into_iter().filter(|row| row.kind == RecordKind::Group).collect()
    }

    /// The group epochs of others whose keys it has on disk.
    pub fn followed_groups(&mut self) -> Vec<Row> {
        let rows = self.store.rows();
        rows.into_iter().filter(|row| row.kind == RecordKind::GroupSubscription).collect()
    }
}

/// A member's copy of a group's key, taken from its disk, in hands that seal with it. It derives everything as
/// `docs/protocol.md` §19 says and shares no code with the group's own.
pub struct Insider {
    backend: Backend,
    suite: SessionSuite,
    binding: Vec<u8>,
    ids: Vec<u8>,
    block: u32,
    chain: Vec<u8>,
}

impl Insider {
    /// From a member's row of the group epoch.
    pub fn new(backend: Backend, row: &Row) -> Self {
        Self::read(backend, row).expect("a row of a group epoch")
    }

    fn read(backend: Backend, row: &Row) -> Option<Self> {
        let mut outer = Reader::new(&row.value).ok()?;
        outer.array_of(2).ok()?;
        outer.uint().ok()?;
        let mut reader = Reader::new(outer.bytes().ok()?).ok()?;
        reader.array_of(14).ok()?;
        reader.uint().ok()?;
        let suite = SessionSuite::from_id(reader.uint8().ok()?)?;
        let (id, fingerprint) = (reader.text(128).ok()?, reader.bytes().ok()?.to_vec());
        let (gid, epoch) = (reader.bytes().ok()?.to_vec(), reader.uint().ok()?);
        reader.text(1024).ok()?;
        let commitment = reader.bytes().ok()?.to_vec();
        for _ in 0..3 {
            reader.skip().ok()?;
        }
        let (block, chain) = (reader.uint32().ok()?, reader.bytes().ok()?.to_vec());
        let mut writer = Writer::new();
        writer.array(7).text("gb").uint(suite.id().into()).text(&id).bytes(&fingerprint);
        writer.bytes(&gid).uint(epoch).bytes(&commitment);
        let binding = hash(suite.hash(), &[&writer.finish()]).as_slice().to_vec();
        let ids = [&gid[..], &u16::try_from(epoch).ok()?.to_be_bytes()].concat();
        Some(Self { backend, suite, binding, ids, block, chain })
    }

    /// The first counter that it has keys for.
    pub fn first_counter(&self) -> u32 {
        self.block * BLOCK_LEN
    }

    /// A record that every member opens.
    pub fn seal(&self, counter: u32, topic: &str, payload: &str) -> Vec<u8> {
        let (key, nonce, _) = self.keys(counter);
        let (header, aad) = self.associated_data(counter, topic);
        let key = Secret::new(key);
        let mut sealed = payload.as_bytes().to_vec();
        self.backend.aead_key(self.suite.aead(), &key).seal(&nonce, &aad, &mut sealed).expect("it seals");
        [header, sealed].concat()
    }

    /// The key and nonce of a counter, and its block's commitment.
    pub fn keys(&self, counter: u32) -> ([u8; 32], [u8; 12], Vec<u8>) {
        let algorithm = self.suite.hash();
        let len = algorithm.output_len();
        let mut chain = self.chain.clone();
        let mut seed = Vec::new();
        for _ in self.block..=counter / BLOCK_LEN {
            let stepped = expand(algorithm, &chain, b"pqc-iiot1 block", 2 * len);
            seed = stepped[..len].to_vec();
            chain = stepped[len..].to_vec();
        }
        let info = [b"pqc-iiot1 group-block", &self.binding[..]].concat();
        let keys = expand(algorithm, &seed, &info, 44 + len);
        let mut nonce: [u8; 12] = keys[32..44].try_into().expect("12 bytes");
        for (byte, counter) in nonce.iter_mut().skip(8).zip(counter.to_be_bytes()) {
            *byte ^= counter;
        }
        (keys[..32].try_into().expect("32 bytes"), nonce, keys[44..].to_vec())
    }

    /// A record's header, and what it authenticates besides its payload.
    pub fn associated_data(&self, counter: u32, topic: &str) -> (Vec<u8>, Vec<u8>) {
        let header = [&[0xd0, 0], &self.ids[..], &counter.to_be_bytes()].concat();
        let aad = [&header[..], hash(self.suite.hash(), &[topic.as_bytes()]).as_slice()].concat();
        (header, aad)
    }

    /// The leaf of a record: with another key of its block it is another.
    pub fn leaf(&self, counter: u32, topic: &str, record: &[u8]) -> HashOutput {
        let (header, aad) = self.associated_data(counter, topic);
        let (_, _, commitment) = self.keys(counter);
        hash(self.suite.hash(), &[&[0], &commitment, &aad, &record[header.len()..]])
    }
}

fn expand(algorithm: HashAlgorithm, key: &[u8], info: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let key = PseudorandomKey::from_slice(algorithm, key).expect("a key of one hash length");
    key.expand(info, &mut out).expect("short enough");
    out
}
