//! The initiator's durable row, so that an m2 is understood after a restart.
//!
//! CBOR `[1, m1, th1, es0, ephemeral seed, sid, boot]`. Everything else stands in m1.

use super::initiator::{ExpectM2, Waiting};
use super::packet::M1;
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::Backend;
use crate::crypto::kdf::{HashOutput, hash};
use crate::crypto::kem::DecapsulationKey;
use crate::crypto::secret::SecretBytes;
use crate::ids::{BootId, SessionId};
use crate::session::schedule::EarlySecret;

const ROW_VERSION: u64 = 1;

impl ExpectM2 {
    /// For a store that seals its rows: it holds the ephemeral key.
    pub fn to_row(&self) -> SecretBytes {
        let mut writer = Writer::with_capacity(self.m1.len() + 512);
        writer
            .array(7)
            .uint(ROW_VERSION)
            .bytes(&self.m1)
            .bytes(self.rest.th1.as_slice())
            .bytes(self.rest.early.expose())
            .bytes(self.rest.seed.expose())
            .bytes(self.rest.sid.as_bytes())
            .bytes(self.rest.boot.as_bytes());
        SecretBytes::new(writer.finish())
    }

    /// From a store's row; expands the ephemeral key anew.
    pub fn from_row(backend: Backend, row: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(row)?;
        reader.array_of(7)?;
        if reader.uint()? != ROW_VERSION {
            return Err(DecodeError::Version);
        }
        let bytes = reader.bytes()?;
        let m1 = M1::parse(bytes).map_err(|_| DecodeError::Value)?;
        let suite = m1.suite;
        let th1 = HashOutput::from_slice(suite.hash(), reader.bytes()?).ok_or(DecodeError::Value)?;
        let early = EarlySecret::from_slice(suite, reader.bytes()?).ok_or(DecodeError::Value)?;
        let seed = SecretBytes::new(reader.bytes()?.to_vec());
        let sid = SessionId(reader.bytes_of()?);
        let boot = BootId(reader.bytes_of()?);
        reader.finish()?;
        let key = DecapsulationKey::from_seed(backend, suite.kem(), &seed).map_err(|_| DecodeError::Value)?;
        if key.encapsulation_key() != m1.ephemeral {
            return Err(DecodeError::Value);
        }
        let rest = Waiting {
            us: m1.initiator_fingerprint,
            peer: m1.responder_fingerprint,
            sid,
            boot,
            prekey: m1.prekey,
            attempt: m1.attempt,
            th1,
            early,
            seed,
            key,
        };
        let c1_hash = hash(suite.hash(), &[m1.sealed]);
        Ok(Self { backend, suite, m1: bytes.to_vec(), c1_hash, rest })
    }
}
