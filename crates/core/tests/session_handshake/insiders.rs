//! Attacks by thieves of prekeys or signing keys and by certified peers that do not keep to the protocol.

use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::session::handshake::{
    AnswerError, FinishError, Initiate, Initiation, M1Refusal, M2Refusal,
};

use crate::reference::{Parts, Thief, inner, signed_by};
use crate::support::*;

const M1_TAG: &str = "pqc-iiot:session-m1:v1";

/// m1 sealed anew by whoever has the first shared secret, over what `change` makes of inner part and signature.
fn resealed(
    trio: &Trio,
    m1: &[u8],
    change: impl FnOnce(&mut Parts),
    content: impl FnOnce(Vec<u8>, Vec<u8>) -> (Vec<u8>, Vec<u8>),
) -> Vec<u8> {
    let mut parts = Parts::cut(m1);
    let gateway = &trio.gateway;
    let set = trio.press.sender.set;
    let ek = gateway.prekey(PREKEY).as_bytes();
    let ss1 = gateway.decapsulate(PREKEY, &parts.ct1);
    let (inner, signature) = parts.open(&ss1, &parts.th1(gateway, set, ek));
    change(&mut parts);
    let (inner, signature) = content(inner, signature);
    let th1 = parts.th1(gateway, set, ek);
    parts.seal(&ss1, &th1, &inner, &signature);
    parts.join()
}

/// The reference can seal what the core accepts; without this, every refusal below would prove nothing.
#[test]
fn an_unchanged_m1_sealed_anew_is_the_same() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let same = resealed(&trio, expect.m1(), |_| {}, |inner, signature| (inner, signature));
    assert_eq!(same, expect.m1());
}

/// Attack 24, by a thief of the prekey: it opens m1 and can move it, but cannot sign for the initiator.
#[test]
fn a_prekey_thief_makes_no_unknown_key_share() {
    let trio = Trio::new();
    let with = Initiation {
        encapsulation_key: trio.gateway.prekey(PREKEY),
        ..initiation(&trio.press, &trio.eve, SessionSuite::Hybrid, 1)
    };
    let expect = begin_with(&trio.press, &with);
    let mut parts = Parts::cut(expect.m1());
    let set = trio.press.sender.set;
    let ek = trio.gateway.prekey(PREKEY).as_bytes();
    let ss1 = trio.gateway.decapsulate(PREKEY, &parts.ct1);
    let (inner_i, signature) = parts.open(&ss1, &parts.th1(&trio.eve, set, ek));
    parts.fp_r = trio.gateway.sender.fingerprint.0.to_vec();
    let th1 = parts.th1(&trio.gateway, set, ek);
    parts.seal(&ss1, &th1, &inner_i, &signature);
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &parts.join())), M1Refusal::Signature);

    // Eve takes press's m1 over as her own, with her own signature. That is a handshake of eve's; press never
    // completes it, whatever its name.
    let genuine = trio.begin(2);
    let mut taken = Parts::cut(genuine.m1());
    let ss1 = trio.gateway.decapsulate(PREKEY, &taken.ct1);
    taken.id = "eve".into();
    taken.fp_i = trio.eve.sender.fingerprint.0.to_vec();
    let th1 = taken.th1(&trio.gateway, trio.eve.sender.set, ek);
    let inner_e = inner(&trio.eve);
    let signature = trio.eve.sign(&signed_by(&trio.eve, taken.suite, M1_TAG, &th1, &inner_e));
    taken.seal(&ss1, &th1, &inner_e, &signature);
    let (mut m2, theirs) = answer(&trio.gateway, &trio.eve, &taken.join()).unwrap();
    assert_eq!(theirs.initiator, trio.eve.sender.fingerprint);
    m2[2..18].copy_from_slice(genuine.handshake().as_bytes());
    assert_eq!(refusal(finish(&genuine, &m2, &trio.gateway)), M2Refusal::Ciphertext);
    trio.still_works(&genuine);
}

/// Attack 25: with press's signing key, and every prekey, someone impersonates the gateway to press.
#[test]
fn a_stolen_signing_key_impersonates_nobody_to_its_owner() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let (gateway, press) = (&trio.gateway, &trio.press);
    let answer = authenticate(gateway, press, expect.m1()).unwrap();
    let mut random = Stream::new("kci");
    let answer = answer.answer(&mut random, &gateway.sender, gateway.sid, gateway.boot).unwrap();
    let signature = press.sign(answer.structure());
    let (m2, _) = answer.signed(&signature).unwrap();
    assert_eq!(refusal(finish(&expect, &m2, gateway)), M2Refusal::Signature);

    let with = initiation(gateway, press, SessionSuite::Hybrid, 1);
    let initiate = Initiate::new(backend(), &mut Stream::new("kci"), &with).unwrap_or_else(|_| panic!());
    let signature = press.sign(initiate.structure());
    let forged = initiate.signed(&signature).unwrap_or_else(|_| panic!());
    assert_eq!(refusal(authenticate(press, gateway, forged.m1())), M1Refusal::Signature);
    trio.still_works(&expect);
}

/// Attack 26, at the signatures: one made for m1 is none for m2, even by the same signer.
#[test]
fn a_signature_of_one_role_is_none_of_the_other() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let (m2, _) = answer(&trio.gateway, &trio.press, expect.m1()).unwrap();
    let thief = Thief::new(&expect);
    let derived = thief.derive(&m2);
    let (inner_r, genuine) = thief.open(&derived, &m2);
    let wrong_tag = signed_by(&trio.gateway, SessionSuite::Hybrid, M1_TAG, &derived.th2, &inner_r);
    let forged = thief.seal(&derived, &m2, &inner_r, &trio.gateway.sign(&wrong_tag));
    assert_eq!(refusal(finish(&expect, &forged, &trio.gateway)), M2Refusal::Signature);
    assert_eq!(thief.seal(&derived, &m2, &inner_r, &genuine), m2);
    trio.still_works(&expect);
}

/// Attack 27, by a thief of the prekey: the list and the suite are also under the signature.
#[test]
fn a_prekey_thief_cannot_downgrade_either() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let change = |parts: &mut Parts| parts.suite = SessionSuite::HybridChaCha;
    let downgraded = resealed(&trio, expect.m1(), change, |inner, signature| (inner, signature));
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &downgraded)), M1Refusal::Signature);
    trio.still_works(&expect);
}

/// What someone who broke one algorithm can make of a signature: halves dropped, zeroed, doubled, exchanged.
fn weakened(signature: &[u8]) -> Vec<Vec<u8>> {
    let (ed25519, ml_dsa) = signature.split_at(64);
    let zeros = vec![0; ml_dsa.len()];
    vec![
        ml_dsa.to_vec(),
        ed25519.to_vec(),
        [&[0; 64], ml_dsa].concat(),
        [ed25519, &zeros].concat(),
        [ed25519, ed25519].concat(),
        [ed25519, ed25519, ml_dsa].concat(),
        [&ml_dsa[..64], ml_dsa].concat(),
        [ml_dsa, ed25519].concat(),
        Vec::new(),
    ]
}

/// Attack 28.
#[test]
fn a_signature_with_a_weakened_half_is_refused() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let parts = Parts::cut(expect.m1());
    let ek = trio.gateway.prekey(PREKEY).as_bytes();
    let ss1 = trio.gateway.decapsulate(PREKEY, &parts.ct1);
    let th1 = parts.th1(&trio.gateway, trio.press.sender.set, ek);
    let (_, signature) = parts.open(&ss1, &th1);
    for (index, weak) in weakened(&signature).into_iter().enumerate() {
        let forged = resealed(&trio, expect.m1(), |_| {}, |inner, _| (inner, weak));
        let refused = refusal(authenticate(&trio.gateway, &trio.press, &forged));
        assert_eq!(refused, M1Refusal::Signature, "m1 {index}");
    }

    let (m2, _) = answer(&trio.gateway, &trio.press, expect.m1()).unwrap();
    let thief = Thief::new(&expect);
    let derived = thief.derive(&m2);
    let (inner_r, signature) = thief.open(&derived, &m2);
    for (index, weak) in weakened(&signature).into_iter().enumerate() {
        let forged = thief.seal(&derived, &m2, &inner_r, &weak);
        assert_eq!(refusal(finish(&expect, &forged, &trio.gateway)), M2Refusal::Signature, "m2 {index}");
    }

    // Our own side does not even send one that is too short.
    let answer = authenticate(&trio.gateway, &trio.press, expect.m1()).unwrap();
    let (sid, boot) = (trio.gateway.sid, trio.gateway.boot);
    let answer = answer.answer(&mut Stream::new("short"), &trio.gateway.sender, sid, boot).unwrap();
    assert_eq!(refusal(answer.signed(&signature[64..])), FinishError::SignatureLength);
    trio.still_works(&expect);
}

/// Attack 38, by the initiator itself: a correctly signed m1 with an ephemeral key that is none.
#[test]
fn a_signed_malformed_ephemeral_key_has_no_answer() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let malform: [&dyn Fn(&mut Parts); 2] = [
        // Coefficients not below the modulus; an X25519 share of low order.
        &|parts| parts.ek_e[..3].fill(0xff),
        &|parts| parts.ek_e[1184..].fill(0),
    ];
    for change in malform {
        let mut parts = Parts::cut(expect.m1());
        let ek = trio.gateway.prekey(PREKEY).as_bytes();
        let ss1 = trio.gateway.decapsulate(PREKEY, &parts.ct1);
        change(&mut parts);
        let th1 = parts.th1(&trio.gateway, trio.press.sender.set, ek);
        let inner_i = inner(&trio.press);
        let signature = trio.press.sign(&signed_by(&trio.press, parts.suite, M1_TAG, &th1, &inner_i));
        parts.seal(&ss1, &th1, &inner_i, &signature);
        let authentic = authenticate(&trio.gateway, &trio.press, &parts.join()).unwrap_or_else(|_| panic!());
        let (sid, boot) = (trio.gateway.sid, trio.gateway.boot);
        let refused = refusal(authentic.answer(&mut Stream::new("no"), &trio.gateway.sender, sid, boot));
        assert_eq!(refused, AnswerError::EphemeralKey);
    }
    trio.still_works(&expect);
}

/// Attack 40, by a thief of the first prekey: m1's content under another prekey, honestly encapsulated.
#[test]
fn an_m1_encapsulated_anew_to_another_prekey_is_refused() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let mut parts = Parts::cut(expect.m1());
    let set = trio.press.sender.set;
    let ss1 = trio.gateway.decapsulate(PREKEY, &parts.ct1);
    let th1 = parts.th1(&trio.gateway, set, trio.gateway.prekey(PREKEY).as_bytes());
    let (inner_i, signature) = parts.open(&ss1, &th1);

    let other = trio.gateway.prekey(OTHER_PREKEY);
    let (ct1, ss1) = other.encapsulate(&mut Stream::new("anew")).unwrap();
    parts.ct1 = ct1;
    parts.prekey = OTHER_PREKEY.0;
    let th1 = parts.th1(&trio.gateway, set, other.as_bytes());
    parts.seal(&ss1, &th1, &inner_i, &signature);
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &parts.join())), M1Refusal::Signature);
    trio.still_works(&expect);
}

/// Attack 56: a thief of the prekey swaps the inner part of a genuine m1, to be sent records itself.
#[test]
fn a_prekey_thief_cannot_swap_the_inner_part() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let swapped = resealed(&trio, expect.m1(), |_| {}, |_, signature| (inner(&trio.eve), signature));
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &swapped)), M1Refusal::Signature);

    // Nor take the signature of another handshake along.
    let other = trio.begin(2);
    let other_parts = Parts::cut(other.m1());
    let ek = trio.gateway.prekey(PREKEY).as_bytes();
    let ss1 = trio.gateway.decapsulate(PREKEY, &other_parts.ct1);
    let th1 = other_parts.th1(&trio.gateway, trio.press.sender.set, ek);
    let from_other = other_parts.open(&ss1, &th1);
    let mixed = resealed(&trio, expect.m1(), |_| {}, |_, _| from_other);
    assert_eq!(refusal(authenticate(&trio.gateway, &trio.press, &mixed)), M1Refusal::Signature);
    trio.still_works(&expect);
}

/// A provider that decapsulated with another key, or failed: the AEAD tells.
#[test]
fn a_wrong_shared_secret_opens_nothing() {
    let trio = Trio::new();
    let expect = trio.begin(1);
    let checked = check(&trio.gateway, &trio.press, expect.m1()).unwrap();
    let refused = refusal(checked.decapsulated(&Secret::new([7; 32]), &trio.press.certificate));
    assert_eq!(refused, M1Refusal::Ciphertext);
    let checked = check(&trio.gateway, &trio.press, expect.m1()).unwrap();
    let refused = refusal(checked.decapsulated(&Secret::new([7; 32]), &trio.eve.certificate));
    assert_eq!(refused, M1Refusal::Certificate);
    trio.still_works(&expect);
}
