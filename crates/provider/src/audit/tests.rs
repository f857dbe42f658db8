use std::fs;

use pqc_iiot_core::audit::SignerClass;
use pqc_iiot_core::audit::frame::{Frame, Frames};
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};

use super::super::error::VerifyError;
use super::super::verify::{VerifyOptions, VerifyReport, export_json_lines, verify_dir};
use super::*;
use crate::SoftwareProvider;
use crate::random::SeededRandom;

struct Fixture {
    parent: tempfile::TempDir,
    provider: Arc<SoftwareProvider>,
}

fn software(seed: u64) -> Arc<SoftwareProvider> {
    let random = Box::new(SeededRandom::new(seed));
    let set = SignatureSet::Ed25519MlDsa65;
    Arc::new(SoftwareProvider::ephemeral(default_backend(), set, Kem::XWing, random).unwrap())
}

fn event(number: u64) -> AuditEvent {
    AuditEvent::new(AuditKind::ReplayRefused, Some(PeerId::new("press-7").unwrap()), "line\none")
        .with_count(number)
}

impl Fixture {
    fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap(), provider: software(1) }
    }

    fn directory(&self) -> PathBuf {
        self.parent.path().join("audit")
    }

    fn segment(&self, number: u64) -> PathBuf {
        segment_path(&self.directory(), number)
    }

    fn open(&self, options: AuditOptions) -> Result<ChainedAuditLogger, AuditError> {
        let log_id = PeerId::new("gateway").unwrap();
        ChainedAuditLogger::new_signed(&self.directory(), self.provider.clone(), log_id, options)
    }

    /// Appends `count` entries, each synced, with `per_segment` of them in a segment.
    fn write(&self, count: u64, per_segment: u64) -> ChainHead {
        let mut log = self.open(small(per_segment)).unwrap();
        for number in 1..=count {
            log.append(UnixTime(number), event(number)).unwrap();
            log.sync().unwrap();
        }
        log.head()
    }

    fn verify(&self) -> Result<VerifyReport, VerifyError> {
        self.verify_with(VerifyOptions::default())
    }

    fn verify_with(&self, options: VerifyOptions) -> Result<VerifyReport, VerifyError> {
        let own = self.provider.identity().signing_key.clone();
        verify_dir(&self.directory(), |_, key| key == own, options)
    }

    fn defect(&self) -> (u64, Defect) {
        match self.verify() {
            Err(VerifyError::Segment { error, .. }) => (error.seq, error.defect),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("the verifier noticed nothing"),
        }
    }
}

fn small(per_segment: u64) -> AuditOptions {
    // A header takes about 5.5 KB, an entry 3.6 KB.
    AuditOptions { segment_bytes: 5_000 + 3_500 * per_segment, ..AuditOptions::default() }
}

fn durable(head: ChainHead) -> AuditOptions {
    AuditOptions { durable: Some(head), ..AuditOptions::default() }
}

/// Whole records with their framing.
fn records(bytes: &[u8]) -> Vec<&[u8]> {
    let span = |frame| match frame {
        Frame::Record { offset, record } => &bytes[offset..offset + 8 + record.len()],
        other => panic!("{other:?}"),
    };
    Frames::new(bytes).map(span).collect()
}

#[test]
fn a_log_verifies_over_restarts_and_segments() {
    let fixture = Fixture::new();
    fixture.write(5, 2);
    let head = fixture.write(4, 2);
    let report = fixture.verify_with(VerifyOptions { head: Some(head), evidence: false }).unwrap();
    assert_eq!((report.entries, report.head, report.unfinished_bytes), (9, head, 0));
    assert!(report.segments >= 4, "{}", report.segments);
    assert_eq!(report.class, SignerClass::Exportable);
    assert_eq!(report.log_id.as_str(), "gateway");
}

#[test]
fn an_exportable_key_makes_no_evidence() {
    let fixture = Fixture::new();
    fixture.write(1, 9);
    let error = fixture.verify_with(VerifyOptions { evidence: true, head: None }).unwrap_err();
    assert!(matches!(error, VerifyError::NotEvidence { segment: 1 }));
    assert!(error.to_string().contains("observability, not evidence"), "{error}");
}

#[test]
fn an_untrusted_signer_is_refused() {
    let fixture = Fixture::new();
    fixture.write(1, 9);
    let result = verify_dir(&fixture.directory(), |_, _| false, VerifyOptions::default());
    assert!(matches!(result, Err(VerifyError::Segment { error, .. }) if error.defect == Defect::Untrusted));
}

#[test]
fn a_flipped_byte_anywhere_is_noticed() {
    let fixture = Fixture::new();
    fixture.write(1, 9);
    let whole = fs::read(fixture.segment(1)).unwrap();
    let own = fixture.provider.identity().signing_key.clone();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        let mut verifier = LogVerifier::new(default_backend());
        let mut trusted = |header: &SegmentHeader| header.public_key == own;
        let result = verifier.segment(&flipped, &mut trusted, &mut |_, _, _| {});
        assert!(result.is_err(), "byte {at}");
    }
}

#[test]
fn a_torn_last_record_is_reported_cut_and_recorded() {
    for cut in [1, 5, 2000, 3000] {
        let fixture = Fixture::new();
        let head = fixture.write(2, 9);
        let whole = fs::read(fixture.segment(1)).unwrap();
        fs::write(fixture.segment(1), &whole[..whole.len() - cut]).unwrap();
        assert!(fixture.verify().unwrap().unfinished_bytes > 0);

        let mut log = fixture.open(AuditOptions::default()).unwrap();
        assert_eq!(log.head().seq, 1);
        assert_eq!(log.repair().unwrap().segment, 1);
        log.append(UnixTime(9), event(9)).unwrap();
        log.sync().unwrap();
        drop(log);
        let report = fixture.verify().unwrap();
        assert_eq!((report.entries, report.unfinished_bytes), (3, 0));

        // The same loss is no torn write when the store knows that the entry was synced.
        fs::write(fixture.segment(1), &whole[..whole.len() - cut]).unwrap();
        let error = fixture.open(durable(head)).err().unwrap();
        assert_eq!(error, AuditError::Truncated { expected: 2, found: 1 });
    }
}

#[test]
fn a_repair_is_the_next_entry() {
    let fixture = Fixture::new();
    fixture.write(1, 9);
    let mut bytes = fs::read(fixture.segment(1)).unwrap();
    bytes.extend([0; 700]);
    fs::write(fixture.segment(1), &bytes).unwrap();
    let mut log = fixture.open(AuditOptions::default()).unwrap();
    log.append(UnixTime(9), event(9)).unwrap();
    drop(log);
    let mut lines = Vec::new();
    export_json_lines(&fixture.directory(), |_, _| true, VerifyOptions::default(), &mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    assert!(lines.lines().nth(1).unwrap().contains("cut an unfinished write of 700 bytes"), "{lines}");
}

#[test]
fn a_truncated_tail_is_noticed_by_whoever_knows_the_head() {
    let fixture = Fixture::new();
    let head = fixture.write(3, 9);
    let whole = fs::read(fixture.segment(1)).unwrap();
    let last = records(&whole).last().unwrap().len();
    fs::write(fixture.segment(1), &whole[..whole.len() - last]).unwrap();
    assert!(fixture.verify().is_ok(), "a cut between records cannot be seen in the log alone");
    let error = fixture.verify_with(VerifyOptions { head: Some(head), evidence: false }).unwrap_err();
    assert!(matches!(error, VerifyError::Truncated { expected: 3, found: 2 }));
    let error = fixture.open(durable(head)).err().unwrap();
    assert_eq!(error, AuditError::Truncated { expected: 3, found: 2 });

    fs::remove_dir_all(fixture.directory()).unwrap();
    let error = fixture.open(durable(head)).err().unwrap();
    assert_eq!(error, AuditError::Truncated { expected: 3, found: 0 });
}

#[test]
fn a_rewritten_entry_under_the_same_key_contradicts_the_stored_head() {
    let fixture = Fixture::new();
    let head = fixture.write(2, 9);
    fs::remove_dir_all(fixture.directory()).unwrap();
    let mut log = fixture.open(AuditOptions::default()).unwrap();
    for number in 5..8 {
        log.append(UnixTime(number), event(number)).unwrap();
    }
    drop(log);
    assert_eq!(fixture.open(durable(head)).err().unwrap(), AuditError::Replaced { seq: 2 });
    let error = fixture.verify_with(VerifyOptions { head: Some(head), evidence: false }).unwrap_err();
    assert!(matches!(error, VerifyError::Replaced { seq: 2 }));
}

#[test]
fn a_garbled_tail_is_cut_only_beyond_what_was_synced() {
    let fixture = Fixture::new();
    let first = fixture.write(1, 9);
    let second = fixture.write(1, 9);
    let whole = fs::read(fixture.segment(1)).unwrap();
    let mut garbled = whole.clone();
    let last = garbled.len() - 100;
    garbled[last..].fill(0);
    for (options, repaired) in
        [(durable(first), true), (durable(second), false), (AuditOptions::default(), false)]
    {
        fs::write(fixture.segment(1), &garbled).unwrap();
        match fixture.open(options) {
            Ok(log) => assert!(repaired && log.repair().is_some()),
            Err(error) => assert!(!repaired && matches!(error, AuditError::Damaged { .. }), "{error}"),
        }
    }
}

#[test]
fn a_second_writer_is_refused() {
    let fixture = Fixture::new();
    let _first = fixture.open(AuditOptions::default()).unwrap();
    assert!(matches!(fixture.open(AuditOptions::default()), Err(AuditError::Locked { .. })));
}

#[test]
fn entries_of_a_second_writer_do_not_chain() {
    let fixture = Fixture::new();
    fixture.write(1, 9);
    let shared = fs::read(fixture.segment(1)).unwrap();
    fixture.write(1, 9);
    let one = fs::read(fixture.segment(1)).unwrap();
    fs::write(fixture.segment(1), &shared).unwrap();
    fixture.write(2, 9);
    let mut other = fs::read(fixture.segment(1)).unwrap();
    other.extend_from_slice(records(&one).last().unwrap());
    fs::write(fixture.segment(1), &other).unwrap();
    assert_eq!(fixture.defect(), (4, Defect::EntryGap { expected: 4, found: 2 }));
}

#[test]
fn a_removed_or_swapped_record_is_the_first_bad_one() {
    let fixture = Fixture::new();
    fixture.write(3, 9);
    let whole = fs::read(fixture.segment(1)).unwrap();
    let [header, first, second, third] = records(&whole).try_into().unwrap();
    fs::write(fixture.segment(1), [header, first, third].concat()).unwrap();
    assert_eq!(fixture.defect(), (2, Defect::EntryGap { expected: 2, found: 3 }));
    fs::write(fixture.segment(1), [header, second, first, third].concat()).unwrap();
    assert_eq!(fixture.defect(), (1, Defect::EntryGap { expected: 1, found: 2 }));
    fs::write(fixture.segment(1), [first, second, third].concat()).unwrap();
    assert!(matches!(fixture.defect(), (1, Defect::Decode(_))));
    fs::write(fixture.segment(1), b"").unwrap();
    assert_eq!(fixture.defect(), (1, Defect::NoHeader));
}

#[test]
fn a_deleted_middle_segment_is_named() {
    let fixture = Fixture::new();
    fixture.write(5, 1);
    fs::remove_file(fixture.segment(2)).unwrap();
    let error = fixture.verify().unwrap_err();
    assert!(matches!(error, VerifyError::MissingSegment { path } if path == fixture.segment(2)));
    let error = fixture.open(AuditOptions::default()).err().unwrap();
    assert_eq!(error, AuditError::MissingSegment { path: fixture.segment(2) });
    // Renaming the rest into place does not help.
    for number in 3..=5 {
        fs::rename(fixture.segment(number), fixture.segment(number - 1)).unwrap();
    }
    assert_eq!(fixture.defect(), (2, Defect::SegmentGap { expected: 2, found: 3 }));
}

#[test]
fn swapped_segments_are_noticed() {
    let fixture = Fixture::new();
    fixture.write(4, 1);
    let (second, third) = (fs::read(fixture.segment(2)).unwrap(), fs::read(fixture.segment(3)).unwrap());
    fs::write(fixture.segment(2), third).unwrap();
    fs::write(fixture.segment(3), second).unwrap();
    assert_eq!(fixture.defect(), (2, Defect::SegmentGap { expected: 2, found: 3 }));
}

#[test]
fn a_log_signed_anew_by_another_key_is_refused() {
    let genuine = Fixture::new();
    genuine.write(1, 9);
    let forged = Fixture { provider: software(2), ..Fixture::new() };
    forged.write(1, 9);
    fs::copy(forged.segment(1), genuine.segment(1)).unwrap();
    assert_eq!(genuine.defect().1, Defect::Untrusted);
    assert!(matches!(genuine.open(AuditOptions::default()), Err(AuditError::Damaged { .. })));
    let former = AuditOptions {
        former_keys: vec![forged.provider.identity().signing_key.clone()],
        ..AuditOptions::default()
    };
    assert!(genuine.open(former).is_ok());
}

#[test]
fn an_entry_of_another_key_under_the_genuine_header_is_refused() {
    let genuine = Fixture::new();
    genuine.write(1, 9);
    let forged = Fixture { provider: software(2), ..Fixture::new() };
    forged.write(1, 9);
    let (ours, theirs) = (fs::read(genuine.segment(1)).unwrap(), fs::read(forged.segment(1)).unwrap());
    fs::write(genuine.segment(1), [records(&ours)[0], records(&theirs)[1]].concat()).unwrap();
    assert_eq!(genuine.defect(), (1, Defect::WrongSigner));
}

#[test]
fn an_edited_class_breaks_the_header() {
    let fixture = Fixture::new();
    fixture.write(1, 9);
    let mut bytes = fs::read(fixture.segment(1)).unwrap();
    // In the header's payload: key 6 (class), value 1, key 7.
    let at = bytes.windows(3).position(|window| window == [6, 1, 7]).unwrap();
    bytes[at + 1] = SignerClass::NonExportable as u8;
    fs::write(fixture.segment(1), bytes).unwrap();
    assert_eq!(fixture.defect(), (1, Defect::BadSignature));
}

#[test]
fn the_log_of_another_peer_is_refused() {
    let fixture = Fixture::new();
    fixture.write(1, 9);
    let other = PeerId::new("other").unwrap();
    let result = ChainedAuditLogger::new_signed(
        &fixture.directory(),
        fixture.provider.clone(),
        other,
        AuditOptions::default(),
    );
    let Err(AuditError::Damaged { error, .. }) = result else { panic!("opened") };
    assert!(matches!(error.defect, Defect::WrongLog { .. }));
}

#[test]
fn a_new_certificate_starts_a_new_segment() {
    let fixture = Fixture::new();
    fixture.write(1, 9);
    let options = AuditOptions { certificate: Some(vec![1, 2, 3]), ..AuditOptions::default() };
    let mut log = fixture.open(options).unwrap();
    log.append(UnixTime(2), event(2)).unwrap();
    drop(log);
    let certificates = std::cell::RefCell::new(Vec::new());
    let note = |certificate: Option<&[u8]>, _: &[u8]| {
        certificates.borrow_mut().push(certificate.map(<[u8]>::to_vec));
        true
    };
    assert_eq!(verify_dir(&fixture.directory(), note, VerifyOptions::default()).unwrap().segments, 2);
    assert_eq!(certificates.into_inner(), [None, Some(vec![1, 2, 3])]);
}

#[test]
fn the_export_is_one_harmless_json_object_per_entry() {
    let fixture = Fixture::new();
    fixture.write(3, 1);
    let mut out = Vec::new();
    export_json_lines(&fixture.directory(), |_, _| true, VerifyOptions::default(), &mut out).unwrap();
    let lines: Vec<serde_json::Value> = out
        .split(|&b| b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2]["seq"], 3);
    assert_eq!(lines[2]["kind"], "replay-refused");
    assert_eq!(lines[2]["peer"], "press-7");
    assert_eq!(lines[2]["detail"], "line\\none");
    assert_eq!(lines[2]["count"], 3);
    assert_eq!(lines[2]["signer_class"], "exportable");
}

#[test]
fn an_empty_directory_is_no_log() {
    let parent = tempfile::tempdir().unwrap();
    let result = verify_dir(parent.path(), |_, _| true, VerifyOptions::default());
    assert!(matches!(result, Err(VerifyError::Empty { .. })));
}
