//! What is stored, and read again.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::control::revocation::assembler::tests::assemble;
use crate::control::revocation::checkpoint::tests::checkpoint;
use crate::control::revocation::entry::tests::entry;
use crate::ids::Digest;

#[test]
fn holds_100_000_in_small_rows_and_restores_them() {
    let entries: Vec<_> = (0..100_000).map(|n| entry(n, 100)).collect();
    let head = ChainHead { seq: 5, digest: Digest([5; 32]) };
    let mut state = RevocationState::new();
    let _ = state.apply_checkpoint(&assemble(&checkpoint(head, &entries, START)), START).unwrap();
    let mut rows = BTreeMap::new();
    store(&mut rows, state.take_changes());
    assert!(rows.values().all(|value| value.len() < 4096));

    let next = update(head, 6, 100_000);
    assert_eq!(apply(&mut state, &next), applied([100_000]));
    let changes = state.take_changes();
    assert_eq!(changes.len(), 2, "one block and the head");
    store(&mut rows, changes);
    assert!(state.take_changes().is_empty());

    let mut restored = RevocationState::restore(&load(&rows), MAX_ENTRIES).unwrap();
    assert_eq!(restored.head(), next.head());
    assert!(restored.revoked().iter().eq(state.revoked().iter()));
    assert!(restored.take_changes().is_empty());
    assert_eq!(apply(&mut restored, &update(next.head(), 7, 100_001)), applied([100_001]));
}

#[test]
fn what_holds_high_risk_operations_survives_a_restart() {
    let updates = history(4);
    let mut state = RevocationState::new();
    let _ = apply(&mut state, &updates[0]);
    let _ = apply(&mut state, &updates[2]);
    let restored = RevocationState::restore(&stored(&mut state), MAX_ENTRIES).unwrap();
    assert_eq!(restored.gap(), Some(Gap { have: 1, need: 3 }));
    // What waited is gone, so its replay is worth verifying again.
    assert_eq!(restored.precheck_update(&updates[2]), Precheck::Worth);

    let mut state = RevocationState::new();
    let _ = apply(&mut state, &updates[0]);
    let _ = apply(&mut state, &update(ChainHead::GENESIS, 1, 9));
    let restored = RevocationState::restore(&stored(&mut state), MAX_ENTRIES).unwrap();
    assert!(restored.equivocation().is_some());
    assert_eq!(restored.equivocation(), state.equivocation());
}

#[test]
fn damaged_or_missing_rows_are_refused_not_forgotten() {
    let mut state = RevocationState::new();
    for update in history(5) {
        let _ = apply(&mut state, &update);
    }
    let rows = stored(&mut state);
    // Two of the five share a block.
    assert_eq!(rows.len(), 5);
    for missing in 0..rows.len() {
        let mut rows = rows.clone();
        rows.remove(missing);
        assert!(RevocationState::restore(&rows, MAX_ENTRIES).is_err(), "row {missing} removed");
    }
    for (row, field) in (0..rows.len()).flat_map(|row| [(row, 0), (row, 1)]) {
        let mut rows = rows.clone();
        let damaged = &mut rows[row];
        if field == 0 {
            damaged.value.truncate(7)
        } else {
            damaged.key.push(0)
        }
        assert!(RevocationState::restore(&rows, MAX_ENTRIES).is_err(), "row {row} damaged");
    }
    let foreign = Row { kind: RecordKind::Authority, key: vec![], value: vec![1] };
    let with_foreign = [rows, vec![foreign.clone()]].concat();
    assert_eq!(RevocationState::restore(&with_foreign, MAX_ENTRIES).unwrap().revoked().len(), 5);
    assert_eq!(RevocationState::restore(&[foreign], MAX_ENTRIES).unwrap().head(), ChainHead::GENESIS);
}
