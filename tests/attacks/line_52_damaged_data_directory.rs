//! Any file of the data directory flipped, truncated, removed or swapped with another's is detected, named and never
//! trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pqc_iiot_core::audit::ChainHead;
use pqc_iiot_core::codec::signed::Unverified;
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::endpoint::{Endpoint, EndpointConfig};
use pqc_iiot_core::identity::certificate::{MAX_CERTIFICATE, OperationalCertificate};
use pqc_iiot_core::identity::trust::MAX_ANCHORS;
use pqc_iiot_core::store::{RecordKind, Row};
use pqc_iiot_core::time::{Monotonic, Now, UnixTime};
use pqc_iiot_mqtt::client::Storage;
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::datadir::{DataDir, DataFile};
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::software::{SoftwareProvider, Unlock};
use pqc_iiot_provider::store::{SqliteStore, Store};
use pqc_iiot_sim::World;

type Failure = Box<dyn std::error::Error>;

/// The files, and a word by which each is named when it is not what it should be.
const FILES: [(&str, &str); 5] = [
    ("identity.key", "identity.key"),
    ("certificate.cose", "certificate"),
    ("anchors.cose", "anchors"),
    ("store.sqlite", "store"),
    ("audit/segment-00000001.log", "audit"),
];

/// A device's directory as it is in use.
struct Home {
    directory: tempfile::TempDir,
    name: &'static str,
}

impl Home {
    /// A copy of a real one, brought to this release's format.
    fn new(name: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1");
        let home = Self { directory, name };
        fs::create_dir_all(home.path().join("audit")).unwrap();
        for directory in [home.path(), home.path().join("audit")] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        }
        for (file, _) in FILES {
            fs::copy(source.join(name).join(file), home.path().join(file)).unwrap();
        }
        fs::copy(source.join(format!("{name}.key")), home.key_file()).unwrap();
        fs::set_permissions(home.key_file(), fs::Permissions::from_mode(0o600)).unwrap();
        home.open().unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(self.name)
    }

    fn key_file(&self) -> PathBuf {
        self.directory.path().join("unlock.key")
    }

    /// Does what a client does when it starts; gives everything that it would believe.
    fn open(&self) -> Result<Vec<Row>, Failure> {
        let directory = DataDir::open(self.path())?;
        let provider = SoftwareProvider::open(&directory, &Unlock::from_key_file(&self.key_file())?)?;
        let certificate = directory.read(DataFile::Certificate, MAX_CERTIFICATE as u64)?;
        let certificate = certificate.ok_or("no certificate")?;
        let anchors = directory.read(DataFile::Anchors, MAX_ANCHORS as u64)?.ok_or("no trust anchors")?;
        let claims = Unverified::<OperationalCertificate>::decode(&certificate, MAX_CERTIFICATE);
        let claims = claims.map_err(|error| format!("certificate: {error}"))?;
        let claims = claims.unverified();
        let now = Now { monotonic: Monotonic::default(), wall: UnixTime(claims.not_before.0 + 600) };
        let config =
            EndpointConfig::new(claims.subject.clone(), provider.identity().clone(), certificate, anchors);
        let provider: Arc<dyn SecurityProvider> = Arc::new(provider);
        let mut storage = Storage::open(directory, &provider, &config)?;
        let mut rows = storage.store.load()?;
        Endpoint::new(config, default_backend(), Box::new(SeededRandom::new(1)), &rows, now)?;
        let peers = rows.iter().filter(|row| row.kind == RecordKind::Peer).map(|row| row.key.clone());
        for key in peers.collect::<Vec<_>>() {
            for kind in [RecordKind::Certificate, RecordKind::Bundle] {
                let value = storage.store.read(kind, &key)?.ok_or("a row of the store is missing")?;
                rows.push(Row { kind, key: key.clone(), value });
            }
        }
        Ok(rows)
    }

    /// Opens with `content` in place of a file (`None`: without it), and puts the file back.
    fn with(&self, file: &str, content: Option<&[u8]>) -> Result<Vec<Row>, String> {
        let path = self.path().join(file);
        let genuine = fs::read(&path).unwrap();
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let result = self.open().map_err(|error| format!("{error}"));
        let left = path.exists();
        assert!(content.is_some() || !left || result.is_err(), "{file} was made anew");
        fs::write(&path, genuine).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        result
    }
}

#[track_caller]
fn assert_named(result: Result<Vec<Row>, String>, word: &str, what: &str) {
    match result {
        Ok(_) => panic!("{what} went unnoticed"),
        Err(message) => assert!(message.contains(word), "{what}: {message}"),
    }
}

#[test]
fn removed_emptied_and_cut_files_are_named() {
    let home = Home::new("gateway");
    for (file, word) in FILES {
        assert_named(home.with(file, None), word, &format!("{file} removed"));
        let content = fs::read(home.path().join(file)).unwrap();
        for eighth in 0..8 {
            let cut = content.len() * eighth / 8;
            assert_named(home.with(file, Some(&content[..cut])), word, &format!("{file} cut at {cut}"));
        }
        let cut = content.len() - 1;
        assert_named(home.with(file, Some(&content[..cut])), word, &format!("{file} cut at {cut}"));
    }
    home.open().unwrap();
}

#[test]
fn swapped_files_are_named() {
    let home = Home::new("gateway");
    let other = Home::new("press");
    for (file, word) in FILES.into_iter().filter(|(file, _)| *file != "anchors.cose") {
        let content = fs::read(other.path().join(file)).unwrap();
        assert_named(home.with(file, Some(&content)), word, &format!("{file} of another device"));
    }
    let foreign = World::default();
    let foreign = foreign.authority.anchors();
    assert_named(home.with("anchors.cose", Some(foreign)), "anchors", "anchors of another authority");
    home.open().unwrap();
    other.open().unwrap();
}

#[test]
fn flipped_files_are_named_or_say_what_they_said() {
    let home = Home::new("gateway");
    let genuine = home.open().unwrap();
    for (file, word) in FILES {
        let content = fs::read(home.path().join(file)).unwrap();
        // Parts of a database page say nothing; every other byte of every file counts.
        let database = file == "store.sqlite";
        let step = (content.len() / 100).max(1);
        let mut refused = 0;
        for at in (0..content.len()).step_by(step) {
            let mut flipped = content.clone();
            flipped[at] ^= 0x10;
            match home.with(file, Some(&flipped)) {
                Ok(rows) if database => assert!(rows == genuine, "byte {at} of {file} changed what is read"),
                result => {
                    assert_named(result, word, &format!("byte {at} of {file} flipped"));
                    refused += 1;
                }
            }
        }
        assert!(refused >= if database { 30 } else { 100 }, "{refused} of {file}");
    }
    assert!(home.open().unwrap() == genuine);
}

#[test]
fn a_log_that_is_rolled_back_alone_is_named() {
    let home = Home::new("gateway");
    let directory = DataDir::open(home.path()).unwrap();
    let unlock = Unlock::from_key_file(&home.key_file()).unwrap();
    let provider = SoftwareProvider::open(&directory, &unlock).unwrap();
    let path = home.path().join("store.sqlite");
    let before = fs::read(&path).unwrap();
    // As if one entry more had been logged, and the log then put back to where it is.
    let mut store = SqliteStore::open(&path, &provider).unwrap();
    let head = store.audit_head().unwrap();
    store.note_audit_head(ChainHead { seq: head.seq + 1, ..head });
    store.commit(&[]).unwrap();
    drop((store, directory));
    let error = home.open().err().unwrap().to_string();
    assert!(error.contains("audit"), "{error}");
    fs::write(&path, before).unwrap();
    home.open().unwrap();
}
