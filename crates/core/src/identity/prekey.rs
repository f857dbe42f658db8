//! Prekey bundles: a peer's short-lived KEM key, retained on `<prefix>/prekeys/<peer_id>` and signed by the peer.

use alloc::vec::Vec;

use super::announcement::PublishedBy;
use crate::codec::signed::{ContextItem, SignedObject};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::labels;
use crate::crypto::suite::Kem;
use crate::ids::Fingerprint;
use crate::provider::PrekeyId;
use crate::time::UnixTime;

/// A peer's current prekey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrekeyBundle {
    /// The fingerprint of the identity it belongs to.
    pub identity: Fingerprint,
    /// Monotonic per identity; receivers pin the highest they saw.
    pub bundle_seq: u64,
    /// The prekey's name; never [`PrekeyId::STATIC`].
    pub prekey_id: PrekeyId,
    /// Its mechanism.
    pub kem: Kem,
    /// Its encapsulation key.
    pub encapsulation_key: Vec<u8>,
    /// Not to be used from this time on.
    pub not_after: UnixTime,
}

impl SignedObject for PrekeyBundle {
    const TAG: &'static str = labels::PREKEY_BUNDLE;
    type Context<'a> = PublishedBy<'a>;

    fn context<'a>(context: &'a PublishedBy<'_>) -> Vec<ContextItem<'a>> {
        context.items()
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(6);
        writer.int(1).bytes(self.identity.as_bytes());
        writer.int(2).uint(self.bundle_seq);
        writer.int(3).uint(self.prekey_id.0.into());
        writer.int(4).uint(self.kem.id().into());
        writer.int(5).bytes(&self.encapsulation_key);
        writer.int(6).uint(self.not_after.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(6)?;
        reader.key(1)?;
        let identity = Fingerprint(reader.bytes_of()?);
        reader.key(2)?;
        let bundle_seq = reader.uint()?;
        reader.key(3)?;
        let prekey_id = PrekeyId(reader.uint32()?);
        reader.key(4)?;
        let kem = Kem::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        reader.key(5)?;
        let encapsulation_key = reader.bytes()?.to_vec();
        reader.key(6)?;
        let not_after = UnixTime(reader.uint()?);
        let fits = prekey_id != PrekeyId::STATIC && encapsulation_key.len() == kem.encapsulation_key_len();
        if !fits {
            return Err(DecodeError::Value);
        }
        Ok(Self { identity, bundle_seq, prekey_id, kem, encapsulation_key, not_after })
    }
}
