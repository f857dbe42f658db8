//! Records in: looked up by session id, opened, and handed on with what they change.

use alloc::vec::Vec;

use super::Slot;
use crate::endpoint::Endpoint;
use crate::endpoint::hold::Why;
use crate::endpoint::refusal::RefusalReason;
use crate::ids::{PeerId, SessionId, StreamId};
use crate::session::{CHECKPOINT_EVERY, Class, Header, OpenError, Plain};
use crate::store::Change;

/// What to do with a record.
pub(in crate::endpoint) enum Judged {
    /// It is authentic.
    Open(Genuine),
    /// It waits.
    Wait(Why),
    /// It is for somebody else, or of a session that is no more.
    Foreign,
}

/// An authentic record.
pub(in crate::endpoint) struct Genuine {
    pub(in crate::endpoint) peer: PeerId,
    pub(in crate::endpoint) class: Class,
    pub(in crate::endpoint) stream: StreamId,
    pub(in crate::endpoint) counter: u32,
    pub(in crate::endpoint) epoch: u16,
    pub(in crate::endpoint) sid: SessionId,
    /// Received in a block that was restored: what is not followed end to end may be a repetition.
    pub(in crate::endpoint) restored: bool,
    /// Its session only drains.
    pub(in crate::endpoint) drains: bool,
    pub(in crate::endpoint) plain: Plain,
    /// What must become durable with what it brings.
    pub(in crate::endpoint) changes: Vec<Change>,
    /// The first record of a half-open session.
    pub(in crate::endpoint) promotes: bool,
}

impl Endpoint {
    /// Opens a record, if it is for us and its peer is trusted; what waits stays in `payload`.
    pub(in crate::endpoint) fn judge_record(
        &mut self,
        topic: &str,
        control: bool,
        payload: &mut Vec<u8>,
    ) -> Result<Judged, (RefusalReason, Option<PeerId>)> {
        let header = Header::parse(payload).ok_or((RefusalReason::Malformed, None))?;
        // A shared topic carries others' records too: they are nobody's failure.
        let Some(peer) = self.sessions.sids.get(header.sid).cloned() else {
            let ended = self.sessions.sids.ended_with(header.sid);
            let revoked = |id: &&PeerId| {
                self.peers.get(*id).and_then(|peer| peer.pins.as_ref()).is_some_and(|pins| pins.revoked)
            };
            return match ended.filter(revoked) {
                Some(peer) => Err((RefusalReason::Revoked, Some(peer.clone()))),
                None => Ok(Judged::Foreign),
            };
        };
        let refuse = |reason| Err((reason, Some(peer.clone())));
        let at = self.clock.effective();
        let Some(known) = self.peers.get(&peer) else { return Ok(Judged::Foreign) };
        if known.pins.as_ref().is_some_and(|pins| pins.revoked) {
            return refuse(RefusalReason::Revoked);
        }
        let Some(pins) = known.in_force() else {
            self.end_sessions(&peer);
            return refuse(RefusalReason::UnknownPeer);
        };
        let (identity, valid) = (pins.identity, pins.valid_at(at));
        let Some(pair) = self.sessions.pairs.get_mut(&peer) else { return Ok(Judged::Foreign) };
        let Some((slot, live)) = pair.live_by_sid(header.sid) else { return Ok(Judged::Foreign) };
        if live.peer != identity || !valid || live.ends <= at {
            // Only this one: a newer one may rest on newer certificates.
            self.end_session(&peer, slot);
            return refuse(RefusalReason::Expired);
        }
        live.session.precheck(&header).map_err(|error| (reason_of(error), Some(peer.clone())))?;
        if !control {
            if header.stream == StreamId::CONTROL {
                return refuse(RefusalReason::WrongStream);
            }
            if self.inbox.is_full() {
                return Ok(Judged::Wait(Why::Room));
            }
            if known.must_load(at) {
                self.load(&peer, None);
                return Ok(Judged::Wait(Why::Loading(peer)));
            }
        }
        self.open_record(peer, &header, topic, payload)
    }

    fn open_record(
        &mut self,
        peer: PeerId,
        header: &Header,
        topic: &str,
        payload: &mut Vec<u8>,
    ) -> Result<Judged, (RefusalReason, Option<PeerId>)> {
        let now = self.clock.monotonic();
        let Some(pair) = self.sessions.pairs.get_mut(&peer) else { return Ok(Judged::Foreign) };
        // Before it is known to be genuine: what is not may make keys to be derived, too.
        self.sessions.awake.used(&peer, &mut pair.used, now);
        let Some((slot, live)) = pair.live_by_sid(header.sid) else { return Ok(Judged::Foreign) };
        let far = live.session.steps_to(header) > CHECKPOINT_EVERY;
        if far && !self.sessions.jumps.take(now) {
            // A genuine one is sent again, in a class that did not fall behind.
            return Err((RefusalReason::OverBudget, Some(peer)));
        }
        let topic_hash = self.sessions.topics.get(live.session.suite().hash(), topic);
        let heard = &self.inbox.heard;
        let settled = |boot| heard.settled(&peer, header.stream, boot);
        let opened = live
            .session
            .open(now, header, topic_hash.as_slice(), &settled, core::mem::take(payload))
            .map_err(|error| (reason_of(error), Some(peer.clone())))?;
        if far {
            self.sessions.jumps.give_back();
        }
        if opened.switched {
            live.begin_epoch(now);
        }
        if header.salt.is_some() {
            live.known_due.get_or_insert(now.plus(super::upkeep::KNOWN_AFTER));
        }
        let mut changes = Vec::new();
        if opened.must_write() && slot != Slot::HalfOpen {
            changes.push(live.change(&peer, slot, &[]));
        }
        self.sessions.schedule(&peer);
        Ok(Judged::Open(Genuine {
            class: header.class,
            stream: header.stream,
            counter: header.counter,
            epoch: header.epoch,
            sid: header.sid,
            restored: opened.admitted.restored,
            drains: slot == Slot::Draining,
            plain: opened.plain,
            changes,
            promotes: slot == Slot::HalfOpen,
            peer,
        }))
    }

    /// How messages of `peer` are protected now, for people.
    pub(in crate::endpoint) fn has_session(&self, peer: &str) -> bool {
        self.sessions.pairs.get(peer).is_some_and(|pair| pair.current.is_some())
    }

    pub(in crate::endpoint) fn peers_in_session(&self) -> impl Iterator<Item = &PeerId> {
        self.sessions.pairs.iter().filter(|(_, pair)| pair.current.is_some()).map(|(peer, _)| peer)
    }
}

/// All failures look the same from outside; the reasons are for our own log.
fn reason_of(error: OpenError) -> RefusalReason {
    match error {
        OpenError::Replay => RefusalReason::Replayed,
        OpenError::TooOld | OpenError::Epoch => RefusalReason::TooOld,
        OpenError::TooFar | OpenError::Forged => RefusalReason::BadCiphertext,
    }
}
