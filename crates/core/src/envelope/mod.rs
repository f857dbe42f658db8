//! Envelopes: v1 messages, sealed to one recipient, signed by the sender, bound to the topic (invariant I3).
//!
//! ```text
//! packet = id_len u8 ‖ sender_id ‖ blob ‖ signature
//! blob   = version u8 ‖ suite u8 ‖ recipient key_id 16 ‖ prekey_id u32 ‖ stream u8 ‖ sequence u64 ‖ KEM ct ‖ AEAD ct
//! ```
//! Integers are big-endian. The signature is bare: the halves of the sender's set, concatenated.

mod body;
mod content;
mod open;
mod packet;
mod seal;

pub use body::{Body, Tracking};
pub(crate) use body::{MESSAGE_OVERHEAD, encode_message, write_message};
pub use content::{Content, MAX_PROPERTY, MessageClass};
pub use open::{OpenFailure, OpenedEnvelope, PendingOpen};
pub use packet::{HEADER_LEN, Packet, PacketError, VERSION};
pub use seal::{PendingSeal, Recipient, SealError, Sender};

use alloc::vec::Vec;

use crate::codec::Writer;
use crate::codec::signed::{ContextItem, SigStructure};
use crate::crypto::kdf::{self, sha256};
use crate::crypto::labels;
use crate::crypto::secret::Secret;
use crate::crypto::suite::SignatureSet;
use crate::ids::{Fingerprint, PeerId};

/// What a sender signs: tag, sender id, topic and the digest of the blob.
fn signed_structure(
    set: SignatureSet,
    signer: Fingerprint,
    sender: &PeerId,
    topic: &str,
    blob: &[u8],
) -> SigStructure {
    let digest = sha256(&[blob]);
    let context = [ContextItem::Text(sender.as_str()), ContextItem::Text(topic), ContextItem::Bytes(&digest)];
    SigStructure::new(set, signer, labels::ENVELOPE, &context, Vec::new())
}

struct KeyContext<'a> {
    header: &'a packet::Header,
    sender: &'a PeerId,
    sender_fingerprint: Fingerprint,
    encapsulation_key: &'a [u8],
    kem_ciphertext: &'a [u8],
    topic: &'a str,
}

/// AEAD key and nonce, `HKDF(ss, info)`; binding the sender here is what keeps another member from re-signing a blob
/// as its own.
fn derive(shared: &Secret<32>, context: &KeyContext<'_>) -> Option<(Secret<32>, [u8; 12])> {
    let header = context.header;
    let hash = header.suite.hash();
    let mut info = Writer::new();
    info.array(11)
        .text(labels::ENVELOPE_KEY)
        .uint(header.suite.id().into())
        .text(context.sender.as_str())
        .bytes(context.sender_fingerprint.as_bytes())
        .bytes(header.recipient.as_bytes())
        .uint(header.prekey.0.into())
        .bytes(kdf::hash(hash, &[context.encapsulation_key]).as_slice())
        .bytes(kdf::hash(hash, &[context.kem_ciphertext]).as_slice())
        .text(context.topic)
        .uint(header.stream.value().into())
        .uint(header.sequence);
    let mut okm = Secret::new([0u8; 44]);
    kdf::hkdf(hash, &[], shared.expose(), &info.finish(), okm.expose_mut()).ok()?;
    let (key, nonce) = okm.expose().split_at(32);
    Some((Secret::from_slice(key)?, nonce.try_into().ok()?))
}
