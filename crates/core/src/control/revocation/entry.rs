//! One revoked identity: 19 bytes, on the wire and in the store.

use alloc::vec::Vec;
use core::fmt;

use crate::codec::{DecodeError, Writer};
use crate::crypto::kdf::sha256;
use crate::crypto::labels;
use crate::ids::{KeyId, PeerId};
use crate::time::UnixTime;

/// Names a revoked `(peer_id, key_id)`: the first 16 bytes of SHA-256 over the deterministic CBOR array
/// `["pqc-iiot:revocation-entry:v1", peer_id, key_id]`.
///
/// Computing it costs one hash, so callers keep it beside the peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationEntryId([u8; 16]);

impl RevocationEntryId {
    /// Its length in bytes.
    pub const LEN: usize = 16;

    /// The id of `peer`'s identity `key`.
    pub fn new(peer: &PeerId, key: &KeyId) -> Self {
        let mut writer = Writer::new();
        writer.array(3).text(labels::REVOCATION_ENTRY).text(peer.as_str()).bytes(key.as_bytes());
        let digest = sha256(&[&writer.finish()]);
        let mut id = [0; Self::LEN];
        id.copy_from_slice(&digest[..Self::LEN]);
        Self(id)
    }

    /// An id read from the wire or the store.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for RevocationEntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for RevocationEntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevocationEntryId({self})")
    }
}

/// Why an identity was revoked. Codes of later releases are kept as they are: a receiver that does not know the
/// reason must still enforce the revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RevocationReason(u8);

impl RevocationReason {
    /// No reason given.
    pub const UNSPECIFIED: Self = Self(0);
    /// A private key is, or may be, in other hands.
    pub const KEY_COMPROMISE: Self = Self(1);
    /// The device is lost or stolen.
    pub const LOST: Self = Self(2);
    /// The device left service.
    pub const DECOMMISSIONED: Self = Self(3);
    /// A new identity took its place.
    pub const SUPERSEDED: Self = Self(4);
    /// The device changed its owner or role.
    pub const AFFILIATION: Self = Self(5);

    const NAMES: [&'static str; 6] =
        ["unspecified", "key-compromise", "lost", "decommissioned", "superseded", "affiliation"];

    /// The reason with this code.
    pub fn from_code(code: u8) -> Self {
        Self(code)
    }

    /// Its code on the wire.
    pub fn code(self) -> u8 {
        self.0
    }

    /// Its name in commands and logs; `unknown` for codes of later releases.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("unknown")
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        (0..).zip(Self::NAMES).find(|(_, known)| *known == name).map(|(code, _)| Self(code))
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When the revoked certificate has certainly expired, in whole days since 2020-01-01 UTC, rounded up.
///
/// From then on the entry may be dropped. [`ExpiryDay::NEVER`] is never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpiryDay(u16);

impl ExpiryDay {
    /// No known expiry, or one after the year 2199.
    pub const NEVER: Self = Self(u16::MAX);

    /// 2020-01-01T00:00:00Z.
    const EPOCH: u64 = 1_577_836_800;
    const DAY: u64 = 86_400;

    /// The first whole day at or after `expires`.
    pub fn covering(expires: UnixTime) -> Self {
        let days = expires.0.saturating_sub(Self::EPOCH).div_ceil(Self::DAY);
        Self(u16::try_from(days).unwrap_or(u16::MAX))
    }

    /// From the number of days.
    pub fn from_days(days: u16) -> Self {
        Self(days)
    }

    /// Days since 2020-01-01.
    pub fn days(self) -> u16 {
        self.0
    }

    /// Whether the certificate had expired before `time`.
    pub fn is_before(self, time: UnixTime) -> bool {
        self != Self::NEVER && Self::EPOCH + u64::from(self.0) * Self::DAY < time.0
    }
}

/// One revoked identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationEntry {
    /// Which identity.
    pub id: RevocationEntryId,
    /// Why.
    pub reason: RevocationReason,
    /// When its certificate has expired.
    pub expires: ExpiryDay,
}

impl RevocationEntry {
    /// Encoded length: id 16, reason 1, expiry day 2 (big-endian).
    pub const LEN: usize = 19;

    /// Whether a non-empty list of entries can have this length, in bytes.
    pub fn fit(length: usize) -> bool {
        length > 0 && length.is_multiple_of(Self::LEN)
    }

    /// Revokes `peer`'s identity `key`, whose certificate is valid until `expires`.
    pub fn new(peer: &PeerId, key: &KeyId, reason: RevocationReason, expires: UnixTime) -> Self {
        Self { id: RevocationEntryId::new(peer, key), reason, expires: ExpiryDay::covering(expires) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.push(self.reason.code());
        out.extend_from_slice(&self.expires.days().to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let [reason, day @ ..] = rest else { return None };
        Some(Self {
            id: RevocationEntryId(*id),
            reason: RevocationReason(*reason),
            expires: ExpiryDay(u16::from_be_bytes(day.try_into().ok()?)),
        })
    }
}

/// Entries one after another.
pub(super) fn write_entries<'a>(entries: impl IntoIterator<Item = &'a RevocationEntry>) -> Vec<u8> {
    let entries = entries.into_iter();
    let mut out = Vec::with_capacity(entries.size_hint().0 * RevocationEntry::LEN);
    entries.for_each(|entry| entry.write(&mut out));
    out
}

/// Whole entries with strictly ascending ids, nothing else.
pub(super) fn read_entries(bytes: &[u8]) -> Result<Vec<RevocationEntry>, DecodeError> {
    let records = bytes.chunks_exact(RevocationEntry::LEN);
    if !records.remainder().is_empty() {
        return Err(DecodeError::Shape);
    }
    let entries: Option<Vec<_>> = records.map(RevocationEntry::read).collect();
    let entries = entries.ok_or(DecodeError::Shape)?;
    if entries.is_sorted_by(|a, b| a.id < b.id) { Ok(entries) } else { Err(DecodeError::Value) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The `n`-th of a fixed sequence of uniformly distributed entries, expiring on `day`.
    pub(in super::super) fn entry(n: u64, day: u16) -> RevocationEntry {
        let digest = sha256(&[&n.to_be_bytes()]);
        let id = RevocationEntryId(digest[..16].try_into().unwrap());
        RevocationEntry { id, reason: RevocationReason::LOST, expires: ExpiryDay(day) }
    }

    /// The time at which entries of `day` have expired.
    pub(in super::super) fn after_day(day: u16) -> UnixTime {
        UnixTime(ExpiryDay::EPOCH + u64::from(day) * ExpiryDay::DAY + 1)
    }

    #[test]
    fn an_id_binds_both_peer_and_key() {
        let id = |peer: &str, key| RevocationEntryId::new(&PeerId::new(peer).unwrap(), &KeyId([key; 16]));
        assert_eq!(id("press-7", 1), id("press-7", 1));
        assert_ne!(id("press-7", 1), id("press-7", 2));
        assert_ne!(id("press-7", 1), id("press-8", 1));
    }

    #[test]
    fn an_id_is_the_hash_of_its_cbor_array() {
        let mut framed = alloc::vec![0x83, 0x78, 28];
        framed.extend_from_slice(b"pqc-iiot:revocation-entry:v1");
        framed.extend_from_slice(&[0x61, b'a', 0x50]);
        framed.extend_from_slice(&[7; 16]);
        let id = RevocationEntryId::new(&PeerId::new("a").unwrap(), &KeyId([7; 16]));
        assert_eq!(id.as_bytes(), &sha256(&[&framed])[..16]);
    }

    #[test]
    fn an_entry_is_not_dropped_before_its_certificate_expires() {
        let noon = UnixTime(ExpiryDay::EPOCH + 10 * ExpiryDay::DAY + ExpiryDay::DAY / 2);
        let day = ExpiryDay::covering(noon);
        assert_eq!(day.days(), 11);
        assert!(!day.is_before(noon));
        assert!(day.is_before(UnixTime(ExpiryDay::EPOCH + 11 * ExpiryDay::DAY + 1)));
        let midnight = UnixTime(ExpiryDay::EPOCH + 10 * ExpiryDay::DAY);
        assert_eq!(ExpiryDay::covering(midnight).days(), 10);
        assert!(!ExpiryDay::covering(midnight).is_before(midnight));
        assert_eq!(ExpiryDay::covering(UnixTime(0)).days(), 0);
        assert_eq!(ExpiryDay::covering(UnixTime(u64::MAX)), ExpiryDay::NEVER);
        assert!(!ExpiryDay::NEVER.is_before(UnixTime(u64::MAX)));
    }

    #[test]
    fn reasons_have_names_and_unknown_codes_survive() {
        for code in 0..6 {
            let reason = RevocationReason::from_code(code);
            assert_eq!(RevocationReason::from_name(reason.name()), Some(reason));
        }
        assert_eq!(RevocationReason::from_code(200).name(), "unknown");
        assert_eq!(RevocationReason::from_code(200).code(), 200);
        assert_eq!(RevocationReason::from_name("unknown"), None);
    }

    #[test]
    fn unsorted_repeated_or_torn_entries_are_refused() {
        let mut sorted = [entry(1, 1), entry(2, 1), entry(3, 1)];
        sorted.sort();
        assert_eq!(read_entries(&write_entries(&sorted)).unwrap(), sorted);
        let swapped = [sorted[1], sorted[0]];
        assert_eq!(read_entries(&write_entries(&swapped)), Err(DecodeError::Value));
        let repeated = [sorted[0], RevocationEntry { reason: RevocationReason::LOST, ..sorted[0] }];
        assert_eq!(read_entries(&write_entries(&repeated)), Err(DecodeError::Value));
        let whole = write_entries(&sorted);
        assert_eq!(read_entries(&whole[..whole.len() - 1]), Err(DecodeError::Shape));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_back_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(entries) = read_entries(&bytes) {
                prop_assert_eq!(write_entries(&entries), bytes);
            }
        }
    }
}
