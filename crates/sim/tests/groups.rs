//! Topic groups through whole endpoints: keys in sessions, one record for all, seals, and everything that gets lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/hall.rs"]
mod hall;

use std::time::Duration;

use hall::{FILTER, SEALED, SUBSCRIBERS, TOPIC, say, strangers};
use pqc_iiot_core::endpoint::{Event, RefusalReason, SendFailure, Ticket};
use pqc_iiot_core::identity::grants::Grant;
use pqc_iiot_sim::{Chaos, EPOCH, Forget, Insider, Node, NodeOptions, World, publish, subscribe};

fn was_changed(node: &Node, of: Ticket) -> bool {
    node.events().iter().any(|event| matches!(event, Event::GroupChanged { ticket } if *ticket == of))
}

fn plant() -> World {
    let mut world = strangers();
    world.node("press").create_group(FILTER);
    for name in SUBSCRIBERS {
        let ticket = world.node("press").add_subscriber(FILTER, name);
        assert!(was_changed(world.node("press"), ticket));
    }
    world.advance(Duration::from_secs(10));
    world
}

/// What only one packet said.
fn records(world: &World) -> usize {
    world.broker.captured_on(TOPIC).iter().filter(|packet| packet.first() == Some(&0xd0)).count()
}

#[test]
fn one_record_reaches_three_members_and_the_seal_verifies_it_for_each() {
    let mut world = plant();
    say(&mut world, "20.5");
    say(&mut world, "20.6");
    assert_eq!(records(&world), 2, "one for all");
    for name in SUBSCRIBERS {
        let node = world.node(name);
        assert_eq!(node.group_texts(), ["20.5", "20.6"]);
        assert!(node.group_verified().is_empty(), "no seal yet");
        assert!(node.received().is_empty(), "never as a message");
    }
    world.advance(SEALED);
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_verified(), ["20.5", "20.6"]);
        assert_eq!(world.node(name).group_texts().len(), 2);
    }
}

#[test]
fn what_is_not_granted_or_not_there_is_refused() {
    let mut world = strangers();
    world.enrol("meter", &[publish("plant/#"), subscribe("status/#")]);
    world.introduce("press", "meter");
    let press = world.node("press");
    let refused = [
        (press.publish_topic(TOPIC, "x"), SendFailure::NoGroup),
        (press.add_subscriber(FILTER, "gateway"), SendFailure::NoGroup),
        (press.create_group("other/#"), SendFailure::NoGrant),
        (press.create_group("#"), SendFailure::NoGrant),
    ];
    let created = press.create_group(FILTER);
    let refused_later = [
        (press.create_group("plant/press/#"), SendFailure::GroupOverlap),
        (press.add_subscriber(FILTER, "nobody"), SendFailure::UnknownPeer),
        (press.add_subscriber(FILTER, "meter"), SendFailure::NoGrant),
    ];
    assert!(was_changed(press, created));
    for (ticket, reason) in refused.into_iter().chain(refused_later) {
        assert_eq!(press.send_failure(ticket), Some(reason));
    }
    world.disconnect("press");
    let press = world.node("press");
    let ticket = press.publish_topic(TOPIC, "x");
    assert_eq!(press.send_failure(ticket), Some(SendFailure::Offline));
}

#[test]
fn a_removed_and_a_revoked_member_read_nothing_new() {
    let mut world = plant();
    say(&mut world, "all");
    world.node("press").remove_subscriber(FILTER, "panel");
    world.settle();
    say(&mut world, "two");
    world.revoke(&["logger"]);
    world.advance(Duration::from_secs(1));
    say(&mut world, "one");
    world.advance(SEALED);
    assert_eq!(world.node("panel").group_texts(), ["all"]);
    assert_eq!(world.node("logger").group_texts(), ["all", "two"]);
    assert_eq!(world.node("gateway").group_texts(), ["all", "two", "one"]);
    assert_eq!(world.node("gateway").group_verified(), ["all", "two", "one"]);
    assert!(world.node("panel").refused(RefusalReason::UnknownGroup) > 0);

    // It stays so over a restart of the publisher.
    world.restart("press");
    world.advance(SEALED);
    say(&mut world, "still one");
    world.advance(SEALED);
    assert_eq!(world.node("panel").group_texts(), ["all"]);
    assert_eq!(world.node("logger").group_texts(), ["all", "two"]);
    assert_eq!(world.node("gateway").group_verified().last().unwrap(), "still one");
}

#[test]
fn a_member_whose_certificate_expired_reads_nothing_new() {
    let mut world = strangers();
    let short = NodeOptions::new("meter", &[subscribe("plant/#")]);
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    world.enrol_with(short.valid_until(EPOCH.plus(hours(2))));
    world.subscribe("meter", "plant/#");
    world.introduce("press", "meter");
    world.node("press").create_group(FILTER);
    for name in ["gateway", "meter"] {
        world.node("press").add_subscriber(FILTER, name);
    }
    world.advance(SEALED);
    say(&mut world, "valid");
    world.advance(hours(3));
    say(&mut world, "expired");
    world.advance(SEALED);
    assert_eq!(world.node("meter").group_texts(), ["valid"]);
    assert_eq!(world.node("gateway").group_verified(), ["valid", "expired"]);
    let epochs: Vec<u16> =
        world.node("gateway").group_messages().iter().map(|(_, name, _)| name.epoch).collect();
    assert_ne!(epochs[0], epochs[1], "the epoch ended with the certificate");
}

#[test]
fn a_revoked_publishers_groups_end_at_once() {
    let mut world = plant();
    say(&mut world, "before");
    world.broker.withhold("plant/#");
    say(&mut world, "late");
    let late = world.broker.last_on(TOPIC);
    world.broker.withhold_nothing();
    assert_eq!(world.node("gateway").followed_groups().len(), 1);
    world.revoke(&["press"]);
    assert!(world.node("gateway").followed_groups().is_empty());
    assert_eq!(world.node("gateway").group_unproved(), ["before"]);
    world.broker.inject(TOPIC, &late);
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_texts(), ["before"]);
    assert!(world.node("gateway").group_verified().is_empty());
    world.restart("gateway");
    world.broker.inject(TOPIC, &late);
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_texts(), ["before"]);
}

#[test]
fn a_record_before_its_key_waits_for_it_in_bounds() {
    let mut world = plant();
    say(&mut world, "first");
    world.broker.delay("pqc/control/gateway", Duration::from_secs(1));
    world.node("press").remove_subscriber(FILTER, "panel");
    say(&mut world, "second");
    assert_eq!(world.node("logger").group_texts(), ["first", "second"]);
    assert_eq!(world.node("gateway").group_texts(), ["first"]);
    assert_eq!(world.node("gateway").status().held, 1);
    world.advance(Duration::from_secs(2));
    assert_eq!(world.node("gateway").group_texts(), ["first", "second"]);
    world.broker.delay_nothing();
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["first", "second"]);

    // Groups that nobody has are held in bounds and not for long.
    let record = world.broker.captured_on(TOPIC).into_iter().find(|packet| packet[0] == 0xd0).unwrap();
    for number in 0..200 {
        let mut unknown = record.clone();
        unknown[2] ^= 1;
        unknown[10] = number;
        world.broker.inject(TOPIC, &unknown);
    }
    world.settle();
    assert_eq!(world.node("gateway").status().held, 64);
    assert_eq!(world.broker.unacknowledged("gateway"), 0, "nobody else's acknowledgement waits");
    say(&mut world, "third");
    assert_eq!(world.node("gateway").group_texts().last().unwrap(), "third");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").status().held, 0);
    assert_eq!(world.node("gateway").refused(RefusalReason::UnknownGroup), 200);
}

#[test]
fn a_lost_record_does_not_keep_the_others_from_being_verified() {
    let mut world = plant();
    say(&mut world, "one");
    world.broker.withhold(TOPIC);
    say(&mut world, "lost");
    world.broker.withhold_nothing();
    say(&mut world, "three");
    let lost = world.broker.captured_on(TOPIC)[1].clone();
    world.advance(SEALED);
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_texts(), ["one", "three"]);
        assert_eq!(world.node(name).group_verified(), ["one", "three"], "by leaves that were asked for");
    }
    world.broker.inject(TOPIC, &lost);
    world.settle();
    assert_eq!(world.node("gateway").group_messages().last().unwrap().0, "lost");
    assert!(world.node("gateway").group_messages().last().unwrap().2, "late, and verified at once");
}

#[test]
fn leaves_are_asked_for_until_they_come() {
    let mut world = plant();
    world.broker.withhold(TOPIC);
    say(&mut world, "lost");
    world.broker.withhold_nothing();
    say(&mut world, "there");
    world.broker.withhold("pqc/control/press");
    world.advance(SEALED);
    assert!(world.node("gateway").group_verified().is_empty());
    world.broker.withhold_nothing();
    world.advance(2 * SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["there"]);
}

#[test]
fn a_restarted_subscriber_goes_on_and_verifies_nothing_twice() {
    let mut world = plant();
    say(&mut world, "one");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["one"]);
    let old = world.broker.captured_on(TOPIC);
    world.restart("gateway");
    for packet in &old {
        world.broker.inject(TOPIC, packet);
    }
    say(&mut world, "two");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_texts(), ["one", "two"]);
    assert_eq!(world.node("gateway").group_verified(), ["one", "two"]);
}

#[test]
fn a_seal_is_on_disk_before_it_is_told() {
    let mut world = plant();
    say(&mut world, "one");
    world.node("gateway").hold_persists(true);
    world.advance(SEALED);
    assert!(world.node("gateway").group_verified().is_empty());
    assert_eq!(world.node("logger").group_verified(), ["one"]);
    world.node("gateway").hold_persists(false);
    world.settle();
    assert_eq!(world.node("gateway").group_verified(), ["one"]);
}

#[test]
fn a_key_is_confirmed_only_once_it_is_on_disk() {
    let mut world = strangers();
    world.node("press").create_group(FILTER);
    world.node("press").add_subscriber(FILTER, "gateway");
    // The session comes first; then the gateway's disk stalls, and its key is lost with the process.
    world.broker.withhold("pqc/control/gateway");
    world.advance(Duration::from_secs(1));
    world.broker.withhold_nothing();
    world.node("gateway").hold_persists(true);
    world.advance(Duration::from_secs(10));
    assert!(world.node("gateway").followed_groups().is_empty());
    world.node("gateway").hold_persists(false);
    world.restart("gateway");
    world.advance(Duration::from_secs(600));
    say(&mut world, "all the same");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["all the same"]);
}

#[test]
fn a_subscriber_that_lost_its_disk_is_handed_the_key_again() {
    let mut world = strangers();
    let disk = world.node("gateway").disk();
    world.node("press").create_group(FILTER);
    world.node("press").add_subscriber(FILTER, "gateway");
    world.advance(Duration::from_secs(10));
    say(&mut world, "one");
    world.node("gateway").replace_disk(disk);
    world.restart("gateway");
    assert!(world.node("gateway").followed_groups().is_empty());
    // What is to be sent anyway finds no answer and makes a new session.
    world.node("press").publish("gateway", "plant/press/state", "anybody?");
    world.advance(Duration::from_secs(900));
    say(&mut world, "two");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_texts(), ["one", "two"]);
    assert_eq!(world.node("gateway").group_verified(), ["two"]);
}

#[test]
fn a_restarted_publisher_begins_a_new_group_for_the_same_members() {
    let mut world = plant();
    say(&mut world, "one");
    world.advance(SEALED);
    world.restart("press");
    world.advance(SEALED);
    let again = world.node("press").create_group(FILTER);
    assert!(was_changed(world.node("press"), again), "it is there");
    say(&mut world, "two");
    world.advance(SEALED);
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_verified(), ["one", "two"]);
        let messages = world.node(name).group_messages();
        assert_ne!(messages[0].1.gid, messages[1].1.gid);
    }
}

#[test]
fn an_epoch_lasts_a_day() {
    let mut world = plant();
    say(&mut world, "one");
    world.advance(Duration::from_secs(25 * 3_600));
    say(&mut world, "two");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["one", "two"]);
    let messages = world.node("gateway").group_messages();
    assert_eq!((messages[0].1.epoch, messages[1].1.epoch), (0, 1));
}

#[test]
fn a_members_forgery_is_never_verified_and_is_told_of() {
    let mut world = plant();
    let row = world.node("panel").followed_groups().remove(0);
    let insider = Insider::new(world.backend(), &row);
    // Before the publisher's own record of that counter, and at one that it never uses.
    world.broker.inject(TOPIC, &insider.seal(0, TOPIC, "forged"));
    world.settle();
    assert_eq!(world.node("gateway").group_texts(), ["forged"], "some member said it");
    say(&mut world, "genuine");
    world.broker.inject(TOPIC, &insider.seal(40, TOPIC, "forged"));
    world.advance(2 * SEALED);
    let gateway = world.node("gateway");
    assert_eq!(gateway.group_verified(), ["genuine"]);
    assert_eq!(gateway.group_forged(), [0]);
    assert_eq!(gateway.refused(RefusalReason::GroupForgery), 1);
    assert!(gateway.received().is_empty(), "nothing of it is a message or a command");
    // Later ones under decided counters are known at once.
    world.broker.inject(TOPIC, &insider.seal(0, TOPIC, "forged later"));
    say(&mut world, "after");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["genuine", "after"]);
    assert!(!world.node("gateway").group_texts().contains(&"forged later".into()));
}

#[test]
fn chaos_tells_each_message_at_most_once_and_verifies_it_at_most_once() {
    let mut world = plant();
    world.unleash(Chaos {
        drop: 100,
        duplicate: 200,
        delay: 300,
        longest_delay: Duration::from_secs(60),
        disconnect: 0,
        longest_absence: Duration::from_secs(1),
        crash: 0,
        forget: 0,
        forgets: Forget::Queues,
    });
    for number in 0..120 {
        let ticket = world.node("press").publish_topic(TOPIC, &format!("message {number}"));
        assert_eq!(world.node("press").send_failure(ticket), None);
        world.advance(Duration::from_secs(1));
    }
    world.heal();
    world.advance(Duration::from_secs(300));
    for name in SUBSCRIBERS {
        let node = world.node(name);
        let once = |mut texts: Vec<String>| {
            let told = texts.len();
            texts.sort_unstable();
            texts.dedup();
            assert_eq!(texts.len(), told, "{name}: nothing twice");
            told
        };
        let (told, verified) = (once(node.group_texts()), once(node.group_verified()));
        assert!(told > 80 && told < 120, "{name}: {told} of 120, with one in ten lost");
        assert!(verified > 60, "{name}: {verified} of {told} verified, with one seal in ten lost");
        assert!(node.group_forged().is_empty());
    }
}

#[test]
fn a_record_counts_only_while_its_publisher_is_granted_its_topic() {
    let mut world = World::with_sessions();
    let hour = Duration::from_secs(3_600);
    let granted = Grant { not_after: Some(EPOCH.plus(hour)), ..publish("plant/#") };
    world.enrol("press", &[granted]);
    world.enrol("gateway", &[subscribe("plant/#")]);
    world.subscribe("gateway", "plant/#");
    world.introduce("press", "gateway");
    world.node("press").create_group(FILTER);
    world.node("press").add_subscriber(FILTER, "gateway");
    world.advance(Duration::from_secs(10));
    say(&mut world, "in time");
    world.broker.withhold(TOPIC);
    say(&mut world, "late");
    let late = world.broker.last_on(TOPIC);
    world.broker.withhold_nothing();
    world.advance(2 * hour);
    world.broker.inject(TOPIC, &late);
    let ticket = world.node("press").publish_topic(TOPIC, "too late");
    assert_eq!(world.node("press").send_failure(ticket), Some(SendFailure::NoGrant));
    world.settle();
    assert_eq!(world.node("gateway").group_texts(), ["in time"]);
    assert_eq!(world.node("gateway").refused(RefusalReason::NoGrant), 1);
}

#[test]
fn crashes_verify_nothing_twice() {
    let mut world = plant();
    world.unleash(Chaos {
        drop: 0,
        duplicate: 100,
        delay: 100,
        longest_delay: Duration::from_secs(20),
        disconnect: 2,
        longest_absence: Duration::from_secs(2),
        crash: 4,
        forget: 0,
        forgets: Forget::Queues,
    });
    for number in 0..120 {
        // Cut off, it refuses; restarted, its members wait for the new group's key.
        world.node("press").publish_topic(TOPIC, &format!("message {number}"));
        world.advance(Duration::from_secs(2));
    }
    world.heal();
    world.settle();
    world.advance(Duration::from_secs(600));
    say(&mut world, "calm");
    world.advance(SEALED);
    for name in SUBSCRIBERS {
        let node = world.node(name);
        let mut verified = node.group_verified();
        assert_eq!(verified.last().unwrap(), "calm", "{name}");
        let count = verified.len();
        verified.sort_unstable();
        verified.dedup();
        assert_eq!(verified.len(), count, "{name}: nothing twice");
        assert!(count > 10, "{name}: {count}");
        assert!(node.group_forged().is_empty());
    }
}
