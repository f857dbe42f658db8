//! The software provider: keys in this process's memory, sealed at rest. For demonstrations, tests and hosts without
//! a security chip; whoever reads the process or knows the unlock secret has the keys.

mod key_file;
mod unlock;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use pqc_iiot_core::audit::SignerClass;
use pqc_iiot_core::codec::Writer;
use pqc_iiot_core::codec::signed::SigStructure;
use pqc_iiot_core::crypto::backend::{Backend, RandomSource};
use pqc_iiot_core::crypto::kem::{self, DecapsulationKey};
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::signature::{SigningKey, generate_seeds};
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::provider::{PrekeyId, ProviderFailure, ProviderRequest, ProviderResponse};
use thiserror::Error;

pub use self::key_file::KeyFileError;
pub use self::unlock::{Argon2Cost, UNLOCK_KEY_LEN, Unlock, UnlockError};
use crate::datadir::{DataDir, DataFile};
use crate::disk::{self, Disk};
use crate::provider::{AnchorError, Capabilities, CommitRecord, PublicIdentity, SealError, SecurityProvider};
use crate::random::{NoRandomness, SystemRandom};
use crate::seal::{SealKey, derive};

const SEAL_TAG: &str = "pqc-iiot:provider-seal:v1";
const STORAGE_TAG: &str = "pqc-iiot:provider-storage:v1";

/// Everything secret of a software identity.
struct Seeds {
    set: SignatureSet,
    kem: Kem,
    signing: SecretBytes,
    decapsulation: SecretBytes,
    root: Secret<32>,
}

impl Seeds {
    fn generate(set: SignatureSet, kem: Kem, random: &mut dyn RandomSource) -> Self {
        let signing = generate_seeds(set, random);
        let decapsulation = kem::generate_seed(kem, random);
        let mut root = Secret::new([0; 32]);
        random.fill(root.expose_mut());
        Self { set, kem, signing, decapsulation, root }
    }
}

/// Why a software identity was not created or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SoftwareError {
    /// The data directory has an identity; it is never overwritten.
    #[error("{} exists; an identity is never overwritten", path.display())]
    Exists {
        /// The key file.
        path: PathBuf,
    },
    /// The data directory has no identity.
    #[error("{} does not exist; create an identity first", path.display())]
    Missing {
        /// The key file.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file does not open.
    #[error("{}: {source}", path.display())]
    KeyFile {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: KeyFileError,
    },
    /// An empty passphrase seals nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// No randomness.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The library refused the seeds.
    #[error("the cryptographic library refused the identity's seeds")]
    Backend,
}

/// Where an identity is at rest.
struct KeyFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl KeyFile {
    fn new(directory: &DataDir, path: PathBuf) -> Self {
        Self { disk: Arc::clone(directory.disk()), path }
    }
}

/// An identity whose keys this process holds.
pub struct SoftwareProvider {
    backend: Backend,
    identity: PublicIdentity,
    signing: SigningKey,
    static_key: Arc<DecapsulationKey>,
    prekeys: RwLock<HashMap<PrekeyId, Arc<DecapsulationKey>>>,
    root: Secret<32>,
    seal: SealKey,
    random: Mutex<Box<dyn RandomSource + Send>>,
    key_file: Option<KeyFile>,
}

impl SoftwareProvider {
    /// A new identity that is nowhere at rest: it ends with this value. All its randomness comes from `random`.
    pub fn ephemeral(
        backend: Backend,
        set: SignatureSet,
        kem: Kem,
        mut random: Box<dyn RandomSource + Send>,
    ) -> Result<Self, SoftwareError> {
        let seeds = Seeds::generate(set, kem, &mut *random);
        Self::from_seeds(backend, seeds, random, None)
    }

    /// Creates an identity and its key file in `directory`, which must have none.
    pub fn create(
        directory: &DataDir,
        unlock: &Unlock,
        set: SignatureSet,
        kem: Kem,
    ) -> Result<Self, SoftwareError> {
        Self::create_with_cost(directory, unlock, set, kem, Argon2Cost::default())
    }

    /// As [`SoftwareProvider::create`], with another cost of stretching the passphrase.
    pub fn create_with_cost(
        directory: &DataDir,
        unlock: &Unlock,
        set: SignatureSet,
        kem: Kem,
        cost: Argon2Cost,
    ) -> Result<Self, SoftwareError> {
        let path = directory.file(DataFile::Identity);
        let io = |source| SoftwareError::Io { path: path.clone(), source };
        match directory.disk().read(&path, 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() != io::ErrorKind::FileTooLarge => return Err(io(error)),
            _ => return Err(SoftwareError::Exists { path }),
        }
        if matches!(unlock, Unlock::Passphrase(passphrase) if passphrase.expose().is_empty()) {
            return Err(SoftwareError::EmptyPassphrase);
        }
        let mut random = SystemRandom::new()?;
        let seeds = Seeds::generate(set, kem, &mut random);
        let file = key_file::encode(&seeds, unlock, cost, &mut random).ok_or(SoftwareError::Backend)?;
        // The directory's lock keeps any other writer from creating one in between.
        disk::write_atomically(&**directory.disk(), &path, &file).map_err(io)?;
        Self::from_seeds(
            pqc_iiot_core::crypto::default_backend(),
            seeds,
            Box::new(random),
            Some(KeyFile::new(directory, path)),
        )
    }

    /// Opens the identity in `directory`.
    pub fn open(directory: &DataDir, unlock: &Unlock) -> Result<Self, SoftwareError> {
        let path = directory.file(DataFile::Identity);
        let file = match directory.disk().read(&path, key_file::MAX_KEY_FILE) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SoftwareError::Missing { path });
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(SoftwareError::KeyFile { path, source: KeyFileError::TooLarge });
            }
            Err(source) => return Err(SoftwareError::Io { path, source }),
        };
        let seeds = key_file::decode(&file, unlock)
            .map_err(|source| SoftwareError::KeyFile { path: path.clone(), source })?;
        let random = Box::new(SystemRandom::new()?);
        Self::from_seeds(
            pqc_iiot_core::crypto::default_backend(),
            seeds,
            random,
            Some(KeyFile::new(directory, path)),
        )
    }

    fn from_seeds(
        backend: Backend,
        seeds: Seeds,
        random: Box<dyn RandomSource + Send>,
        key_file: Option<KeyFile>,
    ) -> Result<Self, SoftwareError> {
        let signing = SigningKey::from_seeds(backend, seeds.set, &seeds.signing);
        let signing = signing.map_err(|_| SoftwareError::Backend)?;
        let static_key = DecapsulationKey::from_seed(backend, seeds.kem, &seeds.decapsulation);
        let static_key = Arc::new(static_key.map_err(|_| SoftwareError::Backend)?);
        let identity = PublicIdentity {
            set: seeds.set,
            signing_key: signing.public_key().to_vec(),
            kem: seeds.kem,
            encapsulation_key: static_key.encapsulation_key().to_vec(),
        };
        Ok(Self {
            backend,
            identity,
            signing,
            static_key,
            prekeys: RwLock::default(),
            seal: SealKey::new(&derive(&seeds.root, SEAL_TAG)),
            root: seeds.root,
            random: Mutex::new(random),
            key_file,
        })
    }

    fn random(&self) -> MutexGuard<'_, Box<dyn RandomSource + Send>> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, structure: &SigStructure) -> Result<ProviderResponse, ProviderFailure> {
        if structure.set() != self.identity.set {
            return Err(ProviderFailure::Refused);
        }
        let signature = self.signing.sign(&mut **self.random(), &|algorithm| structure.message(algorithm));
        signature.map(ProviderResponse::Signature).map_err(|_| ProviderFailure::Unavailable)
    }

    fn decapsulate(&self, id: PrekeyId, ciphertext: &[u8]) -> Result<ProviderResponse, ProviderFailure> {
        let key = match id {
            PrekeyId::STATIC => Arc::clone(&self.static_key),
            prekey => {
                let prekeys = self.prekeys.read().unwrap_or_else(PoisonError::into_inner);
                prekeys.get(&prekey).map(Arc::clone).ok_or(ProviderFailure::UnknownKey)?
            }
        };
        let secret = key.decapsulate(ciphertext).map_err(|_| ProviderFailure::Refused)?;
        Ok(ProviderResponse::SharedSecret(secret))
    }

    fn generate_prekey(&self, id: PrekeyId, kem: Kem) -> Result<ProviderResponse, ProviderFailure> {
        let seed = kem::generate_seed(kem, &mut **self.random());
        let encapsulation_key = self.insert_prekey(id, kem, &seed, false)?;
        let aad = seal_aad(&prekey_purpose(id, kem));
        let sealed = self.seal.seal(&mut **self.random(), &aad, seed.expose());
        Ok(ProviderResponse::Prekey { encapsulation_key, sealed })
    }

    fn import_prekey(
        &self,
        id: PrekeyId,
        kem: Kem,
        sealed: &[u8],
    ) -> Result<ProviderResponse, ProviderFailure> {
        let aad = seal_aad(&prekey_purpose(id, kem));
        let seed = self.seal.open_secret(&aad, sealed).map_err(|_| ProviderFailure::Refused)?;
        self.insert_prekey(id, kem, &seed, true)?;
        Ok(ProviderResponse::Done)
    }

    fn insert_prekey(
        &self,
        id: PrekeyId,
        kem: Kem,
        seed: &SecretBytes,
        replace: bool,
    ) -> Result<Vec<u8>, ProviderFailure> {
        if id == PrekeyId::STATIC {
            return Err(ProviderFailure::Refused);
        }
        let key =
            DecapsulationKey::from_seed(self.backend, kem, seed).map_err(|_| ProviderFailure::Refused)?;
        let encapsulation_key = key.encapsulation_key().to_vec();
        let mut prekeys = self.prekeys.write().unwrap_or_else(PoisonError::into_inner);
        if !replace && prekeys.contains_key(&id) {
            return Err(ProviderFailure::Refused);
        }
        prekeys.insert(id, Arc::new(key));
        Ok(encapsulation_key)
    }

    fn erase_prekey(&self, id: PrekeyId) -> Result<ProviderResponse, ProviderFailure> {
        let mut prekeys = self.prekeys.write().unwrap_or_else(PoisonError::into_inner);
        prekeys.remove(&id).map(|_| ProviderResponse::Done).ok_or(ProviderFailure::UnknownKey)
    }

    /// Reads the key file back: sealed, and holding no window of the sealing root in the clear.
    fn sealed_at_rest(&self) -> bool {
        let Some(KeyFile { disk, path }) = &self.key_file else { return false };
        let Ok(content) = disk.read(path, key_file::MAX_KEY_FILE) else { return false };
        key_file::is_sealed(&content) && !contains(&content, self.root.expose())
    }
}

impl SecurityProvider for SoftwareProvider {
    fn identity(&self) -> &PublicIdentity {
        &self.identity
    }

    fn execute(&self, request: ProviderRequest) -> Result<ProviderResponse, ProviderFailure> {
        match request {
            ProviderRequest::Sign(structure) => self.sign(&structure),
            ProviderRequest::Decapsulate { key, ciphertext } => self.decapsulate(key, &ciphertext),
            ProviderRequest::GeneratePrekey { id, kem } => self.generate_prekey(id, kem),
            ProviderRequest::ImportPrekey { id, kem, sealed } => self.import_prekey(id, kem, &sealed),
            ProviderRequest::ErasePrekey(id) => self.erase_prekey(id),
            _ => Err(ProviderFailure::Unavailable),
        }
    }

    fn seal(&self, purpose: &str, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(self.seal.seal(&mut **self.random(), &seal_aad(purpose), plaintext))
    }

    fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<SecretBytes, SealError> {
        self.seal.open_secret(&seal_aad(purpose), sealed).map_err(|_| SealError::NotAuthentic)
    }

    fn storage_key(&self, purpose: &str) -> Result<Secret<32>, SealError> {
        Ok(derive(&derive(&self.root, STORAGE_TAG), purpose))
    }

    fn counter(&self) -> Result<u64, AnchorError> {
        Err(AnchorError::Unsupported)
    }

    fn increment_counter(&self) -> Result<u64, AnchorError> {
        Err(AnchorError::Unsupported)
    }

    fn commit_record(&self) -> Result<CommitRecord, AnchorError> {
        Err(AnchorError::Unsupported)
    }

    fn write_commit_record(&self, _record: CommitRecord) -> Result<(), AnchorError> {
        Err(AnchorError::Unsupported)
    }

    fn attest(&self, _nonce: &[u8; 32]) -> Result<Vec<u8>, AnchorError> {
        Err(AnchorError::Unsupported)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // This process holds the seeds of both halves: there is nothing to try.
            classical_non_exportable: false,
            pq_non_exportable: false,
            pq_sealed_at_rest: self.sealed_at_rest(),
            rollback_resistant: self.counter().is_ok() && self.commit_record().is_ok(),
            attestable: self.attest(&[0; 32]).is_ok(),
        }
    }

    fn signer_class(&self) -> SignerClass {
        SignerClass::Exportable
    }
}

fn prekey_purpose(id: PrekeyId, kem: Kem) -> String {
    format!("prekey {} of KEM {}", id.0, kem.id())
}

fn seal_aad(purpose: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(2).text(SEAL_TAG).text(purpose);
    writer.finish()
}

fn contains(content: &[u8], needle: &[u8]) -> bool {
    content.windows(needle.len()).any(|window| window == needle)
}

/// Whether a key file exists at this path of a data directory that is not open.
pub fn identity_exists(directory: &Path) -> bool {
    directory.join(DataFile::Identity.name()).exists()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
