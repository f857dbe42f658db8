//! Attacks by whoever holds the network, other certified peers included. After each, honest traffic still flows.

use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::session::handshake::{
    Initiation, M1, M1Refusal, M2Refusal, PacketError, Responder, answered_handshake,
};

use crate::reference::Parts;
use crate::support::*;

/// Attack 23: m2 of session A into B.
#[test]
fn an_m2_spliced_into_another_session_is_refused() {
    let trio = Trio::new();
    let (a, b) = (trio.begin(1), trio.begin(2));
    let (m2_of_a, _) = answer(&trio.gateway, &trio.press, a.m1()).unwrap();
    assert_eq!(answered_handshake(&m2_of_a), Some(a.handshake()));
    assert_eq!(refusal(finish(&b, &m2_of_a, &trio.gateway)), M2Refusal::Foreign);

    let mut renamed = m2_of_a;
    renamed[2..18].copy_from_slice(b.handshake().as_bytes());
    assert_eq!(refusal(finish(&b, &renamed, &trio.gateway)), M2Refusal::Ciphertext);

    // Another certified peer's answer, under its own certificate and under the gateway's.
    let to_eve = begin(&trio.press, &trio.eve, SessionSuite::Hybrid, 3);
    let (mut from_eve, _) = answer(&trio.eve, &trio.press, to_eve.m1()).unwrap();
    from_eve[2..18].copy_from_slice(b.handshake().as_bytes());
    assert_eq!(refusal(finish(&b, &from_eve, &trio.eve)), M2Refusal::Certificate);
    assert_eq!(refusal(finish(&b, &from_eve, &trio.gateway)), M2Refusal::Ciphertext);

    trio.still_works(&a);
    trio.still_works(&b);
}

/// Attack 24: a certified peer republishes another's prekey and forwards what it gets.
#[test]
fn a_republished_prekey_makes_no_unknown_key_share() {
    let trio = Trio::new();
    let to_eve = Initiation {
        encapsulation_key: trio.gateway.prekey(PREKEY),
        ..initiation(&trio.press, &trio.eve, SessionSuite::Hybrid, 1)
    };
    let expect = begin_with(&trio.press, &to_eve);
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, expect.m1())), M1Refusal::Recipient);

    let mut parts = Parts::cut(expect.m1());
    parts.fp_r = trio.gateway.sender.fingerprint.0.to_vec();
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &parts.join())), M1Refusal::Ciphertext);

    // And in the other direction: press's genuine m1, claimed to be eve's.
    let genuine = trio.begin(2);
    let mut claimed = Parts::cut(genuine.m1());
    claimed.id = "eve".into();
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.eve, &claimed.join())), M1Refusal::Certificate);
    claimed.fp_i = trio.eve.sender.fingerprint.0.to_vec();
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.eve, &claimed.join())), M1Refusal::Ciphertext);
    trio.still_works(&genuine);
}

/// Attack 26: what one role sent comes back in another.
#[test]
fn reflected_messages_are_refused() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let m1 = expect.m1();
    assert_eq!(refusal(check(&trio.press, &trio.press, m1)), M1Refusal::Recipient);
    let mut swapped = Parts::cut(m1);
    (swapped.fp_i, swapped.fp_r) = (swapped.fp_r, swapped.fp_i);
    assert_eq!(refusal(check(&trio.press, &trio.press, &swapped.join())), M1Refusal::Ourselves);
    swapped.id = "gateway-1".into();
    assert_eq!(refusal(authenticate(&trio.press, &trio.gateway, &swapped.join())), M1Refusal::Ciphertext);

    // Both began at once; each gets back what only the other may get.
    let other_way = begin(&trio.gateway, &trio.press, SessionSuite::Hybrid, 1);
    let (m2, _) = answer(&trio.gateway, &trio.press, m1).unwrap();
    assert_eq!(refusal(other_way.receive_m2(&m2, &trio.press.certificate)), M2Refusal::Foreign);
    let mut renamed = m2.clone();
    renamed[2..18].copy_from_slice(other_way.handshake().as_bytes());
    assert_eq!(refusal(other_way.receive_m2(&renamed, &trio.press.certificate)), M2Refusal::Ciphertext);

    // A packet of one kind as another.
    let kind = M2Refusal::Packet(PacketError::Kind);
    assert_eq!(refusal(finish(&expect, other_way.m1(), &trio.gateway)), kind);
    assert_eq!(M1::parse(&m2).err(), Some(PacketError::Kind));
    trio.still_works(&expect);
    let (m2, theirs) = answer(&trio.press, &trio.gateway, other_way.m1()).unwrap();
    assert_agree(&finish(&other_way, &m2, &trio.press).unwrap(), &theirs);
}

/// Attack 27: the network picks the suite, or shortens the list of them.
#[test]
fn a_suite_cannot_be_downgraded() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    for suite in SessionSuite::ALL {
        let mut parts = Parts::cut(expect.m1());
        if parts.suite != suite {
            parts.suite = suite;
            assert!(authenticate(&trio.gateway, &trio.press, &parts.join()).is_err());
        }
    }
    // The initiator was shown another list, under a certificate that is genuine and not the responder's own.
    let shown = trio.world.relisted(&trio.gateway, &[SessionSuite::HybridChaCha]);
    let plain = initiation(&trio.press, &trio.gateway, SessionSuite::HybridChaCha, 2);
    let misled = begin_with(&trio.press, &Initiation { peer: &shown, ..plain });
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, misled.m1())), M1Refusal::Ciphertext);

    // A suite that the certificate lists and local policy does not allow, and the reverse.
    let m1 = M1::parse(expect.m1()).unwrap();
    let judge = |accepted: &[SessionSuite], allowed: &[SessionSuite]| {
        let encapsulation_key = trio.gateway.prekey(PREKEY).as_bytes();
        let us = &trio.gateway.sender;
        let responder = Responder { us, accepted, allowed, prekey_required: true, encapsulation_key };
        refusal(m1.check(backend(), &responder, &trio.press.certificate))
    };
    assert_eq!(judge(trio.gateway.accepted(), &[SessionSuite::HybridChaCha]), M1Refusal::Suite);
    assert_eq!(judge(&[SessionSuite::HybridChaCha], &SessionSuite::ALL), M1Refusal::Suite);
    trio.still_works(&expect);
}

/// Attack 38: keys and ciphertexts of one handshake in another, and malformed ones.
#[test]
fn swapped_keys_and_ciphertexts_are_refused() {
    let trio = Trio::new();
    let (a, b) = (trio.begin(1), trio.begin(2));
    let other = Parts::cut(b.m1());
    let changes: [&dyn Fn(&mut Parts); 6] = [
        &|parts| parts.ek_e = other.ek_e.clone(),
        &|parts| parts.ct1 = other.ct1.clone(),
        &|parts| parts.c1 = other.c1.clone(),
        &|parts| parts.gate = other.gate.clone(),
        &|parts| parts.ek_e = vec![0xff; parts.ek_e.len()],
        &|parts| parts.ct1 = vec![0; parts.ct1.len()],
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut parts = Parts::cut(a.m1());
        change(&mut parts);
        let refused = refusal(authenticate(&trio.gateway, &trio.press, &parts.join()));
        assert_eq!(refused, M1Refusal::Ciphertext, "change {index}");
    }

    let (m2, _) = answer(&trio.gateway, &trio.press, a.m1()).unwrap();
    let (m2_of_b, _) = answer(&trio.gateway, &trio.press, b.m1()).unwrap();
    let (from, to) = (18, 18 + 1120);
    let mut swapped = m2.clone();
    swapped[from..to].copy_from_slice(&m2_of_b[from..to]);
    assert_eq!(refusal(finish(&a, &swapped, &trio.gateway)), M2Refusal::Ciphertext);
    // A share of low order is refused by the KEM itself.
    let mut low_order = m2.clone();
    low_order[to - 32..to].fill(0);
    assert_eq!(refusal(finish(&a, &low_order, &trio.gateway)), M2Refusal::KemCiphertext);
    trio.still_works(&a);
    trio.still_works(&b);
}

/// Attack 40, without the prekey's secret: m1 under another prekey's name or ciphertext.
#[test]
fn an_m1_moved_to_another_prekey_is_refused() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let mut parts = Parts::cut(expect.m1());
    parts.prekey = OTHER_PREKEY.0;
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &parts.join())), M1Refusal::Ciphertext);
    let (ct1, _) = trio.gateway.prekey(OTHER_PREKEY).encapsulate(&mut Stream::new("moved")).unwrap();
    parts.ct1 = ct1;
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &parts.join())), M1Refusal::Ciphertext);
    parts.prekey = 99;
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &parts.join())), M1Refusal::Prekey);
    trio.still_works(&expect);
}

/// An m2 of random bytes with the right frame costs a decapsulation and burns nothing.
#[test]
fn forged_answers_do_not_burn_the_attempt() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let (m2, _) = answer(&trio.gateway, &trio.press, expect.m1()).unwrap();
    let mut random = Stream::new("forgeries");
    for _ in 0..50 {
        let mut forged = m2.clone();
        random.fill(&mut forged[18..]);
        assert!(finish(&expect, &forged, &trio.gateway).is_err());
    }
    trio.still_works(&expect);
}
