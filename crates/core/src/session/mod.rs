//! Sessions: what two peers share after a handshake, and the records that it protects.
//!
//! ```text
//!  handshake ─► base of epoch 0 ─┬─► chain (direction × class) ─► block seed ─► key ─► records
//!                                ├─► exporter
//!                                └─► ratchet secret ── with a fresh encapsulation ─► base of epoch 1 ─► …
//! ```
//! Three chains per direction, by [`Class`]; a chain steps once per block of records and forgets the key before. A key
//! depends on the sender's boot as well, so a restored disk image repeats no pair of key and nonce. The KEM ratchet starts a new
//! epoch inside the session. Everything is derived tentatively and kept only once a record authenticates.
//!
//! What this module does *not* do: it stores nothing, sends nothing and knows no time but what it is handed. Its rules for
//! the caller: write [`Session::to_row`] before a record leaves that depends on it ([`Sealed::after`]), and together with what a
//! record brought when [`Opened::must_write`] says so.

pub(crate) mod chain;
mod control;
mod epoch;
pub mod handshake;
mod header;
mod numbers;
mod open;
mod opening;
mod packed;
mod parts;
mod ratchet;
mod receive;
mod rekey;
mod row;
mod schedule;
mod seal;
mod send;
#[cfg(test)]
mod tests;

pub use control::{Control, Handout};
pub(crate) use epoch::nonce;
pub(crate) use header::AssociatedData;
pub use header::{Class, Form, HEADER_LEN, Header, OVERHEAD, SALT_LEN, TYPE_RECORD};
pub use numbers::Settled;
pub use open::{Opened, Plain};
pub use parts::{MAX_PARTS, MAX_WHOLE, MIN_PART, Part, Parts, PartsName};
pub use ratchet::{Accept, Offer, RatchetError};
pub use receive::{Admitted, CHECKPOINT_EVERY, MAX_BOOTS, MAX_JUMP, MAX_SKIPPED, OpenError, SKIPPED_FOR};
pub use rekey::{EPOCH_DRAIN, LAST_EPOCH};
pub use row::RowError;
pub use seal::{MAX_EPOCH_MESSAGES, Sealed, Text};
pub use send::{BLOCK_AGE, MAX_COUNTER, RESERVED_BLOCKS, SealError};

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::codec::Writer;
use crate::crypto::backend::Backend;
use crate::crypto::kdf::PseudorandomKey;
use crate::crypto::labels;
use crate::crypto::suite::SessionSuite;
use crate::ids::{BootId, SessionId};
use crate::time::Monotonic;

use epoch::Epoch;
use packed::Current;
use ratchet::{Accepted, Offered};

/// Which side of the handshake one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Sent m1.
    Initiator = 0,
    /// Sent m2.
    Responder = 1,
}

/// What a handshake leaves: the base of everything, and how the two sides name the session.
pub struct SessionStart {
    /// The suite.
    pub suite: SessionSuite,
    /// Our side.
    pub role: Role,
    /// The base of epoch 0, one hash length.
    pub root: PseudorandomKey,
    /// Proves to the peer, in a later handshake, that one knows this session.
    pub gate: PseudorandomKey,
    /// We receive under this id.
    pub sid_in: SessionId,
    /// The peer receives under this one.
    pub sid_out: SessionId,
    /// Our start, as the peer knows it.
    pub boot_out: BootId,
    /// The peer's.
    pub boot_in: BootId,
}

/// One session with one peer. It has no `Debug`.
pub struct Session {
    backend: Backend,
    suite: SessionSuite,
    role: Role,
    sid_in: SessionId,
    sid_out: SessionId,
    gate: PseudorandomKey,
    /// Most sessions have no other, and most of them rest: a hundred thousand are to fit.
    current: Current,
    /// The epoch before, for records still on their way, and when the current one was first heard.
    previous: Option<(Current, Option<Monotonic>)>,
    /// The epoch that an answer of ours began; the peer's first record in it ends the current one.
    next: Option<Box<Epoch>>,
    offered: Option<Box<Offered>>,
    accepted: Option<Box<Accepted>>,
    /// The starts of ours that the peer confirmed, by class.
    confirmed_boots: [BootId; 3],
    /// The peer's records prove that it has the keys.
    confirmed: bool,
    /// While it rests: when the first key that it keeps for late records is to be erased.
    skipped_until: Option<Monotonic>,
    /// Records sent and received in this epoch.
    sent: u64,
    received: u64,
}

impl Session {
    /// The session that a handshake made. `None` only if the library fails.
    pub fn new(backend: Backend, start: &SessionStart) -> Option<Self> {
        let SessionStart { suite, role, sid_in, sid_out, boot_out, boot_in, .. } = *start;
        Some(Self {
            backend,
            suite,
            role,
            sid_in,
            sid_out,
            gate: start.gate.clone(),
            current: Current::Awake(Box::new(Epoch::start(&start.root, 0, suite, role, [boot_in; 3])?)),
            previous: None,
            next: None,
            offered: None,
            accepted: None,
            confirmed_boots: [boot_out; 3],
            confirmed: false,
            skipped_until: None,
            sent: 0,
            received: 0,
        })
    }

    /// The id that we receive under.
    pub fn sid_in(&self) -> SessionId {
        self.sid_in
    }

    /// The id that the peer receives under.
    pub fn sid_out(&self) -> SessionId {
        self.sid_out
    }

    /// The suite.
    pub fn suite(&self) -> SessionSuite {
        self.suite
    }

    /// Our side of its handshake.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The current epoch.
    pub fn epoch(&self) -> u16 {
        self.current.number()
    }

    /// Whether a record of the peer's was received: it has the keys.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Records sent and received in the current epoch since it began or was restored.
    pub fn traffic(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// The key of the hint with which a later m1 may use this peer's reserve.
    pub fn gate(&self) -> &PseudorandomKey {
        &self.gate
    }

    /// The newest start of the peer's that was heard on a class.
    pub fn peer_boot(&self, class: Class) -> Option<BootId> {
        self.current.view()?.receive(class).newest_boot()
    }

    /// The peer knows our start `boot` on `class`: records there need no salt any more.
    pub fn boot_confirmed(&mut self, class: Class, boot: BootId) {
        self.confirmed_boots[class as usize] = boot;
    }

    /// A secret for another protocol, from the current epoch and both sides' boots; none survives either's restart.
    /// `ours` is our own boot. `None` if `length` is over 255 hash lengths.
    pub fn export(&self, label: &str, context: &[u8], ours: BootId, length: usize) -> Option<Vec<u8>> {
        let theirs = self.peer_boot(Class::Control)?;
        let (initiator, responder) = match self.role {
            Role::Initiator => (ours, theirs),
            Role::Responder => (theirs, ours),
        };
        let mut info = Writer::new();
        info.array(6).text(labels::SESSION_EXPORT).text(label).bytes(context);
        info.bytes(initiator.as_bytes()).bytes(responder.as_bytes()).uint(length as u64);
        let mut out = alloc::vec![0; length];
        self.current.view()?.keys.exporter.expand(&info.finish(), &mut out).ok()?;
        Some(out)
    }

    /// Whether so many blocks were begun in this epoch that its peer, should it have heard of none, is soon left behind for
    /// good: the next epoch begins at 0 again.
    pub fn is_far(&self) -> bool {
        let Some(epoch) = self.current.view() else { return false };
        Class::ALL.into_iter().any(|class| epoch.send(class).begun() >= MAX_JUMP / 2)
    }

    /// Whether a class is close to the end of its reservation: then [`Session::reserve`], and write the row.
    pub fn wants_reservation(&self, class: Class) -> bool {
        self.current.view().is_some_and(|epoch| epoch.send(class).wants_reservation())
    }

    /// Reserves further blocks of a class. The row must be written; then [`Session::written`]. False if the library failed or
    /// the chain is at its end.
    pub fn reserve(&mut self, class: Class) -> bool {
        self.current.wake().and_then(|epoch| epoch.send_mut(class).reserve()).is_some()
    }

    /// The row as it is now is on its way to the store, known by `position`.
    pub fn written(&mut self, position: u64) {
        for epoch in [self.current.wake(), self.next.as_deref_mut()].into_iter().flatten() {
            epoch.send_chains_mut().for_each(|chain| chain.written(position));
        }
    }

    /// Whether it was not used since [`Session::shrink`].
    pub fn rests(&self) -> bool {
        matches!(self.current, Current::Packed(_))
    }

    /// Lets go of all that is only there to be fast: expanded keys, keys derived ahead, room for more. The next record
    /// pays for what it needs of them; the blocks stay open.
    pub fn shrink(&mut self) {
        if let Current::Awake(epoch) = &self.current {
            self.skipped_until = epoch.skipped_until();
        }
        let previous = self.previous.as_mut().map(|(epoch, _)| epoch);
        for epoch in [Some(&mut self.current), previous].into_iter().flatten() {
            epoch.rest(self.suite.hash());
        }
        if let Some(next) = &mut self.next {
            next.shrink();
        }
        if let Some(offered) = &mut self.offered {
            offered.shrink();
        }
    }
}

impl Role {
    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Responder => "responder",
        }
    }
}

impl Class {
    fn label(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Command => "command",
            Self::Control => "control",
        }
    }
}
