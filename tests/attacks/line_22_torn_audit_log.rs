//! A torn last line, a cut tail and two writers on one audit log are each detected, and the log goes on.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use pqc_iiot_core::audit::{AuditEvent, AuditKind, ChainHead};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_provider::audit::{
    AuditError, AuditOptions, ChainedAuditLogger, VerifyError, VerifyOptions, VerifyReport, verify_dir,
};
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::{SecurityProvider, SoftwareProvider};
use pqc_iiot_tests::id;

struct Log {
    parent: tempfile::TempDir,
    provider: Arc<SoftwareProvider>,
}

impl Log {
    /// Three entries, each synced, and the head that the store would know.
    fn written() -> (Self, ChainHead) {
        let (set, random) = (SignatureSet::Ed25519MlDsa65, Box::new(SeededRandom::new(22)));
        let provider = SoftwareProvider::ephemeral(default_backend(), set, Kem::XWing, random).unwrap();
        let log = Self { parent: tempfile::tempdir().unwrap(), provider: Arc::new(provider) };
        let head = log.append(None, 3);
        (log, head)
    }

    fn directory(&self) -> PathBuf {
        self.parent.path().join("audit")
    }

    fn segment(&self) -> PathBuf {
        let mut files: Vec<_> =
            fs::read_dir(self.directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    fn open(&self, durable: Option<ChainHead>) -> Result<ChainedAuditLogger, AuditError> {
        let options = AuditOptions { durable, ..AuditOptions::default() };
        ChainedAuditLogger::new_signed(&self.directory(), self.provider.clone(), id("gateway"), options)
    }

    fn append(&self, durable: Option<ChainHead>, count: u64) -> ChainHead {
        let mut log = self.open(durable).unwrap();
        for number in 1..=count {
            log.append(UnixTime(number), AuditEvent::new(AuditKind::ReplayRefused, None, "x")).unwrap();
            log.sync().unwrap();
        }
        log.head()
    }

    fn verify(&self, head: Option<ChainHead>) -> Result<VerifyReport, VerifyError> {
        let own = &self.provider.identity().signing_key;
        verify_dir(&self.directory(), |_, key| key == own, VerifyOptions { head, evidence: false })
    }

    /// What is written next verifies together with what was there.
    fn assert_goes_on(&self, durable: Option<ChainHead>) {
        let head = self.append(durable, 2);
        let report = self.verify(Some(head)).unwrap();
        assert_eq!((report.head, report.unfinished_bytes), (head, 0));
    }
}

#[test]
fn a_torn_last_line_is_reported_cut_and_recorded() {
    let (log, head) = Log::written();
    let whole = fs::read(log.segment()).unwrap();
    for cut in [1, 700, 3_000] {
        fs::write(log.segment(), &whole[..whole.len() - cut]).unwrap();
        assert!(log.verify(None).unwrap().unfinished_bytes > 0, "{cut}");
        assert!(matches!(log.verify(Some(head)), Err(VerifyError::Truncated { .. })), "{cut}");
        // The store knows that the line was whole: somebody cut it.
        assert!(matches!(log.open(Some(head)), Err(AuditError::Truncated { .. })), "{cut}");
        // Nothing after the second line was ever called durable: the power failed, and the next entry says so.
        let reopened = log.open(None).unwrap();
        assert!(reopened.repair().is_some() && reopened.head().seq == 2, "{cut}");
        drop(reopened);
        log.assert_goes_on(None);
        fs::write(log.segment(), &whole).unwrap();
    }
    log.assert_goes_on(Some(head));
}

#[test]
fn a_cut_tail_is_detected_by_the_head_in_the_store() {
    let (log, head) = Log::written();
    let before = fs::read(log.segment()).unwrap();
    let later = log.append(Some(head), 2);
    let whole = fs::read(log.segment()).unwrap();
    // Exactly between two lines, where the log itself looks whole.
    fs::write(log.segment(), &before).unwrap();
    assert!(log.verify(None).is_ok(), "negative control");
    assert!(matches!(log.verify(Some(later)), Err(VerifyError::Truncated { expected: 5, found: 3 })));
    assert!(matches!(log.open(Some(later)), Err(AuditError::Truncated { expected: 5, found: 3 })));
    fs::write(log.segment(), &whole).unwrap();
    log.assert_goes_on(Some(later));
}

#[test]
fn two_writers_are_detected_while_they_write_and_afterwards() {
    let (log, head) = Log::written();
    let first = log.open(Some(head)).unwrap();
    assert!(matches!(log.open(Some(head)), Err(AuditError::Locked { .. })), "one at a time");
    drop(first);

    // Each of two copies of the directory goes on by itself; one's entries are then put behind the other's.
    let shared = fs::read(log.segment()).unwrap();
    log.append(Some(head), 1);
    let one = fs::read(log.segment()).unwrap();
    fs::write(log.segment(), &shared).unwrap();
    let other_head = log.append(Some(head), 2);
    let other = fs::read(log.segment()).unwrap();
    fs::write(log.segment(), [&other[..], &one[shared.len()..]].concat()).unwrap();
    assert!(matches!(log.verify(None), Err(VerifyError::Segment { .. })));
    // They were never durable here: the next start cuts them off, and says so.
    assert!(log.open(Some(other_head)).unwrap().repair().is_some());
    fs::write(log.segment(), &other).unwrap();
    log.assert_goes_on(Some(other_head));
}
