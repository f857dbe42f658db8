//! Opening records.

use alloc::vec::Vec;

use super::Session;
use super::epoch::nonce;
use super::header::{Class, Form, Header};
use super::numbers::NumberBase;
use super::receive::{Admitted, OpenError, Opening};
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
    /// Authentic, and not to be understood: a number that nothing known implies. Its sender sends it again, numbered.
    Unnumbered,
}

/// An opened record.
pub struct Opened {
    /// What it says.
    pub plain: Plain,
    /// What it changed in its chain.
    pub admitted: Admitted,
    /// It began a new epoch: [`Session::epoch`] has it.
    pub switched: bool,
    /// It told a new base of message numbers.
    pub base_told: bool,
    /// It is the first record of the peer's: the peer has the keys.
    pub first: bool,
}

impl Opened {
    /// Whether the session's row must be written with what the record brought.
    pub fn must_write(&self) -> bool {
        self.admitted.blocks_changed || self.switched || self.base_told || self.first
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

    /// Opens a record for the topic with `topic_hash`. Nothing changes unless it authenticates.
    ///
    /// # Errors
    ///
    /// It is a replay, out of bounds or not authentic; all are the same to the outside.
    pub fn open(
        &mut self,
        now: Monotonic,
        header: &Header,
        topic_hash: &[u8],
        mut record: Vec<u8>,
    ) -> Result<Opened, OpenError> {
        let (backend, aead) = (self.backend, self.suite.aead());
        let switched = self.next.as_ref().is_some_and(|next| next.number == header.epoch);
        let epoch = self.live_mut(header.epoch).ok_or(OpenError::Epoch)?;
        let nonce = nonce(&epoch.keys.receive_iv, header.counter);
        let aad = header.associated_data(topic_hash);
        let opening = Opening { backend, aead, nonce: &nonce, aad: aad.as_slice(), now };
        let start = header.encoded_len();
        let admitted = epoch.receive_mut(header.class).open(&opening, header, &mut record, start)?;
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
        let (plain, base_told) = self.read(header, admitted.boot, record);
        Ok(Opened { plain, admitted, switched, base_told, first })
    }

    fn read(&mut self, header: &Header, boot: BootId, mut record: Vec<u8>) -> (Plain, bool) {
        record.drain(..header.encoded_len());
        if header.form == Form::Body {
            return (Plain::Body(record), false);
        }
        if header.class != Class::Telemetry {
            return (Plain::Unnumbered, false);
        }
        let Some(epoch) = self.live_mut(header.epoch) else { return (Plain::Unnumbered, false) };
        let (stream, counter) = (header.stream, header.counter);
        if header.form == Form::Implied {
            let Some(number) = epoch.numbers.imply(counter, stream, boot, header.low) else {
                return (Plain::Unnumbered, false);
            };
            return (Plain::Telemetry { boot, number, payload: record }, false);
        }
        let Some(number) = record.first_chunk().map(|number| u64::from_be_bytes(*number)) else {
            return (Plain::Unnumbered, false);
        };
        record.drain(..size_of::<u64>());
        let told = NumberBase { counter, stream, boot, number };
        let is_base = header.form == Form::Numbered && epoch.numbers.note(told);
        if header.form == Form::Told {
            epoch.numbers.told(told);
        }
        (Plain::Telemetry { boot, number, payload: record }, is_base)
    }
}
