//! Tests of the state of revocations.

mod chain;
mod checkpoints;
mod interleavings;
mod rows;
mod signed;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::control::revocation::entry::tests::entry;
use crate::control::revocation::issuer::RevocationIssuer;

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

fn stored(state: &mut RevocationState) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    store(&mut rows, state.take_changes());
    load(&rows)
}
