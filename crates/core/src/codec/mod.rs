//! Deterministic CBOR (RFC 8949 §4.2.1) and the one shape of every signed object (COSE_Sign, RFC 9052 §4.1).
//!
//! No CBOR library at hand is strict enough by itself: they accept non-minimal heads, indefinite lengths and unsorted
//! maps. So [`validate`] runs before any decoder, and decoders then require the exact shape.

pub mod cbor;
pub mod signed;
pub mod validate;

pub use cbor::{DecodeError, Reader, Writer};
