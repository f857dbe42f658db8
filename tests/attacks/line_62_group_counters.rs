//! A group's member burns counters ahead of the publisher, or jumps the chain.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_sim::Insider;
use pqc_iiot_tests::{TOPIC, assert_flows, assert_group_flows, group_plant, tell_group};

#[test]
fn forged_counters_ahead_take_none_from_the_publisher() {
    let mut world = group_plant();
    let row = world.node("lathe").followed_groups().remove(0);
    let lathe = Insider::new(world.backend(), &row);
    for counter in 0..80 {
        world.broker.inject(TOPIC, &lathe.seal(counter, TOPIC, &format!("forged {counter}")));
    }
    world.settle();
    // The window's end, beyond it, and the highest counter that there is.
    for counter in [1_023, 1_024, 32_767] {
        world.broker.inject(TOPIC, &lathe.seal(counter, TOPIC, "far"));
    }
    world.settle();
    let heard = world.node("gateway").group_texts();
    assert_eq!(heard.iter().filter(|text| *text == "far").count(), 1, "only within the window");
    for number in 0..80 {
        tell_group(&mut world, &format!("genuine {number}"));
    }
    assert_group_flows(&mut world);
    let gateway = world.node("gateway");
    let verified = gateway.group_verified();
    assert_eq!(verified.len(), 81);
    assert!(verified.iter().all(|text| !text.starts_with("forged") && text != "far"));
    assert_eq!(gateway.group_forged().len(), 80);
    assert_eq!(gateway.refused(RefusalReason::UnknownGroup), 2, "beyond the window they wait in vain");
    assert_flows(&mut world, "press", "gateway");
}
