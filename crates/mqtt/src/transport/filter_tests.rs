#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const NONCE_BYTES: [u8; NONCE] = *b"sixteen byte key";
const LIMIT: usize = MIN_PACKET_LIMIT;
const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V5, ProtocolVersion::V311];

fn filter(version: ProtocolVersion) -> Filter {
    Filter::new(version, LIMIT, Marker::new(NONCE_BYTES))
}

fn held(filter: &Filter) -> usize {
    match &filter.state {
        State::Header(head) => head.len(),
        State::Publish(publish) => publish.head.len(),
        State::Pass(_) | State::Skip(_) | State::Unframed => 0,
    }
}

/// Feeds `input` in chunks of the given sizes, repeated; returns what came out.
fn run(filter: &mut Filter, input: &[u8], chunks: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = input;
    for size in chunks.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, left) = rest.split_at((*size).min(rest.len()));
        assert_eq!(filter.feed(chunk, || true, &mut out), chunk.len());
        assert!(held(filter) <= 5 + 2 + usize::from(u16::MAX) + 2);
        rest = left;
    }
    out
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    write_remaining_length(body.len(), &mut packet);
    packet.extend_from_slice(body);
    packet
}

fn publish(version: ProtocolVersion, flags: u8, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(topic);
    if flags & 0b0110 != 0 {
        body.extend_from_slice(&[0x12, 0x34]);
    }
    if version == ProtocolVersion::V5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

/// The library's view of one packet: topic, payload, QoS, retain, packet identifier.
fn decode(version: ProtocolVersion, bytes: &[u8]) -> (String, Vec<u8>, u8, bool, u16) {
    let mut stream = BytesMut::from(bytes);
    let topic = |topic: &[u8]| String::from_utf8(topic.to_vec()).unwrap();
    let decoded = match version {
        ProtocolVersion::V5 => match rumqttc_v5::Packet::read(&mut stream, Some(LIMIT as u32)).unwrap() {
            rumqttc_v5::Packet::Publish(p) => {
                (topic(&p.topic), p.payload.to_vec(), p.qos as u8, p.retain, p.pkid)
            }
            other => panic!("{other:?}"),
        },
        ProtocolVersion::V311 => match rumqttc_v4::Packet::read(&mut stream, LIMIT).unwrap() {
            rumqttc_v4::Packet::Publish(p) => {
                (topic(&p.topic), p.payload.to_vec(), p.qos as u8, p.retain, p.pkid)
            }
            other => panic!("{other:?}"),
        },
    };
    assert!(stream.is_empty());
    decoded
}

#[test]
fn a_16_mib_publish_becomes_a_small_one() {
    let marker = Marker::new(NONCE_BYTES);
    for version in VERSIONS {
        for (flags, qos) in [(0b0001, 0), (0b0011, 1), (0b1010, 1)] {
            let large = publish(version, flags, b"some/topic", &vec![7; 16 << 20]);
            let out = run(&mut filter(version), &large, &[64 * 1024]);
            assert!(out.len() < 100);
            let (topic, payload, seen_qos, retain, packet_id) = decode(version, &out);
            assert_eq!((topic.as_str(), seen_qos, retain), ("some/topic", qos, flags & 1 == 1));
            assert_eq!(packet_id, if qos == 0 { 0 } else { 0x1234 });
            assert_eq!(marker.read(&payload), Some((large.len() as u64, DiscardReason::TooLarge)));
        }
    }
}

#[test]
fn the_limit_itself_passes_and_one_byte_more_does_not() {
    for version in VERSIONS {
        let overhead = publish(version, 0, b"t", &vec![0; 1000]).len() - 1000;
        let exact = publish(version, 0, b"t", &vec![0; LIMIT - overhead]);
        assert_eq!(exact.len(), LIMIT);
        assert_eq!(run(&mut filter(version), &exact, &[999]), exact);
        let over = publish(version, 0, b"t", &vec![0; LIMIT - overhead + 1]);
        assert!(run(&mut filter(version), &over, &[999]).len() < 100);
    }
}

#[test]
fn the_longest_topic_is_cut() {
    for version in VERSIONS {
        let topic = "é".repeat(32_767);
        let out = run(&mut filter(version), &publish(version, 0b0010, topic.as_bytes(), b"x"), &[1000]);
        let (shown, payload, ..) = decode(version, &out);
        assert!(shown.len() <= MAX_REPORTED_TOPIC && topic.starts_with(&shown));
        assert!(Marker::new(NONCE_BYTES).read(&payload).is_some());
    }
}

#[test]
fn names_the_library_would_disconnect_for_are_discarded() {
    let bad: [&[u8]; 5] = [b"a/+/b", b"#", b"a\0b", b"\xff\xfe", b""];
    for version in VERSIONS {
        for topic in bad {
            let large = publish(version, 0b0010, topic, b"body");
            let (shown, payload, ..) = decode(version, &run(&mut filter(version), &large, &[3]));
            assert!(is_topic_name(shown.as_bytes()));
            let (_, reason) = Marker::new(NONCE_BYTES).read(&payload).unwrap();
            assert_eq!(reason, DiscardReason::InvalidTopic);
        }
    }
}

#[test]
fn a_refused_publish_waits_and_what_precedes_it_does_not() {
    let version = ProtocolVersion::V5;
    let ping = packet(0xd0, &[]);
    let message = publish(version, 0b0010, b"t", b"body");
    let input = [ping.clone(), message.clone()].concat();
    let (mut filter, mut out) = (filter(version), Vec::new());
    assert_eq!(filter.feed(&input, || false, &mut out), ping.len());
    assert!(filter.at_boundary());
    assert_eq!(out, ping);
    assert_eq!(filter.feed(&message, || true, &mut out), message.len());
    assert_eq!(out, input);
}

#[test]
fn a_marker_is_not_mistaken_for_a_payload() {
    let marker = Marker::new(NONCE_BYTES);
    assert_eq!(marker.read(b""), None);
    assert_eq!(marker.read(&NONCE_BYTES), None);
    assert_eq!(marker.read(&[0; MARKER]), None);
    let mut own = Vec::new();
    marker.write(9, DiscardReason::TooLarge, &mut own);
    assert_eq!(marker.read(&own), Some((9, DiscardReason::TooLarge)));
    own.push(0);
    assert_eq!(marker.read(&own), None);
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::V5), Just(ProtocolVersion::V311)]
}

/// Any packet within the limit: every type, PUBLISH more often.
fn in_limit(version: ProtocolVersion) -> impl Strategy<Value = Vec<u8>> {
    let other =
        (0u8..16, 0u8..16, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, flags, body)| {
            let kind = if kind == PUBLISH { 4 } else { kind };
            packet(kind << 4 | flags, &body)
        });
    let message = (0u8..16, "[a-z/é]{1,40}", prop::collection::vec(any::<u8>(), 0..1900))
        .prop_map(move |(flags, topic, payload)| publish(version, flags, topic.as_bytes(), &payload));
    prop_oneof![1 => other, 3 => message]
}

fn chunk_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..700, 1..8)
}

proptest! {
    #[test]
    fn in_limit_traffic_is_untouched(
        (version, packets) in version().prop_flat_map(|v| (Just(v), prop::collection::vec(in_limit(v), 0..20))),
        chunks in chunk_sizes(),
    ) {
        let input = packets.concat();
        let mut filter = filter(version);
        prop_assert_eq!(run(&mut filter, &input, &chunks), input);
        prop_assert!(filter.at_boundary());
    }

    #[test]
    fn over_limit_messages_vanish_from_between_their_neighbours(
        version in version(),
        flags in prop::sample::select(vec![0u8, 1, 2, 3, 10, 11]),
        extra in 0usize..50_000,
        topic in "[a-z/é]{1,40}",
        chunks in chunk_sizes(),
    ) {
        let before = publish(version, 2, b"before", b"1");
        let large = publish(version, flags, topic.as_bytes(), &vec![0x30; LIMIT + extra]);
        let after = packet(0xd0, &[]);
        let out = run(&mut filter(version), &[before.clone(), large.clone(), after.clone()].concat(), &chunks);
        let replacement = out.strip_prefix(&before[..]).unwrap().strip_suffix(&after[..]).unwrap();
        let (shown, payload, qos, retain, _) = decode(version, replacement);
        prop_assert_eq!(shown, topic);
        prop_assert_eq!(qos, flags >> 1 & 3);
        prop_assert_eq!(retain, flags & 1 == 1);
        let expected = Some((large.len() as u64, DiscardReason::TooLarge));
        prop_assert_eq!(Marker::new(NONCE_BYTES).read(&payload), expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_splits_do_not_matter(
        version in version(),
        input in prop::collection::vec(any::<u8>(), 0..6000),
        chunks in chunk_sizes(),
    ) {
        let split = run(&mut filter(version), &input, &chunks);
        let whole = run(&mut filter(version), &input, &[usize::MAX]);
        // A replacement is at most this much longer than the discarded packet's own bytes.
        prop_assert!(split.len() <= input.len() * (MARKER + 8));
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn refusals_lose_nothing(
        (version, packets) in version().prop_flat_map(|v| (Just(v), prop::collection::vec(in_limit(v), 0..20))),
        answers in prop::collection::vec(any::<bool>(), 1..10),
    ) {
        let input = packets.concat();
        let (mut filter, mut out, mut rest) = (filter(version), Vec::new(), &input[..]);
        let mut answers = answers.iter().copied().chain(std::iter::once(true)).collect::<Vec<_>>().into_iter().cycle();
        while !rest.is_empty() {
            let taken = filter.feed(rest, || answers.next().unwrap(), &mut out);
            rest = &rest[taken..];
        }
        prop_assert_eq!(out, input);
    }
}
