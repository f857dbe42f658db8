//! What opens a record besides its chain: nonce, associated data, and the number that it implies.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::chain::BlockSeed;
use super::header::{AssociatedData, Form, Header};
use super::numbers::Settled;
use super::receive::{Admitted, OpenError};
use crate::crypto::backend::{AeadKey, Backend};
use crate::crypto::suite::Aead;
use crate::ids::BootId;
use crate::time::Monotonic;

/// What opens a record besides the chain.
pub(super) struct Opening<'a> {
    pub(super) backend: Backend,
    pub(super) aead: Aead,
    pub(super) nonce: &'a [u8; 12],
    pub(super) aad: &'a AssociatedData,
    /// What is settled of the record's stream, of a start of its sender's.
    pub(super) settled: &'a dyn Fn(BootId) -> Settled,
    pub(super) now: Monotonic,
}

/// A record that opened: what it changed, and the number that it implied.
pub(super) type OpenedAs = (Admitted, Option<u64>);

impl Opening<'_> {
    pub(super) fn key(&self, seed: &BlockSeed, boot: BootId) -> Result<Box<dyn AeadKey>, OpenError> {
        Ok(self.backend.aead_key(self.aead, &seed.key(boot).ok_or(OpenError::Forged)?))
    }

    /// The number that it implied. At most two are tried, and a second only where the ends of what is settled are far apart.
    pub(super) fn open(
        &self,
        key: &dyn AeadKey,
        boot: BootId,
        header: &Header,
        record: &mut Vec<u8>,
        start: usize,
    ) -> Result<Option<u64>, OpenError> {
        let open = |aad: &AssociatedData, record: &mut Vec<u8>| {
            key.open_from(self.nonce, aad.as_slice(), record, start).map_err(|_| OpenError::Forged)
        };
        if header.form != Form::Implied {
            return open(self.aad, record).map(|()| None);
        }
        let numbered = |number: u64| {
            let mut aad = self.aad.clone();
            aad.push(&number.to_be_bytes());
            aad
        };
        let (first, second) = (self.settled)(boot).candidates(header.low);
        let Some(second) = second else { return open(&numbered(first), record).map(|()| Some(first)) };
        let untouched = record.clone();
        if open(&numbered(first), record).is_ok() {
            return Ok(Some(first));
        }
        *record = untouched;
        open(&numbered(second), record).map(|()| Some(second))
    }
}
