//! Updates: in order, ahead of a gap, and against each other.

use alloc::collections::BTreeMap;

use super::*;
use crate::control::revocation::entry::tests::entry;
use crate::ids::Digest;

#[test]
fn a_chain_applies_and_replays_change_nothing() {
    let updates = history(3);
    let mut state = RevocationState::new();
    for (n, update) in (0..).zip(&updates) {
        assert_eq!(state.precheck_update(update), Precheck::Worth);
        assert_eq!(apply(&mut state, update), applied([n]));
        assert!(state.is_revoked(&entry(n, 0).id));
        assert!(!state.is_revoked(&entry(n + 1, 0).id));
    }
    let _ = state.take_changes();
    assert_eq!(state.precheck_update(&updates[2]), Precheck::Duplicate);
    assert_eq!(state.precheck_update(&updates[1]), Precheck::Old);
    assert_eq!(apply(&mut state, &updates[2]), Ok(Outcome::Unchanged));
    assert_eq!(apply(&mut state, &updates[1]), Ok(Outcome::Stale(Gap { have: 3, need: 2 })));
    assert!(state.take_changes().is_empty());
    assert!(!state.hold_high_risk());
}

#[test]
fn a_gap_holds_until_it_is_filled_whatever_the_order() {
    let updates = history(5);
    let mut state = RevocationState::new();
    assert_eq!(apply(&mut state, &updates[4]), Ok(Outcome::Gap(Gap { have: 0, need: 4 })));
    assert_eq!(apply(&mut state, &updates[2]), Ok(Outcome::Gap(Gap { have: 0, need: 2 })));
    assert!(state.revoked().is_empty());
    assert!(state.hold_high_risk());
    assert_eq!(state.gap(), Some(Gap { have: 0, need: 5 }));
    assert_eq!(state.precheck_update(&updates[4]), Precheck::Duplicate, "it waits already");

    assert_eq!(apply(&mut state, &updates[0]), applied([0]));
    assert!(state.hold_high_risk());
    assert_eq!(apply(&mut state, &updates[1]), applied([1, 2]));
    assert!(state.hold_high_risk());
    assert_eq!(apply(&mut state, &updates[3]), applied([3, 4]));
    assert!(!state.hold_high_risk());
    assert_eq!(state.head(), updates[4].head());
}

#[test]
fn a_sequence_far_ahead_is_only_a_gap() {
    let updates = history(2);
    let mut state = RevocationState::new();
    let _ = apply(&mut state, &updates[0]);
    let far = ChainHead { seq: 1 << 63, digest: Digest([9; 32]) };
    let outcome = apply(&mut state, &update(far, u64::MAX, 50));
    assert_eq!(outcome, Ok(Outcome::Gap(Gap { have: 1, need: 1 << 63 })));
    assert_eq!(state.head(), updates[0].head());
    assert!(!state.is_revoked(&entry(50, 0).id));
    assert!(state.hold_high_risk());
    // A claim alone does not even hold.
    assert!(!state.hint_is_ahead(u64::MAX));
    assert!(RevocationState::new().hint_is_ahead(1 << 63));

    assert_eq!(apply(&mut state, &updates[1]), applied([1]));
    state.release_hold();
    assert!(!state.hold_high_risk());
    assert_eq!(state.head(), updates[1].head());
}

#[test]
fn waiting_updates_are_bounded_and_the_nearest_stay() {
    let mut state = RevocationState::new();
    for n in (0..1000u64).rev() {
        let prev = ChainHead { seq: 2 * n + 2, digest: Digest([1; 32]) };
        let _ = apply(&mut state, &update(prev, 2 * n + 3, n));
    }
    assert_eq!(state.pending.len(), MAX_PENDING_UPDATES);
    assert!(state.pending.iter().all(|link| link.next.seq <= 2 * MAX_PENDING_UPDATES as u64 + 1));
    assert_eq!(state.gap(), Some(Gap { have: 0, need: 2001 }));
    assert_eq!(apply(&mut state, &history(1)[0]), applied([0]));
}

#[test]
fn a_second_history_is_reported_once_and_holds_for_good() {
    let updates = history(3);
    let mut state = RevocationState::new();
    for update in &updates {
        let _ = apply(&mut state, update);
    }
    let _ = state.take_changes();

    let other = update(updates[1].prev(), 3, 77);
    assert_eq!(state.precheck_update(&other), Precheck::Worth);
    let found = Equivocation { held: updates[2].head(), seen: other.head() };
    assert_eq!(apply(&mut state, &other), Ok(Outcome::Equivocation(found)));
    assert_eq!(state.equivocation(), Some(found));
    assert_eq!(state.head(), updates[2].head());
    assert!(!state.is_revoked(&entry(77, 0).id));
    assert_eq!(state.precheck_update(&other), Precheck::Duplicate, "its replays cost no signature");
    assert_eq!(apply(&mut state, &other), Ok(Outcome::Unchanged));

    let mut rows = BTreeMap::new();
    store(&mut rows, state.take_changes());
    let mut state = RevocationState::restore(&load(&rows), MAX_ENTRIES).err();
    assert!(matches!(state.take(), Some(RestoreError::Count { .. })), "the head alone is not the list");
}

#[test]
fn an_update_that_follows_another_history_is_an_equivocation() {
    let updates = history(3);
    let forked = ChainHead { digest: Digest([1; 32]), ..updates[2].head() };
    for other in [update(forked, 4, 9), update(updates[1].head(), 9, 9), update(ChainHead::GENESIS, 4, 9)] {
        let mut state = RevocationState::new();
        for update in &updates {
            let _ = apply(&mut state, update);
        }
        let found = Equivocation { held: updates[2].head(), seen: other.head() };
        assert_eq!(apply(&mut state, &other), Ok(Outcome::Equivocation(found)));
        assert!(state.hold_high_risk() && !state.is_behind());
        // The honest history goes on, and the hold stays until somebody decides.
        assert_eq!(apply(&mut state, &update(updates[2].head(), 4, 3)), applied([3]));
        assert!(state.hold_high_risk());
        state.release_hold();
        assert!(!state.hold_high_risk());
    }
}

#[test]
fn a_waiting_update_that_contradicts_the_filled_gap_is_found() {
    let updates = history(2);
    let mut state = RevocationState::new();
    let forked = ChainHead { digest: Digest([1; 32]), ..updates[1].head() };
    let _ = apply(&mut state, &update(forked, 3, 77));
    let _ = apply(&mut state, &updates[1]);
    let Ok(Outcome::Applied { added, equivocation: Some(found) }) = apply(&mut state, &updates[0]) else {
        panic!("the gap is filled and the contradiction reported");
    };
    assert_eq!(added.len(), 2);
    assert_eq!(found.held, updates[1].head());
    assert!(!state.is_revoked(&entry(77, 0).id));
}
