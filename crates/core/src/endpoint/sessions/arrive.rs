//! What an authentic record brings takes effect, with the session's own changes in the same transaction.

use alloc::string::String;
use alloc::vec::Vec;

use super::Slot;
use super::records::Genuine;
use crate::delivery::Origin;
use crate::endpoint::arrival::{Arrival, Via};
use crate::endpoint::refusal::RefusalReason;
use crate::endpoint::{Durable, Endpoint};
use crate::envelope::{Body, Content, MessageClass, Tracking};
use crate::identity::grants::Action;
use crate::ids::{PeerId, SessionId, StreamId};
use crate::session::{Class, Control, Plain};

impl Endpoint {
    /// Says when the delivery may be acknowledged.
    pub(in crate::endpoint) fn take_record(
        &mut self,
        mut genuine: Genuine,
        topic: String,
        control: bool,
    ) -> Result<Durable, RefusalReason> {
        let (peer, sid) = (genuine.peer.clone(), genuine.sid);
        self.genuine(&peer);
        if genuine.promotes {
            self.promote(&peer, core::mem::take(&mut genuine.changes));
        }
        let changed = !genuine.changes.is_empty();
        let taken = self.take_plain(genuine, topic, control);
        if taken.is_err() && changed {
            // What is refused opened its block all the same: what follows relies on it.
            self.write_session(&peer, sid);
        }
        taken
    }

    fn take_plain(
        &mut self,
        genuine: Genuine,
        topic: String,
        control: bool,
    ) -> Result<Durable, RefusalReason> {
        let Genuine { peer, class, stream, counter, epoch, sid, restored, drains, plain, changes, .. } =
            genuine;
        let body = match plain {
            Plain::Body(bytes) if Control::is_control(&bytes) => {
                if !control || stream != StreamId::CONTROL || class != Class::Control {
                    return Err(RefusalReason::WrongStream);
                }
                let told = Control::decode(&bytes).map_err(|_| RefusalReason::Malformed)?;
                let after = self.persist_session(changes);
                if !(restored && self.is_perhaps_an_old_key(&peer, &told)) {
                    self.controlled(&peer, sid, &told)?;
                }
                return Ok(after);
            }
            Plain::Body(bytes) => Body::decode(&bytes).map_err(|_| RefusalReason::Malformed)?,
            Plain::Telemetry { boot, number, payload } => {
                let tracking = Tracking::Durable(Origin { boot, msg_seq: number });
                Body::Message { content: Content::telemetry(payload), tracking }
            }
            Plain::Malformed => return Err(RefusalReason::Malformed),
        };
        let in_place = match &body {
            Body::Message { content, .. } => {
                let command = content.class == MessageClass::Command;
                !control
                    && stream != StreamId::CONTROL
                    && (class == Class::Control || command == (class == Class::Command))
            }
            Body::Lost(_) => control && stream != StreamId::CONTROL && class == Class::Control,
            Body::Receipt(_) => control && stream == StreamId::CONTROL && class == Class::Control,
        };
        if !in_place {
            return Err(RefusalReason::WrongStream);
        }
        let Some(key_id) =
            self.peers.get(&peer).and_then(|peer| peer.in_force()).map(|pins| pins.identity.key_id())
        else {
            return Err(RefusalReason::Revoked);
        };
        let from = Arrival {
            peer,
            key_id,
            topic,
            stream,
            sequence: counter.into(),
            via: Via::Session { epoch, restored, changes },
        };
        let after = match body {
            Body::Receipt(receipt) => {
                let Via::Session { changes, .. } = from.via else { return Ok(Durable::NOW) };
                let after = self.persist_session(changes);
                if self.receipted(&from.peer, key_id, &receipt) {
                    self.sessions.was_read(&from.peer, sid);
                }
                after
            }
            Body::Lost(loss) => self.deliver_report(from, loss)?,
            Body::Message { content, tracking } => {
                self.check_record_grant(&from.peer, &from.topic, &content)?;
                if drains && content.class == MessageClass::Command {
                    // Its sender gives it again in the session that replaced this one.
                    return Err(RefusalReason::TooOld);
                }
                if restored && !matches!(tracking, Tracking::Durable(_)) {
                    // Perhaps it was told before the restart.
                    return Err(RefusalReason::Replayed);
                }
                self.deliver_message(from, content, tracking)?
            }
        };
        Ok(after)
    }

    fn check_record_grant(&self, peer: &PeerId, topic: &str, content: &Content) -> Result<(), RefusalReason> {
        let at = self.clock.effective();
        let action = if content.class == MessageClass::Command { Action::Command } else { Action::Publish };
        let trusted = self.peers.get(peer).and_then(|peer| peer.trusted.as_ref());
        let trusted = trusted.ok_or(RefusalReason::UnknownPeer)?;
        if trusted.certificate.claims().allows(action, topic, at) {
            Ok(())
        } else {
            Err(RefusalReason::NoGrant)
        }
    }

    fn write_session(&mut self, peer: &PeerId, sid: SessionId) {
        let live = self.sessions.pairs.get_mut(peer).and_then(|pair| pair.live_by_sid(sid));
        if let Some((slot, live)) = live.filter(|(slot, _)| *slot != Slot::HalfOpen) {
            let change = live.change(peer, slot, &[]);
            self.barrier.persist(alloc::vec![change], Vec::new());
        }
    }

    fn persist_session(&mut self, changes: Vec<crate::store::Change>) -> Durable {
        if changes.is_empty() { self.barrier.latest() } else { self.barrier.persist(changes, Vec::new()) }
    }
}
