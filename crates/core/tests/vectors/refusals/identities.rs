//! Announcements and prekey bundles.

use super::{ANNOUNCEMENT, BUNDLE, Case, Edit, find};
use crate::generate::Collector;
use crate::world::{NOT_AFTER, NOT_BEFORE, NOW, World};

/// Offset of the unprotected map in a signed object: after the array's head, the byte string's head and the protected
/// header.
const UNPROTECTED: usize = 1 + 2 + 58;

pub(super) fn announcements(world: &World, collector: &Collector) -> Vec<Case> {
    let encoded = &collector.objects["announcement/press-7"].1;
    let certificate = &world.press_7.certificate.encoded;
    let inner = find(encoded, certificate);
    // The signed object, after the head of its byte string; its payload: {1: digest, 2: epoch, …}.
    let object = inner + certificate.len() + 3;
    let digest = object + UNPROTECTED + 1 + 2 + 1 + 1 + 2;
    let epoch = digest + 32 + 1;
    let flip = |at: usize| Some(Edit { at, remove: 1, insert: vec![encoded[at] ^ 1] });
    let insert = |at, remove, bytes: &[u8]| Some(Edit { at, remove, insert: bytes.to_vec() });
    let case = |name, refused, edit| Case { name, refused, edit, ..ANNOUNCEMENT };
    // {1: alg} for the empty map, and the byte string around the object longer by two.
    let length = u16::try_from(encoded.len() - object + 2).unwrap().to_be_bytes();
    let protected = &encoded[object..object + UNPROTECTED];
    let unprotected = Edit {
        at: object - 3,
        remove: 3 + UNPROTECTED + 1,
        insert: [&[0x59], &length[..], protected, &[0xa1, 0x01, 0x32]].concat(),
    };
    let issuer = find(certificate, world.ca.authority.issuer().fingerprint().as_bytes());
    vec![
        Case {
            name: "on another peer's topic",
            refused: "identity-mismatch",
            topic: Some("pqc/keys/tpm-1"),
            ..ANNOUNCEMENT
        },
        Case {
            name: "topic of a peer nobody asked for",
            refused: "unknown-peer",
            topic: Some("pqc/keys/x"),
            ..ANNOUNCEMENT
        },
        Case {
            name: "topic with a malformed peer id",
            refused: "invalid-peer-id",
            topic: Some("pqc/keys/a b"),
            ..ANNOUNCEMENT
        },
        case("non-minimal array head", "malformed", Some(Edit { at: 0, remove: 1, insert: vec![0x98, 2] })),
        case("without the signed object", "malformed", insert(0, 1, &[0x81])),
        Case { name: "a byte after the item", refused: "malformed", append_zeros: 1, ..ANNOUNCEMENT },
        Case {
            name: "over the announcement limit",
            refused: "oversized",
            append_zeros: 64 * 1024,
            ..ANNOUNCEMENT
        },
        case("tagged", "malformed", Some(Edit { at: 0, remove: 0, insert: vec![0xd8, 0x62] })),
        case("alg in the unprotected header", "malformed", Some(unprotected)),
        case("a critical label that nobody knows", "malformed", flip(object + 12)),
        case("another signer named", "bad-signature", flip(object + UNPROTECTED - 1)),
        case("a signature over another certificate", "bad-signature", flip(digest)),
        case(
            "the key epoch raised outside the certificate",
            "identity-mismatch",
            Some(Edit { at: epoch, remove: 1, insert: vec![2] }),
        ),
        case("its signature changed", "bad-signature", flip(encoded.len() - 1)),
        case("the certificate's signature changed", "bad-certificate", flip(inner + certificate.len() - 1)),
        case("an issuer that nobody appointed", "bad-certificate", flip(inner + issuer)),
        Case { name: "an expired certificate", refused: "expired", time: NOT_AFTER, ..ANNOUNCEMENT },
        Case {
            name: "a certificate of the future",
            refused: "expired",
            time: NOT_BEFORE - 1,
            ..ANNOUNCEMENT
        },
        Case {
            name: "an older key epoch",
            refused: "rollback",
            before: &["announcement/epoch-2"],
            ..ANNOUNCEMENT
        },
        Case {
            name: "the same key epoch with other keys",
            refused: "collision",
            before: &["announcement/press-7"],
            object: "announcement/other-keys",
            ..ANNOUNCEMENT
        },
        Case {
            name: "keys revoked before they were announced",
            refused: "revoked",
            before: &["revocation/update-1"],
            ..ANNOUNCEMENT
        },
    ]
}

pub(super) fn bundles(world: &World, collector: &Collector) -> Vec<Case> {
    let encoded = &collector.objects["prekeys/gateway-1/2"].1;
    let identity = find(encoded, world.gateway_1.identity.fingerprint().as_bytes());
    let flip = |at: usize| Some(Edit { at, remove: 1, insert: vec![encoded[at] ^ 1] });
    let case = |name, refused, edit| Case { name, refused, edit, ..BUNDLE };
    vec![
        case("of another identity", "bad-prekey", flip(identity)),
        case("its encapsulation key changed", "bad-prekey", flip(identity + 100)),
        case("its signature changed", "bad-prekey", flip(encoded.len() - 1)),
        Case {
            name: "the same sequence with another key",
            refused: "collision",
            before: &["announcement/gateway-1", "prekeys/gateway-1/2"],
            edit: flip(identity + 100),
            ..BUNDLE
        },
        Case {
            name: "an older bundle",
            refused: "rollback",
            before: &["announcement/gateway-1", "prekeys/gateway-1/2"],
            object: "prekeys/gateway-1/1",
            ..BUNDLE
        },
        Case { name: "a bundle past its end", refused: "expired", time: NOW + 28 * 86_400, ..BUNDLE },
    ]
}
