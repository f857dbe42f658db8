//! What the two ends of a session tell each other inside it, besides messages and receipts.
//!
//! Deterministic CBOR: an array that begins with its kind, so that it is never taken for a
//! [`Body`](crate::envelope::Body), which is a map.

use alloc::vec::Vec;
use core::fmt;

use super::header::Class;
use super::parts::Part;
use super::ratchet::{Accept, Offer};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::secret::SecretBytes;
use crate::group::{Leaves, MissingLeaves};
use crate::ids::{BootId, GroupId};

const CONFIRM: u64 = 1;
const CLOSE: u64 = 2;
const KNOWN: u64 = 3;
const OFFER: u64 = 4;
const ACCEPT: u64 = 5;
const YOUR_TURN: u64 = 6;
const GROUP_KEY: u64 = 7;
const GROUP_KEY_KNOWN: u64 = 8;
const MISSING_LEAVES: u64 = 9;
const LEAVES: u64 = 10;
const MISSING_SEAL: u64 = 11;
const GROUP_SEAL: u64 = 12;
const GROUP_OVER: u64 = 13;
const GROUP_GONE: u64 = 14;
const WANT_GROUP_KEY: u64 = 15;
const ASK: u64 = 16;
const PART: u64 = 17;

/// A control record's content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Nothing but proof of the keys: the handshake's last message, and the first of an epoch.
    Confirm,
    /// Nothing more will be sent in this session.
    Close,
    /// The newest of the receiver's boots that the sender heard on each class.
    Known([BootId; 3]),
    /// Proposes the next epoch.
    Offer(Offer),
    /// Answers an offer.
    Accept(Accept),
    /// The sender wants a new epoch, and the receiver is to propose it.
    YourTurn,
    /// The sender wants to hear [`Control::Known`]: a proof that this session is read.
    Ask,
    /// A part of an offer or of an answer.
    Part(Part),
    /// The key of a group of the sender's.
    GroupKey(Handout),
    /// The receiver has the key of this epoch, durably.
    GroupKeyKnown {
        /// The group.
        gid: GroupId,
        /// Its epoch.
        epoch: u16,
    },
    /// Asks for leaves of a batch of the receiver's.
    MissingLeaves(MissingLeaves),
    /// Answers that.
    Leaves(Leaves),
    /// Asks for the first seal of a group epoch of the receiver's that ends after a counter.
    MissingSeal {
        /// The group.
        gid: GroupId,
        /// Its epoch.
        epoch: u16,
        /// The counter.
        from: u32,
    },
    /// Answers that: no seal that the sender has is over what lies between `from` and this one.
    GroupSeal {
        /// The counter that was asked about.
        from: u32,
        /// The seal's packet.
        packet: Vec<u8>,
    },
    /// The sender ended this group of its own.
    GroupOver {
        /// The group.
        gid: GroupId,
        /// Its last epoch.
        epoch: u16,
    },
    /// The sender has nothing of this group epoch: its publisher will prove nothing more of it, or a member has forgotten it.
    GroupGone {
        /// The group.
        gid: GroupId,
        /// Its epoch.
        epoch: u16,
    },
    /// The sender has records of this group epoch and no key for them.
    WantGroupKey {
        /// The group.
        gid: GroupId,
        /// Its epoch.
        epoch: u16,
    },
}

/// A [`GroupKey`](crate::group::GroupKey), encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Handout(pub SecretBytes);

impl fmt::Debug for Handout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handout(..)")
    }
}

impl Control {
    /// Whether an authentic plaintext is one of these rather than a body.
    pub fn is_control(plaintext: &[u8]) -> bool {
        plaintext.first().is_some_and(|head| head >> 5 == 4)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Confirm => writer.array(1).uint(CONFIRM),
            Self::Close => writer.array(1).uint(CLOSE),
            Self::Known(boots) => {
                writer.array(2).uint(KNOWN).array(boots.len());
                for boot in boots {
                    writer.bytes(boot.as_bytes());
                }
                &mut writer
            }
            Self::Offer(offer) => {
                writer.array(3).uint(OFFER).uint(offer.epoch.into()).bytes(&offer.encapsulation_key)
            }
            Self::Accept(accept) => {
                writer.array(3).uint(ACCEPT).uint(accept.epoch.into()).bytes(&accept.ciphertext)
            }
            Self::YourTurn => writer.array(1).uint(YOUR_TURN),
            Self::Ask => writer.array(1).uint(ASK),
            Self::Part(part) => {
                writer.array(6).uint(PART).uint(part.epoch.into()).bytes(&part.name);
                writer.uint(part.count.into()).uint(part.index.into()).bytes(&part.bytes)
            }
            Self::GroupKey(Handout(key)) => writer.array(2).uint(GROUP_KEY).bytes(key.expose()),
            Self::GroupKeyKnown { gid, epoch } => group_epoch(&mut writer, 3, GROUP_KEY_KNOWN, *gid, *epoch),
            Self::MissingLeaves(asked) => writer.array(2).uint(MISSING_LEAVES).bytes(&asked.encode()),
            Self::Leaves(leaves) => writer.array(2).uint(LEAVES).bytes(&leaves.encode()),
            Self::MissingSeal { gid, epoch, from } => {
                group_epoch(&mut writer, 4, MISSING_SEAL, *gid, *epoch).uint((*from).into())
            }
            Self::GroupSeal { from, packet } => {
                writer.array(3).uint(GROUP_SEAL).uint((*from).into()).bytes(packet)
            }
            Self::GroupOver { gid, epoch } => group_epoch(&mut writer, 3, GROUP_OVER, *gid, *epoch),
            Self::GroupGone { gid, epoch } => group_epoch(&mut writer, 3, GROUP_GONE, *gid, *epoch),
            Self::WantGroupKey { gid, epoch } => group_epoch(&mut writer, 3, WANT_GROUP_KEY, *gid, *epoch),
        };
        writer.finish()
    }

    /// Reads what the peer sealed.
    ///
    /// # Errors
    ///
    /// It is none of these, or not in its one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes)?;
        let items = reader.array()?;
        if items == 0 {
            return Err(DecodeError::Shape);
        }
        let control = match (reader.uint()?, items) {
            (CONFIRM, 1) => Self::Confirm,
            (CLOSE, 1) => Self::Close,
            (YOUR_TURN, 1) => Self::YourTurn,
            (ASK, 1) => Self::Ask,
            (PART, 6) => Self::Part(Part {
                epoch: epoch(&mut reader)?,
                name: reader.bytes_of()?,
                count: reader.uint8()?,
                index: reader.uint8()?,
                bytes: reader.bytes()?.to_vec(),
            }),
            (KNOWN, 2) => {
                reader.array_of(Class::ALL.len() as u64)?;
                let mut boots = [BootId([0; 8]); 3];
                for boot in &mut boots {
                    *boot = BootId(reader.bytes_of()?);
                }
                Self::Known(boots)
            }
            (OFFER, 3) => {
                Self::Offer(Offer { epoch: epoch(&mut reader)?, encapsulation_key: reader.bytes()?.to_vec() })
            }
            (ACCEPT, 3) => {
                Self::Accept(Accept { epoch: epoch(&mut reader)?, ciphertext: reader.bytes()?.to_vec() })
            }
            (GROUP_KEY, 2) => Self::GroupKey(Handout(SecretBytes::new(reader.bytes()?.to_vec()))),
            (GROUP_KEY_KNOWN, 3) => {
                Self::GroupKeyKnown { gid: GroupId(reader.bytes_of()?), epoch: epoch(&mut reader)? }
            }
            (MISSING_LEAVES, 2) => Self::MissingLeaves(MissingLeaves::decode(reader.bytes()?)?),
            (LEAVES, 2) => Self::Leaves(Leaves::decode(reader.bytes()?)?),
            (MISSING_SEAL, 4) => Self::MissingSeal {
                gid: GroupId(reader.bytes_of()?),
                epoch: epoch(&mut reader)?,
                from: reader.uint32()?,
            },
            (GROUP_SEAL, 3) => Self::GroupSeal { from: reader.uint32()?, packet: reader.bytes()?.to_vec() },
            (GROUP_OVER, 3) => {
                Self::GroupOver { gid: GroupId(reader.bytes_of()?), epoch: epoch(&mut reader)? }
            }
            (GROUP_GONE, 3) => {
                Self::GroupGone { gid: GroupId(reader.bytes_of()?), epoch: epoch(&mut reader)? }
            }
            (WANT_GROUP_KEY, 3) => {
                Self::WantGroupKey { gid: GroupId(reader.bytes_of()?), epoch: epoch(&mut reader)? }
            }
            _ => return Err(DecodeError::Shape),
        };
        reader.finish()?;
        Ok(control)
    }
}

fn group_epoch(writer: &mut Writer, items: usize, kind: u64, gid: GroupId, epoch: u16) -> &mut Writer {
    writer.array(items).uint(kind).bytes(gid.as_bytes()).uint(epoch.into())
}

fn epoch(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    u16::try_from(reader.uint()?).map_err(|_| DecodeError::Value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::kdf::HashOutput;
    use crate::crypto::suite::HashAlgorithm;

    #[test]
    fn every_kind_survives_its_encoding_and_is_never_a_body() {
        let mut which = crate::group::Which::default();
        which.insert(255);
        let asked = MissingLeaves { gid: GroupId([8; 7]), epoch: 1, first: 64, which };
        let leaf = crate::crypto::kdf::sha256(&[b"leaf"]);
        let leaf = HashOutput::from_slice(HashAlgorithm::Sha256, &leaf).unwrap();
        for control in [
            Control::Confirm,
            Control::Close,
            Control::YourTurn,
            Control::Ask,
            Control::Part(Part { epoch: 300, name: [3; 8], count: 7, index: 6, bytes: alloc::vec![5; 200] }),
            Control::Known([BootId([4; 8]); 3]),
            Control::Offer(Offer { epoch: 1, encapsulation_key: alloc::vec![5; 1216] }),
            Control::Accept(Accept { epoch: 1, ciphertext: alloc::vec![6; 1120] }),
            Control::GroupKey(Handout(SecretBytes::new(alloc::vec![7; 109]))),
            Control::GroupKeyKnown { gid: GroupId([8; 7]), epoch: 65_535 },
            Control::MissingLeaves(asked),
            Control::Leaves(Leaves { asked, leaves: alloc::vec![leaf] }),
            Control::MissingSeal { gid: GroupId([8; 7]), epoch: 2, from: 32_767 },
            Control::GroupSeal { from: 0, packet: alloc::vec![0xd1; 3_454] },
            Control::GroupOver { gid: GroupId([8; 7]), epoch: 3 },
            Control::GroupGone { gid: GroupId([8; 7]), epoch: 4 },
            Control::WantGroupKey { gid: GroupId([8; 7]), epoch: 5 },
        ] {
            let bytes = control.encode();
            assert!(Control::is_control(&bytes));
            assert!(crate::envelope::Body::decode(&bytes).is_err());
            assert_eq!(Control::decode(&bytes), Ok(control));
        }
        let body = crate::envelope::Body::from(crate::envelope::Content::telemetry("x"));
        assert!(!Control::is_control(&body.encode()));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic_and_only_canonically(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(control) = Control::decode(&bytes) {
                prop_assert_eq!(control.encode(), bytes);
            }
        }
    }
}
