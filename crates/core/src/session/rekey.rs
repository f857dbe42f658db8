//! Epochs of a session: when the KEM ratchet turns, and how each side switches.

use alloc::boxed::Box;
use core::time::Duration;

use super::epoch::Epoch;
use super::packed::{Current, View};
use super::ratchet::{self, Accept, Offer, Offered, RatchetError};
use super::{Role, Session};
use crate::crypto::backend::RandomSource;
use crate::crypto::kdf::PseudorandomKey;
use crate::time::Monotonic;

/// How long the epoch before is kept once the current one is heard: for records on their way. What comes later is sent
/// again in the new epoch by its sender's outbox.
pub const EPOCH_DRAIN: Duration = Duration::from_secs(10);
/// No epoch beyond: a new handshake instead.
pub const LAST_EPOCH: u16 = 0xff00;

impl Session {
    /// Whether this side proposes the next epoch.
    pub fn is_our_turn(&self) -> bool {
        self.current.number().is_multiple_of(2) == (self.role == Role::Initiator)
    }

    /// Whether an offer of ours waits for its answer.
    pub fn has_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// Whether an answer of ours waits for the peer's first record of the next epoch.
    pub fn has_accepted(&self) -> bool {
        self.accepted.is_some()
    }

    /// Makes the offer for the next epoch, or gives the one under way again. The row must be durable before it leaves.
    ///
    /// # Errors
    ///
    /// It is the peer's turn, the epoch before is still alive, or this is the last epoch.
    pub fn offer(&mut self, random: &mut dyn RandomSource) -> Result<Offer, RatchetError> {
        if let Some(offered) = &self.offered {
            return Ok(offered.offer.clone());
        }
        if !self.is_our_turn() {
            return Err(RatchetError::Turn);
        }
        if self.previous.is_some() {
            return Err(RatchetError::Busy);
        }
        let offered = Offered::new(self.backend, random, self.suite, self.following()?)?;
        let offer = offered.offer.clone();
        self.offered = Some(Box::new(offered));
        Ok(offer)
    }

    /// Answers the peer's offer; the same offer gets the same answer. The row must be durable before it leaves.
    ///
    /// # Errors
    ///
    /// The offer is out of turn, for another epoch, or malformed.
    pub fn accept(&mut self, random: &mut dyn RandomSource, offer: &Offer) -> Result<Accept, RatchetError> {
        if self.is_our_turn() {
            return Err(RatchetError::Turn);
        }
        if offer.epoch != self.following()? {
            return Err(RatchetError::Epoch);
        }
        if let Some(accepted) = &self.accepted {
            let same = accepted.encapsulation_key == offer.encapsulation_key;
            return if same { Ok(accepted.accept.clone()) } else { Err(RatchetError::Other) };
        }
        // The peer has erased its epoch before, or it could not offer; ours has nothing left to receive.
        self.previous = None;
        let current = self.current.view().ok_or(RatchetError::Malformed)?;
        let ratchet = &current.keys.ratchet;
        let (accepted, base) = ratchet::answer(self.backend, random, self.suite, ratchet, offer)?;
        drop(current);
        self.next = Some(Box::new(self.start(&base, offer.epoch)?));
        let accept = accepted.accept.clone();
        self.accepted = Some(Box::new(accepted));
        Ok(accept)
    }

    /// Takes the answer to our offer and switches. The row must be durable before a record of the new epoch leaves; one must
    /// leave at once, for the peer switches only on it.
    ///
    /// # Errors
    ///
    /// No offer of ours is answered by it.
    pub fn accepted(&mut self, accept: &Accept) -> Result<(), RatchetError> {
        let offered = self.offered.as_ref().ok_or(RatchetError::Other)?;
        let current = self.current.view().ok_or(RatchetError::Malformed)?;
        let base = offered.complete(self.backend, self.suite, &current.keys.ratchet, accept)?;
        drop(current);
        let next = self.start(&base, accept.epoch)?;
        self.switch_to(Box::new(next), None);
        Ok(())
    }

    /// Erases the epoch before once its time is over. Whether it was: then the row must be written.
    pub fn expire(&mut self, now: Monotonic) -> bool {
        let over = |heard: Option<Monotonic>| heard.is_some_and(|heard| now.since(heard) >= EPOCH_DRAIN);
        let ends = self.previous.as_ref().is_some_and(|(_, heard)| over(*heard));
        if ends {
            self.previous = None;
        }
        let rests = self.rests();
        let skipped = rests && self.skipped_until.is_some_and(|at| at <= now);
        if (skipped || !rests)
            && let Some(epoch) = self.current.wake()
        {
            epoch.receive_chains_mut().for_each(|chain| chain.expire(now));
        }
        if skipped {
            self.shrink();
        }
        ends || skipped
    }

    /// When [`Session::expire`] has something to do. One in use erases by itself, with its records.
    pub fn expires(&self) -> Option<Monotonic> {
        let previous =
            self.previous.as_ref().and_then(|(_, heard)| heard.map(|heard| heard.plus(EPOCH_DRAIN)));
        [previous, self.skipped_until.filter(|_| self.rests())].into_iter().flatten().min()
    }

    pub(super) fn switch_on_record(&mut self, now: Monotonic) {
        if let Some(next) = self.next.take() {
            self.switch_to(next, Some(now));
        }
    }

    /// A record of an epoch was received: with the first of the current one, the time of the one before runs out.
    pub(super) fn heard(&mut self, epoch: u16, now: Monotonic) {
        self.received += 1;
        if epoch == self.current.number()
            && let Some((_, heard @ None)) = &mut self.previous
        {
            *heard = Some(now);
        }
    }

    pub(super) fn live(&self, number: u16) -> Option<View<'_>> {
        if self.current.number() == number {
            return self.current.view();
        }
        if let Some((previous, _)) = &self.previous
            && previous.number() == number
        {
            return previous.view();
        }
        self.next.as_deref().filter(|epoch| epoch.number == number).map(View::Kept)
    }

    pub(super) fn live_mut(&mut self, number: u16) -> Option<&mut Epoch> {
        if self.current.number() == number {
            return self.current.wake();
        }
        if let Some((previous, _)) = &mut self.previous
            && previous.number() == number
        {
            return previous.wake();
        }
        self.next.as_deref_mut().filter(|epoch| epoch.number == number)
    }

    fn switch_to(&mut self, mut next: Box<Epoch>, heard: Option<Monotonic>) {
        if let Some(epoch) = self.current.wake() {
            epoch.retire();
            next.place = epoch.place.take();
        }
        let before = core::mem::replace(&mut self.current, Current::Awake(next));
        self.previous = Some((before, heard));
        (self.next, self.offered, self.accepted) = (None, None, None);
        (self.sent, self.received) = (0, 0);
    }

    fn following(&self) -> Result<u16, RatchetError> {
        let next = self.current.number() + 1;
        if next > LAST_EPOCH { Err(RatchetError::Epoch) } else { Ok(next) }
    }

    fn start(&self, base: &PseudorandomKey, number: u16) -> Result<Epoch, RatchetError> {
        let boots = self.current.view().and_then(|epoch| epoch.boots()).ok_or(RatchetError::Malformed)?;
        Epoch::start(base, number, self.suite, self.role, boots).ok_or(RatchetError::Malformed)
    }
}
