//! A side that lost its sessions with its disk gets a new one by asking, whichever side wins ties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::store::RecordKind;
use pqc_iiot_sim::{Node, NodeOptions, World, publish, subscribe};

#[test]
fn a_disk_from_before_the_first_session_is_told_where_to_go_on() {
    for (forgetful, other) in [("gateway", "press"), ("press", "gateway")] {
        let mut world = World::with_sessions();
        for name in ["gateway", "press"] {
            world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
            world.subscribe(name, "plant/#");
        }
        world.introduce("gateway", "press");
        let disk = world.node(forgetful).disk();
        // The session is the other's making, with the attempt that the forgetful one uses next.
        world.node(other).publish(forgetful, "plant/a", b"before");
        world.advance(Duration::from_secs(5));
        assert_eq!(world.node(forgetful).status().sessions, 1);

        world.node(forgetful).replace_disk(disk);
        world.restart(forgetful);
        assert_eq!(world.node(forgetful).status().sessions, 0);
        world.node(forgetful).publish(other, "plant/b", b"after");
        world.advance(Duration::from_secs(20));
        assert_eq!(world.node(forgetful).status().sessions, 1, "{forgetful} has a session again");
        assert_eq!(world.node(other).consumed(), ["after"]);
    }
}

#[test]
fn sessions_of_former_keys_are_erased_at_the_start() {
    let mut world = World::with_sessions();
    let grants = [publish("plant/#"), subscribe("plant/#")];
    for name in ["gateway", "press"] {
        world.enrol(name, &grants);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.node("press").publish("gateway", "plant/a", b"before");
    world.advance(Duration::from_secs(5));
    let sessions = |node: &mut Node| {
        let rows = node.disk().rows();
        rows.into_iter().filter(|row| row.kind == RecordKind::Session).count()
    };
    assert_eq!(sessions(world.node("press")), 1);

    // The press gets new keys, and keeps its disk.
    let disk = world.node("press").disk();
    let options = NodeOptions::new("press", &grants);
    let renewed = world.certify(&options);
    world.disconnect("press");
    world.start(renewed, options).unwrap();
    world.node("press").replace_disk(disk);
    world.restart("press");
    assert_eq!(world.node("press").status().sessions, 0);
    assert_eq!(sessions(world.node("press")), 0, "their secrets must not stay");
    world.subscribe("press", "plant/#");
    world.node("press").add_peer("gateway");
    world.node("press").publish("gateway", "plant/a", b"after");
    world.advance(Duration::from_secs(60));
    assert_eq!(world.node("gateway").consumed(), ["before", "after"]);
    assert_eq!(world.node("press").status().sessions, 1, "a new one, with the new keys");
}
