//! Starting an endpoint from its configuration and its stored rows.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::own_keys::OwnPrekey;
use super::peers::Peer;
use super::record::PeerRecord;
use super::sessions::peer_of;
use super::unreadable::Unreadable;
use super::*;
use crate::codec::DecodeError;
use crate::identity::trust::AnchorsError;
use crate::store::{Change, RecordKind, Row};
use crate::topic::Topic;

impl Endpoint {
    /// Verifies our own identity under the anchors and restores everything durable. Poll for outputs afterwards.
    pub fn new(
        config: EndpointConfig,
        backend: Backend,
        random: Box<dyn RandomSource + Send>,
        rows: &[Row],
        now: Now,
    ) -> Result<Self, StartError> {
        Topic::new(&config.prefix).map_err(|_| StartError::Prefix)?;
        let of_kind = |kind| rows.iter().filter(move |row| row.kind == kind);
        let floor = match of_kind(RecordKind::TimeFloor).next() {
            Some(row) => {
                UnixTime(u64::from_be_bytes(row.value.as_slice().try_into().map_err(|_| DecodeError::Value)?))
            }
            None => UnixTime::default(),
        };
        let mut clock = Clock::new(floor, now);
        let behind = clock.observe(now);
        let stored = of_kind(RecordKind::Anchors).next().map(|row| row.value.as_slice());
        let (anchors, pinned) = pin(backend, &config.anchors, stored, clock.effective())?;
        let own = own_identity(&config, &anchors, clock.effective())?;
        let revocations = RevocationState::restore(rows, crate::control::revocation::MAX_ENTRIES)
            .map_err(|_| StartError::Records(DecodeError::Value))?;
        let topics = ControlTopics::new(&config.prefix);

        let mut random = random;
        let outbox = Outbox::new(config.delivery, &mut *random);
        let inbox = Inbox::new(config.delivery);
        let sessions = Sessions::new(config.sessions, outbox.boot, Bucket::new(config.budgets.handshakes));
        let mut endpoint = Self {
            budgets: Budgets {
                announcements: Bucket::new(config.budgets.announcements),
                messages: Bucket::new(config.budgets.messages),
                control: Bucket::new(config.budgets.control),
                anchors: Bucket::new(config.budgets.control),
            },
            config,
            topics,
            backend,
            random,
            anchors,
            own,
            prekeys: OwnPrekeys::default(),
            clock,
            peers: BTreeMap::new(),
            revocations,
            checkpoint: CheckpointAssembler::default(),
            counters: SendCounters::default(),
            windows: BTreeMap::new(),
            opening: BTreeMap::new(),
            hold: Hold::default(),
            sessions,
            groups: Groups::default(),
            outbox,
            inbox,
            application: BTreeMap::new(),
            loads: Loads::default(),
            recent: Recency::default(),
            pending: PendingOperations::default(),
            refusals: RefusalLog::default(),
            barrier: Barrier::default(),
            control_retry: None,
            missed_retry: None,
            gap_retry: None,
            hinted: None,
            announced_timeout: None,
            connected: false,
            online: false,
            room: usize::MAX,
            closed: false,
        };
        endpoint.own.revoked = endpoint.revocations.is_revoked(&endpoint.own.revocation);
        let mut unreadable = Unreadable::default();
        for row in rows {
            endpoint.restore(row, &mut unreadable)?;
        }
        let over = core::mem::take(&mut endpoint.sessions.over);
        if !over.is_empty() {
            endpoint.barrier.persist(over, Vec::new());
        }
        endpoint.write_start(pinned, behind);
        endpoint.restore_delivery(rows)?;
        endpoint.restore_groups(rows, &mut unreadable)?;
        endpoint.do_without(unreadable);
        endpoint.discard_for_revoked();
        endpoint.start_own_keys();
        Ok(endpoint)
    }

    fn write_start(&mut self, pinned: Option<Change>, behind: bool) {
        let changes = pinned.into_iter().chain(self.clock.write(true)).collect();
        let mut audit = alloc::vec![AuditEvent::new(
            AuditKind::ClientStarted,
            None,
            &alloc::format!("key {}", self.own.certificate.key_id()),
        )];
        if self.config.trust == TrustMode::DangerousTrustOnFirstUse {
            audit.push(AuditEvent::new(AuditKind::DangerousMode, None, "trust on first use"));
        }
        if behind {
            audit.push(AuditEvent::new(AuditKind::ClockAnomaly, None, "clock behind the durable floor"));
        }
        let after = self.barrier.persist(changes, audit);
        if behind {
            self.barrier.emit(after, Output::Event(Event::ClockBehindFloor));
        }
        if self.own.revoked {
            self.barrier.emit(after, Output::Event(Event::SelfRevoked));
        }
    }

    /// Outbox and inbox, each in the order of their keys; what the application has not consumed it is told again.
    fn restore_delivery(&mut self, rows: &[Row]) -> Result<(), DecodeError> {
        let (floor, now) = (self.clock.floor(), self.clock.monotonic());
        let of_kind = |kind| {
            let rows = rows.iter().filter(move |row| row.kind == kind);
            rows.map(|row| (row.key.as_slice(), row)).collect::<BTreeMap<_, _>>()
        };
        let mut packets = of_kind(RecordKind::Packet);
        for (key, row) in of_kind(RecordKind::Outbox) {
            let own = self.own.certificate.key_id();
            let receiver = self.outbox.restore(row, packets.remove(key), own, floor, now)?;
            // Followed until they have it, whether or not anybody asks for them again.
            self.peers.entry(receiver).or_default();
        }
        if !packets.is_empty() {
            let delete = |key: &&[u8]| Change::Delete { kind: RecordKind::Packet, key: key.to_vec() };
            self.barrier.persist(packets.keys().map(delete).collect(), Vec::new());
        }
        for row in of_kind(RecordKind::Inbox).into_values() {
            let message = self.inbox.restore(row)?;
            self.barrier.emit(self.barrier.latest(), Output::Event(Event::Message(message)));
        }
        Ok(())
    }

    /// Which rows the start goes on without, and why no others, says [`unreadable`](super::unreadable).
    fn restore(&mut self, row: &Row, unreadable: &mut Unreadable) -> Result<(), DecodeError> {
        match row.kind {
            RecordKind::Peer => self.restore_peer(row),
            RecordKind::SendCeiling => self.counters.restore(&row.key, &row.value).ok_or(DecodeError::Value),
            RecordKind::ReplayWindow => self.restore_window(row),
            RecordKind::Prekey => {
                let (id, prekey) = OwnPrekey::decode(&row.key, &row.value)?;
                self.prekeys.keys.insert(id, prekey);
                Ok(())
            }
            RecordKind::Received => self.inbox.heard.restore(row),
            RecordKind::Application => {
                self.application.insert(row.key.clone(), row.value.clone());
                Ok(())
            }
            RecordKind::Session => {
                let own = self.own.certificate.fingerprint();
                let (now, at) = (self.clock.monotonic(), self.clock.effective());
                if self.sessions.restore_session(self.backend, row, own, now, at).is_err() {
                    unreadable.drop_row(row, peer_of(row));
                }
                Ok(())
            }
            RecordKind::Handshake => {
                if self.sessions.restore_handshake(self.backend, row, self.clock.monotonic()).is_err() {
                    unreadable.drop_row(row, PeerId::from_bytes(&row.key).ok());
                }
                Ok(())
            }
            RecordKind::PrekeyState => self.prekeys.restore_state(&row.value),
            _ => Ok(()),
        }
    }

    /// Deletes the rows that could not be read, and makes up for those that have something to make up for.
    fn do_without(&mut self, unreadable: Unreadable) {
        self.sessions.restore_attempts();
        for peer in unreadable.peers(RecordKind::Session) {
            self.session_row_lost(&peer);
        }
        unreadable.finish(&mut self.barrier);
    }

    /// Windows of other keys of ours are not needed: nothing sealed to those is accepted.
    fn restore_window(&mut self, row: &Row) -> Result<(), DecodeError> {
        let window = ReplayWindow::from_bytes(&row.value).ok_or(DecodeError::Value)?;
        let (sender, rest) = row.key.split_at_checked(KeyId::LEN).ok_or(DecodeError::Value)?;
        let (own, stream) = rest.split_at_checked(KeyId::LEN).ok_or(DecodeError::Value)?;
        let sender = KeyId::from_slice(sender).ok_or(DecodeError::Value)?;
        let stream = stream.first().copied().and_then(StreamId::new).ok_or(DecodeError::Value)?;
        if own == self.own.certificate.key_id().as_bytes() {
            self.windows.insert((sender, stream), window);
        }
        Ok(())
    }

    /// A stored peer is trusted again if its certificate is in force still; it is verified once it is loaded. Its pins
    /// hold in any case.
    fn restore_peer(&mut self, row: &Row) -> Result<(), DecodeError> {
        let id = PeerId::from_bytes(&row.key).map_err(|_| DecodeError::Value)?;
        let mut pins = PeerRecord::decode(&row.value)?;
        pins.revoked |= self.revocations.is_revoked(&pins.revocation);
        let unloaded =
            !pins.revoked && self.anchors.has_issuer(pins.issuer) && pins.valid_at(self.clock.effective());
        self.peers.insert(id, Peer { pins: Some(pins), unloaded, ..Peer::default() });
        Ok(())
    }
}

/// The pinned anchors, and the change that pins them if they are new: the store's, unless the installed ones are their
/// proper successor.
fn pin(
    backend: Backend,
    installed: &[u8],
    stored: Option<&[u8]>,
    at: UnixTime,
) -> Result<(PinnedAnchors, Option<Change>), AnchorsError> {
    let put =
        |value: &[u8]| Change::Put { kind: RecordKind::Anchors, key: Vec::new(), value: value.to_vec() };
    let installed_anchors = PinnedAnchors::pin(backend, installed)?;
    let Some(stored) = stored else { return Ok((installed_anchors, Some(put(installed)))) };
    let stored = PinnedAnchors::pin(backend, stored)?;
    let (theirs, ours) = (installed_anchors.anchors(), stored.anchors());
    if theirs.version == ours.version && theirs != ours {
        return Err(AnchorsError::Conflict);
    }
    if theirs.version <= ours.version {
        return Ok((stored, None));
    }
    Ok((stored.succeed(installed, at)?, Some(put(installed))))
}

fn own_identity(
    config: &EndpointConfig,
    anchors: &PinnedAnchors,
    at: UnixTime,
) -> Result<OwnIdentity, StartError> {
    let certificate = anchors.verify_certificate(&config.certificate, at)?;
    let claims = certificate.claims();
    if claims.subject != config.peer_id || claims.keys != config.identity {
        return Err(StartError::NotOurs);
    }
    if !claims.suites.iter().any(|suite| config.suites.contains(suite)) {
        return Err(StartError::Suites);
    }
    let sender = Sender {
        id: config.peer_id.clone(),
        fingerprint: certificate.fingerprint(),
        set: claims.keys.set,
        signer: certificate.signer().fingerprint(),
    };
    let revocation = RevocationEntryId::new(&claims.subject, &certificate.key_id());
    Ok(OwnIdentity { certificate, sender, revocation, announcement: None, revoked: false })
}
