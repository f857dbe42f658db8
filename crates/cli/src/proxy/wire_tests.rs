use mqtt_protocol_core::mqtt::packet::{Property, Qos, SubEntry, SubOpts, UserProperty, v3_1_1, v5_0};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;
use crate::proxy::answer;
use crate::proxy::incoming::Incoming;

/// What a client of each version says on a good day.
fn conversation(v5: bool) -> Vec<Vec<u8>> {
    let bytes = |packet: Packet| packet.to_continuous_buffer();
    let entry = || SubEntry::new("plant/#", SubOpts::new().set_qos(Qos::AtLeastOnce)).unwrap();
    let peer: Vec<Property> = vec![UserProperty::new("peer", "gateway").unwrap().into()];
    if v5 {
        let publish = |id: u16, qos| {
            let publish = v5_0::Publish::builder().topic_name("plant/x").unwrap().qos(qos).packet_id(id);
            bytes(publish.props(peer.clone()).payload("21.5").build().unwrap().into())
        };
        vec![
            bytes(v5_0::Connect::builder().client_id("c").unwrap().keep_alive(60).build().unwrap().into()),
            publish(1, Qos::AtLeastOnce),
            publish(2, Qos::ExactlyOnce),
            bytes(v5_0::Pubrel::builder().packet_id(2u16).build().unwrap().into()),
            bytes(v5_0::Subscribe::builder().packet_id(3u16).entries(vec![entry()]).build().unwrap().into()),
            bytes(
                v5_0::Unsubscribe::builder()
                    .packet_id(4u16)
                    .entries(["plant/#"])
                    .unwrap()
                    .build()
                    .unwrap()
                    .into(),
            ),
            bytes(v5_0::Pingreq::builder().build().unwrap().into()),
            bytes(v5_0::Disconnect::builder().build().unwrap().into()),
        ]
    } else {
        let publish = |id: u16, qos| {
            let publish = v3_1_1::Publish::builder().topic_name("plant/x").unwrap().qos(qos).packet_id(id);
            bytes(publish.payload("21.5").build().unwrap().into())
        };
        vec![
            bytes(v3_1_1::Connect::builder().client_id("c").unwrap().keep_alive(60).build().unwrap().into()),
            publish(1, Qos::AtLeastOnce),
            publish(2, Qos::ExactlyOnce),
            bytes(v3_1_1::Pubrel::builder().packet_id(2u16).build().unwrap().into()),
            bytes(
                v3_1_1::Subscribe::builder().packet_id(3u16).entries(vec![entry()]).build().unwrap().into(),
            ),
            bytes(
                v3_1_1::Unsubscribe::builder()
                    .packet_id(4u16)
                    .entries(["plant/#"])
                    .unwrap()
                    .build()
                    .unwrap()
                    .into(),
            ),
            bytes(v3_1_1::Pingreq::builder().build().unwrap().into()),
            bytes(v3_1_1::Disconnect::builder().build().unwrap().into()),
        ]
    }
}

/// Feeds bytes as they would arrive; returns what was understood.
fn hear(wire: &mut Wire, mut bytes: &[u8]) -> Vec<Incoming> {
    let mut understood = Vec::new();
    while !bytes.is_empty() && wire.ended().is_none() {
        bytes = &bytes[wire.feed(bytes)..];
        while let Some(packet) = wire.received() {
            let incoming = Incoming::from(packet);
            if let Incoming::Connect(_) = incoming {
                let v5 = wire.is_v5();
                answer::welcome(v5, None).and_then(|packet| wire.send(packet)).unwrap();
            }
            understood.push(incoming);
        }
    }
    understood
}

#[test]
fn both_versions_are_understood_byte_by_byte() {
    for v5 in [false, true] {
        let mut wire = Wire::new();
        let bytes = conversation(v5).concat();
        let understood: Vec<Incoming> = bytes.chunks(1).flat_map(|byte| hear(&mut wire, byte)).collect();
        assert_eq!(understood.len(), 8);
        assert_eq!(wire.is_v5(), v5);
        assert!(wire.keep_alive().is_none(), "cancelled by DISCONNECT");
        let Incoming::Publish { id: Some(1), exactly_once: false, publication, .. } = &understood[1] else {
            panic!("not the publish")
        };
        assert_eq!(publication.topic, "plant/x");
        assert_eq!(publication.peer.as_deref(), v5.then_some("gateway"));
    }
}

#[test]
fn a_repeated_publish_at_qos_2_is_not_answered_before_it_is_accepted() {
    for v5 in [false, true] {
        let mut wire = Wire::new();
        let [connect, _, publish, ..] = &conversation(v5)[..] else { panic!("too short") };
        hear(&mut wire, connect);
        wire.take_output();
        let first = hear(&mut wire, publish);
        let again = hear(&mut wire, publish);
        assert_eq!((first.len(), again.len()), (1, 0), "once");
        assert!(wire.take_output().is_empty());
        answer::accepted(v5, 2, true).and_then(|packet| wire.send(packet)).unwrap();
        assert!(!wire.take_output().is_empty());
    }
}

#[test]
fn an_oversized_packet_ends_the_connection_before_it_is_in_memory() {
    for v5 in [false, true] {
        let mut wire = Wire::new();
        hear(&mut wire, &conversation(v5)[0]);
        // PUBLISH with the largest length that the protocol knows.
        hear(&mut wire, &[0x30, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(wire.ended(), Some("packet-too-large"));
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..20_000 {
        let mut wire = Wire::new();
        let mut packets = conversation(round % 2 == 0);
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..packets.len());
            match random.random_range(0..5) {
                0 => packets.swap(0, at),
                1 => packets[at].truncate(random.random_range(0..4)),
                2 => packets.insert(at, (0..random.random_range(1..24)).map(|_| random.random()).collect()),
                _ => {
                    let packet = &mut packets[at];
                    if let Some(byte) = packet.len().checked_sub(1).map(|last| random.random_range(0..=last))
                    {
                        packet[byte] = random.random();
                    }
                }
            }
        }
        let bytes = packets.concat();
        hear(&mut wire, &bytes);
        if random.next_u32() % 8 == 0 {
            wire.silent();
        }
    }
}
