//! Malformed input of any kind never surfaces as a connection error: it is refused, acknowledged and forgotten.

use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_tests::{TOPIC, assert_all_flow, assert_refused, keys_topic, plant, prekeys_topic};

#[test]
fn malformed_input_is_refused_and_acknowledged_and_the_connection_stays() {
    let mut world = plant();
    let control =
        ["pqc/revocations/v1".to_string(), "pqc/revocations/checkpoint/v1".into(), keys_topic("press")];
    let junk: [&[u8]; 8] =
        [b"", b"\0", b"\xff", b"\x84", b"\x9f\xff", b"{\"json\":1}", b"\x84\x40\xa0\x40\x80", &[0x84; 5_000]];
    for payload in junk {
        for topic in &control {
            assert_refused(&mut world, topic, payload, RefusalReason::Malformed);
        }
        assert_refused(&mut world, "pqc/anchors/v1", payload, RefusalReason::BadAnchors);
        assert_refused(&mut world, "pqc/keys/nobody", payload, RefusalReason::UnknownPeer);
        assert_refused(&mut world, "pqc/keys/a/b", payload, RefusalReason::InvalidPeerId);
        assert_refused(&mut world, "pqc/unheard/of", payload, RefusalReason::InvalidTopic);
    }
    assert_refused(&mut world, &prekeys_topic("press"), b"\0", RefusalReason::Malformed);
    for (payload, reason) in [
        (&b""[..], RefusalReason::Malformed),
        (b"\0", RefusalReason::UnknownKind),
        (b"\x81", RefusalReason::UnknownKind),
        (b"\xc4\x01", RefusalReason::UnknownKind),
        (b"\xc0\x01", RefusalReason::Malformed),
        (b"\x05pre", RefusalReason::Malformed),
        (b"\x05pr/ss\x01\x01", RefusalReason::InvalidPeerId),
        (b"\x05press\x01\x01", RefusalReason::Malformed),
    ] {
        assert_refused(&mut world, TOPIC, payload, reason);
    }
    assert_all_flow(&mut world);
}
