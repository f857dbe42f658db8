//! Rows of earlier starts that pass the store's seal and cannot be read all the same: written by another release, or damaged
//! before they were sealed.
//!
//! Most of them stop the start, because to do without one would undo what it is there for: counters and replay windows, what was
//! received, pins, revocations, the outbox and the inbox, our own keys. Rows that hold nothing but keys that a new handshake, or a
//! new hand-out, replaces are deleted instead, each for itself, and the start goes on:
//!
//! - *Sessions*, whichever of a pair's they are. Without its row a session has no key on either disk that could open anything
//!   again or seal under a counter again: a new one shares no key with it. What its records brought is known by origin, in rows
//!   of their own; what was volatile never came out of a block that was restored.
//! - *Handshakes*. An m1 that is out is given up. Attempts count on from the sessions of the pair; where there are none, an m1
//!   that is replayed makes one that nobody can use.
//! - *Groups*: a group of ours ends with its row, and all its members with it, so that none is in the next group of that filter; a
//!   member's row that is lost is a member removed. Group epochs of others are handed out again.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::barrier::Barrier;
use super::output::{Event, Output};
use crate::audit::{AuditEvent, AuditKind};
use crate::ids::PeerId;
use crate::store::{Change, RecordKind, Row};

/// Rows of a kind that are audited one by one, if it is known whose they were; the others are counted. After an upgrade it may be
/// all there are, and each entry costs a signature.
const MAX_NAMED: usize = 32;

/// Rows that are done without.
#[derive(Default)]
pub(super) struct Unreadable {
    deletions: Vec<Change>,
    of: BTreeMap<RecordKind, Rows>,
}

#[derive(Default)]
struct Rows {
    count: u64,
    peers: Vec<PeerId>,
}

impl Unreadable {
    /// Does without a row, of `peer` as far as that is known.
    pub(super) fn drop_row(&mut self, row: &Row, peer: Option<PeerId>) {
        self.deletions.push(Change::Delete { kind: row.kind, key: row.key.clone() });
        let rows = self.of.entry(row.kind).or_default();
        rows.count += 1;
        rows.peers.extend(peer);
    }

    /// Of whom rows of this kind were lost.
    pub(super) fn peers(&self, kind: RecordKind) -> Vec<PeerId> {
        self.of.get(&kind).map(|rows| rows.peers.clone()).unwrap_or_default()
    }

    /// Deletes them, with what the log and the application are to know.
    pub(super) fn finish(self, barrier: &mut Barrier) {
        if self.deletions.is_empty() {
            return;
        }
        let audit = self.of.iter().flat_map(|(kind, rows)| rows.audit(*kind)).collect();
        let after = barrier.persist(self.deletions, audit);
        for (kind, Rows { count, peers }) in self.of {
            barrier.emit(after, Output::Event(Event::StateDropped { kind, count, peers }));
        }
    }
}

impl Rows {
    fn audit(&self, kind: RecordKind) -> Vec<AuditEvent> {
        let detail = format!("unreadable row dropped: {kind:?}");
        let of = |peer: Option<PeerId>| AuditEvent::new(AuditKind::StoreError, peer, &detail);
        let mut entries: Vec<AuditEvent> =
            self.peers.iter().take(MAX_NAMED).map(|peer| of(Some(peer.clone()))).collect();
        let others = self.count - entries.len() as u64;
        if others > 0 {
            entries.push(of(None).with_count(others));
        }
        entries
    }
}
