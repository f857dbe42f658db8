//! Rows that pass the store's seal and cannot be read: what the start does without, and what it stops for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::endpoint::{Event, SendFailure, StartError};
use pqc_iiot_core::group::MAX_INTERVAL;
use pqc_iiot_core::store::{Change, RecordKind, Row};
use pqc_iiot_provider::store::Store;
use pqc_iiot_sim::{World, peer, publish, subscribe};

const MINUTE: Duration = Duration::from_secs(60);
const SEALED: Duration = MAX_INTERVAL.saturating_add(Duration::from_secs(1));
const FILTER: &str = "plant/+/temperature";
const TOPIC: &str = "plant/press/temperature";
const ANSWERS: &str = "pqc/session/resp/press";

/// Where a session's row stands in its pair, behind its peer's name.
const CURRENT: u8 = 0;
const DRAINING: u8 = 1;
const HALF_OPEN: u8 = 2;

fn pair(mut world: World) -> World {
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world
}

fn in_session() -> World {
    let mut world = pair(World::with_sessions());
    world.node("press").publish("gateway", "plant/a", b"before");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("gateway").status().sessions, 1);
    world
}

fn rows(world: &mut World, of: &str, kind: RecordKind) -> Vec<Row> {
    world.node(of).disk().rows().into_iter().filter(|row| row.kind == kind).collect()
}

fn sessions_at(world: &mut World, of: &str, slot: u8) -> Vec<Row> {
    let rows = rows(world, of, RecordKind::Session);
    let stands = |row: &Row| row.value[2 + usize::from(row.value[1] - 0x60)] == slot;
    rows.into_iter().filter(stands).collect()
}

fn commit(world: &mut World, of: &str, changes: &[Change]) {
    let mut disk = world.node(of).disk();
    disk.commit(changes).unwrap();
    world.node(of).replace_disk(disk);
}

fn put(world: &mut World, of: &str, row: &Row, value: Vec<u8>) {
    let change = Change::Put { kind: row.kind, key: row.key.clone(), value };
    commit(world, of, &[change]);
}

/// As another release may write it: one item more.
fn other_format(row: &Row) -> Vec<u8> {
    [&[row.value[0] + 1], &row.value[1..], &[0xf6]].concat()
}

fn dropped(world: &mut World, of: &str) -> Vec<(RecordKind, u64, Vec<String>)> {
    let event = |event: &Event| match event {
        Event::StateDropped { kind, count, peers } => {
            Some((*kind, *count, peers.iter().map(|peer| peer.as_str().into()).collect()))
        }
        _ => None,
    };
    world.node(of).events().iter().filter_map(event).collect()
}

fn everything_again(world: &mut World) {
    let all: Vec<_> = world.broker.captured().iter().filter(|packet| !packet.retain).cloned().collect();
    for packet in all {
        world.broker.inject(&packet.topic, &packet.payload);
    }
    world.settle();
}

fn m1s(world: &World, to: &str) -> usize {
    world.broker.captured_on(&format!("pqc/session/init/{to}")).len()
}

#[test]
fn a_current_session_of_another_format_is_replaced_though_nobody_sends() {
    let mut world = in_session();
    let row = sessions_at(&mut world, "gateway", CURRENT).remove(0);
    put(&mut world, "gateway", &row, other_format(&row));
    world.restart_offline("gateway");
    assert_eq!(world.node("gateway").status().sessions, 0);
    assert!(rows(&mut world, "gateway", RecordKind::Session).is_empty(), "its secrets must not stay");
    assert_eq!(dropped(&mut world, "gateway"), [(RecordKind::Session, 1, vec!["press".into()])]);
    let audit = world.node("gateway").audit();
    let named = |kind, id| audit.iter().any(|event| event.kind == kind && event.peer == Some(peer(id)));
    assert!(named(AuditKind::StoreError, "press"));

    world.connect("gateway", true);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("gateway").status().sessions, 1, "nobody waited for silence");
    assert_ne!(sessions_at(&mut world, "gateway", CURRENT)[0].key, row.key);
    everything_again(&mut world);
    world.node("press").publish("gateway", "plant/a", b"after");
    world.node("gateway").publish("press", "plant/b", b"back");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("gateway").consumed(), ["before", "after"], "each once");
    assert_eq!(world.node("press").consumed(), ["back"]);
    world.restart("gateway");
    assert_eq!(dropped(&mut world, "gateway").len(), 1, "once and for all");
}

/// Nobody knows any more whose it was: its peer notices.
#[test]
fn a_session_row_of_nothing_but_rubbish_costs_ten_minutes_of_silence() {
    let mut world = in_session();
    let row = sessions_at(&mut world, "gateway", CURRENT).remove(0);
    put(&mut world, "gateway", &row, b"\xff\x00rubbish".to_vec());
    world.restart("gateway");
    assert_eq!(dropped(&mut world, "gateway"), [(RecordKind::Session, 1, vec![])]);
    world.node("press").publish("gateway", "plant/a", b"after");
    world.advance(15 * MINUTE);
    assert_eq!(world.node("gateway").consumed(), ["before", "after"]);
    assert_eq!(world.node("gateway").status().sessions, 1);
}

/// Nor is a session taken under a name that is not its own, or beside another.
#[test]
fn one_row_twice_is_one_session() {
    let mut world = in_session();
    let row = sessions_at(&mut world, "gateway", CURRENT).remove(0);
    let copy = Row { key: row.key.iter().map(|byte| !byte).collect(), ..row.clone() };
    put(&mut world, "gateway", &copy, row.value.clone());
    world.restart("gateway");
    assert_eq!(rows(&mut world, "gateway", RecordKind::Session).len(), 1);
    assert_eq!(sessions_at(&mut world, "gateway", CURRENT)[0].key, row.key);
    world.node("press").publish("gateway", "plant/a", b"after");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("gateway").consumed(), ["before", "after"]);
}

#[test]
fn a_draining_session_that_cannot_be_read_leaves_the_current_one_alone() {
    let mut world = pair(World::with_sessions());
    let disk = world.node("press").disk();
    world.node("press").publish("gateway", "plant/a", b"first");
    world.advance(Duration::from_secs(5));
    world.node("press").replace_disk(disk);
    world.restart("press");
    world.node("press").publish("gateway", "plant/a", b"second");
    world.advance(Duration::from_secs(10));
    let row = sessions_at(&mut world, "gateway", DRAINING).remove(0);
    let (current, made) = (sessions_at(&mut world, "gateway", CURRENT), m1s(&world, "press"));
    put(&mut world, "gateway", &row, other_format(&row));
    world.restart("gateway");
    assert_eq!(world.node("gateway").status().sessions, 1);
    assert!(sessions_at(&mut world, "gateway", DRAINING).is_empty());
    everything_again(&mut world);
    world.node("press").publish("gateway", "plant/a", b"third");
    world.advance(MINUTE);
    assert_eq!(world.node("gateway").consumed(), ["first", "second", "third"]);
    assert_eq!(sessions_at(&mut world, "gateway", CURRENT)[0].key, current[0].key);
    assert_eq!(m1s(&world, "press"), made, "no handshake was needed");
}

#[test]
fn a_half_open_handshake_that_cannot_be_read_begins_anew() {
    let mut world = pair(World::with_sessions());
    world.broker.withhold(ANSWERS);
    world.node("press").publish("gateway", "plant/a", b"first");
    world.settle();
    let row = sessions_at(&mut world, "gateway", HALF_OPEN).remove(0);
    put(&mut world, "gateway", &row, other_format(&row));
    world.restart("gateway");
    world.broker.withhold_nothing();
    // The answer whose session is gone arrives after all.
    let late = world.broker.last_on(ANSWERS);
    world.broker.inject(ANSWERS, &late);
    world.advance(MINUTE);
    everything_again(&mut world);
    world.advance(MINUTE);
    assert_eq!(world.node("gateway").consumed(), ["first"]);
    for name in ["gateway", "press"] {
        assert_eq!(world.node(name).status().sessions, 1, "{name}");
    }
    world.node("gateway").publish("press", "plant/b", b"back");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.node("press").consumed(), ["back"]);
}

#[test]
fn an_m1_that_cannot_be_read_is_given_up_and_another_follows() {
    let mut world = pair(World::with_sessions());
    world.broker.withhold(ANSWERS);
    world.node("press").publish("gateway", "plant/a", b"first");
    world.settle();
    let row = rows(&mut world, "press", RecordKind::Handshake).remove(0);
    put(&mut world, "press", &row, other_format(&row));
    world.restart("press");
    assert_eq!(dropped(&mut world, "press"), [(RecordKind::Handshake, 1, vec!["gateway".into()])]);
    world.broker.withhold_nothing();
    world.advance(MINUTE);
    everything_again(&mut world);
    world.node("press").publish("gateway", "plant/a", b"second");
    world.advance(MINUTE);
    assert_eq!(world.node("gateway").consumed(), ["first", "second"]);
    assert_eq!(world.node("press").status().sessions, 1);
}

/// Without their row, attempts that began below those of the session would make sessions that go behind it, while its peer has
/// lost it.
#[test]
fn attempts_go_on_above_the_session_when_their_row_is_lost() {
    let mut world = pair(World::with_sessions());
    let disk = world.node("press").disk();
    for _ in 0..6 {
        world.node("press").replace_disk(disk.clone());
        world.restart("press");
        world.node("press").publish("gateway", "plant/a", b"x");
        world.advance(2 * MINUTE);
    }
    let row = rows(&mut world, "gateway", RecordKind::Handshake).remove(0);
    put(&mut world, "gateway", &row, other_format(&row));
    world.restart("gateway");
    // Again: the first start deleted the row.
    world.restart("gateway");
    world.node("press").replace_disk(disk);
    world.restart("press");
    world.node("gateway").publish("press", "plant/b", b"heard");
    world.advance(12 * MINUTE);
    assert_eq!(world.node("press").consumed(), ["heard"]);
}

fn group() -> World {
    let mut world = World::with_sessions();
    world.enrol("press", &[publish("plant/#"), subscribe("status/#")]);
    for name in ["gateway", "panel"] {
        world.enrol(name, &[publish("status/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
        world.introduce("press", name);
    }
    world.node("press").create_group(FILTER);
    for name in ["gateway", "panel"] {
        world.node("press").add_subscriber(FILTER, name);
    }
    world.advance(Duration::from_secs(10));
    say(&mut world, "one");
    world.advance(SEALED);
    world
}

fn say(world: &mut World, text: &str) {
    let ticket = world.node("press").publish_topic(TOPIC, text);
    assert_eq!(world.node("press").send_failure(ticket), None);
    world.settle();
}

#[test]
fn a_group_epoch_that_cannot_be_read_is_handed_out_again_and_nothing_is_verified_twice() {
    let mut world = group();
    let row = world.node("gateway").followed_groups().remove(0);
    put(&mut world, "gateway", &row, other_format(&row));
    world.restart("gateway");
    assert_eq!(dropped(&mut world, "gateway"), [(RecordKind::GroupSubscription, 1, vec!["press".into()])]);
    assert!(world.node("gateway").followed_groups().is_empty());
    // The key is in a record of a session that goes on.
    everything_again(&mut world);
    assert!(world.node("gateway").followed_groups().is_empty());
    for _ in 0..3 {
        say(&mut world, "missed");
        world.advance(MINUTE);
    }
    everything_again(&mut world);
    say(&mut world, "two");
    world.advance(SEALED);
    let verified = world.node("gateway").group_verified();
    assert_eq!(verified.iter().filter(|text| *text == "one").count(), 1);
    assert_eq!(verified.last().unwrap(), "two");
    assert!(world.node("panel").group_verified().ends_with(&["two".into()]), "nobody else noticed");
}

#[test]
fn a_group_of_our_own_that_cannot_be_read_ends_with_all_its_members() {
    let mut world = group();
    let own = world.node("press").own_groups();
    let row = own.iter().find(|row| row.key.len() == 32).unwrap();
    put(&mut world, "press", row, b"\xf6".to_vec());
    world.restart("press");
    assert!(world.node("press").own_groups().is_empty(), "no member is left over");
    let lost = vec!["gateway".into(), "panel".into()];
    assert_eq!(dropped(&mut world, "press"), [(RecordKind::Group, 3, lost)]);
    let ticket = world.node("press").publish_topic(TOPIC, "nobody");
    assert_eq!(world.node("press").send_failure(ticket), Some(SendFailure::NoGroup));
    // Whoever is not added again is no member of the next one, over a restart as well.
    world.node("press").create_group(FILTER);
    world.node("press").add_subscriber(FILTER, "gateway");
    world.restart("press");
    world.advance(MINUTE);
    say(&mut world, "again");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["one", "again"]);
    assert_eq!(world.node("panel").group_verified(), ["one"]);
}

#[test]
fn a_member_whose_row_cannot_be_read_is_removed() {
    let mut world = group();
    let own = world.node("press").own_groups();
    let row = own.iter().find(|row| row.key.ends_with(b"panel")).unwrap();
    let odd = Row { key: [&row.key[..32], b"pan\xffel"].concat(), ..row.clone() };
    let delete = Change::Delete { kind: row.kind, key: row.key.clone() };
    commit(&mut world, "press", &[delete, Change::Put { kind: odd.kind, key: odd.key, value: odd.value }]);
    world.restart("press");
    assert_eq!(dropped(&mut world, "press"), [(RecordKind::Group, 1, vec![])]);
    world.advance(MINUTE);
    say(&mut world, "two");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["one", "two"]);
    assert_eq!(world.node("panel").group_texts(), ["one"]);
}

/// To go on without one of these would accept, send or trust what must not be.
#[test]
fn what_an_invariant_rests_on_stops_the_start() {
    let mut world = pair(World::new(pqc_iiot_sim::WorldOptions::default()));
    world.enrol("lathe", &[publish("plant/#")]);
    world.revoke(&["lathe"]);
    world.node("gateway").consume_at_once(false);
    world.node("press").publish("gateway", "plant/a", b"waits");
    world.settle();
    world.disconnect("press");
    world.node("gateway").publish("press", "plant/b", b"on its way");
    world.settle();
    let sound = world.node("gateway").disk();
    for kind in [
        RecordKind::TimeFloor,
        RecordKind::Anchors,
        RecordKind::Peer,
        RecordKind::SendCeiling,
        RecordKind::ReplayWindow,
        RecordKind::Prekey,
        RecordKind::PrekeyState,
        RecordKind::RevocationHead,
        RecordKind::RevocationEntries,
        RecordKind::Outbox,
        RecordKind::Received,
        RecordKind::Inbox,
    ] {
        let row = rows(&mut world, "gateway", kind).pop().unwrap_or_else(|| panic!("no {kind:?}"));
        put(&mut world, "gateway", &row, b"\xf6".to_vec());
        let started = world.try_restart("gateway");
        assert!(
            matches!(started, Err(StartError::Records(_) | StartError::Anchors(_))),
            "{kind:?}: {started:?}"
        );
        let still = rows(&mut world, "gateway", kind);
        assert!(still.iter().any(|row| row.value == b"\xf6"), "{kind:?} is not touched");
        world.node("gateway").replace_disk(sound.clone());
    }
    world.restart("gateway");
    world.node("gateway").consume_all();
    assert_eq!(world.node("gateway").consumed(), ["waits"]);
}
