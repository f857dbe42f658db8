//! Clock rollback below the durable floor revives nothing that has expired.

use std::time::Duration;

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::endpoint::{Event, RefusalReason};
use pqc_iiot_sim::{EPOCH, NodeOptions, World};
use pqc_iiot_tests::{TOPIC, assert_flows, assert_refused, everything, insider_spec, thief_of};

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[test]
fn an_expired_certificate_stays_expired_when_the_clock_goes_back() {
    let mut world = World::default();
    world.enrol_with(NodeOptions::new("press", &everything()).valid_until(EPOCH.plus(DAY)));
    for name in ["gateway", "lathe"] {
        world.enrol(name, &everything());
    }
    world.subscribe("gateway", "plant/#");
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    // Of a sequence that the press itself does not come to, so that nobody sends it in time.
    let spec = insider_spec(&mut world, TOPIC, "late", 1_000);
    let unseen = thief_of(&mut world, "press").seal(&spec);
    world.advance(2 * DAY);

    world.clock.set_wall(EPOCH);
    assert_refused_as_expired(&mut world, &unseen);
    assert!(world.node("gateway").events().contains(&Event::ClockBehindFloor));
    assert_eq!(world.node("gateway").audited(AuditKind::ClockAnomaly), 1);

    // Nor after a restart, when only what was written counts.
    world.restart("gateway");
    world.settle();
    assert_eq!(world.node("gateway").audited(AuditKind::ClockAnomaly), 2);
    assert_flows(&mut world, "lathe", "gateway");
    world.broker.inject(TOPIC, &unseen);
    world.advance(Duration::from_secs(6));
    assert!(!world.node("gateway").received().contains(&"late".into()));
    let sent = world.broker.captured_on(TOPIC).len();
    world.node("gateway").publish("press", TOPIC, "x");
    world.settle();
    assert_eq!(world.broker.captured_on(TOPIC).len(), sent, "nothing is sealed to an expired certificate");
    assert_flows(&mut world, "lathe", "gateway");
}

fn assert_refused_as_expired(world: &mut World, packet: &[u8]) {
    // The first input after the change also reports the clock: settle that apart.
    world.node("gateway").add_peer("press");
    world.settle();
    assert_refused(world, TOPIC, packet, RefusalReason::Expired);
}
