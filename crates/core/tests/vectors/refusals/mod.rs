//! What must be refused, and why: edits of genuine objects, and objects that only an insider can make.

mod control;
mod identities;
mod messages;
mod objects;

use crate::generate::Collector;
use crate::json::{Json, hex_text, number, object, text};
use crate::world::{NOW, PRESS_7, Peer, Plan, Prekey, World};

/// Replaces `remove` bytes at `at`.
struct Edit {
    at: usize,
    remove: usize,
    insert: Vec<u8>,
}

struct Case {
    name: &'static str,
    receiver: &'static str,
    time: u64,
    before: &'static [&'static str],
    object: &'static str,
    topic: Option<&'static str>,
    edit: Option<Edit>,
    append_zeros: usize,
    refused: &'static str,
}

/// A delivery to `gateway-1`, which trusts `press-7`.
const MESSAGE: Case = Case {
    name: "",
    receiver: "gateway-1",
    time: NOW,
    before: &["announcement/press-7"],
    object: "envelope/suite-1",
    topic: None,
    edit: None,
    append_zeros: 0,
    refused: "",
};
const FIRST: Case = Case { before: &[], ..MESSAGE };
const ANNOUNCEMENT: Case = Case { object: "announcement/press-7", ..FIRST };
/// A delivery to `press-7`, which trusts `gateway-1`.
const BUNDLE: Case = Case {
    receiver: "press-7",
    before: &["announcement/gateway-1"],
    object: "prekeys/gateway-1/2",
    ..MESSAGE
};
const UPDATE: Case = Case { object: "revocation/update-1", ..FIRST };

pub(crate) fn generate(world: &World, prekey: &Prekey, collector: &mut Collector) -> Json {
    let objects = objects::hostile_objects(world, prekey, collector);
    let cases = cases(world, collector).iter().map(Case::json).collect();
    object([
        (
            "about",
            text(
                "Deliveries that a receiver must refuse for the given reason. Each starts from a fresh receiver that \
                 follows every peer of identities.json, pinned anchors/1, and holds the prekey of prekeys/gateway-1/2 if \
                 it is gateway-1; `before` is delivered first and accepted; then `object`, on its own topic unless \
                 `topic` is given, after `edit` (at byte `at`, replace `remove` bytes by `insert`) and `append_zeros`. \
                 docs/protocol.md §14.",
            ),
        ),
        ("objects", Json::Array(objects)),
        ("cases", Json::Array(cases)),
    ])
}

/// Other keys of `press-7`: those of its next epoch, and a second set under the same epoch.
pub(crate) fn other_identities(world: &World) -> [Peer; 2] {
    let successor = Plan { label: "press-7 epoch 2", epoch: 2, ..PRESS_7 };
    let rival = Plan { label: "press-7 rival", ..PRESS_7 };
    [successor, rival].map(|plan| Peer::new(&world.ca, &plan))
}

fn cases(world: &World, collector: &Collector) -> Vec<Case> {
    let mut cases = messages::messages(world, collector);
    cases.extend(identities::announcements(world, collector));
    cases.extend(identities::bundles(world, collector));
    cases.extend(control::control(collector));
    cases
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("a part of it")
}

impl Case {
    fn json(&self) -> Json {
        let mut members = vec![
            ("name", text(self.name)),
            ("receiver", text(self.receiver)),
            ("time", number(self.time)),
            ("before", Json::Array(self.before.iter().map(|name| text(name)).collect())),
            ("object", text(self.object)),
        ];
        if let Some(topic) = self.topic {
            members.push(("topic", text(topic)));
        }
        if let Some(Edit { at, remove, insert }) = &self.edit {
            let edit = [
                ("at", number(*at as i64)),
                ("remove", number(*remove as i64)),
                ("insert", text(&hex_text(insert))),
            ];
            members.push(("edit", object(edit)));
        }
        if self.append_zeros > 0 {
            members.push(("append_zeros", number(self.append_zeros as i64)));
        }
        members.push(("refused", text(self.refused)));
        Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}
