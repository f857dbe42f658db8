//! What a subscriber makes of keys, records, seals and leaves.

use alloc::vec::Vec;

use thiserror::Error;

use super::leaves::MissingLeaves;
use super::message::{Delivery, MessageName, Upgrade};
#[cfg(doc)]
use super::subscriber::MAX_CANDIDATES;

/// Why a group's key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The commitment is not the seed's.
    #[error("the group key is not the one committed to")]
    Commitment,
    /// Another key of the same publisher for the same group and epoch.
    #[error("another key for the same group epoch")]
    Equivocation,
    /// Too many groups.
    #[error("too many groups")]
    Full,
    /// The library failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// Why a record did not open. From outside all look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Of no known group epoch for its topic: to be held, while its key is asked for.
    #[error("of an unknown group")]
    UnknownGroup,
    /// Told before, as what it is.
    #[error("the record was received before")]
    Replay,
    /// Before the window, or before a restart that its seal survived.
    #[error("the record is too old")]
    TooOld,
    /// Beyond the window, or after the epoch's last record.
    #[error("the record is too far ahead")]
    TooFar,
    /// Its counter has [`MAX_CANDIDATES`] others already.
    #[error("the record's counter has too many candidates")]
    Crowded,
    /// Made by a member, and not what the publisher sealed: to be told of. Once per counter; then [`OpenError::Replay`].
    #[error("a member forged the record")]
    Forged,
    /// It does not authenticate.
    #[error("the record does not authenticate")]
    Unauthentic,
}

impl OpenError {
    /// Whether the record authenticated: then it is of no other publisher that chose the same ids.
    pub(crate) fn is_decided(self) -> bool {
        self == Self::Forged
    }

    /// Of what two publishers' group epochs say about one record, the more telling.
    pub(crate) fn or(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    fn rank(self) -> u8 {
        match self {
            Self::UnknownGroup => 0,
            Self::Unauthentic => 1,
            Self::TooFar => 2,
            Self::TooOld => 3,
            Self::Crowded => 4,
            Self::Replay => 5,
            Self::Forged => 6,
        }
    }
}

/// Why a seal was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// Of no known group epoch for its topic.
    #[error("of an unknown group")]
    UnknownGroup,
    /// It says what none can.
    #[error("malformed seal")]
    Malformed,
    /// Received before.
    #[error("the seal was received before")]
    Replay,
    /// Of records before the window.
    #[error("the seal is too old")]
    TooOld,
    /// The certificate is not the publisher's, or the signature does not verify.
    #[error("the seal's signature does not verify")]
    BadSignature,
    /// The publisher signed two histories: to be told of, and its group not to be used any more.
    #[error("the publisher signed contradicting seals")]
    Equivocation,
}

/// Why leaves were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LeavesError {
    /// No batch waits for them.
    #[error("leaves that no batch waits for")]
    Unasked,
    /// They are not what the batch's seal is over.
    #[error("leaves that the seal is not over")]
    Wrong,
}

/// What a seal, its leaves or a late record decided.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records that the publisher vouches for: to be told after the row is written.
    pub upgrades: Vec<Upgrade>,
    /// Counters of records that a member forged: to be told of.
    pub forged: Vec<u32>,
    /// Records that the window left behind before any seal decided about them: to be told of.
    pub unproved: Vec<MessageName>,
    /// Leaves to ask the publisher for.
    pub missing: Option<MissingLeaves>,
}

/// An opened record.
#[derive(Debug)]
pub struct Opened {
    /// The record.
    pub delivery: Delivery,
    /// What it decided about a batch whose seal was there before.
    pub outcome: Outcome,
}
