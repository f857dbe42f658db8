//! A session's durable row: what a restart continues from. It holds no key of a block that was used for sending.

use alloc::boxed::Box;
use alloc::vec::Vec;

use thiserror::Error;

use super::chain::{BlockSeed, ChainKey};
use super::epoch::{Epoch, EpochKeys};
use super::header::Class;
use super::packed::Current;
use super::ratchet::{Accept, Accepted, Offer, Offered};
use super::receive::{Block, MAX_BOOTS, MAX_SKIPPED, ReceiveChain};
use super::send::SendChain;
use super::{Role, Session};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::Backend;
use crate::crypto::kdf::PseudorandomKey;
use crate::crypto::secret::SecretBytes;
use crate::crypto::suite::{HashAlgorithm, SessionSuite};
use crate::ids::{BootId, SessionId};
use crate::time::Monotonic;

const VERSION: u64 = 2;

/// A row that is not a session of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a session's row is malformed: {0}")]
pub struct RowError(#[from] DecodeError);

impl Session {
    /// The durable row.
    pub fn to_row(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(1024);
        writer.array(15).uint(VERSION).uint(self.suite.id().into()).uint(self.role as u64);
        writer.bytes(self.sid_in.as_bytes()).bytes(self.sid_out.as_bytes()).bytes(self.gate.expose());
        self.current.encode(&mut writer);
        match &self.previous {
            Some((epoch, _)) => epoch.encode(&mut writer),
            None => {
                writer.null();
            }
        }
        match &self.next {
            Some(epoch) => encode_epoch(&mut writer, epoch),
            None => {
                writer.null();
            }
        }
        match &self.offered {
            Some(offered) => {
                writer.array(2).bytes(offered.seed.expose()).bytes(&offered.offer.encapsulation_key);
            }
            None => {
                writer.null();
            }
        }
        match &self.accepted {
            Some(accepted) => {
                writer.array(2).bytes(&accepted.encapsulation_key).bytes(&accepted.accept.ciphertext);
            }
            None => {
                writer.null();
            }
        }
        writer.array(3);
        for boot in &self.confirmed_boots {
            writer.bytes(boot.as_bytes());
        }
        writer.bool(self.confirmed).uint(self.sent).uint(self.received);
        writer.finish()
    }

    /// The session of a row. Whatever was reserved for sending counts as used; what was received in open blocks is known
    /// only by what the records brought.
    ///
    /// # Errors
    ///
    /// The row is none of this version's.
    pub fn from_row(backend: Backend, row: &[u8], now: Monotonic) -> Result<Self, RowError> {
        let mut reader = Reader::new(row)?;
        reader.array_of(15)?;
        if reader.uint()? != VERSION {
            return Err(DecodeError::Value.into());
        }
        let suite = SessionSuite::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
        let hash = suite.hash();
        let role = match reader.uint()? {
            0 => Role::Initiator,
            1 => Role::Responder,
            _ => return Err(DecodeError::Value.into()),
        };
        let (sid_in, sid_out) = (SessionId(reader.bytes_of()?), SessionId(reader.bytes_of()?));
        let gate = decode_key(&mut reader, hash)?;
        let current = decode_epoch(&mut reader, hash, now)?;
        let previous = if reader.absent()? { None } else { Some(decode_epoch(&mut reader, hash, now)?) };
        let next = if reader.absent()? { None } else { Some(decode_epoch(&mut reader, hash, now)?) };
        let following = current.number.saturating_add(1);
        let offered = if reader.absent()? { None } else { Some(decode_offered(&mut reader, following)?) };
        let accepted = if reader.absent()? { None } else { Some(decode_accepted(&mut reader, following)?) };
        reader.array_of(3)?;
        let mut confirmed_boots = [BootId([0; 8]); 3];
        for boot in &mut confirmed_boots {
            *boot = BootId(reader.bytes_of()?);
        }
        let (confirmed, sent, received) = (reader.bool()?, reader.uint()?, reader.uint()?);
        reader.finish()?;
        Ok(Self {
            backend,
            suite,
            role,
            sid_in,
            sid_out,
            gate,
            current: Current::Awake(Box::new(current)),
            previous: previous.map(|epoch| (Current::Awake(Box::new(epoch)), Some(now))),
            next: next.map(Box::new),
            offered: offered.map(Box::new),
            accepted: accepted.map(Box::new),
            confirmed_boots,
            skipped_until: None,
            confirmed,
            sent,
            received,
        })
    }
}

pub(super) fn encode_epoch(writer: &mut Writer, epoch: &Epoch) {
    let keys = &epoch.keys;
    writer.array(7).uint(epoch.number.into()).bytes(&keys.send_iv).bytes(&keys.receive_iv);
    writer.bytes(keys.exporter.expose()).bytes(keys.ratchet.expose());
    writer.array(3);
    for class in Class::ALL {
        let (ceiling, key) = epoch.send(class).ceiling();
        writer.array(2).uint(ceiling.into()).bytes(key.expose());
    }
    writer.array(3);
    for class in Class::ALL {
        encode_receive(writer, epoch.receive(class));
    }
}

fn encode_receive(writer: &mut Writer, chain: &ReceiveChain) {
    let (next, key) = chain.next();
    writer.array(4).uint(next.into()).bytes(key.expose()).array(chain.blocks().len());
    for block in chain.blocks() {
        writer.array(3).uint(block.index.into()).bytes(block.seed.expose());
        match &block.boot {
            Some(boot) => writer.bytes(boot.as_bytes()),
            None => writer.null(),
        };
    }
    writer.array(chain.boots().len());
    for (start, boot) in chain.boots() {
        writer.array(2).uint((*start).into()).bytes(boot.as_bytes());
    }
}

pub(super) fn decode_epoch(
    reader: &mut Reader<'_>,
    hash: HashAlgorithm,
    now: Monotonic,
) -> Result<Epoch, DecodeError> {
    reader.array_of(7)?;
    let number = u16::try_from(reader.uint()?).map_err(|_| DecodeError::Value)?;
    let (send_iv, receive_iv) = (reader.bytes_of()?, reader.bytes_of()?);
    let (exporter, ratchet) = (decode_key(reader, hash)?, decode_key(reader, hash)?);
    reader.array_of(3)?;
    let [telemetry, command, control] = Class::ALL;
    let mut send = |class| decode_send(reader, class, hash);
    let send = [send(telemetry)?, send(command)?, send(control)?];
    reader.array_of(3)?;
    let mut receive = |class| decode_receive(reader, class, hash, now);
    let receive = [receive(telemetry)?, receive(command)?, receive(control)?];
    let keys = EpochKeys { send_iv, receive_iv, exporter, ratchet };
    Ok(Epoch::restore(number, keys, send, receive))
}

fn decode_send(reader: &mut Reader<'_>, class: Class, hash: HashAlgorithm) -> Result<SendChain, DecodeError> {
    reader.array_of(2)?;
    let ceiling = reader.uint32()?;
    let key = ChainKey::from_slice(hash, reader.bytes()?).ok_or(DecodeError::Value)?;
    Ok(SendChain::restore(class, ceiling, key))
}

fn decode_receive(
    reader: &mut Reader<'_>,
    class: Class,
    hash: HashAlgorithm,
    now: Monotonic,
) -> Result<ReceiveChain, DecodeError> {
    reader.array_of(4)?;
    let next = reader.uint32()?;
    let key = ChainKey::from_slice(hash, reader.bytes()?).ok_or(DecodeError::Value)?;
    let mut blocks = Vec::new();
    for _ in 0..reader.array_up_to(MAX_SKIPPED as u64 + 1)? {
        reader.array_of(3)?;
        let index = reader.uint32()?;
        let seed = BlockSeed::from_slice(hash, reader.bytes()?).ok_or(DecodeError::Value)?;
        let boot = if reader.absent()? { None } else { Some(BootId(reader.bytes_of()?)) };
        blocks.push(Box::new(Block::restored(index, seed, boot, now)));
    }
    let mut boots = Vec::new();
    for _ in 0..reader.array_up_to(MAX_BOOTS as u64)? {
        reader.array_of(2)?;
        boots.push((reader.uint32()?, BootId(reader.bytes_of()?)));
    }
    Ok(ReceiveChain::restore(class, (next, key), blocks, boots))
}

fn decode_key(reader: &mut Reader<'_>, hash: HashAlgorithm) -> Result<PseudorandomKey, DecodeError> {
    PseudorandomKey::from_slice(hash, reader.bytes()?).ok_or(DecodeError::Value)
}

fn decode_offered(reader: &mut Reader<'_>, epoch: u16) -> Result<Offered, DecodeError> {
    reader.array_of(2)?;
    let seed = SecretBytes::new(reader.bytes()?.to_vec());
    Ok(Offered::restore(seed, Offer { epoch, encapsulation_key: reader.bytes()?.to_vec() }))
}

fn decode_accepted(reader: &mut Reader<'_>, epoch: u16) -> Result<Accepted, DecodeError> {
    reader.array_of(2)?;
    let encapsulation_key = reader.bytes()?.to_vec();
    Ok(Accepted { encapsulation_key, accept: Accept { epoch, ciphertext: reader.bytes()?.to_vec() } })
}
