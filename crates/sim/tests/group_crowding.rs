//! Publishers that conspire against another, and strangers that make things up, crowd nobody out of a subscriber.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::codec::{Reader, Writer};
use pqc_iiot_core::group::MAX_INTERVAL;
use pqc_iiot_core::store::{Change, RecordKind, Row};
use pqc_iiot_provider::store::Store;
use pqc_iiot_sim::{World, publish, subscribe};

const FILTER: &str = "plant/+/temperature";
const TOPIC: &str = "plant/press/temperature";
const THIEVES: [&str; 6] = ["drill", "lathe", "mixer", "robot", "scale", "truck"];
const SECOND: Duration = Duration::from_secs(1);
const SEALED: Duration = MAX_INTERVAL.saturating_add(SECOND);

/// The press has a group; all others may publish on its topics, too, and handed out keys of groups of their own.
fn plant() -> World {
    let mut world = World::with_sessions();
    world.enrol("press", &[publish("plant/#"), subscribe("status/#")]);
    world.enrol("gateway", &[publish("status/#"), subscribe("plant/#")]);
    world.enrol("panel", &[publish("status/#"), subscribe("plant/#")]);
    for name in ["gateway", "panel"] {
        world.subscribe(name, "plant/#");
        world.introduce("press", name);
    }
    world.node("press").create_group(FILTER);
    for name in ["gateway", "panel"] {
        world.node("press").add_subscriber(FILTER, name);
    }
    for thief in THIEVES {
        world.enrol(thief, &[publish("plant/#"), subscribe("status/#")]);
        world.introduce("gateway", thief);
        let filter = format!("plant/{thief}/load");
        world.node(thief).create_group(&filter);
        world.node(thief).add_subscriber(&filter, "gateway");
    }
    world.advance(10 * SECOND);
    world
}

fn say(world: &mut World, text: &str) {
    let ticket = world.node("press").publish_topic(TOPIC, text);
    assert_eq!(world.node("press").send_failure(ticket), None);
    world.settle();
}

/// Whose group epoch a row is, and the identity that its key names.
fn owner(row: &Row) -> (String, Vec<u8>) {
    let mut outer = Reader::new(&row.value).unwrap();
    outer.array_of(2).unwrap();
    outer.uint().unwrap();
    let mut reader = Reader::new(outer.bytes().unwrap()).unwrap();
    reader.array().unwrap();
    reader.uint().unwrap();
    reader.uint().unwrap();
    (reader.text(128).unwrap(), row.key[..32].to_vec())
}

fn of<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter().find(|row| owner(row).0 == name).unwrap()
}

/// What a thief's hand-out of a key with the group id of `row` leaves on the disk, accepted before all others: `ahead` epochs
/// further on, with a window from `window` on if that is not the same.
fn squatted(row: &Row, thief: &str, identity: &[u8], ahead: u64, window: Option<u64>) -> Change {
    let mut outer = Reader::new(&row.value).unwrap();
    outer.array_of(2).unwrap();
    outer.uint().unwrap();
    let inner = outer.bytes().unwrap();
    let mut reader = Reader::new(inner).unwrap();
    reader.array_of(14).unwrap();
    let (version, suite) = (reader.uint().unwrap(), reader.uint().unwrap());
    let (id, fingerprint) = (reader.text(128).unwrap(), reader.bytes().unwrap());
    let (gid, epoch) = (reader.bytes().unwrap(), reader.uint().unwrap());
    let (filter, commitment) = (reader.text(1024).unwrap(), reader.bytes().unwrap());
    let (floor, head) = (reader.uint().unwrap(), reader.uint().unwrap());
    let beginning = |id: &str, fingerprint: &[u8], epoch: u64, floor: u64, head: u64| {
        let mut writer = Writer::new();
        writer.array(14).uint(version).uint(suite).text(id).bytes(fingerprint).bytes(gid).uint(epoch);
        writer.text(&filter).bytes(commitment).uint(floor).uint(head);
        writer.finish()
    };
    let rest = inner.strip_prefix(&beginning(&id, fingerprint, epoch, floor, head)[..]).unwrap();
    let (floor, head) = window.map_or((floor, head), |from| (from, from));
    let inner = [&beginning(thief, identity, epoch + ahead, floor, head)[..], rest].concat();
    let epoch = u16::try_from(epoch + ahead).unwrap();
    let mut writer = Writer::new();
    writer.array(2).uint(0).bytes(&inner);
    let key = [identity, gid, &epoch.to_be_bytes()].concat();
    Change::Put { kind: RecordKind::GroupSubscription, key, value: writer.finish() }
}

fn squat(world: &mut World, ahead: u64, window: Option<u64>) {
    let rows = world.node("gateway").followed_groups();
    let changes = THIEVES.map(|thief| {
        let identity = owner(of(&rows, thief)).1;
        squatted(of(&rows, "press"), thief, &identity, ahead, window)
    });
    let mut disk = world.node("gateway").disk();
    disk.commit(&changes).unwrap();
    world.node("gateway").replace_disk(disk);
    world.restart("gateway");
    assert_eq!(world.node("gateway").followed_groups().len(), 1 + 2 * THIEVES.len());
}

#[test]
fn conspirators_that_take_a_publishers_group_id_hide_none_of_its_records() {
    for window in [None, Some(3_000)] {
        let mut world = plant();
        squat(&mut world, 0, window);
        say(&mut world, "one");
        say(&mut world, "two");
        assert_eq!(world.node("gateway").group_texts(), ["one", "two"], "{window:?}");
        world.advance(SEALED);
        assert_eq!(world.node("gateway").group_verified(), ["one", "two"], "{window:?}");
    }
}

#[test]
fn conspirators_that_are_at_a_publishers_next_epoch_before_it_do_not_keep_it_out() {
    let mut world = plant();
    squat(&mut world, 1, None);
    world.node("press").remove_subscriber(FILTER, "panel");
    world.advance(10 * SECOND);
    say(&mut world, "next");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["next"]);
}

fn lose_the_presss_group(world: &mut World) {
    let rows = world.node("gateway").followed_groups();
    let row = of(&rows, "press");
    let mut disk = world.node("gateway").disk();
    disk.commit(&[Change::Delete { kind: row.kind, key: row.key.clone() }]).unwrap();
    world.node("gateway").replace_disk(disk);
    world.restart("gateway");
}

fn say_until_heard(world: &mut World, mut meanwhile: impl FnMut(&mut World)) -> Option<u32> {
    (0..900).find(|number| {
        meanwhile(world);
        say(world, &format!("{number}"));
        world.advance(SECOND);
        !world.node("gateway").group_texts().is_empty()
    })
}

#[test]
fn a_key_that_was_lost_is_asked_for_though_others_have_its_id() {
    let mut world = plant();
    squat(&mut world, 0, None);
    lose_the_presss_group(&mut world);
    assert!(say_until_heard(&mut world, |_| {}).is_some());
    world.advance(SEALED);
    assert!(!world.node("gateway").group_verified().is_empty());
}

/// Strangers need no key for that, only the right to publish.
#[test]
fn a_key_that_was_lost_is_asked_for_in_a_flood_of_inventions() {
    let mut world = plant();
    lose_the_presss_group(&mut world);
    let mut invented = 0_u32;
    let heard = say_until_heard(&mut world, |world| {
        for _ in 0..40 {
            invented += 1;
            // Ids that come before any that is drawn.
            let record = [&[0xd0, 0, 0, 0, 0][..], &invented.to_be_bytes(), &[0; 40]].concat();
            world.broker.deliver_to("gateway", TOPIC, &record);
        }
        world.settle();
    });
    assert!(heard.is_some());
}
