//! Topic groups: one publisher, many subscribers, one record for all of them.
//!
//! ```text
//!  seed ─► chain ─► block seed ─► key, iv, commitment ─► records ─► leaves ─► Merkle root ─► SEAL, signed
//!             └► chain key of a later block ─► a member that joined later
//! ```
//! Members share the key, so a record proves only that *some* member made it: it is told as [`FromMember`], which is no
//! input to control. The publisher's seal over a batch turns it into [`SourceVerified`]. Telemetry only: a record holds a
//! payload and nothing that could make a command of it.
//!
//! What this module does *not* do: it stores nothing, sends nothing, and judges neither grants nor the validity of
//! certificates. Its rules for the caller: hand keys out over pairwise sessions only ([`Publisher::hand_out`]), rotate when
//! [`Publisher::wants_rotation`] says so, and write [`Subscriber::to_row`] before telling the application of anything
//! [`SourceVerified`].

mod batch;
mod blocks;
mod deciding;
mod epoch;
mod handout;
mod header;
mod keys;
mod leaves;
mod members;
mod message;
mod outcome;
mod publisher;
mod row;
mod seal;
mod sealed;
mod subscriber;
mod subscriptions;
#[cfg(test)]
mod tests;
mod tree;
mod unsealed;

pub use batch::{MAX_INTERVAL, MAX_UNSIGNED, MIN_INTERVAL, next_interval};
pub use handout::GroupKey;
pub use header::{HEADER_LEN, Header, OVERHEAD, TYPE_RECORD, TYPE_SEAL};
pub use leaves::{Leaves, MissingLeaves, Which};
pub use members::{MAX_MEMBERS, Members, MembersFull};
pub use message::{Delivery, FromMember, MessageName, SourceVerified, Upgrade};
pub use outcome::{KeyError, LeavesError, OpenError, Opened, Outcome, SealError};
pub use publisher::{HISTORY, PublishError, Published, Publisher, SealAfter};
pub use row::RowError;
pub use seal::{Seal, SealPacket};
pub use subscriber::{MAX_AHEAD, MAX_BATCHES, MAX_BEHIND, MAX_CANDIDATES, Subscriber};
pub use subscriptions::{
    Accepted, GroupEpoch, MAX_EPOCHS, MAX_GROUPS, MAX_PER_SOURCE, MAX_SAME_ID, Subscriptions,
};
pub use unsealed::{Undecided, Unsealed};

use core::time::Duration;

use crate::ids::{Fingerprint, PeerId};

/// Records that share a key.
pub const BLOCK_LEN: u32 = 64;
/// How long a block's key is used for sealing.
pub const BLOCK_AGE: Duration = Duration::from_secs(3600);
/// Records under one seal at most.
pub const MAX_BATCH: usize = 256;
/// Records in one group epoch at most; then the publisher rotates.
pub const MAX_MESSAGES: u32 = 1 << 14;
/// How long a group epoch is used at most.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Blocks in one group epoch at most: twice what its messages fill, because a new member or an hour ends a block early.
pub const MAX_BLOCKS: u32 = 2 * MAX_MESSAGES / BLOCK_LEN;

/// Whose group it is, as the pairwise session that brought the key has proved it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The publisher's id.
    pub id: PeerId,
    /// Its identity's full fingerprint.
    pub fingerprint: Fingerprint,
}
