//! Whatever arrives: it is refused, nothing panics, and the genuine message still works.

use pqc_iiot_core::session::handshake::{ExpectM2, M1, answered_handshake};
use proptest::prelude::*;

use crate::support::*;

/// One bit of every byte, another one in every next byte.
fn flips(packet: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..packet.len()).map(|index| {
        let mut flipped = packet.to_vec();
        flipped[index] ^= 1 << (index * 3 % 8);
        (index, flipped)
    })
}

#[test]
fn a_bit_flipped_anywhere_in_m1_is_refused() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    for (index, flipped) in flips(expect.m1()) {
        assert!(authenticate(&trio.gateway, &trio.press, &flipped).is_err(), "byte {index}");
    }
    trio.still_works(&expect);
}

#[test]
fn a_bit_flipped_anywhere_in_m2_is_refused() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let (m2, _) = answer(&trio.gateway, &trio.press, expect.m1()).unwrap();
    for (index, flipped) in flips(&m2) {
        assert!(finish(&expect, &flipped, &trio.gateway).is_err(), "byte {index}");
    }
    trio.still_works(&expect);
}

#[test]
fn any_bit_flipped_in_stale_is_refused() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let stale = authenticate(&trio.gateway, &trio.press, expect.m1()).unwrap_or_else(|_| panic!());
    let stale = stale.stale(7).unwrap();
    for bit in 0..8 * stale.len() {
        let mut flipped = stale.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(expect.receive_stale(&flipped).is_err(), "bit {bit}");
    }
    assert_eq!(expect.receive_stale(&stale), Ok(7));
    trio.still_works(&expect);
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let m1 = expect.m1();
    let (m2, _) = answer(&trio.gateway, &trio.press, m1).unwrap();
    for length in (0..m1.len()).filter(|length| length % 7 == 0 || *length < 200) {
        assert!(authenticate(&trio.gateway, &trio.press, &m1[..length]).is_err(), "m1 of {length}");
    }
    for length in (0..m2.len()).filter(|length| length % 7 == 0 || *length < 200) {
        assert!(finish(&expect, &m2[..length], &trio.gateway).is_err(), "m2 of {length}");
    }
    for more in [1, 16, 70_000] {
        let longer = |packet: &[u8]| [packet, &vec![0; more]].concat();
        assert!(authenticate(&trio.gateway, &trio.press, &longer(m1)).is_err());
        assert!(finish(&expect, &longer(&m2), &trio.gateway).is_err());
    }
    trio.still_works(&expect);
}

#[test]
fn a_damaged_row_is_an_error_or_finds_no_answer() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let (m2, _) = answer(&trio.gateway, &trio.press, expect.m1()).unwrap();
    let row = expect.to_row();
    let mut decoded = 0;
    for (index, flipped) in flips(row.expose()).filter(|(index, _)| index % 5 == 0) {
        let Ok(again) = ExpectM2::from_row(backend(), &flipped) else { continue };
        decoded += 1;
        let Ok(end) = finish(&again, &m2, &trio.gateway) else { continue };
        // Only what m2 does not bind can differ: where and under which boot we said we receive, the gate, names.
        assert!(again.to_row().expose() != row.expose(), "byte {index}");
        assert_eq!(end.responder, trio.gateway.sender.fingerprint);
    }
    println!("{decoded} damaged rows decoded");
    assert!(ExpectM2::from_row(backend(), &row.expose()[..row.expose().len() - 1]).is_err());
    trio.still_works(&expect);
}

proptest! {
    #[test]
    fn decoders_survive_arbitrary_bytes(
        kind in prop_oneof![Just(0xc1u8), Just(0xc2), Just(0xc3), any::<u8>()],
        suite in 0u8..5,
        id_len in any::<u8>(),
        rest in proptest::collection::vec(any::<u8>(), 0..9_000),
    ) {
        let mut bytes = vec![kind, suite, id_len];
        bytes.extend_from_slice(&rest);
        if let Ok(m1) = M1::parse(&bytes) {
            prop_assert!(!m1.initiator().is_empty());
        }
        let _ = answered_handshake(&bytes);
        prop_assert!(ExpectM2::from_row(backend(), &bytes).is_err());
    }

    #[test]
    fn an_m1_of_random_fields_parses_and_is_refused(seed in any::<u64>(), id in "[a-z0-9]{1,128}") {
        let mut random = Stream::new(&seed.to_string());
        let mut bytes = vec![0xc1, 1, u8::try_from(id.len()).unwrap()];
        bytes.extend_from_slice(id.as_bytes());
        let mut rest = vec![0; 32 + 32 + 4 + 24 + 1216 + 1120 + 16 + 40];
        pqc_iiot_core::crypto::backend::RandomSource::fill(&mut random, &mut rest);
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(M1::parse(&bytes).map_err(|_| ()).unwrap().initiator(), id.as_str());
    }
}
