//! Checkpoints: what they fill, and what they may not leave out.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::*;
use crate::control::revocation::assembler::tests::assemble;
use crate::control::revocation::checkpoint::tests::checkpoint;
use crate::control::revocation::entry::tests::{after_day, entry};
use crate::control::revocation::issuer::RevocationIssuer;
use crate::ids::Digest;

#[test]
fn a_checkpoint_fills_the_gap_and_waiting_updates_follow_it() {
    let updates = history(5);
    let full: Vec<_> = (0..3).map(|n| entry(n, 100)).collect();
    let made = checkpoint(updates[2].head(), &full, UnixTime(9));
    let mut state = RevocationState::new();
    let _ = apply(&mut state, &updates[0]);
    let _ = apply(&mut state, &updates[3]);
    let _ = apply(&mut state, &updates[4]);
    assert_eq!(state.precheck_checkpoint(&made.manifest), Precheck::Worth);
    let Ok(Outcome::Applied { mut added, equivocation: None }) =
        state.apply_checkpoint(&assemble(&made), START)
    else {
        panic!("it is newer and complete");
    };
    let mut expected: Vec<_> = (1..5).map(|n| entry(n, 100)).collect();
    added.sort();
    expected.sort();
    assert_eq!(added, expected);
    assert_eq!(state.head(), updates[4].head());
    assert!(!state.hold_high_risk());
    assert_eq!(state.precheck_checkpoint(&made.manifest), Precheck::Old);
    assert_eq!(state.apply_checkpoint(&assemble(&made), START), Ok(Outcome::Stale(Gap { have: 5, need: 3 })));
}

#[test]
fn a_checkpoint_that_omits_an_unexpired_entry_is_refused() {
    let mut state = RevocationState::new();
    let updates = history(4);
    for update in &updates[..3] {
        let _ = apply(&mut state, update);
    }
    // All entries expire on day 100. Neither the manifest's claim nor the own floor suffices alone.
    let listed: Vec<_> = (1..4).map(|n| entry(n, 100)).collect();
    let at = |time| assemble(&checkpoint(updates[3].head(), &listed, time));
    for (claimed, floor) in
        [(after_day(99), after_day(99)), (after_day(100), after_day(99)), (after_day(99), after_day(100))]
    {
        let refused = state.apply_checkpoint(&at(claimed), floor);
        assert_eq!(refused, Err(ApplyError::Omits(entry(0, 0).id)));
        assert!(state.is_revoked(&entry(0, 0).id));
        assert_eq!(state.head(), updates[2].head());
        assert!(state.hold_high_risk(), "the authority has gone on, and we could not follow");
    }
    // The chain still does.
    let mut chained = RevocationState::restore(&stored(&mut state), MAX_ENTRIES).unwrap();
    assert_eq!(apply(&mut chained, &updates[3]), applied([3]));
    assert!(!chained.hold_high_risk());

    let outcome = state.apply_checkpoint(&at(after_day(100)), after_day(100));
    assert_eq!(outcome, applied([3]));
    assert!(!state.is_revoked(&entry(0, 0).id), "its certificate expired below both");
    assert_eq!(state.revoked().len(), 3);
}

#[test]
fn a_checkpoint_cannot_hasten_an_entry_it_keeps() {
    let mut state = RevocationState::new();
    let _ = apply(&mut state, &history(1)[0]);
    let at = |seq| ChainHead { seq, digest: Digest([seq as u8; 32]) };
    let hastened = checkpoint(at(2), &[entry(0, 1)], after_day(50));
    let _ = state.apply_checkpoint(&assemble(&hastened), after_day(50)).unwrap();
    let dropped = checkpoint(at(3), &[], after_day(50));
    let refused = state.apply_checkpoint(&assemble(&dropped), after_day(50));
    assert_eq!(refused, Err(ApplyError::Omits(entry(0, 0).id)));
}

#[test]
fn a_checkpoint_of_another_history_is_an_equivocation() {
    let updates = history(2);
    let mut state = RevocationState::new();
    for update in &updates {
        let _ = apply(&mut state, update);
    }
    let all: Vec<_> = (0..2).map(|n| entry(n, 100)).collect();
    let same = checkpoint(updates[1].head(), &all, UnixTime(9));
    assert_eq!(state.precheck_checkpoint(&same.manifest), Precheck::Duplicate);
    assert_eq!(state.apply_checkpoint(&assemble(&same), START), Ok(Outcome::Unchanged));
    let other = ChainHead { seq: 2, digest: Digest([1; 32]) };
    let forked = checkpoint(other, &all, UnixTime(9));
    assert_eq!(state.precheck_checkpoint(&forked.manifest), Precheck::Worth);
    let outcome = state.apply_checkpoint(&assemble(&forked), START);
    assert_eq!(outcome, Ok(Outcome::Equivocation(Equivocation { held: updates[1].head(), seen: other })));
    assert_eq!(state.precheck_checkpoint(&forked.manifest), Precheck::Duplicate);
    assert!(state.hold_high_risk());
}

#[test]
fn a_full_list_holds_and_makes_room_only_of_what_expired() {
    let mut state = RevocationState::with_limit(2);
    let mut issuer = RevocationIssuer::new();
    let old = issuer.revoke(&[entry(0, 10), entry(1, 100)], START).unwrap();
    let new = issuer.revoke(&[entry(2, 100)], START).unwrap();
    let _ = apply(&mut state, &old).unwrap();
    assert_eq!(apply(&mut state, &new), Err(ApplyError::Full(SetFull)));
    assert_eq!(state.head(), old.head());
    assert!(state.hold_high_risk());
    let link = Link { prev: new.prev(), next: new.head(), entries: new.entries().to_vec() };
    assert_eq!(state.advance(link, after_day(10)), applied([2]));
    assert!(!state.hold_high_risk());
    assert!(!state.is_revoked(&entry(0, 0).id) && state.is_revoked(&entry(1, 0).id));

    let more: Vec<_> = (1..4).map(|n| entry(n, 100)).collect();
    let head = ChainHead { seq: 9, digest: Digest([9; 32]) };
    let refused = state.apply_checkpoint(&assemble(&checkpoint(head, &more, START)), START);
    assert_eq!(refused, Err(ApplyError::Full(SetFull)));
    assert_eq!(state.revoked().len(), 2);
}

#[test]
fn a_receiver_follows_an_authority_restored_from_a_backup_only_with_what_was_lost() {
    let mut issuer = RevocationIssuer::new();
    let mut state = RevocationState::new();
    let first = issuer.revoke(&[entry(0, 100)], START).unwrap();
    let mut rows = BTreeMap::new();
    store(&mut rows, issuer.take_changes());
    let lost = issuer.revoke(&[entry(1, 100)], START).unwrap();
    for update in [&first, &lost] {
        let _ = apply(&mut state, update);
    }

    let restored = || RevocationIssuer::restore(&load(&rows)).unwrap();
    let mut forgetful = restored();
    forgetful.jump(0, &[1; 32], &[]).unwrap();
    let refused = state.apply_checkpoint(&assemble(&forgetful.checkpoint(START)), START);
    assert_eq!(refused, Err(ApplyError::Omits(entry(1, 0).id)));

    let mut careful = restored();
    careful.jump(2, &[2; 32], &[entry(1, 100)]).unwrap();
    let next = careful.revoke(&[entry(2, 100)], START).unwrap();
    assert!(matches!(apply(&mut state, &next), Ok(Outcome::Gap(_))));
    assert_eq!(state.apply_checkpoint(&assemble(&careful.checkpoint(START)), START), applied([2]));
    assert_eq!(state.head(), careful.head());
    assert!(!state.hold_high_risk());
}
