//! Opening records.

use alloc::vec::Vec;

use super::Session;
use super::epoch::nonce;
use super::header::{Form, Header};
use super::numbers::Settled;
use super::opening::Opening;
use super::receive::{Admitted, OpenError};
use crate::ids::BootId;
use crate::time::Monotonic;

/// What an authentic record says.
#[derive(Debug, PartialEq, Eq)]
pub enum Plain {
    /// An encoded [`Body`](crate::envelope::Body), not parsed yet.
    Body(Vec<u8>),
    /// Telemetry without properties.
    Telemetry {
        /// Its sender's start.
        boot: BootId,
        /// Its number on its stream in that start.
        number: u64,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Authentic, and of no form that it may have.
    Malformed,
}

/// An opened record.
pub struct Opened {
    /// What it says.
    pub plain: Plain,
    /// What it changed in its chain.
    pub admitted: Admitted,
    /// It began a new epoch: [`Session::epoch`] has it.
    pub switched: bool,
    /// It is the first record of the peer's: the peer has the keys.
    pub first: bool,
}

impl Opened {
    /// Whether the session's row must be written with what the record brought.
    pub fn must_write(&self) -> bool {
        self.admitted.blocks_changed || self.switched || self.first
    }
}

impl Session {
    /// The refusals that cost nothing: a replay, an epoch or a block that is over.
    ///
    /// # Errors
    ///
    /// As [`Session::open`].
    pub fn precheck(&self, header: &Header) -> Result<(), OpenError> {
        self.live(header.epoch).ok_or(OpenError::Epoch)?.receive(header.class).precheck(header)
    }

    /// How many steps of its chain a record takes before it can be judged: what anybody can make us do who has seen one of
    /// the session's.
    pub fn steps_to(&self, header: &Header) -> u32 {
        self.live(header.epoch).map_or(0, |epoch| epoch.receive(header.class).steps_to(header.block()))
    }

    /// Opens a record for the topic with `topic_hash`. `settled` says what is settled of the record's stream, of a start of
    /// the peer's: as much as any receipt said, or more. Nothing changes unless it authenticates.
    ///
    /// # Errors
    ///
    /// It is a replay, out of bounds or not authentic; all are the same to the outside.
    pub fn open(
        &mut self,
        now: Monotonic,
        header: &Header,
        topic_hash: &[u8],
        settled: &dyn Fn(BootId) -> Settled,
        mut record: Vec<u8>,
    ) -> Result<Opened, OpenError> {
        let (backend, aead) = (self.backend, self.suite.aead());
        let switched = self.next.as_ref().is_some_and(|next| next.number == header.epoch);
        let epoch = self.live_mut(header.epoch).ok_or(OpenError::Epoch)?;
        let nonce = nonce(&epoch.keys.receive_iv, header.counter);
        let aad = header.associated_data(topic_hash);
        let opening = Opening { backend, aead, nonce: &nonce, aad: &aad, settled, now };
        let start = header.encoded_len();
        let (admitted, implied) =
            epoch.receive_mut(header.class).open(&opening, header, &mut record, start)?;
        let newest = epoch.receive(header.class).newest_boot();
        if let Some(boot) = newest.filter(|_| header.salt.is_some()) {
            for later in [self.current.wake(), self.next.as_deref_mut()].into_iter().flatten() {
                if later.number > header.epoch {
                    later.receive_mut(header.class).inherit(boot);
                }
            }
        }
        let first = !self.confirmed;
        self.confirmed = true;
        if switched {
            self.switch_on_record(now);
        }
        self.heard(header.epoch, now);
        record.drain(..start);
        let plain = Plain::read(header.form, admitted.boot, implied, record);
        Ok(Opened { plain, admitted, switched, first })
    }
}

impl Plain {
    fn read(form: Form, boot: BootId, implied: Option<u64>, mut text: Vec<u8>) -> Self {
        if form == Form::Body {
            return Self::Body(text);
        }
        let number = implied.or_else(|| {
            let number = text.first_chunk().map(|number| u64::from_be_bytes(*number))?;
            text.drain(..size_of::<u64>());
            Some(number)
        });
        // Numbers count from 1.
        match number {
            Some(number) if number > 0 => Self::Telemetry { boot, number, payload: text },
            _ => Self::Malformed,
        }
    }
}
