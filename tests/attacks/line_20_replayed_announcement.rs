//! Replaying a valid announcement costs no signature and no log growth.

use pqc_iiot_core::budget::Rate;
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_sim::{NodeOptions, World};
use pqc_iiot_tests::{assert_flows, everything, flipped, keys_topic, prekeys_topic};

#[test]
fn a_replayed_announcement_is_free() {
    let mut world = World::default();
    // A budget of four that never refills: honest work gives its token back, anything else does not.
    let gateway = NodeOptions::new("gateway", &everything())
        .configure(|config| config.budgets.announcements = Rate { burst: 4, per_second: 0 });
    world.enrol_with(gateway);
    world.enrol("press", &everything());
    world.subscribe("gateway", "plant/#");
    world.subscribe("press", "plant/#");
    world.introduce("gateway", "press");

    let announcement = world.broker.last_on(&keys_topic("press"));
    let bundle = world.broker.last_on(&prekeys_topic("press"));
    let gateway = world.node("gateway");
    let (audit, calls, commits) = (gateway.audit().len(), gateway.provider_calls(), gateway.disk().commits());
    // With every token spent on a forgery, whatever still needs a signature check is refused as over budget.
    let mut next = pqc_iiot_tests::next_bundle(&world.broker, "press", vec![0; 1216]);
    for n in 0..4 {
        next.bundle_seq += n;
        let thief = world.stranger("press");
        let forged = pqc_iiot_tests::signed_bundle(&thief, &next);
        world.broker.deliver_to("gateway", &prekeys_topic("press"), &forged);
    }
    world.settle();
    assert_eq!(world.node("gateway").refused(RefusalReason::BadPrekey), 4);
    let genuine_next = {
        let press = world.node("press").identity().clone();
        pqc_iiot_tests::signed_bundle(&press, &next)
    };
    world.broker.deliver_to("gateway", &prekeys_topic("press"), &genuine_next);
    world.settle();
    assert_eq!(world.node("gateway").refused(RefusalReason::OverBudget), 1, "negative control");
    let refusals = world.node("gateway").refusals().len();

    for _ in 0..500 {
        world.broker.deliver_to("gateway", &keys_topic("press"), &announcement);
        world.broker.deliver_to("gateway", &prekeys_topic("press"), &bundle);
    }
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.refusals().len(), refusals, "a repetition is not refused: it costs nothing");
    assert_eq!(gateway.provider_calls(), calls);
    assert_eq!(
        gateway.audit().len(),
        audit + 2,
        "one entry for each kind of refusal above, none for repetitions"
    );
    assert_eq!(gateway.disk().commits(), commits + 2);
    assert_eq!(world.broker.unacknowledged("gateway"), 0);
    // A copy with one bit changed is not a repetition.
    let changed = flipped(&announcement, announcement.len() - 4_000);
    world.broker.deliver_to("gateway", &keys_topic("press"), &changed);
    world.settle();
    assert_flows(&mut world, "press", "gateway");
}
