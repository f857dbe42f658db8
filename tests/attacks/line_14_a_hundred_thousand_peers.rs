//! A store with 100,000 peers saves, loads and flushes in bounded time; limits on load equal limits on save.

use std::path::Path;
use std::time::Instant;

use pqc_iiot_core::endpoint::{Command, Endpoint, EndpointConfig, Input, MAX_PEERS, Output, PeerRecord};
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::store::{Change, RecordKind};
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::store::{MAX_KEY, MAX_VALUE, SqliteStore, Store, StoreError};
use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::{TOPIC, everything};

fn name(n: usize) -> String {
    format!("device-{n:06}")
}

/// Row, certificate and bundle of `id`, as an endpoint that met it wrote them, under another name.
fn rows(id: &str, of: &[(RecordKind, Vec<u8>)]) -> Vec<Change> {
    of.iter().map(|(kind, value)| Change::Put { kind: *kind, key: id.into(), value: value.clone() }).collect()
}

#[test]
fn a_hundred_thousand_peers_are_saved_loaded_and_used() {
    let mut world = World::default();
    world.enrol("gateway", &everything());
    world.enrol_with(NodeOptions::new("press", &everything()));
    world.introduce("gateway", "press");
    let gateway = world.node("gateway").identity().clone();
    let disk = world.node("gateway").disk();
    let met: Vec<_> = disk.rows().into_iter().filter(|row| row.key == b"press").collect();
    let met: Vec<_> = met.into_iter().map(|row| (row.kind, row.value)).collect();
    assert_eq!(met.len(), 3, "row, certificate, bundle");
    let record = met.iter().find(|(kind, _)| *kind == RecordKind::Peer).unwrap();
    assert!(record.1.len() <= 400, "{} bytes", record.1.len());
    assert!(PeerRecord::decode(&record.1).is_ok());
    // The certificates are not read at the start, whatever their size: short ones keep this test short.
    let small: Vec<_> = met
        .iter()
        .map(|(kind, value)| (*kind, if kind.is_lazy() { value[..64].to_vec() } else { value.clone() }))
        .collect();

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let provider = gateway.provider();
    let started = Instant::now();
    let mut store = SqliteStore::create(&path, &**provider).unwrap();
    store.commit(&rows("press", &met)).unwrap();
    for chunk in 0..10 {
        let changes: Vec<_> = (0..MAX_PEERS / 10)
            .map(|n| chunk * MAX_PEERS / 10 + n)
            .filter(|n| *n != 0)
            .flat_map(|n| rows(&name(n), &small))
            .collect();
        store.commit(&changes).unwrap();
    }
    eprintln!("saved {MAX_PEERS} peers in {:?}", started.elapsed());
    drop(store);

    let started = Instant::now();
    let mut store = SqliteStore::open(&path, &**provider).unwrap();
    let rows = store.load().unwrap();
    eprintln!("loaded {MAX_PEERS} peers in {:?}", started.elapsed());
    assert_eq!(rows.len(), MAX_PEERS, "what can be saved can be loaded; certificates stay where they are");

    let mut config = EndpointConfig::new(
        gateway.peer.clone(),
        gateway.public(),
        gateway.certificate.clone(),
        world.authority.anchors().to_vec(),
    );
    // The first message goes at once, and not after a handshake.
    config.sessions.enabled = false;
    let random = Box::new(SeededRandom::new(1));
    let now = world.clock.now();
    let mut endpoint = Endpoint::new(config, world.backend(), random, &rows, now).unwrap();
    let status = endpoint.status();
    assert_eq!((status.peers, status.ready), (MAX_PEERS, MAX_PEERS));
    // One more is refused by the limit that holds for saving: nothing can be written that is not read again.
    endpoint.handle(now, Input::Command(Command::AddPeer(PeerId::new("one-too-many").unwrap())));
    assert_eq!(endpoint.status().peers, MAX_PEERS);

    // Of all these only the one that is needed is read.
    let publish = pqc_iiot_core::endpoint::Publish {
        ticket: pqc_iiot_core::endpoint::Ticket(1),
        peer: PeerId::new("press").unwrap(),
        topic: pqc_iiot_core::topic::Topic::new(TOPIC).unwrap(),
        stream: pqc_iiot_core::ids::StreamId::default(),
        content: pqc_iiot_core::envelope::Content::telemetry("x"),
        durability: pqc_iiot_core::endpoint::Durability::Durable,
        priority: pqc_iiot_core::endpoint::Priority::Normal,
        effects: Vec::new(),
    };
    endpoint.handle(now, Input::Connected { session_present: true });
    endpoint.handle(now, Input::Command(Command::Publish(publish)));
    let (mut loads, mut sent) = (0, 0);
    while let Some(output) = endpoint.poll_output() {
        match output {
            Output::Persist { seq, changes, .. } => {
                store.commit(&changes).unwrap();
                endpoint.handle(now, Input::Persisted(seq));
            }
            Output::Load(id, names) => {
                loads += 1;
                let rows = names.into_iter().map(|name| {
                    let value = store.read(name.kind, &name.key).unwrap().unwrap();
                    pqc_iiot_core::store::Row { kind: name.kind, key: name.key, value }
                });
                let rows = rows.collect();
                endpoint.handle(now, Input::Loaded(id, rows));
            }
            Output::Provider(id, request) => {
                let answer = pqc_iiot_provider::SecurityProvider::execute(&**provider, request);
                endpoint.handle(now, Input::Provided(id, answer));
            }
            Output::Transmit(transmit) if transmit.topic == TOPIC => sent += 1,
            _ => {}
        }
    }
    assert_eq!((loads, sent), (1, 1));
}

#[test]
fn limits_on_load_equal_limits_on_save() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::default();
    let identity = world.stranger("gateway");
    let path: &Path = &directory.path().join("store.sqlite");
    for kind in [RecordKind::Peer, RecordKind::Certificate] {
        let mut store = match SqliteStore::open(path, &**identity.provider()) {
            Err(StoreError::Missing { .. }) => SqliteStore::create(path, &**identity.provider()).unwrap(),
            opened => opened.unwrap(),
        };
        let row = |key, value| Change::Put { kind, key: vec![b'k'; key], value: vec![7; value] };
        assert_eq!(store.commit(&[row(MAX_KEY + 1, 1)]), Err(StoreError::TooLarge));
        assert_eq!(store.commit(&[row(1, MAX_VALUE + 1)]), Err(StoreError::TooLarge));
        store.commit(&[row(MAX_KEY, MAX_VALUE)]).unwrap();
        drop(store);
        let mut store = SqliteStore::open(path, &**identity.provider()).unwrap();
        let rows = store.load().unwrap();
        assert!(rows.iter().all(|row| row.value.len() == MAX_VALUE));
        if kind.is_lazy() {
            assert_eq!(store.read(kind, &[b'k'; MAX_KEY]).unwrap().map(|value| value.len()), Some(MAX_VALUE));
        }
    }
    // The longest id and grants that a certificate can have leave a small row.
    let filter = TopicFilter::new("plant/#").unwrap();
    let long = "p".repeat(128);
    let grants = [Grant::new(Action::Publish, filter.clone()), Grant::new(Action::Subscribe, filter)];
    world.enrol("gateway", &everything());
    world.enrol_with(NodeOptions::new(&long, &grants));
    world.introduce("gateway", &long);
    let disk = world.node("gateway").disk();
    let rows = disk.rows();
    let row = rows.iter().find(|row| row.kind == RecordKind::Peer && row.key == long.as_bytes()).unwrap();
    assert!(row.key.len() + row.value.len() <= 400, "{}", row.value.len());
}
