//! A revocation between m1 and m2, on either side, leaves no session.

use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::TOPIC;
use pqc_iiot_tests::sessions::{all_grants, assert_in_session, enrol, init_topic, resp_topic};

fn world() -> World {
    let mut world = World::with_sessions();
    for name in ["gateway", "press", "lathe"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    world.introduce("gateway", "lathe");
    world
}

fn assert_none_and_others_flow(world: &mut World) {
    assert_eq!(world.node("gateway").status().sessions, 0);
    let ticket = world.node("gateway").publish("press", TOPIC, "x");
    assert!(world.node("gateway").send_failure(ticket).is_some());
    assert_in_session(world, "gateway", "lathe");
    assert_in_session(world, "lathe", "gateway");
    assert_eq!(world.node("gateway").status().sessions, 1);
}

#[test]
fn a_revoked_initiator_gets_no_answer_at_any_step() {
    // While the provider decapsulates, while it signs, and after.
    for step in 0..3 {
        let mut world = world();
        world.node("gateway").hold_provider(true);
        world.broker.withhold(&resp_topic("press"));
        world.node("press").publish("gateway", TOPIC, "x");
        world.settle();
        world.node("gateway").release_provider(step);
        world.settle();
        let inbox = world.node("gateway").inbox().len();
        world.revoke(&["press"]);
        world.node("gateway").hold_provider(false);
        world.settle();
        let answers = world.broker.captured_on(&resp_topic("press")).len();
        assert_eq!(answers, usize::from(step == 2), "an answer after the revocation");
        let m1 = world.broker.last_on(&init_topic("gateway"));
        world.broker.deliver_to("gateway", &init_topic("gateway"), &m1);
        world.settle();
        assert_eq!(world.broker.captured_on(&resp_topic("press")).len(), answers);
        assert_eq!(world.node("gateway").inbox().len(), inbox);
        assert_none_and_others_flow(&mut world);
    }
}

#[test]
fn a_revoked_responders_answer_is_not_taken() {
    let mut world = world();
    world.broker.withhold(&resp_topic("gateway"));
    world.node("gateway").publish("press", TOPIC, "x");
    world.settle();
    let m2 = world.broker.last_on(&resp_topic("gateway"));
    world.broker.withhold_nothing();
    world.revoke(&["press"]);
    world.broker.deliver_to("gateway", &resp_topic("gateway"), &m2);
    world.settle();
    assert_none_and_others_flow(&mut world);
}
