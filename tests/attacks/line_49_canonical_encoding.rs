//! Canonical encoding: trailing bytes, non-minimal or indefinite lengths, duplicate, unsorted or surplus fields, tags.

use pqc_iiot_core::codec::Writer;
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::identity::announcement::assemble_announcement;
use pqc_iiot_tests::{
    Freely, TOPIC, announcement_parts, assert_all_flow, assert_refused, everything, intercept, keys_topic,
    plant, thief_of,
};

#[test]
fn no_second_encoding_of_a_signed_object_is_accepted() {
    let mut world = plant();
    world.broker.withhold("pqc/keys/drill");
    world.enrol("drill", &everything());
    world.settle();
    world.broker.withhold_nothing();
    world.introduce("gateway", "drill");
    let topic = keys_topic("drill");
    let drill = thief_of(&mut world, "drill");
    let genuine = drill.announcement(&drill.certificate, 1, &drill.peer, &topic);
    // The announcement, and the signed object inside it.
    for variant in variants(&genuine, 0x82) {
        assert_refused(&mut world, &topic, &variant, RefusalReason::Malformed);
    }
    let (certificate, signed) = announcement_parts(&genuine);
    let map = signed.iter().position(|byte| *byte == 0xa0).unwrap();
    let mut objects = variants(&signed, 0x84).to_vec();
    objects.push([&signed[..map], &[0xb8, 0x00], &signed[map + 1..]].concat());
    objects.push([&signed[..map], &[0xbf, 0xff], &signed[map + 1..]].concat());
    for object in objects {
        let variant = assemble_announcement(&certificate, &object);
        assert_refused(&mut world, &topic, &variant, RefusalReason::Malformed);
    }
    let mut surplus = Writer::new();
    surplus.array(3).bytes(&certificate).bytes(&signed).bytes(&[]);
    assert_refused(&mut world, &topic, &surplus.finish(), RefusalReason::Malformed);

    // Payloads that break the rules under the peer's own, valid signature.
    let payloads: [fn(&mut Writer) -> &mut Writer; 6] = [
        |w| w.map(3).int(1).bytes(&[1; 32]).int(1).bytes(&[1; 32]).int(2).uint(1),
        |w| w.map(3).int(2).uint(1).int(1).bytes(&[1; 32]).int(3).bytes(&[0; 16]),
        |w| w.map(4).int(1).bytes(&[1; 32]).int(2).uint(1).int(3).bytes(&[0; 16]).int(4).uint(1),
        |w| w.map(2).int(1).bytes(&[1; 32]).int(2).uint(1),
        |w| w.map(3).int(1).bytes(&[1; 32]).int(2).uint(1).int(3).bytes(&[0; 16]).uint(0),
        |w| w.map(3).int(1).bytes(&[1; 31]).int(2).uint(1).int(3).bytes(&[0; 16]),
    ];
    for write in payloads {
        let object = drill.sign(&Freely { write }, &(&drill.peer, topic.as_str()));
        let variant = assemble_announcement(&certificate, &object);
        assert_refused(&mut world, &topic, &variant, RefusalReason::Malformed);
    }
    assert!(!world.node("gateway").was_ready("drill"));
    world.broker.inject(&topic, &genuine);
    world.settle();
    assert!(world.node("gateway").was_ready("drill"), "negative control");
    assert_all_flow(&mut world);
}

/// Other encodings of an array with this head.
fn variants(genuine: &[u8], head: u8) -> [Vec<u8>; 6] {
    let (first, rest) = genuine.split_first().unwrap();
    assert_eq!(*first, head);
    [
        [genuine, &[0]].concat(),
        [genuine, genuine].concat(),
        [&[0x98, head & 0x1f], rest].concat(),
        [&[0x9f], rest, &[0xff]].concat(),
        [&[0xd8, 0x62], genuine].concat(),
        genuine[..genuine.len() - 1].to_vec(),
    ]
}

#[test]
fn no_second_encoding_of_an_envelope_is_accepted() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "81.5");
    assert_refused(&mut world, TOPIC, &[&packet[..], &[0]].concat(), RefusalReason::BadSignature);
    assert_refused(&mut world, TOPIC, &packet[..packet.len() - 1], RefusalReason::BadSignature);
    assert_refused(&mut world, TOPIC, &[&[0], &packet[..]].concat(), RefusalReason::UnknownKind);
    world.broker.inject(TOPIC, &packet);
    world.settle();
    assert_eq!(world.node("gateway").received(), ["81.5"]);
    assert_all_flow(&mut world);
}
