//! Distributed revocation (invariant I7): signed, chained, monotonic, additive.
//!
//! ```text
//! authority  RevocationIssuer ──► RevocationUpdate      on <prefix>/revocations/v1
//!                             └─► RevocationCheckpoint  on <prefix>/revocations/checkpoint/v1, retained
//!                                 └─ chunks             on <prefix>/revocations/checkpoint/v1/<index>, retained
//! receiver   update   ─► precheck ─► verify ─► RevocationState::apply_update
//!            manifest ─► precheck ─► verify ─► RevocationState::note_checkpoint ─► CheckpointAssembler
//!            chunks   ─► CheckpointAssembler ─► CompleteCheckpoint ─► RevocationState::apply_checkpoint
//! ```
//!
//! An update names the head it follows, so a lost one is noticed; a checkpoint carries every entry, so any gap can be
//! filled. Nothing here can take a revocation back: an entry leaves only when its certificate has expired below the
//! receiver's own durable time floor.

mod assembler;
mod chain;
mod checkpoint;
mod entry;
mod issuer;
mod set;
mod state;
mod stored;
mod update;

pub use assembler::{CheckpointAssembler, ChunkError, ChunkOutcome, CompleteCheckpoint, ManifestOutcome};
pub use chain::{ChainHead, Equivocation, Gap};
pub use checkpoint::{
    CHECKPOINT_CHUNK_ENTRIES, Checkpoint, MAX_CHECKPOINT_CHUNKS, MAX_CHUNK_LEN, RevocationCheckpoint,
};
pub use entry::{ExpiryDay, RevocationEntry, RevocationEntryId, RevocationReason};
pub use issuer::{CHECKPOINT_EXPIRY_MARGIN, IssueError, RESTORE_JUMP, RevocationIssuer};
pub use set::{MAX_ENTRIES, RevocationSet, SetFull};
pub use state::{ApplyError, MAX_PENDING_UPDATES, Outcome, Precheck, RevocationState};
pub use stored::RestoreError;
pub use update::{MAX_UPDATE_ENTRIES, MAX_UPDATE_LEN, RevocationUpdate};
