//! Messages: their fields, their content, and who may send them where.

use super::{Case, Edit, MESSAGE};
use crate::generate::Collector;
use crate::world::World;

pub(super) fn messages(world: &World, collector: &Collector) -> Vec<Case> {
    let packet = &collector.objects["envelope/suite-1"].1;
    let id = "press-7".len();
    // Offsets of the fields of docs/protocol.md §7.
    let (version, suite, recipient, prekey, stream, sequence) = (1, 2, 3, 19, 23, 24);
    let header = |field: usize, insert: &[u8]| {
        Some(Edit { at: id + field, remove: insert.len(), insert: insert.to_vec() })
    };
    let sender = |id: &[u8]| Some(Edit { at: 0, remove: 8, insert: [&[id.len() as u8], id].concat() });
    let signature = packet.len() - world.press_7.set.signature_len();
    let flip = |at: usize| Some(Edit { at, remove: 1, insert: vec![packet[at] ^ 1] });
    let message = |name, refused, edit| Case { name, refused, edit, ..MESSAGE };
    let body = |name, refused, object| Case { name, refused, object, ..MESSAGE };
    vec![
        message("empty", "malformed", Some(Edit { at: 0, remove: packet.len(), insert: Vec::new() })),
        message("first byte 0x00", "unknown-kind", Some(Edit { at: 0, remove: 1, insert: vec![0] })),
        message(
            "first byte of a session record",
            "unknown-kind",
            Some(Edit { at: 0, remove: 1, insert: vec![0xc1] }),
        ),
        message("sender id with a slash", "invalid-peer-id", sender(b"press/7")),
        message("our own id", "reflected", sender(b"gateway-1")),
        message("a sender nobody asked for", "unknown-peer", sender(b"stranger")),
        message("version 2", "unknown-version", header(version, &[2])),
        message("suite 9", "unknown-suite", header(suite, &[9])),
        message("a suite we do not accept", "suite-not-allowed", header(suite, &[2])),
        message("another recipient", "wrong-recipient", header(recipient, &[0; 16])),
        message("an unknown prekey", "unknown-prekey", header(prekey, &[0, 0, 0, 7])),
        message("the static key although prekeys are required", "static-key", header(prekey, &[0; 4])),
        message("stream 8", "malformed", header(stream, &[8])),
        message("sequence 0", "too-old", header(sequence, &[0; 8])),
        message("another sequence", "bad-signature", header(sequence, &2u64.to_be_bytes())),
        message("another stream", "bad-signature", header(stream, &[1])),
        message("KEM ciphertext changed", "bad-signature", flip(id + 40)),
        message("AEAD tag changed", "bad-signature", flip(signature - 1)),
        message("Ed25519 half changed", "bad-signature", flip(signature)),
        message("ML-DSA half changed", "bad-signature", flip(packet.len() - 1)),
        message(
            "Ed25519 half zeroed",
            "bad-signature",
            Some(Edit { at: signature, remove: 64, insert: vec![0; 64] }),
        ),
        message(
            "ML-DSA half dropped",
            "malformed",
            Some(Edit { at: signature + 64, remove: 3309, insert: Vec::new() }),
        ),
        message(
            "Ed25519 half doubled, ML-DSA half cut to fit",
            "bad-signature",
            Some(Edit { at: signature + 64, remove: 64, insert: packet[signature..signature + 64].to_vec() }),
        ),
        message(
            "last byte missing",
            "bad-signature",
            Some(Edit { at: packet.len() - 1, remove: 1, insert: Vec::new() }),
        ),
        Case { name: "a byte after it", refused: "bad-signature", append_zeros: 1, ..MESSAGE },
        Case { name: "over the message limit", refused: "oversized", append_zeros: 256 * 1024, ..MESSAGE },
        Case {
            name: "on another topic",
            refused: "bad-signature",
            topic: Some("plant/7/pressure"),
            ..MESSAGE
        },
        Case {
            name: "a second time",
            refused: "replayed",
            before: &["announcement/press-7", "envelope/suite-1"],
            ..MESSAGE
        },
        Case {
            name: "after its sender's revocation",
            refused: "revoked",
            before: &["announcement/press-7", "revocation/update-1"],
            ..MESSAGE
        },
        Case { name: "a command", refused: "command-outside-session", object: "envelope/command", ..MESSAGE },
        body("a message on stream 7", "wrong-stream", "envelope/message-on-stream-7"),
        body("a message at a control topic", "wrong-stream", "envelope/message-at-control"),
        body("a receipt on stream 0", "wrong-stream", "envelope/receipt-on-stream-0"),
        body("a loss report on stream 7", "wrong-stream", "envelope/report-on-stream-7"),
        body("a loss report among messages", "wrong-stream", "envelope/report-among-messages"),
        Case {
            topic: Some("pqc/control/press-7"),
            ..body("another's control topic", "invalid-topic", "envelope/receipt")
        },
        body("message number 0", "malformed", "envelope/number-0"),
        body("a loss of nothing", "malformed", "envelope/no-loss"),
        body("a loss of number 0", "malformed", "envelope/loss-of-number-0"),
        body("one stream twice in a receipt", "malformed", "envelope/receipt-of-one-stream-twice"),
        Case { name: "expired content", refused: "message-expired", object: "envelope/expired", ..MESSAGE },
        Case { name: "outside the grant", refused: "no-grant", object: "envelope/outside-grant", ..MESSAGE },
        Case {
            name: "another's blob under one's own signature",
            refused: "bad-ciphertext",
            object: "envelope/stolen-blob",
            before: &["announcement/press-7", "announcement/tpm-1"],
            ..MESSAGE
        },
    ]
}
