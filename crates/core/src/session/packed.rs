//! The epochs of a session that rests: its durable form, and beside it what a restart would do without. A third of
//! what it takes in use.

use alloc::boxed::Box;
use core::ops::Deref;
use core::time::Duration;

use zeroize::{Zeroize, Zeroizing};

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
    bytes: Place,
    /// Where the durable form ends, and all of it.
    durable: usize,
    end: usize,
}

/// Where an epoch is packed. A session keeps its own while it is awake: places that are given back one by one, and taken anew
/// one by one, leave an allocator's pages half empty.
pub(super) type Place = Zeroizing<Box<[u8]>>;

/// Places are multiples of this: an epoch's form grows and shrinks by a few bytes.
const PLACE_STEP: usize = 64;

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
            let mut epoch = packed.unpack().ok()?;
            packed.bytes.zeroize();
            epoch.place = Some(core::mem::take(&mut packed.bytes));
            *self = Self::Awake(Box::new(epoch));
        }
        match self {
            Self::Awake(epoch) => Some(epoch),
            Self::Packed(_) => None,
        }
    }

    /// Where it is packed.
    #[cfg(test)]
    pub(super) fn place(&self) -> Option<*const u8> {
        match self {
            Self::Awake(_) => None,
            Self::Packed(packed) => Some(packed.bytes.as_ptr()),
        }
    }

    /// Packs it.
    pub(super) fn rest(&mut self, hash: HashAlgorithm) {
        if let Self::Awake(epoch) = self {
            epoch.shrink();
            let place = epoch.place.take();
            *self = Self::Packed(Packed::of(epoch, hash, place));
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
    fn of(epoch: &Epoch, hash: HashAlgorithm, place: Option<Place>) -> Self {
        let mut writer = Writer::with_capacity(ROOM);
        encode_epoch(&mut writer, epoch);
        let durable = writer.len();
        writer.array(2 * Class::ALL.len());
        for class in Class::ALL {
            epoch.send(class).encode_rest(&mut writer);
            epoch.receive(class).encode_rest(&mut writer);
        }
        let written = Zeroizing::new(writer.finish());
        let end = written.len();
        let room = end.next_multiple_of(PLACE_STEP);
        let place = place.filter(|place| place.len() == room);
        let mut bytes = place.unwrap_or_else(|| Zeroizing::new(alloc::vec![0; room].into_boxed_slice()));
        if let Some(part) = bytes.get_mut(..end) {
            part.copy_from_slice(&written);
        }
        Self { number: epoch.number, hash, bytes, durable, end }
    }

    fn unpack(&self) -> Result<Epoch, DecodeError> {
        let written = self.bytes.get(..self.end).ok_or(DecodeError::Shape)?;
        let (durable, beside) = written.split_at_checked(self.durable).ok_or(DecodeError::Shape)?;
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
