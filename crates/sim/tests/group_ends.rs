//! How everything in a topic group ends: a lost seal or key is asked for, and what nobody can prove any more is told as such.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/hall.rs"]
mod hall;

use std::time::Duration;

use hall::{FILTER, SEALED, SUBSCRIBERS, TOPIC, begin_group, say, strangers};
use pqc_iiot_core::endpoint::{Command, Input, RefusalReason, SendFailure};
use pqc_iiot_core::group::MAX_MESSAGES;
use pqc_iiot_sim::{Insider, World};

const TO_PRESS: &str = "pqc/control/press";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
fn plant() -> World {
    let mut world = strangers();
    begin_group(&mut world);
    world
}

/// Says something whose seal the broker loses.
fn say_and_lose_the_seal(world: &mut World, text: &str) {
    say(world, text);
    world.broker.withhold(TOPIC);
    world.advance(SEALED);
    world.broker.withhold_nothing();
    assert_eq!(world.broker.last_on(TOPIC)[0], 0xd1);
}

#[test]
fn a_lost_seal_is_asked_for_once_it_must_have_been_made() {
    let mut world = plant();
    say_and_lose_the_seal(&mut world, "one");
    assert!(world.node("gateway").group_verified().is_empty());
    let asked = world.broker.captured_on(TO_PRESS).len();
    world.advance(10 * SECOND);
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_verified(), ["one"]);
    }
    assert_eq!(world.broker.captured_on(TO_PRESS).len() - asked, SUBSCRIBERS.len(), "each asked once");
    world.advance(2 * HOUR);
    assert!(world.node("gateway").group_unproved().is_empty());
}

#[test]
fn a_later_seal_shows_that_one_was_lost() {
    let mut world = plant();
    say(&mut world, "one");
    world.broker.withhold(TOPIC);
    world.advance(6 * SECOND);
    world.broker.withhold_nothing();
    say(&mut world, "two");
    // Before the first one's time is over.
    world.advance(200 * SECOND);
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_verified(), ["two", "one"]);
    }
}

#[test]
fn several_lost_seals_are_made_up_for_one_after_the_other() {
    let mut world = plant();
    world.broker.withhold("pqc/control/+");
    for number in 0..4 {
        say_and_lose_the_seal(&mut world, &format!("{number}"));
    }
    world.broker.withhold_nothing();
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["0", "1", "2", "3"]);
}

#[test]
fn what_nobody_answers_about_ends_within_an_hour_and_the_questions_are_few() {
    let mut world = plant();
    say_and_lose_the_seal(&mut world, "one");
    let (record, seal) = (world.broker.captured_on(TOPIC)[0].clone(), world.broker.last_on(TOPIC));
    world.broker.withhold(TO_PRESS);
    let asked = world.broker.captured_on(TO_PRESS).len();
    world.advance(HOUR - SEALED - 10 * SECOND);
    assert!(world.node("gateway").group_unproved().is_empty());
    let asked = world.broker.captured_on(TO_PRESS).len() - asked;
    assert!((12..80).contains(&asked), "{asked} questions of three members in an hour");
    world.advance(20 * SECOND);
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_unproved(), ["one"]);
    }
    let asked = world.broker.captured_on(TO_PRESS).len();
    world.advance(5 * HOUR);
    let more = world.broker.captured_on(TO_PRESS).len() - asked;
    assert!(more < 30, "{more}: nothing is waited for any more");
    assert_eq!(world.node("gateway").group_unproved(), ["one"], "told once");
    // A copy is still known as one, and the seal counts whenever it comes.
    world.broker.withhold_nothing();
    world.broker.inject(TOPIC, &record);
    world.settle();
    assert_eq!(world.node("gateway").group_texts(), ["one"]);
    world.broker.inject(TOPIC, &seal);
    world.settle();
    assert_eq!(world.node("gateway").group_verified(), ["one"]);
}

#[test]
fn what_a_crashed_publisher_had_not_sealed_is_told_as_never_proved() {
    let mut world = plant();
    say(&mut world, "sealed");
    world.advance(SEALED);
    say(&mut world, "in memory only");
    world.restart("press");
    world.advance(60 * SECOND);
    say(&mut world, "after");
    world.advance(SEALED);
    for name in SUBSCRIBERS {
        let node = world.node(name);
        assert_eq!(node.group_unproved(), ["in memory only"]);
        assert_eq!(node.group_verified(), ["sealed", "after"]);
        assert_eq!(node.followed_groups().len(), 1, "of the dead group nothing is left");
        assert!(node.group_forged().is_empty());
    }
}

#[test]
fn leaves_that_died_with_the_publisher_end_as_well() {
    let mut world = plant();
    world.broker.withhold(TOPIC);
    say(&mut world, "lost");
    world.broker.withhold_nothing();
    say(&mut world, "there");
    world.broker.withhold(TO_PRESS);
    world.advance(SEALED);
    assert!(world.node("gateway").group_verified().is_empty());
    world.restart("press");
    world.broker.withhold_nothing();
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_unproved(), ["there"]);
    assert!(world.node("gateway").group_verified().is_empty());
    assert_eq!(world.node("gateway").followed_groups().len(), 1);
}

#[test]
fn a_shutdown_seals_what_is_open() {
    let mut world = plant();
    say(&mut world, "last words");
    world.node("press").input(Input::Command(Command::Shutdown));
    world.settle();
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_verified(), ["last words"]);
    }
    let refused = world.node("press").publish_topic(TOPIC, "too late");
    assert_eq!(world.node("press").send_failure(refused), Some(SendFailure::Closed));
}

#[test]
fn a_group_that_ends_is_erased_everywhere_and_may_begin_again() {
    let mut world = plant();
    say(&mut world, "one");
    assert_eq!(world.node("press").own_groups().len(), 1 + SUBSCRIBERS.len());
    world.node("press").end_group(FILTER);
    world.settle();
    assert!(world.node("press").own_groups().is_empty());
    assert_eq!(world.node("gateway").group_verified(), ["one"], "sealed at once");
    let refused = world.node("press").publish_topic(TOPIC, "nobody's");
    assert_eq!(world.node("press").send_failure(refused), Some(SendFailure::NoGroup));
    let refused = world.node("press").end_group(FILTER);
    assert_eq!(world.node("press").send_failure(refused), Some(SendFailure::NoGroup));
    world.advance(3 * SECOND);
    for name in SUBSCRIBERS {
        assert!(world.node(name).followed_groups().is_empty(), "{name}");
    }
    // They confirmed, so nothing is told again.
    let told = world.broker.captured_on("pqc/control/gateway").len();
    world.advance(300 * SECOND);
    assert!(world.broker.captured_on("pqc/control/gateway").len() - told < 3);
    begin_group(&mut world);
    say(&mut world, "two");
    world.advance(SEALED);
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_verified(), ["one", "two"]);
        assert!(world.node(name).group_unproved().is_empty());
    }
}

#[test]
fn a_member_that_misses_the_end_is_told_again_and_still_gets_the_last_seal() {
    let mut world = plant();
    say(&mut world, "one");
    world.broker.withhold(TOPIC);
    world.broker.withhold("pqc/control/gateway");
    world.node("press").end_group(FILTER);
    // Another one for the same topics harms nothing.
    world.node("press").create_group(FILTER);
    world.advance(20 * SECOND);
    assert_eq!(world.node("gateway").followed_groups().len(), 1);
    assert!(world.node("logger").followed_groups().is_empty(), "by a seal that it asked for");
    world.broker.withhold_nothing();
    world.advance(60 * SECOND);
    for name in SUBSCRIBERS {
        assert_eq!(world.node(name).group_verified(), ["one"]);
        assert!(world.node(name).followed_groups().is_empty(), "{name}");
    }
}

#[test]
fn a_member_that_nobody_can_tell_forgets_a_dead_group_by_itself() {
    let mut world = plant();
    say(&mut world, "one");
    world.advance(SEALED);
    world.node("press").end_group(FILTER);
    world.disconnect("press");
    world.advance(47 * HOUR);
    assert_eq!(world.node("gateway").followed_groups().len(), 1);
    world.advance(2 * HOUR);
    assert!(world.node("gateway").followed_groups().is_empty());
}

#[test]
fn a_member_without_a_key_asks_for_it() {
    let mut world = plant();
    world.broker.withhold("pqc/control/gateway");
    world.node("press").remove_subscriber(FILTER, "panel");
    // The key went after 2, 4, 8, 16 and 32 seconds, and goes again only a minute later.
    world.advance(40 * SECOND);
    world.broker.withhold_nothing();
    say(&mut world, "new epoch");
    assert_eq!(world.node("logger").group_texts(), ["new epoch"]);
    assert!(world.node("gateway").group_texts().is_empty());
    world.advance(2 * SECOND);
    assert_eq!(world.node("gateway").group_texts(), ["new epoch"]);
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["new epoch"]);
    assert!(world.node("panel").group_texts().is_empty(), "whoever is none asks in vain");
}

#[test]
fn made_up_groups_cause_few_questions() {
    let mut world = plant();
    say(&mut world, "one");
    let record = world.broker.last_on(TOPIC);
    let asked = world.broker.captured_on(TO_PRESS).len();
    for second in 0..60u8 {
        for number in 0..20 {
            let mut unknown = record.clone();
            (unknown[2], unknown[3]) = (second, number);
            world.broker.inject(TOPIC, &unknown);
        }
        world.advance(SECOND);
    }
    let asked = world.broker.captured_on(TO_PRESS).len() - asked;
    assert!((10..3 * 250).contains(&asked), "{asked} questions of three members about 1,200 groups");
    assert!(world.node("gateway").refused(RefusalReason::UnknownGroup) > 1_000);
    say(&mut world, "two");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["one", "two"]);
}

#[test]
fn a_forgery_that_no_seal_reaches_ends_unproved() {
    let mut world = plant();
    let row = world.node("panel").followed_groups().remove(0);
    let insider = Insider::new(world.backend(), &row);
    world.broker.inject(TOPIC, &insider.seal(600, TOPIC, "forged"));
    say(&mut world, "genuine");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["genuine"]);
    world.advance(HOUR);
    assert_eq!(world.node("gateway").group_unproved(), ["forged"]);
    say(&mut world, "after");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["genuine", "after"]);
}

#[test]
fn an_epoch_ends_with_its_messages() {
    let mut world = plant();
    for name in ["logger", "panel"] {
        world.node("press").remove_subscriber(FILTER, name);
        world.disconnect(name);
    }
    world.settle();
    for number in 0..=MAX_MESSAGES {
        let ticket = world.node("press").publish_topic(TOPIC, &number.to_string());
        assert_eq!(world.node("press").send_failure(ticket), None);
        if number % 64 == 0 {
            world.settle();
        }
    }
    world.advance(SEALED);
    let messages = world.node("gateway").group_messages();
    let epochs: Vec<u16> = messages.iter().map(|(_, name, _)| name.epoch).collect();
    let (last, before) = epochs.split_last().unwrap();
    assert_eq!(before.len(), MAX_MESSAGES as usize);
    assert!(before.iter().all(|epoch| *epoch == before[0]));
    assert_eq!(*last, before[0] + 1);
    assert_eq!(world.node("gateway").group_verified().len(), MAX_MESSAGES as usize + 1);
}

/// The session that brought its key goes on, in blocks of which a restart remembers little.
#[test]
fn a_key_that_is_played_back_after_its_group_ended_begins_nothing() {
    let mut world = plant();
    say(&mut world, "one");
    world.advance(SEALED);
    world.node("press").end_group(FILTER);
    world.advance(60 * SECOND);
    assert!(world.node("gateway").followed_groups().is_empty());
    world.restart("gateway");
    let all: Vec<_> = world.broker.captured().iter().filter(|packet| !packet.retain).cloned().collect();
    for packet in all {
        world.broker.inject(&packet.topic, &packet.payload);
    }
    world.advance(60 * SECOND);
    assert_eq!(world.node("gateway").group_verified(), ["one"]);
    assert!(world.node("gateway").followed_groups().is_empty());
    // The next group's key is taken all the same.
    begin_group(&mut world);
    world.advance(10 * SECOND);
    say(&mut world, "two");
    world.advance(SEALED);
    assert_eq!(world.node("gateway").group_verified(), ["one", "two"]);
}
