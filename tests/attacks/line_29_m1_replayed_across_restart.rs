//! m1 replayed across restarts of its responder: one answer, the same bytes, one session.

use std::time::Duration;

use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::TOPIC;
use pqc_iiot_tests::sessions::{all_grants, assert_in_session, enrol, init_topic, resp_topic};

#[test]
fn an_m1_replayed_across_restarts_gets_the_same_answer() {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    world.broker.withhold(&resp_topic("press"));
    world.node("press").publish("gateway", TOPIC, "x");
    world.settle();
    let m1 = world.broker.last_on(&init_topic("gateway"));
    for _ in 0..4 {
        world.restart("gateway");
        world.advance(Duration::from_secs(2));
        // The first makes it load the press's certificate.
        for _ in 0..2 {
            world.broker.deliver_to("gateway", &init_topic("gateway"), &m1);
            world.settle();
        }
    }
    let answers = world.broker.captured_on(&resp_topic("press"));
    assert!(answers.len() >= 4, "it is answered again");
    assert!(answers.iter().all(|m2| *m2 == answers[0]), "always the same");
    world.broker.withhold_nothing();
    for m2 in answers {
        world.broker.deliver_to("press", &resp_topic("press"), &m2);
    }
    world.settle();
    assert_in_session(&mut world, "press", "gateway");
    assert_in_session(&mut world, "gateway", "press");
    assert_eq!(world.node("gateway").status().sessions, 1);
    assert_eq!(
        world.broker.captured_on(&init_topic("gateway")).iter().filter(|other| **other != m1).count(),
        0
    );
}
