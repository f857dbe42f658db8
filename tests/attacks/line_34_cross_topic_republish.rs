//! Cross-topic republish: nothing genuine means anything at another topic.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::sessions::{assert_all_in_sessions, assert_no_effect, session_plant};
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, intercept, keys_topic, plant, prekeys_topic};

#[test]
fn nothing_genuine_is_accepted_at_another_topic() {
    let mut world = plant();
    let message = intercept(&mut world, TOPIC, "81.5");
    let announcement = world.broker.last_on(&keys_topic("press"));
    let bundle = world.broker.last_on(&prekeys_topic("press"));
    let update = world.revocation(&["lathe"]);

    use RefusalReason as Reason;
    for (topic, payload, reason) in [
        ("plant/other", &message, Reason::BadSignature),
        ("pqc/keys/press", &message, Reason::Malformed),
        ("pqc/revocations/v1", &message, Reason::Malformed),
        ("pqc/anchors/v1", &message, Reason::BadAnchors),
        ("pqc/keys/lathe", &announcement, Reason::Collision),
        ("pqc/prekeys/press", &announcement, Reason::Malformed),
        ("pqc/revocations/v1", &announcement, Reason::Malformed),
        (TOPIC, &announcement, Reason::UnknownKind),
        ("pqc/prekeys/lathe", &bundle, Reason::BadPrekey),
        ("pqc/keys/press", &bundle, Reason::Malformed),
        ("pqc/revocations/checkpoint/v1", &update, Reason::Malformed),
        ("pqc/anchors/v1", &update, Reason::BadAnchors),
        (TOPIC, &update, Reason::UnknownKind),
    ] {
        assert_refused(&mut world, topic, payload, reason);
    }
    assert_all_flow(&mut world);
    world.broker.inject("pqc/revocations/v1", &update);
    world.settle();
    assert_eq!(world.node("gateway").status().revoked, 1, "negative control");
}

#[test]
fn a_record_means_nothing_at_another_topic() {
    let mut world = session_plant();
    let record = intercept(&mut world, TOPIC, "81.5");
    for topic in ["plant/other", "plant/press/temperature/", "pqc/control/gateway"] {
        assert_refused(&mut world, topic, &record, RefusalReason::BadCiphertext);
    }
    for topic in
        ["pqc/session/init/gateway", "pqc/session/resp/gateway", "pqc/keys/press", "pqc/revocations/v1"]
    {
        assert_no_effect(&mut world, topic, &record);
    }
    world.broker.deliver_to("gateway", TOPIC, &record);
    world.settle();
    assert_eq!(world.node("gateway").received().last().unwrap(), "81.5", "negative control");
    assert_all_in_sessions(&mut world);
}
