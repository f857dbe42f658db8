//! A disk that is really full, under a client on a real broker: a tmpfs of a few MiB, in a mount namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Broker;
use common::plant::{Member, Plant, flows, peer};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_mqtt::client::{Delivery, OpenError, PublishError};
use pqc_iiot_mqtt::transport::ProtocolVersion::V5;
use pqc_iiot_provider::audit::AuditError;
use pqc_iiot_provider::store::StoreError;

const SMALL_DISK: &str = "PQC_IIOT_TEST_SMALL_DISK";
/// What libtest ends with when a test failed.
const TEST_FAILED: i32 = 101;

/// A small disk of this process's own: runs `test` once more, in a mount namespace with one. `None` outside.
///
/// Mounting takes root or user namespaces. Where a system allows neither, the test says so and ends; `client_store_errors`
/// has the same cases by injected errors.
fn small_disk(test: &str) -> Option<SmallDisk> {
    if let Some(path) = std::env::var_os(SMALL_DISK) {
        return Some(SmallDisk(path.into()));
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=8m,mode=700 tmpfs '{}' || exit 9; exec \"$@\"",
        directory.path().display()
    );
    for namespaces in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["sh", "-c", &mount, "sh"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(SMALL_DISK, directory.path());
        match command.status() {
            Ok(status) if status.success() => return None,
            Ok(status) if status.code() == Some(TEST_FAILED) || status.code().is_none() => {
                panic!("{test}: {status}")
            }
            other => eprintln!("{namespaces:?}: {other:?}"),
        }
    }
    eprintln!("NOT RUN: this system allows no mount namespaces");
    None
}

struct SmallDisk(PathBuf);

impl SmallDisk {
    fn path(&self) -> &Path {
        &self.0
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut ballast = File::create(self.0.join("ballast")).unwrap();
        let error = loop {
            if let Err(error) = ballast.write_all(&[0x55; 512]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }

    /// Frees a little: less than the store's write-ahead log takes.
    fn free_some(&self) {
        let ballast = File::options().write(true).open(self.0.join("ballast")).unwrap();
        ballast.set_len(ballast.metadata().unwrap().len() - 512 * 1024).unwrap();
    }
}

/// Mosquitto keeps its user: in a user namespace there is no other.
fn broker() -> Broker {
    Broker::mosquitto(&["user root"])
}

/// Hands messages over until there is no room for another; gives them with what becomes of each.
async fn publish_until_busy(plant: &Plant, from: &Member, to: &str) -> Vec<(String, Delivery)> {
    let mut queued = Vec::new();
    loop {
        assert!(queued.len() < 20_000, "the disk is not full, or what waits for it has no end");
        let text = format!("message {}", queued.len());
        let content = Content::telemetry(text.as_str());
        let topic = plant.topic("full/state");
        match from.client.queue_encrypted(&topic, &peer(to), Default::default(), content).await {
            Ok(delivery) => queued.push((text, delivery)),
            Err(error) => {
                assert_eq!(error, PublishError::Busy);
                return queued;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_whose_disk_is_full_waits_and_goes_on_by_itself() {
    let Some(disk) = small_disk("a_sender_whose_disk_is_full_waits_and_goes_on_by_itself") else { return };
    let broker = broker();
    let mut plant = Plant::new();
    plant.relocate("press", disk.path());
    let (mut gateway, mut press) = plant.pair(&broker, V5).await;
    flows(&plant, &press, &mut gateway, "before", 10).await;

    disk.fill();
    let queued = publish_until_busy(&plant, &press, "gateway").await;
    press.until("the press says that its disk is full", |told| !told.store_waits.is_empty()).await;
    assert!(
        press.told.store_waits[0].contains("the disk is full; free some space"),
        "{:?}",
        press.told.store_waits
    );
    let status = press.client.status().await.expect("it still answers");
    assert!(status.connected && status.store_waits.is_some());
    assert_eq!(press.told.store_resumed, 0);

    disk.free();
    press.until("there is room again", |told| told.store_resumed > 0).await;
    let texts: Vec<String> = queued.iter().map(|(text, _)| text.clone()).collect();
    gateway.receives(&texts).await;
    for (text, delivery) in queued {
        assert_eq!(delivery.await, Ok(()), "{text}");
    }
    flows(&plant, &press, &mut gateway, "after", 10).await;
    flows(&plant, &gateway, &mut press, "after", 10).await;
    assert_eq!(press.client.status().await.unwrap().store_waits, None);
}

/// The store's write-ahead log may be most of what a small disk holds. Once there is a little room, it gives back its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_needs_no_more_room_than_a_short_one() {
    let Some(disk) = small_disk("a_long_log_needs_no_more_room_than_a_short_one") else { return };
    let broker = broker();
    let mut plant = Plant::new();
    plant.relocate("press", disk.path());
    let (mut gateway, mut press) = plant.pair(&broker, V5).await;
    let log = disk.path().join("press/store.sqlite-wal");
    while log.metadata().unwrap().len() < 2 << 20 {
        flows(&plant, &press, &mut gateway, "before", 10).await;
    }
    disk.fill();
    let delivery = press.queue(&plant.topic("press/state"), "gateway", "meanwhile").await;
    press.until("the press says that its disk is full", |told| !told.store_waits.is_empty()).await;
    disk.free_some();
    assert_eq!(delivery.await, Ok(()));
    gateway.receives(&["meanwhile".to_owned()]).await;
    // In the log, these take more than was freed.
    flows(&plant, &press, &mut gateway, "after", 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_whose_disk_is_full_hears_everything_once_there_is_room() {
    let Some(disk) = small_disk("a_receiver_whose_disk_is_full_hears_everything_once_there_is_room") else {
        return;
    };
    let broker = broker();
    let mut plant = Plant::new();
    plant.relocate("gateway", disk.path());
    let (mut gateway, press) = plant.pair(&broker, V5).await;
    flows(&plant, &press, &mut gateway, "before", 10).await;

    disk.fill();
    let mut deliveries = Vec::new();
    let texts: Vec<String> = (0..100).map(|n| format!("meanwhile {n}")).collect();
    for text in &texts {
        deliveries.push(press.queue(&plant.topic("press/state"), "gateway", text).await);
    }
    let before = gateway.told.messages.len();
    gateway.until("the gateway says that its disk is full", |told| !told.store_waits.is_empty()).await;
    assert!(gateway.told.messages.len() < before + texts.len(), "told although there is no room for it");

    disk.free();
    gateway.until("everything", |told| told.messages.len() >= before + texts.len()).await;
    for delivery in deliveries {
        assert_eq!(delivery.await, Ok(()));
    }
    let mut heard = gateway.told.texts()[before..].to_vec();
    heard.sort_by_key(|text| texts.iter().position(|sent| sent == text));
    assert_eq!(heard, texts);
    flows(&plant, &press, &mut gateway, "after", 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_on_a_full_disk_loses_nothing_that_was_accepted() {
    let Some(disk) = small_disk("a_shutdown_on_a_full_disk_loses_nothing_that_was_accepted") else { return };
    let mut broker = broker();
    let mut plant = Plant::new();
    plant.relocate("press", disk.path());
    let (mut gateway, mut press) = plant.pair(&broker, V5).await;
    flows(&plant, &press, &mut gateway, "before", 10).await;
    // Without a link, nothing of what is accepted can have arrived before the end.
    broker.kill();
    press.until("the press notices", |told| told.disconnections > 0).await;
    let mut accepted = Vec::new();
    for n in 0..20 {
        let text = format!("accepted {n}");
        press.publish(&plant.topic("full/state"), "gateway", &text).await.unwrap();
        accepted.push(text);
    }
    disk.fill();
    let mut pending = Vec::new();
    for n in 0..50 {
        let text = format!("pending {n}");
        let mut delivery = press.queue(&plant.topic("full/state"), "gateway", &text).await;
        let known = tokio::select! {
            biased;
            known = delivery.accepted() => Some(known),
            () = std::future::ready(()) => None,
        };
        match known {
            Some(outcome) => {
                outcome.unwrap();
                accepted.push(text);
            }
            None => pending.push((text, delivery)),
        }
    }
    assert!(!pending.is_empty());
    press.until("the press says that its disk is full", |told| !told.store_waits.is_empty()).await;
    press.shutdown().await;
    for (text, delivery) in pending {
        assert_eq!(delivery.await, Err(PublishError::Closed), "{text}");
    }

    // Starting on it says what is missing, and harms nothing; or it starts, and waits.
    let settings = plant.transport("press", &broker, V5);
    match plant.try_open("press", settings).await {
        Err(OpenError::Store(StoreError::DiskFull) | OpenError::Audit(AuditError::DiskFull)) => {}
        Err(error) => panic!("{error:?}"),
        Ok(press) => drop(press.shutdown().await),
    }
    disk.free();
    broker.restart();
    let press = plant.open("press", &["gateway"], &broker, V5).await;
    // What waits while a link comes back keeps no order with what is new: nothing is until it is there.
    let before = gateway.told.messages.len();
    gateway.until("what was accepted", |told| told.messages.len() >= before + accepted.len()).await;
    flows(&plant, &press, &mut gateway, "after", 10).await;
    let mut heard = gateway.told.texts()[before..before + accepted.len()].to_vec();
    heard.sort();
    accepted.sort();
    assert_eq!(heard, accepted, "exactly what was accepted");
}
