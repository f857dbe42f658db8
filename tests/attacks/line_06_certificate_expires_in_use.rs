//! A certificate that expires while in use ends acceptance and sending.

use std::time::Duration;

use pqc_iiot_core::endpoint::{RefusalReason, SendFailure};
use pqc_iiot_sim::{EPOCH, NodeOptions, World};
use pqc_iiot_tests::sessions::{all_grants, assert_in_session, enrol};
use pqc_iiot_tests::{TOPIC, assert_flows, assert_refused, everything, intercept};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn expiry_ends_acceptance_and_sending_on_both_sides() {
    let mut world = World::default();
    let short = NodeOptions::new("press", &everything()).valid_until(EPOCH.plus(2 * HOUR));
    world.enrol_with(short);
    for name in ["gateway", "lathe"] {
        world.enrol(name, &everything());
    }
    for name in ["gateway", "press", "lathe"] {
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    assert_flows(&mut world, "press", "gateway");
    world.advance(HOUR);
    assert_flows(&mut world, "press", "gateway");
    let unseen = intercept(&mut world, TOPIC, "late");

    world.advance(HOUR);
    assert_refused(&mut world, TOPIC, &unseen, RefusalReason::Expired);
    let to = world.node("gateway").publish("press", TOPIC, "x");
    assert_eq!(world.node("gateway").send_failure(to), Some(SendFailure::Expired));
    let from = world.node("press").publish("gateway", TOPIC, "x");
    assert_eq!(world.node("press").send_failure(from), Some(SendFailure::Expired));
    assert_flows(&mut world, "lathe", "gateway");
    assert_flows(&mut world, "gateway", "lathe");
}

#[test]
fn expiry_ends_the_session() {
    let mut world = World::with_sessions();
    let short = NodeOptions::new("press", &all_grants()).valid_until(EPOCH.plus(2 * HOUR));
    enrol(&mut world, short, u64::MAX);
    for name in ["gateway", "lathe"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    assert_in_session(&mut world, "press", "gateway");
    world.advance(HOUR);
    assert_in_session(&mut world, "press", "gateway");
    let unseen = intercept(&mut world, TOPIC, "late");
    let sessions = world.node("gateway").status().sessions;
    world.advance(HOUR);
    let inbox = world.node("gateway").inbox().len();
    world.broker.deliver_to("gateway", TOPIC, &unseen);
    world.settle();
    assert_eq!(world.node("gateway").inbox().len(), inbox);
    assert_eq!(world.node("gateway").status().sessions, sessions - 1, "the session is gone");
    let to = world.node("gateway").publish("press", TOPIC, "x");
    assert_eq!(world.node("gateway").send_failure(to), Some(SendFailure::Expired));
    assert_in_session(&mut world, "lathe", "gateway");
    assert_in_session(&mut world, "gateway", "lathe");
}
