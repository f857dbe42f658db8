//! Grants: a message on a topic outside the sender's grant, a command under a telemetry grant, an expired grant.

use std::time::Duration;

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::endpoint::{RefusalReason, SendFailure};
use pqc_iiot_core::envelope::{Content, MessageClass};
use pqc_iiot_core::identity::grants::{Action, Grant};
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_sim::{EPOCH, World, publish, subscribe};
use pqc_iiot_tests::{TOPIC, assert_flows, assert_refused, insider_spec, thief_of};

const HOUR: Duration = Duration::from_secs(3_600);

fn world_with(grants: &[Grant]) -> World {
    let mut world = World::default();
    world.enrol("gateway", &[subscribe("plant/#"), publish("plant/#")]);
    world.enrol("press", grants);
    world.subscribe("gateway", "#");
    world.introduce("gateway", "press");
    world
}

#[test]
fn a_topic_outside_the_grant_is_refused_and_audited() {
    let mut world = world_with(&[publish("plant/press/#"), subscribe("plant/lathe/#")]);
    let ticket = world.node("press").publish("gateway", "plant/lathe/temperature", "x");
    assert_eq!(world.node("press").send_failure(ticket), Some(SendFailure::NoGrant), "honest senders refuse");
    // Subscribing there does not make it publishable, whoever modified the press's software.
    let press = thief_of(&mut world, "press");
    for (sequence, topic) in
        (1..).zip(["plant/lathe/temperature", "plant", "plant/pressing", "other/press/x"])
    {
        let spec = insider_spec(&mut world, topic, "x", sequence);
        assert_refused(&mut world, topic, &press.seal(&spec), RefusalReason::NoGrant);
    }
    assert_eq!(world.node("gateway").audited(AuditKind::GrantRefused), 1, "audited, and then counted");
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn a_command_in_an_envelope_is_refused_whatever_the_grant() {
    for action in [Action::Publish, Action::Command] {
        let command = Grant::new(action, TopicFilter::new("plant/#").unwrap());
        let mut world = world_with(&[publish("plant/press/#"), command]);
        let press = thief_of(&mut world, "press");
        let mut spec = insider_spec(&mut world, TOPIC, "open valve 3", 1);
        let command = Content { class: MessageClass::Command, ..Content::telemetry("open the valve") };
        spec.body = command.clone().into();
        world.broker.inject(TOPIC, &press.seal(&spec));
        world.settle();
        let gateway = world.node("gateway");
        assert!(gateway.inbox().is_empty());
        assert_eq!(gateway.refused(RefusalReason::CommandOutsideSession), 1);
        let ticket = world.node("press").publish_content("gateway", TOPIC, command);
        assert_eq!(world.node("press").send_failure(ticket), Some(SendFailure::Command));
        // The command took sequence 1, as the press's own next message does.
        world.node("press").publish("gateway", TOPIC, "skipped");
        world.settle();
        assert_flows(&mut world, "press", "gateway");
    }
}

#[test]
fn a_grant_ends_when_it_says_and_begins_no_earlier() {
    let bounded = Grant { not_after: Some(EPOCH.plus(HOUR)), ..publish("plant/press/#") };
    let later = Grant { not_before: Some(EPOCH.plus(2 * HOUR)), ..publish("plant/press/#") };
    let mut world = world_with(&[bounded, later]);
    assert_flows(&mut world, "press", "gateway");
    world.advance(HOUR);
    let press = thief_of(&mut world, "press");
    let spec = insider_spec(&mut world, TOPIC, "x", 100);
    assert_refused(&mut world, TOPIC, &press.seal(&spec), RefusalReason::NoGrant);
    let ticket = world.node("press").publish("gateway", TOPIC, "x");
    assert_eq!(world.node("press").send_failure(ticket), Some(SendFailure::NoGrant));
    world.advance(HOUR);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn an_older_certificate_does_not_bring_dropped_grants_back() {
    let mut world = world_with(&[publish("plant/#")]);
    let old = world.broker.last_on("pqc/keys/press");
    world.advance(HOUR);
    let press = thief_of(&mut world, "press");
    let mut narrowed = pqc_iiot_sim::NodeOptions::new("press", &[publish("plant/press/#")]);
    narrowed.not_before = world.clock.wall();
    let certificate = world.authority.issue(&press.request(), &narrowed.parameters()).unwrap();
    world.node("press").install_certificate(certificate);
    world.restart("press");
    world.settle();
    let spec = insider_spec(&mut world, "plant/lathe", "x", 100);
    assert_refused(&mut world, "plant/lathe", &press.seal(&spec), RefusalReason::NoGrant);
    assert_refused(&mut world, "pqc/keys/press", &old, RefusalReason::Rollback);
    assert_refused(&mut world, "plant/lathe", &press.seal(&spec), RefusalReason::NoGrant);
    assert_flows(&mut world, "press", "gateway");
}
