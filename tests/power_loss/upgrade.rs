//! A store of format 1 is brought to this release's format by a process that is killed at random moments. The next start
//! finds the old store or the new one: the rows are all there, and the upgrade was made exactly once.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::store::{RecordKind, Row};
use pqc_iiot_provider::datadir::DataFile;
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::software::Unlock;
use pqc_iiot_provider::store::{SqliteStore, Store};
use pqc_iiot_provider::{DataDir, SoftwareProvider};

const HOME: &str = "PQC_IIOT_TEST_UPGRADE";
/// How often each of the two states has to be met.
const ENOUGH: u32 = 5;

/// A gateway's directory as a release of format 1 left it.
fn old_home(parent: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1");
    let home = parent.join("gateway");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["identity.key", "store.sqlite"] {
        fs::copy(source.join("gateway").join(name), home.join(name)).unwrap();
    }
    let key = parent.join("unlock.key");
    fs::copy(source.join("gateway.key"), &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    home
}

fn provider(home: &Path) -> SoftwareProvider {
    let unlock = Unlock::from_key_file(&home.parent().unwrap().join("unlock.key")).unwrap();
    SoftwareProvider::open(&DataDir::open(home).unwrap(), &unlock).unwrap()
}

/// Opens it, upgrading it if it is old; gives everything in it, and how many commits it took.
fn content(home: &Path) -> (Vec<Row>, u64) {
    let mut store = SqliteStore::open(&home.join(DataFile::Store.name()), &provider(home)).unwrap();
    let mut rows = store.load().unwrap();
    for key in
        rows.iter().filter(|row| row.kind == RecordKind::Peer).map(|row| row.key.clone()).collect::<Vec<_>>()
    {
        for kind in [RecordKind::Certificate, RecordKind::Bundle] {
            let value = store.read(kind, &key).unwrap().expect("a peer's certificate and bundle");
            rows.push(Row { kind, key: key.clone(), value });
        }
    }
    rows.sort_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
    (rows, store.generation())
}

/// Whether the upgrade's transaction is complete in the write-ahead log: a frame's header then holds the database's size.
fn is_committed(home: &Path) -> bool {
    let log = fs::read(home.join("store.sqlite-wal")).unwrap_or_default();
    let frames = log.get(32..).unwrap_or_default().chunks(24 + 4096);
    frames.filter(|frame| frame.len() == 24 + 4096).any(|frame| frame[4..8] != [0; 4])
}

/// Not a test by itself: the process that is killed.
#[test]
fn child() {
    let Some(home) = std::env::var_os(HOME).map(PathBuf::from) else { return };
    let provider = provider(&home);
    println!("opening");
    std::io::stdout().flush().unwrap();
    let store = SqliteStore::open(&home.join(DataFile::Store.name()), &provider).unwrap();
    println!("opened");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
        assert!(store.generation() > 0);
    }
}

/// Upgrades in a process of its own, which is killed after `patience`; `None` lets it come to the end. Gives how long the
/// upgrade was given.
fn killed_after(home: &Path, patience: Option<Duration>) -> Duration {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "upgrade::child", "--nocapture"]).env(HOME, home);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut until = |word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the child ended before it said {word}");
        }
    };
    until("opening");
    let started = Instant::now();
    match patience {
        Some(patience) => std::thread::sleep(patience),
        None => until("opened"),
    }
    let given = started.elapsed();
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    given
}

#[test]
fn a_process_killed_at_any_moment_of_an_upgrade_leaves_the_old_store_or_the_new_one() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut random = SeededRandom::new(seed.into());
    let parent = tempfile::tempdir().unwrap();
    let expected = content(&old_home(parent.path()));
    assert!(expected.0.len() > 10);
    // No longer than a few upgrades take on this machine.
    let longest = 2 * killed_after(&old_home(parent.path()), None);
    let (mut old, mut new) = (0, 0);
    for round in 0.. {
        assert!(
            round < 500,
            "{old} times the old store, {new} times the new one: the moments are not spread"
        );
        let home = old_home(parent.path());
        let mut bytes = [0; 4];
        random.fill(&mut bytes);
        killed_after(
            &home,
            Some(longest.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))),
        );
        match is_committed(&home) {
            true => new += 1,
            false => old += 1,
        }
        assert_eq!(content(&home), expected, "round {round}");
        // And it is whole at the start after that, too.
        assert_eq!(content(&home), expected, "round {round}, again");
        if old >= ENOUGH && new >= ENOUGH {
            break;
        }
    }
    println!("{old} times the old store, {new} times the new one");
}
