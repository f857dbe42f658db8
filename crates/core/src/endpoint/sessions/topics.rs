//! Hashes of topic names, which records are bound to: computed once for those in use.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::crypto::kdf::{HashOutput, hash};
use crate::crypto::suite::HashAlgorithm;

/// Topics remembered per hash. Beyond, all are forgotten: they are cheap to compute again.
const MAX_TOPICS: usize = 1_024;

#[derive(Default)]
pub(super) struct TopicHashes {
    sha256: BTreeMap<String, HashOutput>,
    sha384: BTreeMap<String, HashOutput>,
}

impl TopicHashes {
    pub(super) fn get(&mut self, algorithm: HashAlgorithm, topic: &str) -> HashOutput {
        let known = match algorithm {
            HashAlgorithm::Sha256 => &mut self.sha256,
            HashAlgorithm::Sha384 => &mut self.sha384,
        };
        if let Some(hash) = known.get(topic) {
            return *hash;
        }
        if known.len() >= MAX_TOPICS {
            known.clear();
        }
        let hash = hash(algorithm, &[topic.as_bytes()]);
        known.insert(topic.into(), hash);
        hash
    }
}
