//! `pqc-iiot status`: what the store says while no client runs, and what a running proxy says.

use std::io::{self, Write};

use pqc_iiot_core::codec::DecodeError;
use pqc_iiot_core::control::revocation::{MAX_ENTRIES, RevocationEntryId, RevocationState};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::endpoint::{FollowedGroup, PeerRecord, SessionStatus, StoredGroup};
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::store::{RecordKind, Row};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_provider::store::Store;
use serde::Serialize;

use super::queues::{Queue, Queues, Waiting};
use super::status_details::Details;
use super::{Context, identity, local, status_live};
use crate::args::StatusArgs;
use crate::error::{CliError, ErrorKind, Result};
use crate::keeper::{Keeper, open_store, store_error};
use crate::output::{Report, columns, table};
use crate::time::{now, rfc3339};

#[derive(Serialize)]
struct Status {
    peer: String,
    /// This identity itself is revoked.
    own_revoked: bool,
    anchors_version: Option<u64>,
    revocation_seq: u64,
    revoked: usize,
    revocations_behind: bool,
    /// Why nobody new is trusted: a contradiction, or what is missing.
    hold: Option<String>,
    time_floor: Option<String>,
    store_commits: u64,
    store_rows: usize,
    send_counters: usize,
    replay_windows: usize,
    /// Sessions, current and ending.
    sessions: usize,
    own_prekeys: usize,
    audit_head: Option<String>,
    outbox: Queue,
    inbox: Queue,
    waiting: Vec<Waiting>,
    peers: Vec<PeerRow>,
    #[serde(flatten)]
    details: Details,
}

#[derive(Serialize)]
struct PeerRow {
    peer: String,
    key_epoch: u64,
    key_id: String,
    prekey_bundle: u64,
    state: &'static str,
}

impl Report for Status {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let unknown = || "none yet".to_owned();
        let behind = if self.revocations_behind { ", and some are missing" } else { "" };
        table(
            out,
            &[
                (
                    "peer",
                    if self.own_revoked { format!("{} (REVOKED)", self.peer) } else { self.peer.clone() },
                ),
                (
                    "anchors",
                    self.anchors_version.map_or_else(unknown, |version| format!("version {version}")),
                ),
                (
                    "revocations",
                    format!("{} revoked, sequence {}{behind}", self.revoked, self.revocation_seq),
                ),
                (
                    "new trust",
                    self.hold.as_ref().map_or_else(|| "allowed".to_owned(), |why| format!("HELD: {why}")),
                ),
                ("time floor", self.time_floor.clone().unwrap_or_else(unknown)),
                ("store", format!("{} rows after {} commits", self.store_rows, self.store_commits)),
                (
                    "counters",
                    format!("{} sending, {} replay windows", self.send_counters, self.replay_windows),
                ),
                ("sessions", self.sessions.to_string()),
                ("own prekeys", self.own_prekeys.to_string()),
                ("audit head", self.audit_head.clone().unwrap_or_else(unknown)),
                ("outbox", self.outbox.to_string()),
                ("inbox", self.inbox.to_string()),
            ],
        )?;
        if !self.waiting.is_empty() {
            let cells = |waiting: &Waiting| {
                let Waiting { peer, outbox, inbox } = waiting;
                vec![peer.clone(), outbox.to_string(), inbox.to_string()]
            };
            let rows: Vec<_> = self.waiting.iter().map(cells).collect();
            writeln!(out)?;
            columns(out, &["PEER", "WAITING FOR ITS RECEIPT", "RECEIVED, NOT CONSUMED"], &rows)?;
        }
        if self.peers.is_empty() {
            return writeln!(out, "\nNo peers known yet.");
        }
        let cells = |peer: &PeerRow| {
            vec![
                peer.peer.clone(),
                peer.key_epoch.to_string(),
                peer.key_id.clone(),
                peer.prekey_bundle.to_string(),
                peer.state.to_owned(),
            ]
        };
        let rows: Vec<_> = self.peers.iter().map(cells).collect();
        writeln!(out)?;
        columns(out, &["PEER", "EPOCH", "KEY ID", "PREKEYS", "STATE"], &rows)?;
        self.details.human(out)
    }
}

pub(super) fn run(args: &StatusArgs, context: &Context) -> Result<()> {
    let dir = identity::directory(args.dir.as_deref(), context)?;
    if let Some(proxy) = local::at(&dir) {
        return status_live::run(proxy, context);
    }
    let keeper = identity::open(&dir, &args.unlock, context)?;
    let mut store = open_store(&keeper)?;
    let rows = store.load().map_err(|error| store_error(&error))?;
    let damaged = |why: &dyn std::fmt::Display| {
        CliError::new(ErrorKind::Verification, "a stored record is damaged").because(why)
    };
    let revocations = RevocationState::restore(&rows, MAX_ENTRIES).map_err(|error| damaged(&error))?;
    let peers = rows.iter().filter(|row| row.kind == RecordKind::Peer).map(peer_row);
    let peers = peers.collect::<Result<_, _>>().map_err(|error: DecodeError| damaged(&error))?;
    let count = |kind| rows.iter().filter(|row| row.kind == kind).count();
    let anchors = super::device::pinned_anchors(&keeper)?;
    let details = details(&rows).map_err(|error| damaged(&error))?;
    let queues = Queues::read(&rows, now()).map_err(|error| damaged(&error))?;
    context.output.report(&Status {
        own_revoked: own_revoked(&keeper, &revocations)?,
        peer: super::device::own_name(&keeper)?.as_str().to_owned(),
        anchors_version: anchors.map(|anchors| anchors.anchors().version),
        revocation_seq: revocations.head().seq,
        revoked: revocations.revoked().len(),
        revocations_behind: revocations.is_behind(),
        hold: super::device::held(&revocations).map(|(_, why)| why),
        time_floor: time_floor(&rows).map(rfc3339),
        store_commits: store.generation(),
        store_rows: rows.len() + store.lazy_rows(),
        send_counters: count(RecordKind::SendCeiling),
        replay_windows: count(RecordKind::ReplayWindow),
        sessions: count(RecordKind::Session),
        own_prekeys: count(RecordKind::Prekey),
        audit_head: store.audit_head().map(|head| format!("{}:{}", head.seq, head.hash)),
        outbox: queues.outbox,
        inbox: queues.inbox,
        waiting: queues.peers.into_values().collect(),
        peers,
        details,
    })
}

fn details(rows: &[Row]) -> Result<Details, DecodeError> {
    let of_kind = |kind| rows.iter().filter(move |row| row.kind == kind);
    let sessions = of_kind(RecordKind::Session).map(|row| SessionStatus::from_row(default_backend(), row));
    let followed =
        of_kind(RecordKind::GroupSubscription).map(|row| FollowedGroup::from_row(default_backend(), row));
    // A row that cannot be read is deleted at the next start, which says so.
    let (sessions, followed) = (sessions.filter_map(Result::ok), followed.filter_map(Result::ok));
    let (sessions, followed) = (sessions.collect(), followed.collect());
    Ok(Details::at_rest(sessions, StoredGroup::from_rows(rows)?, followed))
}

/// Whether the list names this identity.
pub(super) fn own_revoked(keeper: &Keeper, revocations: &RevocationState) -> Result<bool> {
    let name = super::device::own_name(keeper)?;
    Ok(revocations.is_revoked(&RevocationEntryId::new(&name, &keeper.identity().key_id())))
}

/// The durable time floor.
pub(super) fn time_floor(rows: &[Row]) -> Option<UnixTime> {
    let row = rows.iter().find(|row| row.kind == RecordKind::TimeFloor)?;
    Some(UnixTime(u64::from_be_bytes(row.value.as_slice().try_into().ok()?)))
}

fn peer_row(row: &Row) -> Result<PeerRow, DecodeError> {
    let peer = PeerId::from_bytes(&row.key).map_err(|_| DecodeError::Value)?;
    let record = PeerRecord::decode(&row.value)?;
    Ok(PeerRow {
        peer: peer.as_str().to_owned(),
        key_epoch: record.key_epoch,
        key_id: record.identity.key_id().to_string(),
        prekey_bundle: record.bundle_seq(),
        state: if record.revoked { "revoked" } else { "pinned" },
    })
}
