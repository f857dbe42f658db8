use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::assembler::tests::assemble;
use super::super::assembler::{CheckpointAssembler, ChunkOutcome, ManifestOutcome};
use super::super::checkpoint::tests::checkpoint;
use super::super::entry::tests::{after_day, entry};
use super::super::issuer::RevocationIssuer;
use super::*;
use crate::codec::signed::{SignedObject, SignerKey, ToBeSigned, Unverified, VerifyError};
use crate::crypto::backend::RandomSource;
use crate::crypto::portable::PORTABLE;
use crate::crypto::secret::SecretBytes;
use crate::crypto::signature::SigningKey;
use crate::crypto::suite::SignatureSet;
use crate::ids::Digest;

const START: UnixTime = UnixTime(0);

/// Applies as if verified: signatures are the concern of [`signed_objects_reach_the_state_end_to_end`].
fn apply(state: &mut RevocationState, update: &RevocationUpdate) -> Result<Outcome, ApplyError> {
    let link = Link { prev: update.prev(), next: update.head(), entries: update.entries().to_vec() };
    state.advance(link, START)
}

/// `count` updates of one entry each.
fn history(count: u64) -> Vec<RevocationUpdate> {
    let mut issuer = RevocationIssuer::new();
    (0..count).map(|n| issuer.revoke(&[entry(n, 100)], UnixTime(n)).unwrap()).collect()
}

fn update(prev: ChainHead, seq: u64, n: u64) -> RevocationUpdate {
    RevocationUpdate::new(prev, seq, START, vec![entry(n, 100)]).unwrap()
}

fn applied(entries: impl IntoIterator<Item = u64>) -> Result<Outcome, ApplyError> {
    let added = entries.into_iter().map(|n| entry(n, 100)).collect();
    Ok(Outcome::Applied { added, equivocation: None })
}

/// What a store holds after these changes.
fn store(rows: &mut BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put { kind, key, value } => rows.insert((kind, key), value),
            Change::Delete { kind, key } => rows.remove(&(kind, key)),
        };
    }
}

fn load(rows: &BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>) -> Vec<Row> {
    rows.iter()
        .map(|((kind, key), value)| Row { kind: *kind, key: key.clone(), value: value.clone() })
        .collect()
}

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

fn stored(state: &mut RevocationState) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    store(&mut rows, state.take_changes());
    load(&rows)
}

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

struct Counting(u8);

impl RandomSource for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        out.fill(self.0);
    }
}

fn control_key(seed: u8) -> (SigningKey, SignerKey) {
    let set = SignatureSet::Ed25519MlDsa65;
    let secret = SigningKey::from_seeds(&PORTABLE, set, &SecretBytes::new(vec![seed; 64])).unwrap();
    let public = SignerKey::parse(&PORTABLE, set, secret.public_key()).unwrap();
    (secret, public)
}

fn sign<T>(object: &T, key: &(SigningKey, SignerKey), topic: &str) -> Vec<u8>
where
    T: for<'a> SignedObject<Context<'a> = &'a str>,
{
    let unsigned = ToBeSigned::new(object, key.0.set(), key.1.fingerprint(), &topic);
    let message = |algorithm| unsigned.structure().message(algorithm);
    let signature = key.0.sign(&mut Counting(0), &message).unwrap();
    unsigned.assemble(&signature).unwrap()
}

const UPDATES: &str = "pqc/revocations/v1";
const CHECKPOINTS: &str = "pqc/revocations/checkpoint/v1";

#[test]
fn signed_objects_reach_the_state_end_to_end() {
    let key = control_key(1);
    let mut issuer = RevocationIssuer::new();
    let mut state = RevocationState::new();

    let encoded = sign(&issuer.revoke(&[entry(0, 100)], START).unwrap(), &key, UPDATES);
    let decode = || Unverified::<RevocationUpdate>::decode(&encoded, super::super::MAX_UPDATE_LEN).unwrap();
    assert_eq!(state.precheck_update(decode().unverified()), Precheck::Worth);
    assert_eq!(
        decode().verify(&key.1, &CHECKPOINTS).err(),
        Some(VerifyError::BadSignature),
        "bound to its topic"
    );
    assert_eq!(decode().verify(&control_key(2).1, &UPDATES).err(), Some(VerifyError::WrongSigner));
    let update = decode().verify(&key.1, &UPDATES).unwrap();
    assert_eq!(state.apply_update(&update, START), applied([0]));
    assert_eq!(state.head(), issuer.head(), "the digest over what was signed is the issuer's");
    assert_eq!(state.precheck_update(decode().unverified()), Precheck::Duplicate);

    let more: Vec<_> = (1..3000).map(|n| entry(n, 100)).collect();
    for part in more.chunks(1000) {
        let _ = issuer.revoke(part, START).unwrap();
    }
    let made = issuer.checkpoint(START);
    let encoded = sign(&made.manifest, &key, CHECKPOINTS);
    let unverified = Unverified::<RevocationCheckpoint>::decode(&encoded, 64 * 1024).unwrap();
    assert_eq!(state.precheck_checkpoint(unverified.unverified()), Precheck::Worth);
    let manifest = unverified.verify(&key.1, &CHECKPOINTS).unwrap();
    assert_eq!(state.note_checkpoint(&manifest), Outcome::Gap(Gap { have: 1, need: 4 }));
    assert!(state.is_behind());
    let mut assembler = CheckpointAssembler::new();
    assert!(matches!(assembler.manifest(manifest), ManifestOutcome::Started));
    let Ok(ChunkOutcome::Complete(complete)) = assembler.chunk(0, &made.chunks[0]) else {
        panic!("one chunk")
    };
    assert!(matches!(state.apply_checkpoint(&complete, START), Ok(Outcome::Applied { .. })));
    assert_eq!(state.revoked().len(), 3000);
    assert_eq!(state.head(), issuer.head());
    assert!(!state.hold_high_risk());
}

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
