//! A writer that can only produce deterministic CBOR and a reader for what [`validate`](super::validate) accepted.

use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;

use minicbor::data::Type;
use minicbor::encode::Write;
use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};
use thiserror::Error;
use zeroize::Zeroize;

use super::validate::{NotDeterministic, validate};

/// Writes CBOR into memory. Callers write map keys in ascending order of their encoding. Keys are among what is written, so
/// growing leaves no copy behind.
pub struct Writer(Encoder<Growing>);

/// The least room that is made.
const LEAST: usize = 64;

/// Bytes whose earlier places are erased when they move to a larger one.
#[derive(Default)]
struct Growing(Vec<u8>);

impl Growing {
    fn append(&mut self, bytes: &[u8]) {
        if let Some(mut before) = self.make_room(bytes.len()) {
            before.zeroize();
        }
        self.0.extend_from_slice(bytes);
    }

    /// Puts `bytes` in the place of the `room` bytes at `at`, and moves what follows.
    fn replace(&mut self, at: usize, room: usize, bytes: &[u8]) {
        let follows = at + room..self.0.len();
        let end = follows.len() + at + bytes.len();
        self.append(&alloc::vec![0; bytes.len().saturating_sub(room)]);
        self.0.copy_within(follows, at + bytes.len());
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        if let Some(left) = self.0.get_mut(end..) {
            left.zeroize();
        }
        self.0.truncate(end);
    }

    /// Moves to a larger place if `more` bytes have none; gives the one before, as it was.
    fn make_room(&mut self, more: usize) -> Option<Vec<u8>> {
        let needed = self.0.len().saturating_add(more);
        if needed <= self.0.capacity() {
            return None;
        }
        let mut larger = Vec::with_capacity(needed.max(2 * self.0.capacity()).max(LEAST));
        larger.extend_from_slice(&self.0);
        Some(core::mem::replace(&mut self.0, larger))
    }
}

impl Write for Growing {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.append(bytes);
        Ok(())
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

// Writing to a vector cannot fail, so each result is dropped.
impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self(Encoder::new(Growing::default()))
    }

    /// An empty writer with room for `bytes`, where the length is known about.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Encoder::new(Growing(Vec::with_capacity(bytes))))
    }

    /// Items that were encoded before.
    pub(crate) fn encoded(&mut self, items: &[u8]) -> &mut Self {
        self.0.writer_mut().append(items);
        self
    }

    /// How many bytes were written.
    pub(crate) fn len(&self) -> usize {
        self.0.writer().0.len()
    }

    /// An array head of `length` items.
    pub fn array(&mut self, length: usize) -> &mut Self {
        let _ = self.0.array(length as u64);
        self
    }

    /// A map head of `length` pairs.
    pub fn map(&mut self, length: usize) -> &mut Self {
        let _ = self.0.map(length as u64);
        self
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        let _ = self.0.u64(value);
        self
    }

    /// A signed integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        let _ = self.0.i64(value);
        self
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let _ = self.0.bytes(value);
        self
    }

    /// A text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        let _ = self.0.str(value);
        self
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        let _ = self.0.bool(value);
        self
    }

    /// Null, or the integer.
    pub fn optional_uint(&mut self, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.uint(value),
            None => self.null(),
        }
    }

    /// Null, where an optional item is absent.
    pub fn null(&mut self) -> &mut Self {
        let _ = self.0.null();
        self
    }

    /// A byte string of what `write` writes.
    pub(crate) fn bytes_of(&mut self, write: impl FnOnce(&mut Self)) -> &mut Self {
        /// The head of most: of 256 to 65,535 bytes.
        const HEAD: usize = 3;
        let start = self.len();
        self.encoded(&[0; HEAD]);
        write(self);
        let length = self.len() - start - HEAD;
        let mut head = Encoder::new(Cursor::new([0; 9]));
        let _ = head.bytes_len(length as u64);
        let head = head.into_writer();
        let written = head.get_ref().get(..head.position()).unwrap_or_default();
        self.0.writer_mut().replace(start, HEAD, written);
        self
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_writer().0
    }
}

/// Why a payload does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Larger than its kind may be; nothing was parsed.
    #[error("over the size limit of its kind")]
    TooLarge,
    /// Not deterministic CBOR.
    #[error("not deterministic CBOR: {0}")]
    Encoding(#[from] NotDeterministic),
    /// Deterministic CBOR of another shape than the object requires.
    #[error("not the shape of this object")]
    Shape,
    /// A value outside its domain.
    #[error("a field has a value outside its domain")]
    Value,
    /// A version this release does not speak.
    #[error("unknown version")]
    Version,
}

impl From<minicbor::decode::Error> for DecodeError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Shape
    }
}

/// Reads the items of an already validated CBOR item, in order.
pub struct Reader<'a>(Decoder<'a>);

impl<'a> Reader<'a> {
    /// Validates `bytes` as one deterministic item and starts reading it.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        validate(bytes)?;
        Ok(Self(Decoder::new(bytes)))
    }

    /// An array head of any length.
    pub fn array(&mut self) -> Result<u64, DecodeError> {
        self.0.array()?.ok_or(DecodeError::Shape)
    }

    /// An array head of exactly `length` items.
    pub fn array_of(&mut self, length: u64) -> Result<(), DecodeError> {
        if self.array()? == length { Ok(()) } else { Err(DecodeError::Shape) }
    }

    /// An array head of at most `limit` items.
    pub fn array_up_to(&mut self, limit: u64) -> Result<u64, DecodeError> {
        let length = self.array()?;
        if length <= limit { Ok(length) } else { Err(DecodeError::Value) }
    }

    /// A map head of exactly `length` pairs.
    pub fn map_of(&mut self, length: u64) -> Result<(), DecodeError> {
        if self.map()? == length { Ok(()) } else { Err(DecodeError::Shape) }
    }

    /// A map head of any length.
    pub fn map(&mut self) -> Result<u64, DecodeError> {
        self.0.map()?.ok_or(DecodeError::Shape)
    }

    /// The next item must be exactly this map key.
    pub fn key(&mut self, key: i64) -> Result<(), DecodeError> {
        if self.int()? == key { Ok(()) } else { Err(DecodeError::Shape) }
    }

    /// A signed integer.
    pub fn int(&mut self) -> Result<i64, DecodeError> {
        Ok(self.0.i64()?)
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        Ok(self.0.u64()?)
    }

    /// An unsigned integer of 32 bits.
    pub fn uint32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.uint()?).map_err(|_| DecodeError::Value)
    }

    /// An unsigned integer of 8 bits.
    pub fn uint8(&mut self) -> Result<u8, DecodeError> {
        u8::try_from(self.uint()?).map_err(|_| DecodeError::Value)
    }

    /// Null or an unsigned integer.
    pub fn optional_uint(&mut self) -> Result<Option<u64>, DecodeError> {
        if self.absent()? { Ok(None) } else { self.uint().map(Some) }
    }

    /// Whether the next item is null; takes it if so.
    pub fn absent(&mut self) -> Result<bool, DecodeError> {
        let absent = self.0.datatype()? == Type::Null;
        if absent {
            self.0.null()?;
        }
        Ok(absent)
    }

    /// A boolean.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.0.bool()?)
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        Ok(self.0.bytes()?)
    }

    /// A byte string of exactly `N` bytes.
    pub fn bytes_of<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.bytes()?.try_into().map_err(|_| DecodeError::Value)
    }

    /// A text string of at most `limit` bytes.
    pub fn text(&mut self, limit: usize) -> Result<String, DecodeError> {
        let text = self.0.str()?;
        if text.len() > limit { Err(DecodeError::Value) } else { Ok(text.into()) }
    }

    /// Passes over the next item, whatever it is; the validator has bounded its depth.
    pub fn skip(&mut self) -> Result<(), DecodeError> {
        Ok(self.0.skip()?)
    }

    /// Everything must have been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.0.position() == self.0.input().len() { Ok(()) } else { Err(DecodeError::Shape) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_string_written_in_its_place_is_the_same() {
        for length in [0, 23, 24, 255, 256, 65_535, 65_536] {
            let bytes = alloc::vec![0xa5; length];
            let (mut beside, mut in_place) = (Writer::new(), Writer::new());
            beside.uint(7).bytes(&bytes).uint(9);
            in_place
                .uint(7)
                .bytes_of(|writer| {
                    writer.encoded(&bytes);
                })
                .uint(9);
            assert_eq!(in_place.finish(), beside.finish(), "{length}");
        }
    }

    /// What the vector would do by itself leaves the bytes where they were.
    #[test]
    fn growing_gives_back_every_place_that_it_leaves() {
        let mut growing = Growing::default();
        let mut written = Vec::new();
        let mut moved = 0;
        for n in 0..200_u8 {
            let piece = alloc::vec![n; usize::from(n)];
            let (before, room) = (growing.0.clone(), growing.0.capacity());
            match growing.make_room(piece.len()) {
                Some(left) => assert!(left == before && left.capacity() == room),
                None => assert_eq!(growing.0.capacity(), room),
            }
            moved += usize::from(growing.0.capacity() != room);
            let room = growing.0.capacity();
            growing.append(&piece);
            assert_eq!(growing.0.capacity(), room, "the vector never moves by itself");
            written.extend_from_slice(&piece);
        }
        assert_eq!(growing.0, written);
        assert!((2..20).contains(&moved), "{moved}");
    }
}
