//! The epochs of a session that rests: its durable form, and beside it what a restart would do without. A third of
//! what it takes in use.

use alloc::boxed::Box;
use core::ops::Deref;
use core::time::Duration;

use zeroize::Zeroizing;

use super::chain::ChainKey;
use super::epoch::Epoch;
use super::header::Class;
use super::row::{decode_epoch, encode_epoch};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::suite::HashAlgorithm;
use crate::time::Monotonic;

/// Room for both parts of most epochs: a writer that grows leaves copies behind.
const ROOM: usize = 4096;

/// The current epoch, or the one before.
pub(super) enum Current {
    /// In use.
    Awake(Box<Epoch>),
    /// At rest.
    Packed(Packed),
}

pub(super) struct Packed {
    number: u16,
    hash: HashAlgorithm,
    bytes: Zeroizing<Box<[u8]>>,
    /// Where the durable form ends.
    durable: usize,
}

/// An epoch to look at.
pub(super) enum View<'a> {
    Kept(&'a Epoch),
    Unpacked(Box<Epoch>),
}

impl Deref for View<'_> {
    type Target = Epoch;

    fn deref(&self) -> &Epoch {
        match self {
            Self::Kept(epoch) => epoch,
            Self::Unpacked(epoch) => epoch,
        }
    }
}

impl Current {
    pub(super) fn number(&self) -> u16 {
        match self {
            Self::Awake(epoch) => epoch.number,
            Self::Packed(packed) => packed.number,
        }
    }

    /// To look at. `None` never: what was packed unpacks.
    pub(super) fn view(&self) -> Option<View<'_>> {
        match self {
            Self::Awake(epoch) => Some(View::Kept(epoch)),
            Self::Packed(packed) => packed.unpack().ok().map(|epoch| View::Unpacked(Box::new(epoch))),
        }
    }

    /// To use, and from then on at hand. `None` never, as above.
    pub(super) fn wake(&mut self) -> Option<&mut Epoch> {
        if let Self::Packed(packed) = self {
            *self = Self::Awake(Box::new(packed.unpack().ok()?));
        }
        match self {
            Self::Awake(epoch) => Some(epoch),
            Self::Packed(_) => None,
        }
    }

    /// Packs it.
    pub(super) fn rest(&mut self, hash: HashAlgorithm) {
        if let Self::Awake(epoch) = self {
            epoch.shrink();
            *self = Self::Packed(Packed::of(epoch, hash));
        }
    }

    /// Its durable form.
    pub(super) fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Awake(epoch) => encode_epoch(writer, epoch),
            Self::Packed(packed) => {
                writer.encoded(packed.bytes.get(..packed.durable).unwrap_or_default());
            }
        }
    }
}

impl Packed {
    fn of(epoch: &Epoch, hash: HashAlgorithm) -> Self {
        let mut writer = Writer::with_capacity(ROOM);
        encode_epoch(&mut writer, epoch);
        let durable = writer.len();
        writer.array(2 * Class::ALL.len());
        for class in Class::ALL {
            epoch.send(class).encode_rest(&mut writer);
            epoch.receive(class).encode_rest(&mut writer);
        }
        let written = Zeroizing::new(writer.finish());
        let bytes = Zeroizing::new(Box::from(written.as_slice()));
        Self { number: epoch.number, hash, bytes, durable }
    }

    fn unpack(&self) -> Result<Epoch, DecodeError> {
        let (durable, beside) = self.bytes.split_at_checked(self.durable).ok_or(DecodeError::Shape)?;
        let mut reader = Reader::new(durable)?;
        let mut epoch = decode_epoch(&mut reader, self.hash, Monotonic::default())?;
        let mut reader = Reader::new(beside)?;
        reader.array_of(2 * Class::ALL.len() as u64)?;
        for class in Class::ALL {
            epoch.send_mut(class).decode_rest(&mut reader, self.hash)?;
            epoch.receive_mut(class).decode_rest(&mut reader)?;
        }
        Ok(epoch)
    }
}

/// In nanoseconds, which last for centuries.
pub(super) fn encode_time(writer: &mut Writer, at: Monotonic) {
    writer.uint(u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX));
}

pub(super) fn decode_time(reader: &mut Reader<'_>) -> Result<Monotonic, DecodeError> {
    Ok(Monotonic(Duration::from_nanos(reader.uint()?)))
}

pub(super) fn decode_chain(reader: &mut Reader<'_>, hash: HashAlgorithm) -> Result<ChainKey, DecodeError> {
    ChainKey::from_slice(hash, reader.bytes()?).ok_or(DecodeError::Value)
}
