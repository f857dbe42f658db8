//! Which data directory a command works on.

use std::path::{Path, PathBuf};

use super::Context;
use crate::args::UnlockArgs;
use crate::error::{CliError, ErrorKind, Result};
use crate::keeper::{Keeper, Role};
use crate::unlock::Source;

/// The directory given, or the configured one.
pub(super) fn directory(given: Option<&Path>, context: &Context) -> Result<PathBuf> {
    given.map(Path::to_owned).or_else(|| context.config.device.dir.clone()).ok_or_else(|| {
        CliError::new(ErrorKind::Usage, "no data directory given")
            .fix("--dir DIR, or `dir` under [device] in the configuration file")
    })
}

/// What unlocks it.
pub(super) fn source(dir: &Path, unlock: &UnlockArgs, context: &Context) -> Result<Source> {
    Source::find(dir, unlock, &context.config.device)
}

/// The directory, unlocked.
pub(super) fn open(dir: &Path, unlock: &UnlockArgs, context: &Context) -> Result<Keeper> {
    Keeper::open(dir, &source(dir, unlock, context)?, Role::Device)
}
