//! Where the secret that opens a data directory comes from: flags, configuration, systemd credentials, or the key file
//! beside the directory.

use std::path::{Path, PathBuf};

use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_provider::random::SystemRandom;
use pqc_iiot_provider::software::{UNLOCK_KEY_LEN, Unlock};
use zeroize::Zeroizing;

use crate::args::UnlockArgs;
use crate::config::Directory;
use crate::error::{CliError, ErrorKind, Result};
use crate::files;

const KEY_CREDENTIAL: &str = "pqc-iiot.key";
const PASSPHRASE_CREDENTIAL: &str = "pqc-iiot.passphrase";

/// The file that holds the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    KeyFile(PathBuf),
    PassphraseFile(PathBuf),
}

/// The secret of a new directory, and what was done to get it.
pub(crate) struct NewUnlock {
    pub(crate) unlock: Unlock,
    /// The key file that was made for it.
    pub(crate) generated: Option<PathBuf>,
}

impl Source {
    /// The file for the directory `dir`.
    pub(crate) fn find(dir: &Path, args: &UnlockArgs, config: &Directory) -> Result<Self> {
        if args.passphrase.is_some() {
            return Err(CliError::exposed_secret("passphrase", "--passphrase-file FILE"));
        }
        let given = |key: &Option<PathBuf>, passphrase: &Option<PathBuf>| {
            let key = key.clone().map(Self::KeyFile);
            key.or_else(|| passphrase.clone().map(Self::PassphraseFile))
        };
        if let Some(source) = given(&args.key_file, &args.passphrase_file) {
            return Ok(source);
        }
        // What the configuration names belongs to the directory it names.
        let configured = config.dir.as_deref().is_none_or(|configured| configured == dir);
        if let Some(source) = given(&config.key_file, &config.passphrase_file).filter(|_| configured) {
            return Ok(source);
        }
        if let Some(credential) = credential(KEY_CREDENTIAL) {
            return Ok(Self::KeyFile(credential));
        }
        if let Some(credential) = credential(PASSPHRASE_CREDENTIAL) {
            return Ok(Self::PassphraseFile(credential));
        }
        files::default_key_file(dir).map(Self::KeyFile)
    }

    /// Reads the secret.
    pub(crate) fn read(&self) -> Result<Unlock> {
        match self {
            Self::PassphraseFile(path) => {
                files::read_secret_line(path, "passphrase").map(|line| Unlock::passphrase(&line))
            }
            Self::KeyFile(path) => Unlock::from_key_file(path).map_err(|error| {
                use pqc_iiot_provider::software::UnlockError as E;
                let what = format!("the key file {} cannot be used", path.display());
                let refused = CliError::new(ErrorKind::Identity, what);
                match error {
                    E::Io { source, .. } => refused
                        .because(source)
                        .fix("name the file that the directory was made with: --key-file FILE, or --passphrase-file FILE"),
                    E::Permissions { mode, .. } => refused
                        .because(format!("its mode is {mode:04o}, so others may read or change it"))
                        .fix(format!("chmod 600 '{}'", path.display())),
                    E::Length { .. } => refused
                        .because(format!("it does not hold exactly {UNLOCK_KEY_LEN} bytes"))
                        .fix("name the file that the directory was made with: --key-file FILE"),
                    error => refused.because(error),
                }
            }),
        }
    }

    /// As [`Source::read`]; a key file that does not exist yet is made, for its owner only.
    pub(crate) fn read_or_generate(&self) -> Result<NewUnlock> {
        let generated = match self {
            Self::KeyFile(path) => {
                let mut key = Zeroizing::new([0; UNLOCK_KEY_LEN]);
                random()?.fill(&mut *key);
                files::create_private(path, &*key, "key file")?.then(|| path.clone())
            }
            Self::PassphraseFile(_) => None,
        };
        Ok(NewUnlock { unlock: self.read()?, generated })
    }
}

/// A generator seeded from the operating system.
pub(crate) fn random() -> Result<SystemRandom> {
    SystemRandom::new().map_err(|error| CliError::new(ErrorKind::Failed, "no randomness").because(error))
}

/// A systemd credential (`LoadCredential=`, systemd.exec(5)) of this service.
pub(crate) fn credential(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.is_file().then_some(path)
}
