//! A gap in revocation updates is detected and filled, never skipped.

use pqc_iiot_core::audit::AuditKind;
use pqc_iiot_core::endpoint::{Event, SendFailure};
use pqc_iiot_sim::World;
use pqc_iiot_tests::{TOPIC, assert_flows, everything, plant};

const UPDATES: &str = "pqc/revocations/v1";

/// Three more members; the first and third are revoked by updates that arrive, the second by one that does not.
fn with_gap() -> (World, Vec<u8>) {
    let mut world = plant();
    for name in ["saw", "mill", "drill"] {
        world.enrol(name, &everything());
        world.introduce("gateway", name);
    }
    let updates = [world.revocation(&["saw"]), world.revocation(&["mill"]), world.revocation(&["drill"])];
    world.broker.inject(UPDATES, &updates[0]);
    world.broker.inject(UPDATES, &updates[2]);
    world.settle();
    let gateway = world.node("gateway");
    assert_eq!(gateway.status().revocation_seq, 1, "the third is not applied over a gap");
    assert!(gateway.status().revocations_behind);
    assert!(gateway.events().contains(&Event::RevocationsBehind));
    assert_eq!(gateway.audited(AuditKind::RevocationGap), 1);
    // While revocations are known to be missing nobody new is trusted; telemetry goes on.
    world.enrol("stranger", &everything());
    world.introduce("gateway", "stranger");
    assert!(!world.node("gateway").was_ready("stranger"));
    assert_flows(&mut world, "press", "gateway");
    let [_, missing, _] = updates;
    (world, missing)
}

fn assert_filled(world: &mut World) {
    let status = world.node("gateway").status();
    assert_eq!((status.revocation_seq, status.revoked, status.revocations_behind), (3, 3, false));
    for name in ["saw", "mill", "drill"] {
        let ticket = world.node("gateway").publish(name, TOPIC, "x");
        assert_eq!(world.node("gateway").send_failure(ticket), Some(SendFailure::Revoked), "{name}");
    }
    assert!(world.node("gateway").was_ready("stranger"), "new trust is possible again");
    assert_flows(world, "press", "gateway");
}

#[test]
fn the_missing_update_fills_the_gap() {
    let (mut world, missing) = with_gap();
    world.broker.inject(UPDATES, &missing);
    world.settle();
    assert_filled(&mut world);
}

#[test]
fn a_checkpoint_fills_the_gap() {
    let (mut world, _) = with_gap();
    world.publish_checkpoint();
    world.settle();
    assert_filled(&mut world);
}

#[test]
fn the_gap_is_remembered_across_a_restart() {
    let (mut world, _) = with_gap();
    world.restart("gateway");
    world.settle();
    assert!(world.node("gateway").status().revocations_behind);
    // Whom to follow is the application's to say at every start.
    world.node("gateway").add_peer("stranger");
    world.settle();
    assert!(!world.node("gateway").was_ready("stranger"));
    world.publish_checkpoint();
    world.settle();
    assert_filled(&mut world);
}
