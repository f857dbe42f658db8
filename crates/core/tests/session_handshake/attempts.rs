//! Attempts and STALE.

use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::ids::HandshakeId;
use pqc_iiot_core::session::handshake::{
    AnswerError, ExpectM2, PacketError, StaleRefusal, answered_handshake,
};

use crate::support::*;

fn stale(trio: &Trio, expect: &ExpectM2, highest: u64) -> Vec<u8> {
    authenticate(&trio.gateway, &trio.press, expect.m1()).unwrap_or_else(|_| panic!()).stale(highest).unwrap()
}

#[test]
fn the_responder_learns_what_it_has_to_judge() {
    let trio = Trio::new();
    let expect = trio.begin(41);
    let authentic = authenticate(&trio.gateway, &trio.press, expect.m1()).unwrap_or_else(|_| panic!());
    assert_eq!((authentic.attempt(), authentic.handshake()), (41, expect.handshake()));
    assert_eq!((authentic.sid(), authentic.boot()), (trio.press.sid, trio.press.boot));
    assert_eq!(authentic.initiator(), trio.press.sender.fingerprint);
    assert_eq!(authentic.revocation_seq(), 4);

    // An equal attempt with another th1 shows.
    let other = begin(&trio.press, &trio.gateway, SessionSuite::HybridChaCha, 41);
    let other = authenticate(&trio.gateway, &trio.press, other.m1()).unwrap_or_else(|_| panic!());
    assert_ne!(other.th1(), authentic.th1());

    // It answers as whom it was checked for, and as nobody else.
    let (sid, boot) = (trio.eve.sid, trio.eve.boot);
    let wrong = authentic.answer(&mut Stream::new("who"), &trio.eve.sender, sid, boot);
    assert_eq!(refusal(wrong), AnswerError::Identity);
}

#[test]
fn stale_tells_the_initiator_where_to_go_on() {
    for suite in SessionSuite::ALL {
        let world = World::new(backend());
        let set = pqc_iiot_core::crypto::suite::SignatureSet::MlDsa87;
        let (press, gateway) =
            (world.peer("press-7", set, &[suite], true), world.peer("gateway-1", set, &[suite], true));
        let expect = begin(&press, &gateway, suite, 5);
        let authentic = authenticate(&gateway, &press, expect.m1()).unwrap_or_else(|_| panic!());
        let stale = authentic.stale(900).unwrap();
        assert_eq!(stale[..2], [0xc3, suite.id()]);
        assert_eq!(answered_handshake(&stale), Some(expect.handshake()));
        assert_eq!(expect.receive_stale(&stale), Ok(900));
        let again = ExpectM2::from_row(backend(), expect.to_row().expose()).unwrap_or_else(|_| panic!());
        assert_eq!(again.receive_stale(&stale), Ok(900));
    }
}

#[test]
fn stale_leads_only_forward_and_not_too_far() {
    let trio = Trio::new();
    let expect = trio.begin(1_000);
    let judge = |highest| expect.receive_stale(&stale(&trio, &expect, highest));
    assert_eq!(judge(0), Err(StaleRefusal::NotHigher));
    assert_eq!(judge(999), Err(StaleRefusal::NotHigher));
    assert_eq!(judge(1_000), Ok(1_000), "a session of the other's making has it");
    assert_eq!(judge(1_001), Ok(1_001));
    assert_eq!(judge(1_000 + (1 << 32)), Ok(1_000 + (1 << 32)));
    assert_eq!(judge(1_001 + (1 << 32)), Err(StaleRefusal::TooFar));
    assert_eq!(judge(u64::MAX), Err(StaleRefusal::TooFar));
    // It ends nothing: the responder may answer after all.
    trio.still_works(&expect);
}

#[test]
fn stale_of_another_handshake_is_refused() {
    let trio = Trio::new();
    let (a, b) = (trio.begin(1), trio.begin(2));
    let mut of_a = stale(&trio, &a, 9);
    assert_eq!(b.receive_stale(&of_a), Err(StaleRefusal::Foreign));
    of_a[2..18].copy_from_slice(b.handshake().as_bytes());
    assert_eq!(b.receive_stale(&of_a), Err(StaleRefusal::Tag));
    let (m2, _) = answer(&trio.gateway, &trio.press, a.m1()).unwrap_or_else(|_| panic!());
    assert_eq!(a.receive_stale(&m2), Err(StaleRefusal::Packet(PacketError::Kind)));
    assert_eq!(answered_handshake(a.m1()), None);
    assert_ne!(HandshakeId([0; 16]), a.handshake());
}
