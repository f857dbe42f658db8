//! Both sides agree, over all suites, sets and backends; sizes; the durable row; the gate.

use pqc_iiot_core::crypto::kdf::sha256;
use pqc_iiot_core::crypto::portable::PORTABLE;
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureSet};
use pqc_iiot_core::provider::PrekeyId;
use pqc_iiot_core::session::handshake::{
    ExpectM2, FinishError, Initiate, InitiateError, Initiation, M1Refusal, Role, choose_suite,
};

use crate::support::*;

fn suites_with(suite: SessionSuite) -> &'static [SessionSuite] {
    match suite {
        SessionSuite::Cnsa2 => &[SessionSuite::Cnsa2],
        _ => &[SessionSuite::HybridChaCha, SessionSuite::Hybrid],
    }
}

#[test]
fn both_sides_agree_for_every_suite_set_and_pair_of_backends() {
    for ours in backends() {
        for theirs in backends() {
            let (near, far) = (World::new(ours), World::new(theirs));
            for suite in SessionSuite::ALL {
                for &set in SignatureSet::ALL {
                    // The same peers on both, so that each side has the other's certificate in its own backend.
                    let other_set = SignatureSet::Ed25519MlDsa65;
                    let press = near.peer("press-7", set, suites_with(suite), true);
                    let gateway_as_seen = near.peer("gateway-1", other_set, suites_with(suite), true);
                    let gateway = far.peer("gateway-1", other_set, suites_with(suite), true);
                    let press_as_seen = far.peer("press-7", set, suites_with(suite), true);
                    assert_eq!(gateway.sender.fingerprint, gateway_as_seen.sender.fingerprint);

                    let expect = begin(&press, &gateway_as_seen, suite, 1);
                    let (m2, theirs) = answer(&gateway, &press_as_seen, expect.m1()).unwrap();
                    let ours = finish(&expect, &m2, &gateway_as_seen).unwrap();
                    assert_agree(&ours, &theirs);
                    assert_eq!(ours.role, Role::Initiator);
                    assert_eq!(ours.sid_in, press.sid);
                    assert_eq!(ours.boot_in, gateway.boot);

                    // And the other way round, so that every set also signs an m2.
                    let expect = begin(&gateway, &press_as_seen, suite, 1);
                    let (m2, theirs) = answer(&press, &gateway_as_seen, expect.m1()).unwrap();
                    assert_agree(&finish(&expect, &m2, &press_as_seen).unwrap(), &theirs);
                }
            }
        }
    }
}

#[test]
fn packets_keep_their_promised_sizes() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let (m2, _) = answer(&trio.gateway, &trio.press, expect.m1()).unwrap();
    let m1 = expect.m1().len() - trio.press.sender.id.as_str().len();
    println!("m1 is {m1} bytes beside the id, m2 {}", m2.len());
    assert!(m1 <= 5_900 && m2.len() <= 4_700);
}

#[test]
fn every_attempt_has_its_own_keys() {
    let trio = Trio::new();
    let finish = |attempt| {
        let expect = trio.begin(attempt);
        let (m2, _) = answer(&trio.gateway, &trio.press, expect.m1()).unwrap();
        finish(&expect, &m2, &trio.gateway).unwrap()
    };
    let (first, second) = (finish(1), finish(2));
    assert!(first.root.expose() != second.root.expose());
    assert_ne!(first.th2, second.th2);
}

/// A change of one byte on the wire or of one derived secret changes this: then other releases do not understand it.
#[test]
fn the_exchange_is_what_it_was() {
    let world = World::new(&PORTABLE);
    let digest = |suite, set| {
        let press = world.peer("press-7", set, suites_with(suite), true);
        let gateway = world.peer("gateway-1", set, suites_with(suite), true);
        let expect = begin(&press, &gateway, suite, 5);
        let (m2, end) = answer(&gateway, &press, expect.m1()).unwrap();
        let stale = authenticate(&gateway, &press, expect.m1()).unwrap().stale(9).unwrap();
        let parts = [expect.m1(), &m2, &stale, end.root.expose(), end.gate.expose()];
        sha256(&parts).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let found = [
        digest(SessionSuite::Hybrid, SignatureSet::Ed25519MlDsa65),
        digest(SessionSuite::Cnsa2, SignatureSet::MlDsa87),
        digest(SessionSuite::HybridChaCha, SignatureSet::Ed25519MlDsa65),
    ];
    assert_eq!(
        found,
        [
            "d94da33f2e6844b867e553628e1e3f27a3572c75926d351118363095bc25dc71",
            "10a90765f767de29f54214740bee59b0a3917b3e7d6b08592efd93eb417cdbbc",
            "872b5f3f26b6ba8d667d11450b1228945f8f750da57623989148f4bad55304f0",
        ]
    );
}

#[test]
fn a_row_brings_the_initiator_back() {
    for backend in backends() {
        for suite in SessionSuite::ALL {
            let world = World::new(backend);
            let peer = |id| world.peer(id, SignatureSet::Ed25519MlDsa65, suites_with(suite), true);
            let (press, gateway) = (peer("press-7"), peer("gateway-1"));
            let expect = begin(&press, &gateway, suite, 11);
            let (m2, theirs) = answer(&gateway, &press, expect.m1()).unwrap();

            let again = ExpectM2::from_row(backend, expect.to_row().expose()).unwrap();
            assert_eq!(again.m1(), expect.m1());
            assert_eq!((again.handshake(), again.attempt()), (expect.handshake(), 11));
            assert_eq!((again.sid(), again.peer()), (press.sid, gateway.sender.fingerprint));
            assert_agree(&finish(&again, &m2, &gateway).unwrap(), &theirs);
            assert!(again.to_row().expose() == expect.to_row().expose());
        }
    }
}

#[test]
fn the_gate_of_an_earlier_session_vouches_for_the_next_m1() {
    let trio = Trio::new();
    let first = trio.begin(1);
    let (m2, theirs) = answer(&trio.gateway, &trio.press, first.m1()).unwrap();
    let ours = finish(&first, &m2, &trio.gateway).unwrap();
    let next = |attempt, gate| {
        let plain = initiation(&trio.press, &trio.gateway, SessionSuite::HybridChaCha, attempt);
        let expect = begin_with(&trio.press, &Initiation { gate, ..plain });
        check(&trio.gateway, &trio.press, expect.m1()).unwrap()
    };
    assert!(next(2, Some(&ours.gate)).gate_matches(&theirs.gate));
    assert!(!next(3, None).gate_matches(&theirs.gate));
    assert!(!next(4, Some(&ours.root)).gate_matches(&theirs.gate));
    assert!(!check(&trio.gateway, &trio.press, first.m1()).unwrap().gate_matches(&theirs.gate));
}

#[test]
fn the_static_key_serves_only_where_it_may_and_is_told() {
    let world = World::new(backend());
    let peer = |id, required| world.peer(id, SignatureSet::Ed25519MlDsa65, &[SessionSuite::Hybrid], required);
    let (press, strict, lax) = (peer("press-7", true), peer("gateway-1", true), peer("gateway-2", false));
    let with_static = |to| Initiation {
        prekey: PrekeyId::STATIC,
        encapsulation_key: Peer::prekey(to, PrekeyId::STATIC),
        ..initiation(&press, to, SessionSuite::Hybrid, 1)
    };
    let start = |with: &Initiation<'_>| Initiate::new(backend(), &mut Stream::new("static"), with);
    assert_eq!(refusal(start(&with_static(&strict))), InitiateError::PrekeyRequired);

    let expect = begin_with(&press, &with_static(&lax));
    let (m2, theirs) = answer(&lax, &press, expect.m1()).unwrap();
    let ours = finish(&expect, &m2, &lax).unwrap();
    assert_agree(&ours, &theirs);
    assert!(!ours.prekey_used);

    // Name 0 means the certificate's key and no other.
    let other = Initiation { encapsulation_key: lax.prekey(PREKEY), ..with_static(&lax) };
    assert_eq!(refusal(start(&other)), InitiateError::InvalidKey);
    // A responder that became strict meanwhile refuses what began before.
    let became_strict = peer("gateway-2", true);
    assert_eq!(refusal(check(&became_strict, &press, expect.m1())), M1Refusal::PrekeyRequired);
}

#[test]
fn nothing_begins_that_cannot_end() {
    let trio = Trio::new();
    let start = |with: &Initiation<'_>| Initiate::new(backend(), &mut Stream::new("start"), with);
    let plain = || initiation(&trio.press, &trio.gateway, SessionSuite::Hybrid, 1);
    let ourselves = initiation(&trio.press, &trio.press, SessionSuite::Hybrid, 1);
    assert_eq!(refusal(start(&ourselves)), InitiateError::Ourselves);
    let unlisted = Initiation { suite: SessionSuite::Cnsa2, ..plain() };
    assert_eq!(refusal(start(&unlisted)), InitiateError::Suite);

    let set = SignatureSet::MlDsa87;
    let vault = trio.world.peer("vault", set, &[SessionSuite::Cnsa2], true);
    let other_kem = Initiation { encapsulation_key: vault.prekey(PREKEY), ..plain() };
    assert_eq!(refusal(start(&other_kem)), InitiateError::InvalidKey);

    let short = start(&plain()).map_err(|_| ()).unwrap().signed(&[0; 64]);
    assert_eq!(refusal(short), FinishError::SignatureLength);
}

#[test]
fn the_suite_is_the_first_of_the_peers_list_that_we_allow() {
    let trio = Trio::new();
    let choose = |allowed: &[SessionSuite]| choose_suite(&trio.gateway.certificate, allowed);
    assert_eq!(choose(&SessionSuite::ALL), Some(SessionSuite::Hybrid));
    assert_eq!(choose(&[SessionSuite::HybridChaCha]), Some(SessionSuite::HybridChaCha));
    assert_eq!(choose(&[SessionSuite::Cnsa2]), None);
}
