//! What one sealed row knows of all others, so that a removed, restored or rolled-back row is noticed and named.
//!
//! Per table it holds the number of rows and three sums over them: the keyed sum of PRF(table ‖ key ‖ generation) (a
//! multiset hash: equal only for equal sets of rows), the sum of their generations, and the exclusive or of their
//! keys. The first detects; the other two find the one row that differs.

use std::collections::BTreeMap;

use pqc_iiot_core::audit::ChainHead;
use pqc_iiot_core::codec::{DecodeError, Reader, Writer};
use pqc_iiot_core::crypto::kdf::hmac_sha256;
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::ids::Digest;
use pqc_iiot_core::store::RecordKind;

use super::MAX_KEY;
use super::error::{Damage, RowName};
use crate::seal;

/// What a row's seal and sum bind it to: `table ‖ length ‖ key ‖ generation`.
pub(super) fn row_context(table: u8, key: &[u8], generation: u64) -> Vec<u8> {
    let mut context = Vec::with_capacity(11 + key.len());
    context.push(table);
    // Keys are at most `MAX_KEY` long.
    context.extend_from_slice(&(key.len() as u16).to_be_bytes());
    context.extend_from_slice(key);
    context.extend_from_slice(&generation.to_be_bytes());
    context
}

/// The key of the keyed sum.
pub(super) struct SumKey(Secret<32>);

impl SumKey {
    pub(super) fn new(root: &Secret<32>) -> Self {
        Self(seal::derive(root, "pqc-iiot:store-sum:v1"))
    }

    fn term(&self, context: &[u8]) -> Sum {
        Sum::from_bytes(&hmac_sha256(self.0.expose(), &[context]))
    }
}

/// A number modulo 2^256, most significant limb first.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Sum([u64; 4]);

impl Sum {
    fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_be_bytes(*chunk);
        }
        Self(limbs)
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = limb.to_be_bytes();
        }
        bytes
    }

    fn plus(self, other: Self) -> Self {
        let (mut out, mut carry) = ([0; 4], false);
        for at in (0..4).rev() {
            let (partial, first) = self.0[at].overflowing_add(other.0[at]);
            let (limb, second) = partial.overflowing_add(carry.into());
            (out[at], carry) = (limb, first || second);
        }
        Self(out)
    }

    fn minus(self, other: Self) -> Self {
        let negated = Self(other.0.map(|limb| !limb)).plus(Self([0, 0, 0, 1]));
        self.plus(negated)
    }
}

/// What the head knows of one table.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Summary {
    rows: u64,
    generations: u64,
    sum: Sum,
    keys: Vec<u8>,
}

impl Summary {
    pub(super) fn insert(&mut self, sums: &SumKey, table: u8, key: &[u8], generation: u64) {
        self.rows = self.rows.wrapping_add(1);
        self.generations = self.generations.wrapping_add(generation);
        self.sum = self.sum.plus(sums.term(&row_context(table, key, generation)));
        self.toggle(key);
    }

    pub(super) fn remove(&mut self, sums: &SumKey, table: u8, key: &[u8], generation: u64) {
        self.rows = self.rows.wrapping_sub(1);
        self.generations = self.generations.wrapping_sub(generation);
        self.sum = self.sum.minus(sums.term(&row_context(table, key, generation)));
        self.toggle(key);
    }

    fn toggle(&mut self, key: &[u8]) {
        let name = (key.len() as u16).to_be_bytes().into_iter().chain(key.iter().copied());
        self.keys.resize(self.keys.len().max(2 + key.len()), 0);
        self.keys.iter_mut().zip(name).for_each(|(byte, other)| *byte ^= other);
        let used = self.keys.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        self.keys.truncate(used);
    }

    /// The key in which two summaries differ, if it is one key.
    fn differing_key(&self, other: &Self) -> Option<Vec<u8>> {
        let length = self.keys.len().max(other.keys.len()).max(2);
        let at = |keys: &[u8], index| keys.get(index).copied().unwrap_or(0);
        let name: Vec<u8> = (0..length).map(|index| at(&self.keys, index) ^ at(&other.keys, index)).collect();
        let (prefix, rest) = name.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*prefix));
        let mut key = rest.to_vec();
        if length > MAX_KEY || key.iter().skip(length).any(|&byte| byte != 0) {
            return None;
        }
        key.resize(length, 0);
        Some(key)
    }
}

/// The content of the head row.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// Grows by one with each commit.
    pub(super) generation: u64,
    /// Where the audit log ended.
    pub(super) audit: Option<ChainHead>,
    pub(super) tables: BTreeMap<u8, Summary>,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(3).uint(self.generation);
        match self.audit {
            None => writer.array(0),
            Some(head) => writer.array(2).uint(head.seq).bytes(head.hash.as_bytes()),
        };
        let tables = self.tables.iter().filter(|(_, summary)| **summary != Summary::default());
        writer.array(tables.clone().count());
        for (table, summary) in tables {
            writer.array(5).uint((*table).into()).uint(summary.rows).uint(summary.generations);
            writer.bytes(&summary.sum.to_bytes()).bytes(&summary.keys);
        }
        writer.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        reader.array_of(3)?;
        let generation = reader.uint()?;
        let audit = match reader.array_up_to(2)? {
            0 => None,
            2 => Some(ChainHead { seq: reader.uint()?, hash: Digest(reader.bytes_of()?) }),
            _ => return Err(DecodeError::Shape),
        };
        let mut tables = BTreeMap::new();
        for _ in 0..reader.array_up_to(256)? {
            reader.array_of(5)?;
            let table = reader.uint8()?;
            let (rows, generations) = (reader.uint()?, reader.uint()?);
            let sum = Sum::from_bytes(&reader.bytes_of()?);
            let keys = reader.bytes()?.to_vec();
            tables.insert(table, Summary { rows, generations, sum, keys });
        }
        reader.finish()?;
        Ok(Self { generation, audit, tables })
    }

    /// Compares with what the rows say; `rows` gives key and generation of each row of a table.
    pub(super) fn check(
        &self,
        sums: &SumKey,
        found: &BTreeMap<u8, Summary>,
        rows: &dyn Fn(u8) -> Vec<(Vec<u8>, u64)>,
    ) -> Result<(), Damage> {
        let empty = Summary::default();
        for table in 0..=u8::MAX {
            let expected = self.tables.get(&table).unwrap_or(&empty);
            let found = found.get(&table).unwrap_or(&empty);
            if found.sum != expected.sum || found.rows != expected.rows {
                return Err(diagnose(sums, table, expected, found, &rows(table)));
            }
        }
        Ok(())
    }
}

fn diagnose(
    sums: &SumKey,
    table: u8,
    expected: &Summary,
    found: &Summary,
    rows: &[(Vec<u8>, u64)],
) -> Damage {
    let name = |key: &[u8]| RowName { table, key: key.to_vec() };
    let term = |key: &[u8], generation| sums.term(&row_context(table, key, generation));
    let missing_sum = expected.sum.minus(found.sum);
    let missing_generations = expected.generations.wrapping_sub(found.generations);
    let several = Damage::Several { table, expected: expected.rows, found: found.rows };
    match (expected.differing_key(found), expected.rows.wrapping_sub(found.rows) as i64) {
        (Some(key), 1) if term(&key, missing_generations) == missing_sum => Damage::Removed(name(&key)),
        (Some(key), -1)
            if term(&key, missing_generations.wrapping_neg()) == Sum::default().minus(missing_sum) =>
        {
            Damage::Restored(name(&key))
        }
        (_, 0) => {
            let rolled_back = |(key, generation): &&(Vec<u8>, u64)| {
                let current = generation.wrapping_add(missing_generations);
                term(key, current).minus(term(key, *generation)) == missing_sum
            };
            rows.iter().find(rolled_back).map_or(several, |(key, _)| Damage::RolledBack(name(key)))
        }
        _ => several,
    }
}

/// The number of a table.
pub(super) fn table(kind: RecordKind) -> u8 {
    kind as u8
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_form_a_group(a: [u8; 32], b: [u8; 32], c: [u8; 32]) {
            let [a, b, c] = [a, b, c].map(|bytes| Sum::from_bytes(&bytes));
            prop_assert!(a.plus(b).minus(b) == a);
            prop_assert!(a.plus(b) == b.plus(a));
            prop_assert!(a.plus(b).plus(c) == a.plus(b.plus(c)));
            prop_assert!(Sum::from_bytes(&a.to_bytes()) == a);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Head::decode(&bytes);
        }
    }

    #[test]
    fn removing_what_was_inserted_leaves_nothing() {
        let sums = SumKey::new(&Secret::new([1; 32]));
        let mut summary = Summary::default();
        for key in 0..50_u8 {
            summary.insert(&sums, 3, &vec![key; key.into()], key.into());
        }
        for key in (0..50_u8).rev() {
            summary.remove(&sums, 3, &vec![key; key.into()], key.into());
        }
        assert!(summary == Summary::default());
    }
}
