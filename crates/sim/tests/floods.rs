//! What a stranger with nothing but access to the broker can cost an endpoint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use pqc_iiot_core::endpoint::Input;
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_sim::{NodeOptions, World, publish, subscribe};

const TOPIC: &str = "plant/press/temperature";
const DAY: u64 = 86_400;

fn plant() -> World {
    let mut world = World::default();
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    world
}

/// A packet that names `sender`, with a header that parses.
fn junk(sender: &str, length: usize) -> Vec<u8> {
    let mut packet = vec![u8::try_from(sender.len()).unwrap()];
    packet.extend_from_slice(sender.as_bytes());
    packet.extend_from_slice(&[1, 1]);
    packet.resize(length, 0);
    packet
}

#[test]
fn junk_in_the_name_of_an_absent_peer_does_not_hold_acknowledgements_back_for_ever() {
    let mut world = plant();
    world.node("gateway").add_peer("absent");
    world.settle();
    let mut held = 0;
    for _ in 0..20 {
        world.broker.deliver_to("gateway", TOPIC, &junk("absent", 300));
        world.settle();
        held += world.broker.unacknowledged("gateway");
        world.advance(Duration::from_secs(4));
    }
    assert!(held <= 3, "{held}: each stopped every later acknowledgement for seconds");
}

#[test]
fn junk_on_the_anchors_topic_does_not_spend_the_budget_of_revocations() {
    let mut world = plant();
    let anchors = world.topics.anchors();
    for n in 0..100u8 {
        world.broker.deliver_to("gateway", &anchors, &[n]);
    }
    world.settle();
    world.revoke(&["press"]);
    assert_eq!(world.node("gateway").status().revoked, 1, "without any delay");
}

#[test]
fn a_forged_bundle_that_comes_first_does_not_replace_the_genuine_one() {
    let mut world = World::default();
    for name in ["gateway", "press"] {
        world.enrol(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.subscribe(name, "plant/#");
    }
    world.settle();
    let (keys, prekeys) = ("pqc/keys/press", "pqc/prekeys/press");
    let announcement = world.broker.retained(keys).unwrap().to_vec();
    let mut forged = world.broker.retained(prekeys).unwrap().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    world.broker.hide_retained(keys);
    world.node("gateway").add_peer("press");
    world.settle();
    world.broker.inject(prekeys, &forged);
    world.settle();
    world.broker.inject_retained(keys, &announcement);
    world.settle();
    assert!(world.node("gateway").was_ready("press"), "the genuine bundle, which is still retained, is lost");
}

#[test]
fn a_forged_announcement_does_not_replace_the_genuine_one_while_revocations_are_missing() {
    let mut world = plant();
    world.enrol("lathe", &[publish("plant/#"), subscribe("plant/#")]);
    world.enrol("drill", &[publish("plant/#"), subscribe("plant/#")]);
    let first = world.revocation(&["press"]);
    let second = world.revocation(&["drill"]);
    let topic = world.topics.revocations();
    world.broker.inject(&topic, &second);
    world.settle();
    assert!(world.node("gateway").status().revocations_behind);
    world.node("gateway").add_peer("lathe");
    world.settle();
    let mut forged = world.broker.retained("pqc/keys/lathe").unwrap().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    world.broker.inject("pqc/keys/lathe", &forged);
    world.settle();
    world.broker.inject(&topic, &first);
    world.settle();
    assert!(!world.node("gateway").status().revocations_behind);
    world.advance(Duration::from_secs(60));
    assert!(
        world.node("gateway").was_ready("lathe"),
        "the genuine announcement, which is still retained, is lost"
    );
}

#[test]
fn an_announcement_that_found_no_budget_is_fetched_again() {
    let mut world = plant();
    world.enrol("lathe", &[publish("plant/#"), subscribe("plant/#")]);
    world.settle();
    let mut forged = world.broker.retained("pqc/keys/lathe").unwrap().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let genuine = world.broker.retained("pqc/keys/lathe").unwrap().to_vec();
    world.broker.hide_retained("pqc/keys/lathe");
    world.node("gateway").add_peer("lathe");
    world.settle();
    for _ in 0..300 {
        world.broker.deliver_to("gateway", "pqc/keys/lathe", &forged);
    }
    world.broker.substitute_retained("pqc/keys/lathe", &genuine);
    world.broker.deliver_to("gateway", "pqc/keys/lathe", &genuine);
    world.settle();
    world.advance(Duration::from_secs(60));
    assert!(
        world.node("gateway").was_ready("lathe"),
        "dropped for want of budget, and never asked for again"
    );
}

#[test]
fn refusals_in_the_names_of_many_peers_do_not_fill_the_audit_log() {
    let mut world = plant();
    for n in 0..200 {
        world.node("gateway").add_peer(&format!("peer-{n}"));
    }
    world.settle();
    let before = world.node("gateway").audit().len();
    for n in 0..200 {
        world.broker.deliver_to("gateway", &format!("pqc/keys/peer-{n}"), b"junk");
        world.broker.deliver_to("gateway", &format!("pqc/prekeys/peer-{n}"), b"junk");
    }
    world.advance(Duration::from_secs(11));
    let entries = world.node("gateway").audit().len() - before;
    assert!(entries <= 100, "{entries} signed entries for 400 packets of a stranger's");
}

#[test]
fn time_goes_on_below_the_floor_however_busy_the_endpoint_is() {
    let mut world = World::default();
    let until = world.clock.wall().plus(Duration::from_secs(600));
    for name in ["gateway", "press"] {
        let options = NodeOptions::new(name, &[publish("plant/#"), subscribe("plant/#")]);
        world.enrol_with(if name == "press" { options.valid_until(until) } else { options });
        world.subscribe(name, "plant/#");
    }
    world.introduce("gateway", "press");
    let start = world.clock.wall();
    world.clock.set_wall(UnixTime(start.0 - 10 * DAY));
    for _ in 0..1400 {
        world.advance(Duration::from_millis(500));
        world.node("gateway").input(Input::Timeout);
    }
    let effective = world.node("gateway").endpoint().effective_time();
    assert!(effective >= UnixTime(start.0 + 690), "time stands still at {effective:?}, {start:?}");
}

#[test]
fn a_clock_that_claims_the_year_2100_moves_the_floor_a_month_and_no_more() {
    let mut world = plant();
    let start = world.clock.wall();
    world.clock.set_wall(UnixTime(start.0 + 27_000 * DAY));
    for _ in 0..48 {
        world.advance(Duration::from_secs(3600));
    }
    world.clock.set_wall(UnixTime(start.0 + 2 * DAY));
    world.node("gateway").input(Input::Timeout);
    let effective = world.node("gateway").endpoint().effective_time();
    assert!(effective <= UnixTime(start.0 + 33 * DAY), "{} days", (effective.0 - start.0) / DAY);
}

#[test]
fn a_clock_excursion_costs_no_prekey_and_does_not_stop_rotation() {
    let mut world = plant();
    let start = world.clock.wall();
    world.clock.set_wall(UnixTime(start.0 + 27_000 * DAY));
    world.advance(Duration::from_secs(2 * 3600));
    world.clock.set_wall(UnixTime(start.0 + 7200));
    world.advance(Duration::from_secs(2 * 3600));
    let before = world.broker.captured_on("pqc/prekeys/gateway").len();
    for _ in 0..40 {
        world.advance(Duration::from_secs(DAY));
    }
    assert!(world.broker.captured_on("pqc/prekeys/gateway").len() > before, "no prekey is made for 74 years");
}
