//! An old signed manifest must not re-parse as a newer one: every signed payload is canonically framed.

use pqc_iiot_core::codec::signed::Unverified;
use pqc_iiot_core::control::revocation::RevocationCheckpoint;
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::identity::trust::PinnedAnchors;
use pqc_iiot_tests::{assert_flows, assert_refused, plant};

const TOPIC: &str = "pqc/revocations/checkpoint/v1";

#[test]
fn no_change_of_any_byte_makes_an_old_manifest_another_one() {
    let mut world = plant();
    world.revoke(&["press"]);
    let old = world.broker.retained(TOPIC).unwrap().to_vec();
    world.revoke(&["lathe"]);

    let anchors = PinnedAnchors::pin(world.backend(), world.authority.anchors()).unwrap();
    let decode = |bytes: &[u8]| Unverified::<RevocationCheckpoint>::decode(bytes, 64 * 1024);
    let genuine = decode(&old).unwrap().unverified().clone();
    let accepts =
        |bytes: &[u8]| decode(bytes).is_ok_and(|object| anchors.verify_control(object, &TOPIC).is_ok());
    assert!(accepts(&old), "negative control");
    // Headers, payload and framing byte by byte; of the signature's bytes a sample.
    let framed = old.len() - 3_400;
    for at in (0..framed).chain((framed..old.len()).step_by(61)) {
        for flip in [1, 0x20, 0x80] {
            let mut changed = old.clone();
            changed[at] ^= flip;
            assert!(!accepts(&changed), "byte {at} of a manifest at {}", genuine.head().seq);
        }
    }
    for extra in [&[0][..], &[0xff], &old] {
        assert!(!accepts(&[&old, extra].concat()));
        assert!(!accepts(&[extra, &old].concat()));
    }

    assert_refused(&mut world, TOPIC, &old, RefusalReason::RevocationRollback);
    assert_eq!(world.node("gateway").status().revocation_seq, 2);
    world.enrol("drill", &pqc_iiot_tests::everything());
    world.subscribe("drill", "plant/#");
    world.introduce("gateway", "drill");
    assert_flows(&mut world, "drill", "gateway");
}
