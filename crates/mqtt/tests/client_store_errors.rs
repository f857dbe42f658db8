//! A store that fails under a client on a real broker. The rows are SQLite's; the errors are injected where a disk's would
//! come from, as no disk can be asked for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use common::Broker;
use common::plant::{Plant, flows};
use pqc_iiot_core::audit::ChainHead;
use pqc_iiot_core::store::{Change, RecordKind, Row};
use pqc_iiot_mqtt::client::PublishError;
use pqc_iiot_mqtt::transport::ProtocolVersion::V5;
use pqc_iiot_provider::store::{Store, StoreError};

/// What the disk does from now on.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicU8>);

const WORKS: u8 = 0;
const FULL: u8 = 1;
/// Nothing is written, and that is noticed.
const LOSES: u8 = 2;
/// Everything is written, and the sync fails all the same: nobody knows.
const DOUBTS: u8 = 3;
const UNREADABLE: u8 = 4;

impl Switch {
    fn turn(&self, to: u8) {
        self.0.store(to, Ordering::SeqCst);
    }

    fn on(&self, store: Box<dyn Store>) -> Box<dyn Store> {
        Box::new(Failing { store, switch: self.clone() })
    }
}

struct Failing {
    store: Box<dyn Store>,
    switch: Switch,
}

fn eio() -> StoreError {
    StoreError::Io("disk I/O error".into())
}

impl Store for Failing {
    fn load(&mut self) -> Result<Vec<Row>, StoreError> {
        self.store.load()
    }

    fn read(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if self.switch.0.load(Ordering::SeqCst) == UNREADABLE {
            Err(eio())
        } else {
            self.store.read(kind, key)
        }
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        match self.switch.0.load(Ordering::SeqCst) {
            FULL => Err(StoreError::DiskFull),
            LOSES => Err(eio()),
            DOUBTS => self.store.commit(changes).and(Err(eio())),
            _ => self.store.commit(changes),
        }
    }

    fn note_audit_head(&mut self, head: ChainHead) {
        self.store.note_audit_head(head);
    }

    fn audit_head(&self) -> Option<ChainHead> {
        self.store.audit_head()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_waited_for() {
    let broker = Broker::mosquitto(&[]);
    let plant = Plant::new();
    let disk = Switch::default();
    let mut gateway = plant.open("gateway", &["press"], &broker, V5).await;
    let mut press = plant.open_wrapped("press", &["gateway"], &broker, |store| disk.on(store)).await;
    gateway.until("the press is ready", |told| told.ready.contains("press")).await;
    press.until("the gateway is ready", |told| told.ready.contains("gateway")).await;
    flows(&plant, &press, &mut gateway, "before", 5).await;

    disk.turn(FULL);
    let mut delivery = press.queue(&plant.topic("press/state"), "gateway", "meanwhile").await;
    press.until("it is told", |told| !told.store_waits.is_empty()).await;
    assert!(press.client.status().await.unwrap().store_waits.unwrap().contains("free some space"));
    tokio::select! {
        biased;
        told = delivery.accepted() => panic!("accepted without a disk: {told:?}"),
        () = std::future::ready(()) => {}
    }
    disk.turn(WORKS);
    press.until("it goes on", |told| told.store_resumed > 0).await;
    assert_eq!(delivery.await, Ok(()));
    gateway.receives(&["meanwhile".to_owned()]).await;
    flows(&plant, &press, &mut gateway, "after", 5).await;
    assert_eq!((press.told.store_waits.len(), press.told.store_resumed), (1, 1));
}

/// Whether the failed commit reached the disk or not: the publisher is told nothing that a restart could belie.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_stops_the_client_and_accepts_nothing() {
    for (failure, may_arrive) in [(LOSES, false), (DOUBTS, true)] {
        let broker = Broker::mosquitto(&[]);
        let plant = Plant::new();
        let disk = Switch::default();
        let mut gateway = plant.open("gateway", &["press"], &broker, V5).await;
        let mut press = plant.open_wrapped("press", &["gateway"], &broker, |store| disk.on(store)).await;
        gateway.until("the press is ready", |told| told.ready.contains("press")).await;
        press.until("the gateway is ready", |told| told.ready.contains("gateway")).await;
        flows(&plant, &press, &mut gateway, "before", 5).await;
        // The next commit is that of the message in doubt, and not of receipts.
        while press.client.status().await.unwrap().endpoint.outbox.messages > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        disk.turn(failure);
        press.told.store_may_fail = true;
        let topic = plant.topic("press/state");
        let refused = press.publish(&topic, "gateway", "in doubt").await;
        assert_eq!(refused, Err(PublishError::Closed));
        assert_eq!(press.publish(&topic, "gateway", "later").await, Err(PublishError::Closed));
        press.until("the press says why", |told| told.store_failed.is_some()).await;
        assert!(press.told.store_failed.unwrap().contains("disk I/O error"));
        assert!(press.events.recv().await.is_none(), "it has ended");

        // The directory is free again, and a new start goes on from what is on disk.
        let press = plant.open("press", &["gateway"], &broker, V5).await;
        let before = gateway.told.messages.len();
        press.publish(&topic, "gateway", "last").await.unwrap();
        gateway.until("the last", |told| told.texts().last().is_some_and(|text| text == "last")).await;
        let expected: &[&str] = if may_arrive { &["in doubt", "last"] } else { &["last"] };
        assert_eq!(gateway.told.texts()[before..], *expected);
        flows(&plant, &press, &mut gateway, "after", 5).await;
    }
}

/// Nothing is told or acknowledged that its receiver's disk does not hold: it comes again, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_whose_commit_fails_hears_it_after_its_restart() {
    for failure in [LOSES, DOUBTS] {
        let broker = Broker::mosquitto(&[]);
        let plant = Plant::new();
        let disk = Switch::default();
        let mut gateway = plant.open_wrapped("gateway", &["press"], &broker, |store| disk.on(store)).await;
        let mut press = plant.open("press", &["gateway"], &broker, V5).await;
        gateway.until("the press is ready", |told| told.ready.contains("press")).await;
        press.until("the gateway is ready", |told| told.ready.contains("gateway")).await;
        flows(&plant, &press, &mut gateway, "before", 5).await;

        let before = gateway.told.messages.len();
        gateway.told.store_may_fail = true;
        disk.turn(failure);
        let delivery = press.queue(&plant.topic("press/state"), "gateway", "meanwhile").await;
        gateway.until("the gateway says why", |told| told.store_failed.is_some()).await;
        assert_eq!(gateway.told.messages.len(), before, "told although it is not known to be on disk");

        let mut gateway = plant.open("gateway", &["press"], &broker, V5).await;
        assert_eq!(delivery.await, Ok(()));
        // The last of those before was perhaps not consumed yet when the client stopped.
        gateway.until("it", |told| told.texts().iter().any(|text| text == "meanwhile")).await;
        flows(&plant, &press, &mut gateway, "after", 3).await;
        let texts = gateway.told.texts();
        assert_eq!(texts.iter().filter(|text| *text == "meanwhile").count(), 1, "{texts:?}");
        for message in &gateway.told.messages {
            let text = String::from_utf8_lossy(&message.content.payload);
            assert!(message.redelivered || !text.starts_with("before"), "{text} came twice");
        }
    }
}

/// Certificates are read when they are needed. One that cannot be read is not taken for a missing one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_stops_the_client_by_name() {
    let broker = Broker::mosquitto(&[]);
    let plant = Plant::new();
    let (gateway, press) = plant.pair(&broker, V5).await;
    press.shutdown().await;
    gateway.shutdown().await;
    let disk = Switch::default();
    disk.turn(UNREADABLE);
    let mut gateway = plant.open("gateway", &["press"], &broker, V5).await;
    let mut press = plant.open_wrapped("press", &["gateway"], &broker, |store| disk.on(store)).await;
    press.told.store_may_fail = true;
    let topic = plant.topic("press/state");
    // Accepted or refused, according to what comes first; what is accepted stays.
    let accepted = press.publish(&topic, "gateway", "meanwhile").await;
    press.until("the press says why", |told| told.store_failed.is_some()).await;
    assert!(press.told.store_failed.unwrap().contains("disk I/O error"));

    let press = plant.open("press", &["gateway"], &broker, V5).await;
    press.publish(&topic, "gateway", "last").await.unwrap();
    gateway.until("the last", |told| told.texts().last().is_some_and(|text| text == "last")).await;
    if accepted.is_ok() {
        assert_eq!(gateway.told.texts(), ["meanwhile", "last"]);
    }
}

/// An application that takes no events does not keep a failed client's publishers and directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_client_lets_go_although_nobody_takes_its_events() {
    let broker = Broker::mosquitto(&["max_queued_messages 0"]);
    let plant = Plant::new();
    let disk = Switch::default();
    let mut gateway = plant.open_wrapped("gateway", &["press"], &broker, |store| disk.on(store)).await;
    let mut press = plant.open("press", &["gateway"], &broker, V5).await;
    gateway.until("the press is ready", |told| told.ready.contains("press")).await;
    press.until("the gateway is ready", |told| told.ready.contains("gateway")).await;
    // More events than the queue holds.
    let topic = plant.topic("press/state");
    let mut deliveries = Vec::new();
    for n in 0..1_100 {
        deliveries.push(press.queue(&topic, "gateway", &n.to_string()).await);
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    disk.turn(LOSES);
    assert_eq!(gateway.publish(&topic, "press", "x").await, Err(PublishError::Closed));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while plant.try_open("gateway", plant.transport("gateway", &broker, V5)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the directory is still locked");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(gateway);
}
