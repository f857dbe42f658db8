//! Key announcements: a peer's certificate, retained on `<prefix>/keys/<peer_id>` and signed by the peer (invariant I2).

use alloc::vec::Vec;

use crate::codec::signed::{ContextItem, SignedObject};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::labels;
use crate::ids::{KeyId, PeerId};

/// What a peer announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAnnouncement {
    /// Its certificate, encoded.
    pub certificate: Vec<u8>,
    /// The certificate's key epoch, monotonic per peer.
    pub key_epoch: u64,
    /// The lookup key of the certified keys.
    pub key_id: KeyId,
}

/// What an object published under a peer's own control topic is bound to.
pub struct PublishedBy<'a> {
    /// The peer.
    pub peer: &'a PeerId,
    /// The full topic, prefix included.
    pub topic: &'a str,
}

impl PublishedBy<'_> {
    pub(super) fn items(&self) -> Vec<ContextItem<'_>> {
        alloc::vec![ContextItem::Text(self.peer.as_str()), ContextItem::Text(self.topic)]
    }
}

impl SignedObject for KeyAnnouncement {
    const TAG: &'static str = labels::KEY_ANNOUNCEMENT;
    type Context<'a> = PublishedBy<'a>;

    fn context<'a>(context: &'a PublishedBy<'_>) -> Vec<ContextItem<'a>> {
        context.items()
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(3);
        writer.int(1).bytes(&self.certificate);
        writer.int(2).uint(self.key_epoch);
        writer.int(3).bytes(self.key_id.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.map_of(3)?;
        reader.key(1)?;
        let certificate = reader.bytes()?.to_vec();
        reader.key(2)?;
        let key_epoch = reader.uint()?;
        reader.key(3)?;
        Ok(Self { certificate, key_epoch, key_id: KeyId(reader.bytes_of()?) })
    }
}
