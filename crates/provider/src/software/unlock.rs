//! What opens a key file: a passphrase through Argon2id, or 32 bytes in another file.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use thiserror::Error;
use zeroize::Zeroize;

use crate::disk::{Disk, HostDisk};
use crate::seal;

/// Length of an unlock key file, in bytes.
pub const UNLOCK_KEY_LEN: usize = 32;
const KEY_FILE_PURPOSE: &str = "pqc-iiot:unlock-key:v1";

/// What unseals the identity key file.
pub enum Unlock {
    /// A passphrase, stretched with Argon2id.
    Passphrase(SecretBytes),
    /// 32 random bytes, kept apart from the data directory: a file only its owner reads, or a systemd credential.
    KeyFile(Secret<32>),
}

/// Why an unlock key file was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// Reading failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error("{} has mode {mode:04o}, so others may read or change it; fix it with: chmod 600 '{}'", path.display(), path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not hold exactly 32 bytes.
    #[error("{} must hold exactly 32 random bytes; make one with: (umask 077; head -c 32 /dev/urandom > '{}')", path.display(), path.display())]
    Length {
        /// The file.
        path: PathBuf,
    },
}

impl Unlock {
    /// Takes a passphrase as it is: no trimming, no normalisation.
    pub fn passphrase(passphrase: &str) -> Self {
        Self::Passphrase(SecretBytes::new(passphrase.as_bytes().to_vec()))
    }

    /// Reads 32 bytes from a file that others can neither read nor write.
    pub fn from_key_file(path: &Path) -> Result<Self, UnlockError> {
        let io = |source| UnlockError::Io { path: path.into(), source };
        let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o7777;
        // Group read stays allowed: it is how systemd shows an access control list on a credential.
        if mode & 0o037 != 0 {
            return Err(UnlockError::Permissions { path: path.into(), mode });
        }
        let mut content = match HostDisk.read(path, UNLOCK_KEY_LEN as u64) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(UnlockError::Length { path: path.into() });
            }
            Err(source) => return Err(io(source)),
        };
        let key = Secret::from_slice(&content);
        content.zeroize();
        key.map(Self::KeyFile).ok_or_else(|| UnlockError::Length { path: path.into() })
    }
}

/// What stretching a passphrase costs. Stored in the key file, so it can be raised later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Argon2Cost {
    /// The most memory that a key file can make its reader use, in KiB (1 GiB).
    pub const MAX_MEMORY_KIB: u32 = 1024 * 1024;
    /// The most passes over the memory.
    pub const MAX_PASSES: u32 = 16;
    /// The most lanes.
    pub const MAX_LANES: u32 = 16;

    /// `None` outside the bounds or where Argon2 has no such parameters (memory below 8 KiB per lane).
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Option<Self> {
        let bounded =
            memory_kib <= Self::MAX_MEMORY_KIB && passes <= Self::MAX_PASSES && lanes <= Self::MAX_LANES;
        let valid = bounded && Params::new(memory_kib, passes, lanes, None).is_ok();
        valid.then_some(Self { memory_kib, passes, lanes })
    }

    /// Memory in KiB, passes, lanes.
    pub fn parameters(self) -> [u32; 3] {
        [self.memory_kib, self.passes, self.lanes]
    }
}

impl Default for Argon2Cost {
    /// 64 MiB, 3 passes, 4 lanes: the second recommendation of RFC 9106 §4.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

/// The key that a passphrase gives. `None` if Argon2 refuses (a passphrase of more than 4 GiB).
pub(super) fn from_passphrase(passphrase: &SecretBytes, cost: Argon2Cost, salt: &[u8]) -> Option<Secret<32>> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).ok()?;
    let mut key = Secret::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), salt, key.expose_mut())
        .ok()?;
    Some(key)
}

/// The key that an unlock key file gives.
pub(super) fn from_key(key: &Secret<32>, salt: &[u8]) -> Secret<32> {
    seal::derive_salted(key.expose(), salt, KEY_FILE_PURPOSE)
}
