//! The Merkle tree of a batch: inner nodes `H(1 ‖ left ‖ right)` in the shape of RFC 6962 §2.1. Leaves begin with 0.

use alloc::vec::Vec;

use crate::crypto::kdf::{HashOutput, hash};
use crate::crypto::suite::HashAlgorithm;

/// The root over `leaves`; of none, the hash of nothing.
pub(super) fn root(algorithm: HashAlgorithm, leaves: &[HashOutput]) -> HashOutput {
    let mut level: Vec<HashOutput> = leaves.to_vec();
    while level.len() > 1 {
        // A last node without a sibling moves up as it is: the same as splitting at powers of two.
        let parents = level.chunks(2).map(|pair| match pair {
            [left, right] => hash(algorithm, &[&[1], left.as_slice(), right.as_slice()]),
            [single, ..] => *single,
            [] => hash(algorithm, &[]),
        });
        level = parents.collect();
    }
    level.first().copied().unwrap_or_else(|| hash(algorithm, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1, word for word.
    fn by_definition(leaves: &[HashOutput]) -> HashOutput {
        match leaves {
            [] => hash(HashAlgorithm::Sha256, &[]),
            [single] => *single,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                let (left, right) = (by_definition(left), by_definition(right));
                hash(HashAlgorithm::Sha256, &[&[1], left.as_slice(), right.as_slice()])
            }
        }
    }

    #[test]
    fn has_the_shape_of_rfc_6962_at_every_size() {
        let leaves: Vec<_> = (0..=255u8).map(|n| hash(HashAlgorithm::Sha256, &[&[0, n]])).collect();
        for size in 0..=leaves.len() {
            assert_eq!(
                root(HashAlgorithm::Sha256, &leaves[..size]),
                by_definition(&leaves[..size]),
                "{size}"
            );
        }
    }
}
