//! The key file, certificate and anchors of a data directory (`pqc_iiot_provider::{datadir, software}`).

use std::sync::Arc;

use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_provider::datadir::DataFile;
use pqc_iiot_provider::software::{SoftwareError, Unlock};
use pqc_iiot_provider::{DataDir, SecurityProvider, SoftwareProvider};
use pqc_iiot_sim::power::{CrashDisk, Explorer, Report, Skip};

use crate::{caught, nothing_broken};

/// The files that are replaced, in this order.
const FILES: [DataFile; 2] = [DataFile::Certificate, DataFile::Anchors];
/// Content of two sectors and a half.
const LENGTH: usize = 1280;

/// What the directory's user relies on.
#[derive(Clone, Default, Hash)]
struct Promised {
    /// The signing key of the identity in use.
    identity: Option<Vec<u8>>,
    /// Per file: the version last written or read, and the version being written.
    versions: [(u8, u8); FILES.len()],
}

fn content(version: u8) -> Vec<u8> {
    // Each sector of each version differs.
    (0..LENGTH).map(|at| version.wrapping_mul(16).wrapping_add((at / 512) as u8)).collect()
}

/// Opens the directory or creates it, with its identity, checks its files, and replaces each.
fn install(disk: &CrashDisk<Promised>) -> Result<(), String> {
    let promised = disk.facts();
    let data = DataDir::create_on(Arc::new(disk.clone()), "/data").map_err(|error| error.to_string())?;
    let unlock = Unlock::KeyFile(Secret::new([7; 32]));
    let opened = match SoftwareProvider::open(&data, &unlock) {
        Err(SoftwareError::Missing { .. }) if promised.identity.is_none() => {
            SoftwareProvider::create(&data, &unlock, SignatureSet::Ed25519MlDsa65, Kem::XWing)
        }
        result => result,
    };
    let identity = opened.map_err(|error| error.to_string())?.identity().signing_key.clone();
    if promised.identity.as_ref().is_some_and(|known| *known != identity) {
        return Err("another identity took the place of the one in use".into());
    }
    disk.promise(|facts| facts.identity = Some(identity));

    for (index, file) in FILES.into_iter().enumerate() {
        let (durable, attempted) = promised.versions[index];
        let found = data.read(file, LENGTH as u64).map_err(|error| error.to_string())?;
        let found = match found {
            None => 0,
            Some(found) => [durable, attempted]
                .into_iter()
                .find(|version| *version > 0 && content(*version) == found)
                .ok_or_else(|| format!("{} holds neither the old nor the new content", file.name()))?,
        };
        if found < durable {
            return Err(format!("{} lost version {durable}: {found}", file.name()));
        }
        // Read, so acted on: from here on it has to stay.
        disk.promise(|facts| facts.versions[index] = (found, found + 1));
        data.write(file, &content(found + 1)).map_err(|error| error.to_string())?;
        disk.promise(|facts| facts.versions[index] = (found + 1, found + 1));
    }
    Ok(())
}

fn explore(explorer: &Explorer) -> Report {
    explorer.explore(Promised::default(), install)
}

#[test]
fn keys_and_certificates_are_old_or_new_after_any_two_crashes() {
    let report = explore(&Explorer { crashes: 2, ..Explorer::default() });
    nothing_broken("data directory, sectors of 512 bytes, two crashes", &report);
}

#[test]
fn mutant_files_are_renamed_before_they_are_synced() {
    let skip = Skip { files: true, directories: false };
    let report = explore(&Explorer { crashes: 1, sector: 4096, skip, ..Explorer::default() });
    caught("a file of the data directory is renamed before it is synced", &report);
}

#[test]
fn mutant_the_directory_is_not_synced() {
    let skip = Skip { files: false, directories: true };
    let report = explore(&Explorer { crashes: 1, sector: 4096, skip, ..Explorer::default() });
    caught("the data directory is not synced after a renaming", &report);
}
