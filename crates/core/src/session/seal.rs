//! Sealing records.

use alloc::vec::Vec;

use super::Session;
use super::epoch::nonce;
use super::header::{Class, Form, Header, OVERHEAD, SALT_LEN};
use super::numbers::Settled;
use super::send::SealError;
use crate::ids::{BootId, StreamId};
use crate::time::Monotonic;

/// No more records are sent in one epoch: the session waits for the next, or for a handshake.
pub const MAX_EPOCH_MESSAGES: u64 = 1 << 20;

/// What a record says.
#[derive(Clone, Copy)]
pub enum Text<'a> {
    /// An encoded [`Body`](crate::envelope::Body).
    Body(&'a [u8]),
    /// Telemetry without properties, accepted in this start. Only in class telemetry.
    Telemetry {
        /// The message's number on its stream.
        number: u64,
        /// What of that stream the receiver confirmed.
        confirmed: Settled,
        /// The payload.
        payload: &'a [u8],
    },
}

/// A sealed record.
pub struct Sealed {
    /// The record.
    pub record: Vec<u8>,
    /// It must not leave before the row known by this position is durable; 0 is always durable.
    pub after: u64,
    /// Its epoch.
    pub epoch: u16,
    /// Its counter.
    pub counter: u32,
}

impl Session {
    /// Seals a record for the topic with `topic_hash` in our start `boot`.
    ///
    /// # Errors
    ///
    /// [`SealError::Reserve`] asks for [`Session::reserve`]; after the others only a handshake helps.
    pub fn seal(
        &mut self,
        boot: BootId,
        now: Monotonic,
        class: Class,
        stream: StreamId,
        topic_hash: &[u8],
        text: Text<'_>,
    ) -> Result<Sealed, SealError> {
        if self.sent >= MAX_EPOCH_MESSAGES {
            return Err(SealError::Exhausted);
        }
        let salt = (self.confirmed_boots[class as usize] != boot).then_some(boot);
        let current = self.current.wake().ok_or(SealError::Cipher)?;
        let (epoch, iv) = (current.number, current.keys.send_iv);
        let taken = current.send_mut(class).advance(self.backend, self.suite.aead(), boot, now)?;
        let counter = taken.counter;
        let (form, low, number, payload) = match text {
            Text::Body(body) => (Form::Body, 0, None, body),
            Text::Telemetry { number, confirmed, payload } => match confirmed.imply(number) {
                Some(low) => (Form::Implied, low, Some(number), payload),
                None => (Form::Numbered, 0, Some(number), payload),
            },
        };
        let header = Header { class, form, stream, sid: self.sid_out, epoch, low, counter, salt };
        let mut aad = header.associated_data(topic_hash);
        let mut record = Vec::with_capacity(OVERHEAD + SALT_LEN + size_of::<u64>() + payload.len());
        record.extend_from_slice(aad.header());
        match number {
            Some(number) if form == Form::Implied => aad.push(&number.to_be_bytes()),
            Some(number) => record.extend_from_slice(&number.to_be_bytes()),
            None => {}
        }
        record.extend_from_slice(payload);
        taken
            .key
            .seal_from(&nonce(&iv, counter), aad.as_slice(), &mut record, header.encoded_len())
            .map_err(|_| SealError::Cipher)?;
        let after = taken.after;
        self.sent += 1;
        Ok(Sealed { record, after, epoch, counter })
    }
}
