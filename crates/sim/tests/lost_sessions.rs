//! A side that lost its sessions with its disk gets a new one by asking, whichever side wins ties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_sim::{World, publish, subscribe};

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
