//! Any order of updates, checkpoints, forgeries and restarts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::control::revocation::assembler::tests::assemble;
use crate::control::revocation::entry::tests::{after_day, entry};
use crate::control::revocation::issuer::RevocationIssuer;
use crate::ids::Digest;

#[derive(Debug, Clone)]
enum Step {
    Update(usize),
    Checkpoint(usize),
    Forged(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..24).prop_map(Step::Update),
        2 => (0usize..24).prop_map(Step::Checkpoint),
        1 => any::<u64>().prop_map(Step::Forged),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn no_interleaving_loses_an_entry_or_goes_back(
        sizes in proptest::collection::vec(1u64..4, 24),
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        // An authority's history: update n and the checkpoint after it; entries expire on the day of their number.
        let mut issuer = RevocationIssuer::new();
        let mut updates = Vec::new();
        let mut checkpoints = Vec::new();
        let mut total = 0;
        for size in sizes {
            let entries: Vec<_> = (total..total + size).map(|n| entry(n, n as u16)).collect();
            total += size;
            updates.push(issuer.revoke(&entries, START).unwrap());
            // The margin is 30 days: from entry 30 on, the earliest are dropped.
            checkpoints.push(assemble(&issuer.checkpoint(after_day(total as u16))));
        }

        let mut state = RevocationState::new();
        let mut rows = BTreeMap::new();
        let mut reported = BTreeSet::new();
        let mut forged = false;
        let deliver_all = (0..24).map(Step::Update);
        for step in steps.into_iter().chain(deliver_all) {
            let before = state.head();
            let outcome = match step {
                Step::Update(n) => apply(&mut state, &updates[n]),
                Step::Checkpoint(n) => {
                    let floor = checkpoints[n].manifest().issued_at();
                    state.apply_checkpoint(&checkpoints[n], floor)
                }
                Step::Forged(seq) => {
                    let other = update(ChainHead { seq, digest: Digest([0xee; 32]) }, seq.saturating_add(1).max(1), 9999);
                    if other.prev().seq < other.seq() {
                        forged = true;
                        apply(&mut state, &other)
                    } else {
                        continue;
                    }
                }
                Step::Restart => {
                    store(&mut rows, state.take_changes());
                    let restored = RevocationState::restore(&load(&rows), MAX_ENTRIES).unwrap();
                    prop_assert!(restored.revoked().iter().eq(state.revoked().iter()));
                    prop_assert_eq!(restored.head(), state.head());
                    prop_assert_eq!(restored.hold_high_risk(), state.hold_high_risk());
                    state = restored;
                    continue;
                }
            };
            let head = state.head();
            prop_assert!(head.seq >= before.seq);
            prop_assert!(head.seq != before.seq || head == before);
            if let Ok(Outcome::Applied { added, .. }) = &outcome {
                for entry in added {
                    prop_assert!(reported.insert(entry.id), "reported twice");
                }
            }
            // Everything up to the head is held, but for what the newest checkpoint so far could have dropped.
            let reach = usize::try_from(head.seq).unwrap();
            let droppable = after_day(total as u16 - 30.min(total as u16));
            for entry in updates[..reach].iter().flat_map(RevocationUpdate::entries) {
                prop_assert!(state.is_revoked(&entry.id) || entry.expires.is_before(droppable));
            }
            prop_assert!(!state.is_revoked(&entry(9999, 0).id), "a history that never was");
            for held in state.revoked().iter() {
                prop_assert!(reported.contains(&held.id), "held but never reported");
            }
        }
        // The honest updates, delivered in order at the end, always arrive.
        prop_assert_eq!(state.head(), updates[23].head());
        prop_assert!(forged || !state.hold_high_risk());
    }
}
