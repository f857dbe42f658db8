//! Data before m2: a responder says nothing before it has heard the initiator in the session, a record that comes before its
//! session is known harms nobody, and what waits goes in envelopes.

use std::time::Duration;

use pqc_iiot_core::session::{Class, Header};
use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::TOPIC;
use pqc_iiot_tests::sessions::{
    Insider, all_grants, assert_in_session, assert_no_effect, command, enrol, resp_topic, session_plant,
};

#[test]
fn nothing_is_said_in_a_session_that_is_half_open() {
    let mut world = World::with_sessions();
    for name in ["gateway", "press"] {
        enrol(&mut world, NodeOptions::new(name, &all_grants()), u64::MAX);
    }
    world.introduce("gateway", "press");
    world.broker.withhold(&resp_topic("press"));
    // The gateway's own m1, which would make another session.
    world.broker.withhold("pqc/session/init/press");
    world.node("press").publish("gateway", TOPIC, "there");
    world.settle();
    world.node("gateway").publish("press", TOPIC, "back");
    world.node("gateway").publish_content("press", TOPIC, command("stop"));
    world.advance(Duration::from_secs(4));
    let record = |packet: &&pqc_iiot_sim::Packet| Header::parse(&packet.payload).is_some();
    assert_eq!(world.broker.captured().iter().filter(record).count(), 0, "a record before the third message");
    assert_eq!(world.node("press").received(), ["back"]);
    assert_eq!(world.node("gateway").received(), ["there"]);
    // The answer comes late.
    let m2 = world.broker.last_on(&resp_topic("press"));
    world.broker.withhold_nothing();
    world.broker.deliver_to("press", &resp_topic("press"), &m2);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.node("press").received(), ["back", "stop"], "the command waited for the session");
    assert_in_session(&mut world, "press", "gateway");
    assert_in_session(&mut world, "gateway", "press");
}

#[test]
fn a_record_of_a_session_that_is_not_known_yet_is_nobodys_failure() {
    let mut world = session_plant();
    let mut press = Insider::instead_of(&mut world, "press", "gateway");
    let established = press.shake(&mut world, 1_000);
    let mut record = press.untracked(Class::Control, TOPIC, pqc_iiot_core::envelope::Content::telemetry("x"));
    let refused = world.node("gateway").refusals().len();
    for sid in [0u32, 1, u32::MAX, u32::from_be_bytes(established.sid_in.0)] {
        record[2..6].copy_from_slice(&sid.to_be_bytes());
        assert_no_effect(&mut world, TOPIC, &record);
    }
    assert_eq!(world.node("gateway").refusals().len(), refused, "a shared topic carries others' records too");
    press.assert_heard(&mut world);
    assert_in_session(&mut world, "lathe", "gateway");
}
