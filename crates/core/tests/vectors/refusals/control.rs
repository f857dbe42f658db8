//! What the authority signs.

use super::{Case, Edit, FIRST, UPDATE};
use crate::generate::{CHECKPOINT_TOPIC, Collector};

pub(super) fn control(collector: &Collector) -> Vec<Case> {
    let update = &collector.objects["revocation/update-1"].1;
    let anchors = &collector.objects["anchors/2"].1;
    let last = |bytes: &[u8]| {
        let at = bytes.len() - 1;
        Some(Edit { at, remove: 1, insert: vec![bytes[at] ^ 1] })
    };
    vec![
        Case {
            name: "an update's signature changed",
            refused: "bad-revocation",
            edit: last(update),
            ..UPDATE
        },
        Case {
            name: "an update signed by the issuer",
            refused: "bad-revocation",
            object: "revocation/wrong-role",
            ..UPDATE
        },
        Case {
            name: "an update on the checkpoint's topic",
            refused: "malformed",
            topic: Some(CHECKPOINT_TOPIC),
            ..UPDATE
        },
        Case {
            name: "an update below the head",
            refused: "revocation-rollback",
            before: &["revocation/update-1", "revocation/update-2"],
            ..UPDATE
        },
        Case {
            name: "two updates of one sequence",
            refused: "revocation-equivocation",
            before: &["revocation/update-1"],
            object: "revocation/fork",
            ..UPDATE
        },
        Case {
            name: "a checkpoint that omits a held entry",
            refused: "bad-revocation",
            before: &["revocation/update-1", "revocation/omitting-checkpoint"],
            object: "revocation/omitting-chunk",
            ..UPDATE
        },
        Case {
            name: "anchors with one signature changed",
            refused: "bad-anchors",
            object: "anchors/2",
            edit: last(anchors),
            ..FIRST
        },
        Case {
            name: "anchors of an older version",
            refused: "bad-anchors",
            before: &["anchors/2"],
            object: "anchors/1",
            ..FIRST
        },
        Case {
            name: "a topic of ours that means nothing",
            refused: "invalid-topic",
            topic: Some("pqc/else"),
            edit: Some(Edit { at: 0, remove: update.len(), insert: Vec::new() }),
            ..UPDATE
        },
    ]
}
