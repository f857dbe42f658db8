//! The identity key file: seeds sealed under a passphrase or an unlock key, never in the clear.
//!
//! `CBOR[magic, version, unlock, salt, sealed] ‖ SHA-256 of these`, where `unlock` is `[0]` for an unlock key or
//! `[1, memory KiB, passes, lanes]` for a passphrase and `sealed` is XChaCha20-Poly1305 over
//! `CBOR[set, kem, signing seeds, KEM seed, sealing root]` with everything before it as associated data. The checksum
//! tells a damaged file from a wrong passphrase; it protects nothing.

use pqc_iiot_core::codec::{DecodeError, Reader, Writer};
use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::crypto::kdf::sha256;
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use thiserror::Error;
use zeroize::Zeroize;

use super::Seeds;
use super::unlock::{Argon2Cost, Unlock, from_key, from_passphrase};
use crate::seal::SealKey;

const MAGIC: &str = "pqc-iiot identity key";
/// The version that this release writes and reads.
const VERSION: u64 = 1;
/// The largest key file, in bytes.
pub(super) const MAX_KEY_FILE: u64 = 4096;
const SALT_LEN: usize = 16;
const CHECKSUM_LEN: usize = 32;
const BY_KEY: u64 = 0;
const BY_PASSPHRASE: u64 = 1;

/// Why a key file does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Larger than any key file.
    #[error("the key file is too large to be one")]
    TooLarge,
    /// Its checksum does not match: flipped bytes or a truncated file. Restore it from a backup.
    #[error("the key file is damaged (its checksum does not match); restore it from a backup")]
    Damaged,
    /// The checksum matches and the content is no key file.
    #[error("not a key file of this program: {0}")]
    Malformed(#[from] DecodeError),
    /// Written by a newer release.
    #[error("the key file has format {0}, newer than this release reads; install the release that wrote it")]
    NewerFormat(u64),
    /// It asks its reader for more memory or time than any honest writer does.
    #[error("the key file asks for more memory or passes than allowed (1 GiB, 16 passes, 16 lanes)")]
    ExcessiveCost,
    /// It is sealed under a passphrase.
    #[error("the key file is sealed under a passphrase, and an unlock key was given")]
    NeedsPassphrase,
    /// It is sealed under an unlock key.
    #[error("the key file is sealed under an unlock key, and a passphrase was given")]
    NeedsKey,
    /// Wrong passphrase or unlock key, or altered by someone who fixed the checksum.
    #[error("wrong passphrase or unlock key, or the key file was altered")]
    DoesNotOpen,
}

/// Seals `seeds` into a key file.
pub(super) fn encode(
    seeds: &Seeds,
    unlock: &Unlock,
    cost: Argon2Cost,
    random: &mut dyn RandomSource,
) -> Option<Vec<u8>> {
    let mut salt = [0; SALT_LEN];
    random.fill(&mut salt);
    let (key, cost) = match unlock {
        Unlock::KeyFile(key) => (from_key(key, &salt), None),
        Unlock::Passphrase(passphrase) => (from_passphrase(passphrase, cost, &salt)?, Some(cost)),
    };
    let mut plaintext = encode_seeds(seeds);
    let sealed = SealKey::new(&key).seal(random, &header(cost, &salt), &plaintext);
    plaintext.zeroize();

    let mut writer = Writer::new();
    write_header(&mut writer, cost, &salt, 5);
    writer.bytes(&sealed);
    let mut file = writer.finish();
    let checksum = sha256(&[&file]);
    file.extend_from_slice(&checksum);
    Some(file)
}

/// Opens a key file.
pub(super) fn decode(file: &[u8], unlock: &Unlock) -> Result<Seeds, KeyFileError> {
    if file.len() as u64 > MAX_KEY_FILE {
        return Err(KeyFileError::TooLarge);
    }
    let (body, checksum) = file.split_last_chunk::<CHECKSUM_LEN>().ok_or(KeyFileError::Damaged)?;
    if sha256(&[body]) != *checksum {
        return Err(KeyFileError::Damaged);
    }
    let Parsed { cost, salt, sealed } = read(body)?;
    let key = match (unlock, cost) {
        (Unlock::KeyFile(key), None) => from_key(key, &salt),
        (Unlock::Passphrase(passphrase), Some(cost)) => {
            from_passphrase(passphrase, cost, &salt).ok_or(KeyFileError::DoesNotOpen)?
        }
        (Unlock::KeyFile(_), Some(_)) => return Err(KeyFileError::NeedsPassphrase),
        (Unlock::Passphrase(_), None) => return Err(KeyFileError::NeedsKey),
    };
    let plaintext = SealKey::new(&key)
        .open_secret(&header(cost, &salt), sealed)
        .map_err(|_| KeyFileError::DoesNotOpen)?;
    Ok(decode_seeds(plaintext.expose())?)
}

/// Whether `file` is a key file: all its secrets are then inside its sealed part.
pub(super) fn is_sealed(file: &[u8]) -> bool {
    file.split_last_chunk::<CHECKSUM_LEN>().is_some_and(|(body, _)| read(body).is_ok())
}

struct Parsed<'a> {
    /// `None` under an unlock key.
    cost: Option<Argon2Cost>,
    salt: [u8; SALT_LEN],
    sealed: &'a [u8],
}

fn read(body: &[u8]) -> Result<Parsed<'_>, KeyFileError> {
    let mut reader = Reader::new(body)?;
    reader.array_of(5)?;
    if reader.text(MAGIC.len())? != MAGIC {
        return Err(DecodeError::Value.into());
    }
    match reader.uint()? {
        VERSION => {}
        newer if newer > VERSION => return Err(KeyFileError::NewerFormat(newer)),
        _ => return Err(DecodeError::Version.into()),
    }
    let parameters = reader.array()?;
    let cost = match (reader.uint()?, parameters) {
        (BY_KEY, 1) => None,
        (BY_PASSPHRASE, 4) => {
            let (memory_kib, passes, lanes) = (reader.uint32()?, reader.uint32()?, reader.uint32()?);
            Some(Argon2Cost::new(memory_kib, passes, lanes).ok_or(KeyFileError::ExcessiveCost)?)
        }
        _ => return Err(DecodeError::Shape.into()),
    };
    let salt = reader.bytes_of()?;
    let sealed = reader.bytes()?;
    reader.finish()?;
    Ok(Parsed { cost, salt, sealed })
}

fn header(cost: Option<Argon2Cost>, salt: &[u8; SALT_LEN]) -> Vec<u8> {
    let mut writer = Writer::new();
    write_header(&mut writer, cost, salt, 4);
    writer.finish()
}

fn write_header(writer: &mut Writer, cost: Option<Argon2Cost>, salt: &[u8; SALT_LEN], items: usize) {
    writer.array(items).text(MAGIC).uint(VERSION);
    match cost {
        None => writer.array(1).uint(BY_KEY),
        Some(cost) => {
            writer.array(4).uint(BY_PASSPHRASE);
            cost.parameters().into_iter().fold(writer, |writer, parameter| writer.uint(parameter.into()))
        }
    }
    .bytes(salt);
}

fn encode_seeds(seeds: &Seeds) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(5).uint(seeds.set.id().into()).uint(seeds.kem.id().into());
    writer.bytes(seeds.signing.expose()).bytes(seeds.decapsulation.expose()).bytes(seeds.root.expose());
    writer.finish()
}

fn decode_seeds(plaintext: &[u8]) -> Result<Seeds, DecodeError> {
    let mut reader = Reader::new(plaintext)?;
    reader.array_of(5)?;
    let set = SignatureSet::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
    let kem = Kem::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
    let signing = SecretBytes::new(reader.bytes()?.to_vec());
    let decapsulation = SecretBytes::new(reader.bytes()?.to_vec());
    let root = Secret::from_slice(reader.bytes()?).ok_or(DecodeError::Value)?;
    reader.finish()?;
    Ok(Seeds { set, kem, signing, decapsulation, root })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    fn cheap() -> Argon2Cost {
        Argon2Cost::new(32, 1, 1).unwrap()
    }

    fn sample(unlock: &Unlock) -> Vec<u8> {
        let mut random = SeededRandom::new(1);
        let seeds = Seeds::generate(SignatureSet::Ed25519MlDsa65, Kem::XWing, &mut random);
        encode(&seeds, unlock, cheap(), &mut random).unwrap()
    }

    fn error(file: &[u8], unlock: &Unlock) -> KeyFileError {
        decode(file, unlock).err().unwrap()
    }

    fn with_checksum(mut body: Vec<u8>) -> Vec<u8> {
        let checksum = sha256(&[&body]);
        body.extend_from_slice(&checksum);
        body
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_damage() {
        let unlock = Unlock::passphrase("correct horse");
        let file = sample(&unlock);
        assert!(decode(&file, &unlock).is_ok());
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 0x40;
            assert_eq!(error(&flipped, &unlock), KeyFileError::Damaged, "byte {at}");
            assert_eq!(error(&file[..at], &unlock), KeyFileError::Damaged, "cut at {at}");
        }
    }

    #[test]
    fn every_flipped_byte_under_a_fixed_checksum_is_still_refused() {
        let unlock = Unlock::KeyFile(Secret::new([7; 32]));
        let file = sample(&unlock);
        let body = &file[..file.len() - CHECKSUM_LEN];
        for at in 0..body.len() {
            let mut flipped = body.to_vec();
            flipped[at] ^= 1;
            assert!(decode(&with_checksum(flipped), &unlock).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_wrong_secret_or_the_wrong_kind_of_secret_is_named() {
        let passphrase = Unlock::passphrase("correct horse");
        let key = Unlock::KeyFile(Secret::new([7; 32]));
        assert_eq!(error(&sample(&passphrase), &Unlock::passphrase("wrong")), KeyFileError::DoesNotOpen);
        assert_eq!(error(&sample(&key), &Unlock::KeyFile(Secret::new([8; 32]))), KeyFileError::DoesNotOpen);
        assert_eq!(error(&sample(&passphrase), &key), KeyFileError::NeedsPassphrase);
        assert_eq!(error(&sample(&key), &passphrase), KeyFileError::NeedsKey);
    }

    #[test]
    fn a_hostile_file_cannot_demand_memory() {
        let mut writer = Writer::new();
        writer.array(5).text(MAGIC).uint(VERSION).array(4).uint(BY_PASSPHRASE);
        writer.uint(100_000_000).uint(1).uint(1).bytes(&[0; SALT_LEN]).bytes(&[0; 64]);
        let file = with_checksum(writer.finish());
        assert_eq!(error(&file, &Unlock::passphrase("x")), KeyFileError::ExcessiveCost);
    }

    proptest::proptest! {
        #[test]
        fn any_content_under_a_fixed_checksum_is_refused_without_panic(
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            proptest::prop_assert!(decode(&with_checksum(body), &Unlock::KeyFile(Secret::new([7; 32]))).is_err());
        }
    }

    #[test]
    fn a_newer_format_is_refused_with_the_fix() {
        let mut writer = Writer::new();
        writer.array(5).text(MAGIC).uint(2).array(1).uint(BY_KEY).bytes(&[0; SALT_LEN]).bytes(&[0; 64]);
        let file = with_checksum(writer.finish());
        let error = error(&file, &Unlock::passphrase("x"));
        assert_eq!(error, KeyFileError::NewerFormat(2));
        assert!(error.to_string().contains("install the release"));
    }
}
