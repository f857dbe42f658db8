//! Records out.

use alloc::vec::Vec;

use crate::endpoint::Endpoint;
use crate::endpoint::barrier::{Barrier, Durable};
use crate::endpoint::output::{Output, Purpose, Transmit};
use crate::ids::{PeerId, StreamId};
use crate::session::{Class, Control, SealError, Sealed, Text};
use crate::time::Monotonic;

use super::{Sessions, Slot};

/// How something to a peer travels now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::endpoint) enum Carrier {
    /// In its session.
    Session,
    /// Not yet: a handshake is under way.
    Soon,
    /// In an envelope.
    Envelope,
}

impl Endpoint {
    /// How something to `peer` travels now; begins a handshake if there is no session, or if the session is to be renewed.
    pub(in crate::endpoint) fn carrier(&mut self, peer: &PeerId) -> Carrier {
        if !self.sessions.policy.enabled {
            return Carrier::Envelope;
        }
        let at = self.clock.effective();
        let identity = self.peers.get(peer).and_then(|peer| peer.in_force()).map(|pins| pins.identity);
        let renew_after = self.sessions.policy.renew_after.as_secs();
        if let Some(live) = self.sessions.current_mut(peer) {
            if live.ends <= at || Some(live.peer) != identity {
                self.end_sessions(peer);
            } else {
                let life = live.ends.0.saturating_sub(live.established.0) / 5 * 4;
                if at.0.saturating_sub(live.established.0) >= life.min(renew_after) {
                    self.begin_handshake(peer);
                }
                return Carrier::Session;
            }
        }
        self.begin_handshake(peer);
        let opening = self.sessions.pairs.get(peer).is_some_and(|pair| pair.is_opening());
        if opening { Carrier::Soon } else { Carrier::Envelope }
    }

    /// Sends a control record at the peer's own topic. Lost ones are made again by what wanted them.
    pub(in crate::endpoint) fn send_control(&mut self, peer: &PeerId, control: &Control) {
        let topic = self.topics.control(peer);
        // A group's key may be in it.
        let body = zeroize::Zeroizing::new(control.encode());
        let now = self.clock.monotonic();
        let (stream, text) = (StreamId::CONTROL, Text::Body(&body));
        let sealed =
            self.sessions.seal_record(&mut self.barrier, peer, Class::Control, stream, &topic, text, now);
        let Ok((sealed, reserved)) = sealed else { return };
        // What it tells of may still be on its way to the disk.
        let after = reserved.max(self.barrier.latest());
        let purpose = Purpose::Session { peer: peer.clone(), epoch: sealed.epoch, counter: sealed.counter };
        self.barrier.emit(
            after,
            Output::Transmit(Transmit { purpose, topic, payload: sealed.record, retain: false }),
        );
    }
}

impl Sessions {
    /// Seals one record in the current session.
    ///
    /// # Errors
    ///
    /// There is none, or it is used up: a handshake is due.
    #[allow(clippy::too_many_arguments, reason = "what a record is bound to, none with a default")]
    pub(in crate::endpoint) fn seal_record(
        &mut self,
        barrier: &mut Barrier,
        peer: &PeerId,
        class: Class,
        stream: StreamId,
        topic: &str,
        text: Text<'_>,
        now: Monotonic,
    ) -> Result<(Sealed, Durable), SealError> {
        let pair = self.pairs.get_mut(peer).ok_or(SealError::Exhausted)?;
        self.awake.used(peer, &mut pair.used, now);
        let live = pair.current.as_deref_mut().ok_or(SealError::Exhausted)?;
        if live.session.wants_reservation(class) && live.session.reserve(class) {
            let after = barrier.persist(alloc::vec![live.change(peer, Slot::Current, &[])], Vec::new());
            live.session.written(after.position());
        }
        let topic_hash = self.topics.get(live.session.suite().hash(), topic);
        let sealed = live.session.seal(self.boot, now, class, stream, topic_hash.as_slice(), text)?;
        let after = Durable::at(sealed.after);
        Ok((sealed, after))
    }

    /// The last record of the current session, which another is about to replace.
    pub(super) fn seal_close(
        &mut self,
        peer: &PeerId,
        topic: &str,
        now: Monotonic,
    ) -> Option<(Sealed, Durable)> {
        let (boot, body) = (self.boot, Control::Close.encode());
        let live = self.pairs.get_mut(peer)?.current.as_mut()?;
        let topic_hash = self.topics.get(live.session.suite().hash(), topic);
        let (class, stream) = (Class::Control, StreamId::CONTROL);
        // Without a reservation left there is none: it only saves the peer some memory.
        let sealed =
            live.session.seal(boot, now, class, stream, topic_hash.as_slice(), Text::Body(&body)).ok()?;
        let after = Durable::at(sealed.after);
        Some((sealed, after))
    }
}
