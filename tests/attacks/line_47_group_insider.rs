//! A member of a group forges what only its publisher may say, and a removed one reads on.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_sim::Insider;
use pqc_iiot_tests::{GROUP, TOPIC, assert_flows, assert_group_flows, group_plant, tell_group};

#[test]
fn a_members_forgery_is_nobodys_word_and_is_told_of() {
    let mut world = group_plant();
    let row = world.node("lathe").followed_groups().remove(0);
    let lathe = Insider::new(world.backend(), &row);
    let forged = lathe.seal(0, TOPIC, "open the valve");
    world.broker.inject(TOPIC, &forged);
    world.broker.inject(TOPIC, &forged);
    tell_group(&mut world, "20.5");
    assert_group_flows(&mut world);
    let gateway = world.node("gateway");
    assert!(!gateway.group_verified().contains(&"open the valve".into()));
    assert!(gateway.received().is_empty(), "nothing that a member says is a message");
    assert_eq!(gateway.group_forged(), [0]);
    assert!(gateway.refused(RefusalReason::Replayed) > 0);
    // On another topic than the one it is sealed for it opens for nobody.
    world.broker.inject("plant/lathe/temperature", &lathe.seal(200, TOPIC, "elsewhere"));
    world.settle();
    assert_eq!(world.node("gateway").refused(RefusalReason::BadCiphertext), 1);
    assert_group_flows(&mut world);
    assert_flows(&mut world, "press", "gateway");
}

#[test]
fn a_removed_member_reads_nothing_new_and_forges_nothing() {
    let mut world = group_plant();
    tell_group(&mut world, "for both");
    let row = world.node("lathe").followed_groups().remove(0);
    world.node("press").remove_subscriber(GROUP, "lathe");
    world.settle();
    tell_group(&mut world, "for one");
    // What it missed in the old epoch is over with that epoch's last seal, and it has no key of the new one.
    let lathe = Insider::new(world.backend(), &row);
    world.broker.inject(TOPIC, &lathe.seal(1, TOPIC, "forged"));
    assert_group_flows(&mut world);
    assert_eq!(world.node("lathe").group_texts(), ["for both"]);
    assert!(!world.node("gateway").group_texts().contains(&"forged".into()));
    assert_eq!(world.node("lathe").followed_groups().len(), 1);
    assert_flows(&mut world, "press", "lathe");
}
