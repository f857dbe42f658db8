//! Rows of sessions and of handshakes under way.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use zeroize::Zeroizing;

use super::{Attempts, HalfOpen, Initiating, Live, Pair, Rank, Sessions, Slot};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::Backend;
use crate::ids::{Fingerprint, HandshakeId, MAX_PEER_ID, PeerId};
use crate::session::Session;
use crate::session::handshake::ExpectM2;
use crate::store::{Change, RecordKind, Row};
use crate::time::{Monotonic, UnixTime};

/// The first retransmission of an m1 after a restart.
const AGAIN_AT_START: Duration = Duration::from_secs(1);

impl Live {
    /// The session's row; `m2` while it is half open.
    pub(super) fn change(&self, peer: &PeerId, slot: Slot, m2: &[u8]) -> Change {
        let mut writer = Writer::with_capacity(2048);
        writer.array(12).text(peer.as_str()).uint(slot as u64);
        writer.uint(self.rank.attempt).bool(self.rank.favoured);
        writer.bytes(self.own.as_bytes()).bytes(self.peer.as_bytes()).bytes(self.handshake.as_bytes());
        writer.uint(self.established.0).uint(self.ends.0);
        writer.uint(self.erase_at.map_or(0, |(_, at)| at.0)).bytes(m2);
        writer.bytes(&Zeroizing::new(self.session.to_row()));
        Change::Put { kind: RecordKind::Session, key: self.key(), value: writer.finish() }
    }

    pub(super) fn deletion(&self) -> Change {
        Change::Delete { kind: RecordKind::Session, key: self.key() }
    }

    fn key(&self) -> Vec<u8> {
        self.session.sid_in().as_bytes().to_vec()
    }

    #[allow(clippy::too_many_arguments, reason = "what a session is known by, none with a default")]
    pub(super) fn new(
        session: Session,
        rank: Rank,
        own: Fingerprint,
        peer: Fingerprint,
        handshake: HandshakeId,
        established: UnixTime,
        ends: UnixTime,
        now: Monotonic,
    ) -> Self {
        Self {
            session,
            own,
            peer,
            handshake,
            established,
            ends,
            rank,
            epoch_since: now,
            erase_at: None,
            known_due: None,
            ratchet_again: None,
            turn_asked: None,
            unread: None,
            parts: None,
            overdue: false,
        }
    }

    /// It is read for so long, or as long as was settled before if that is less, over restarts as well.
    pub(super) fn drain_for(&mut self, drain: Duration, now: Monotonic, at: UnixTime) {
        let until = (now.plus(drain), at.plus(drain));
        self.erase_at = Some(self.erase_at.map_or(until, |before| before.min(until)));
    }
}

impl Pair {
    /// The row of attempts, with the m1 that is out.
    pub(super) fn handshake_change(&self, peer: &PeerId) -> Change {
        let mut writer = Writer::new();
        writer.array(5).bytes(self.attempts.own.as_bytes()).bytes(self.attempts.peer.as_bytes());
        writer.uint(self.attempts.ours).uint(self.attempts.theirs);
        match &self.initiating {
            Some(Initiating::Waiting { state, .. }) => writer.bytes(state.to_row().expose()),
            _ => writer.null(),
        };
        Change::Put { kind: RecordKind::Handshake, key: peer.as_str().into(), value: writer.finish() }
    }
}

/// What a session's row says.
pub(super) struct Stored {
    pub(super) peer: PeerId,
    pub(super) slot: Slot,
    pub(super) live: Live,
    m2: Vec<u8>,
    /// When it is erased, once it only drains.
    erase_at: u64,
}

impl Stored {
    pub(super) fn decode(backend: Backend, row: &[u8], now: Monotonic) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(row)?;
        reader.array_of(12)?;
        let peer = PeerId::new(&reader.text(MAX_PEER_ID)?).map_err(|_| DecodeError::Value)?;
        let slot = match reader.uint()? {
            0 => Slot::Current,
            1 => Slot::Draining,
            2 => Slot::HalfOpen,
            _ => return Err(DecodeError::Value),
        };
        let rank = Rank { attempt: reader.uint()?, favoured: reader.bool()? };
        let (ours, theirs) = (Fingerprint(reader.bytes_of()?), Fingerprint(reader.bytes_of()?));
        let handshake = HandshakeId(reader.bytes_of()?);
        let (established, ends) = (UnixTime(reader.uint()?), UnixTime(reader.uint()?));
        let erase_at = reader.uint()?;
        let m2 = reader.bytes()?.to_vec();
        let session = Session::from_row(backend, reader.bytes()?, now).map_err(|_| DecodeError::Value)?;
        reader.finish()?;
        let live = Live::new(session, rank, ours, theirs, handshake, established, ends, now);
        Ok(Self { peer, slot, live, m2, erase_at })
    }
}

impl Sessions {
    /// A session of an earlier start. Nothing is taken of a row that cannot be read.
    pub(in crate::endpoint) fn restore_session(
        &mut self,
        backend: Backend,
        row: &Row,
        own: Fingerprint,
        now: Monotonic,
        at: UnixTime,
    ) -> Result<(), DecodeError> {
        let Stored { peer, slot, mut live, m2, erase_at } = Stored::decode(backend, &row.value, now)?;
        let place = self.pairs.get(&peer).and_then(|pair| pair.live(slot));
        if live.session.sid_in().as_bytes() != row.key.as_slice() || place.is_some() {
            return Err(DecodeError::Value);
        }
        live.overdue = true;
        live.session.shrink();
        // With other keys of ours it is over, and its secrets must not stay.
        if live.own != own {
            self.over.push(live.deletion());
            return Ok(());
        }
        self.sids.insert(live.session.sid_in(), &peer);
        let drain = self.policy.drain;
        let pair = self.pair_mut(&peer);
        match slot {
            Slot::Current => {
                live.ratchet_again =
                    live.session.has_offered().then(|| (now.plus(AGAIN_AT_START), AGAIN_AT_START));
                pair.current = Some(Box::new(live));
            }
            Slot::Draining => {
                // No longer than if it began to drain now, whatever the clock says.
                live.drain_for(drain.min(Duration::from_secs(erase_at.saturating_sub(at.0))), now, at);
                pair.draining = Some(Box::new(live));
            }
            Slot::HalfOpen => {
                pair.half_open = Some(Box::new(HalfOpen { live, m2, since: now, patient: false }));
            }
        }
        self.schedule(&peer);
        Ok(())
    }

    /// Attempts of earlier starts, and an m1 that was out. Nothing is taken of a row that cannot be read.
    pub(in crate::endpoint) fn restore_handshake(
        &mut self,
        backend: Backend,
        row: &Row,
        now: Monotonic,
    ) -> Result<(), DecodeError> {
        let peer = PeerId::from_bytes(&row.key).map_err(|_| DecodeError::Value)?;
        let mut reader = Reader::new(&row.value)?;
        reader.array_of(5)?;
        let attempts = Attempts {
            own: Fingerprint(reader.bytes_of()?),
            peer: Fingerprint(reader.bytes_of()?),
            ours: reader.uint()?,
            theirs: reader.uint()?,
        };
        let state = if reader.absent()? { None } else { Some(ExpectM2::from_row(backend, reader.bytes()?)?) };
        reader.finish()?;
        if let Some(state) = &state {
            self.waiting.insert(state.handshake(), peer.clone());
            self.sids.insert(state.sid(), &peer);
        }
        let pair = self.pair_mut(&peer);
        pair.attempts = attempts;
        pair.initiating = state.map(|state| Initiating::Waiting {
            state: Box::new(state),
            since: now,
            again: now.plus(AGAIN_AT_START),
            delay: AGAIN_AT_START,
            patient: true,
        });
        self.schedule(&peer);
        Ok(())
    }

    /// Of pairs whose row of attempts is gone: no fewer were made than their sessions say. Lower ones could only begin sessions
    /// that go behind those.
    pub(in crate::endpoint) fn restore_attempts(&mut self) {
        for pair in self.pairs.values_mut().filter(|pair| pair.attempts == Attempts::default()) {
            let lives = Slot::ALL.into_iter().filter_map(|slot| pair.live(slot));
            let Some(newest) = lives.max_by_key(|live| live.rank) else { continue };
            let (own, peer, attempt) = (newest.own, newest.peer, newest.rank.attempt);
            pair.attempts = Attempts { own, peer, ours: attempt, theirs: attempt };
        }
    }
}

/// Whose session an unreadable row was, if it still says so.
pub(in crate::endpoint) fn peer_of(row: &Row) -> Option<PeerId> {
    let mut reader = Reader::new(&row.value).ok()?;
    reader.array().ok()?;
    PeerId::new(&reader.text(MAX_PEER_ID).ok()?).ok()
}
