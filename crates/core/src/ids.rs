//! Names and identifiers that appear on the wire, each impossible to build out of bounds.

use alloc::sync::Arc;
use core::fmt;

use thiserror::Error;

/// The longest peer id, in bytes (invariant I0).
pub const MAX_PEER_ID: usize = 128;

/// A peer's name: ASCII `[A-Za-z0-9_.-]`, 1 to 128 bytes (invariant I0).
///
/// It appears as a topic suffix, inside packets, as a map key and in logs, so no other form can exist.
/// It is never used as a file name. A clone shares its text: every message names its peer in several places.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Arc<str>);

/// Why bytes are not a [`PeerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerIdError {
    /// No bytes at all.
    #[error("a peer id needs at least one character")]
    Empty,
    /// More than [`MAX_PEER_ID`] bytes.
    #[error("a peer id has at most 128 characters")]
    TooLong,
    /// A byte outside `[A-Za-z0-9_.-]`.
    #[error("a peer id has only letters, digits, '_', '.' and '-'")]
    Character,
}

impl PeerId {
    /// Checks `bytes` and only then copies them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerIdError> {
        Self::check(bytes)?;
        // Checked as ASCII above, so it is text.
        let text = core::str::from_utf8(bytes).map_err(|_| PeerIdError::Character)?;
        Ok(Self(text.into()))
    }

    /// As [`PeerId::from_bytes`], from text.
    pub fn new(text: &str) -> Result<Self, PeerIdError> {
        Self::from_bytes(text.as_bytes())
    }

    /// The check alone, without allocating.
    pub fn check(bytes: &[u8]) -> Result<(), PeerIdError> {
        if bytes.is_empty() {
            return Err(PeerIdError::Empty);
        }
        if bytes.len() > MAX_PEER_ID {
            return Err(PeerIdError::TooLong);
        }
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if bytes.iter().all(allowed) { Ok(()) } else { Err(PeerIdError::Character) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.0)
    }
}

impl core::str::FromStr for PeerId {
    type Err = PeerIdError;
    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        Self::new(text)
    }
}

impl core::borrow::Borrow<str> for PeerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Its length in bytes.
            pub const LEN: usize = $len;

            /// Reads exactly [`Self::LEN`] bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

byte_id!(
    /// The full SHA-256 fingerprint of an identity's keys or of a root's key: what equality is judged by.
    Fingerprint, 32
);
byte_id!(
    /// The first 16 bytes of an identity's [`Fingerprint`]: a lookup key, never proof of equality.
    KeyId, 16
);
byte_id!(
    /// A SHA-256 digest of a named content.
    Digest, 32
);
byte_id!(
    /// One start of an endpoint, drawn at random: message numbers count from 1 in each, so that no restored disk
    /// gives one number to two messages.
    BootId, 8
);

byte_id!(
    /// Where a side of a session wants its records: chosen at random by the one that receives under it, because an
    /// MQTT message names no sender.
    SessionId, 4
);
byte_id!(
    /// The first 16 bytes of a handshake's first transcript hash: by it an answer finds its question.
    HandshakeId, 16
);

byte_id!(
    /// A topic group of one start of its publisher, drawn at random.
    GroupId, 7
);

impl Fingerprint {
    /// The lookup key derived from this fingerprint.
    pub fn key_id(&self) -> KeyId {
        let mut id = [0; KeyId::LEN];
        id.copy_from_slice(&self.0[..KeyId::LEN]);
        KeyId(id)
    }
}

/// An independent message stream between two peers; each has its own sequence and replay window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId(u8);

impl StreamId {
    /// Streams are numbered from 0 to `COUNT - 1`.
    pub const COUNT: u8 = 8;

    /// The protocol's own stream, for receipts; applications have the others.
    pub const CONTROL: Self = Self(7);

    /// `None` from [`StreamId::COUNT`] on.
    pub fn new(id: u8) -> Option<Self> {
        (id < Self::COUNT).then_some(Self(id))
    }

    /// The number.
    pub fn value(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids_are_bounded_and_sanitised() {
        assert!(PeerId::new("press-7_line.2").is_ok());
        assert!(PeerId::from_bytes(&[b'a'; 128]).is_ok());
        assert_eq!(PeerId::from_bytes(&[b'a'; 129]), Err(PeerIdError::TooLong));
        assert_eq!(PeerId::new(""), Err(PeerIdError::Empty));
        for bad in ["a/b", "a b", "ü", "a\0", "#", "+", "a\n", "$SYS"] {
            assert_eq!(PeerId::new(bad), Err(PeerIdError::Character), "{bad:?}");
        }
    }
}
