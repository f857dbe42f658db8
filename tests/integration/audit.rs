//! I6: the audit log is signed if it claims tamper-evidence.

use std::sync::Arc;

use pqc_iiot_core::audit::{AuditEvent, AuditKind, SignerClass};
use pqc_iiot_core::crypto::suite::{Kem, SignatureSet};
use pqc_iiot_provider::audit::{
    AuditOptions, ChainedAuditLogger, VerifyError, VerifyOptions, VerifyReport, verify_dir,
};
use pqc_iiot_provider::random::SeededRandom;
use pqc_iiot_provider::{SecurityProvider, SoftwareProvider};
use pqc_iiot_sim::EPOCH;
use pqc_iiot_tests::{TOPIC, flipped, id, intercept, keys_topic, plant};

struct AuditFixture {
    directory: tempfile::TempDir,
    provider: Arc<SoftwareProvider>,
}

impl AuditFixture {
    fn with_entries(count: u64) -> Self {
        let random = Box::new(SeededRandom::new(7));
        let backend = pqc_iiot_core::crypto::default_backend();
        let provider =
            SoftwareProvider::ephemeral(backend, SignatureSet::Ed25519MlDsa65, Kem::XWing, random).unwrap();
        let fixture = Self { directory: tempfile::tempdir().unwrap(), provider: Arc::new(provider) };
        let mut log = ChainedAuditLogger::new_signed(
            &fixture.log(),
            fixture.provider.clone(),
            id("gateway"),
            AuditOptions::default(),
        )
        .unwrap();
        for _ in 0..count {
            log.append(EPOCH, AuditEvent::new(AuditKind::ReplayRefused, Some(id("press")), "replayed"))
                .unwrap();
        }
        log.sync().unwrap();
        fixture
    }

    fn log(&self) -> std::path::PathBuf {
        self.directory.path().join("audit")
    }

    fn segment(&self) -> std::path::PathBuf {
        let mut files = std::fs::read_dir(self.log()).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.metadata().unwrap().len() > 0).unwrap()
    }

    fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, VerifyError> {
        let own = self.provider.identity().signing_key.clone();
        verify_dir(&self.log(), |_, key| key == own, options)
    }
}

#[test]
fn i6_every_entry_is_signed_and_any_rewritten_byte_is_noticed() {
    let fixture = AuditFixture::with_entries(5);
    let report = fixture.verify(VerifyOptions::default()).unwrap();
    assert_eq!(report.entries, 5);
    let segment = fixture.segment();
    let bytes = std::fs::read(&segment).unwrap();
    for at in (0..bytes.len()).step_by(211) {
        std::fs::write(&segment, flipped(&bytes, at)).unwrap();
        let damaged = fixture.verify(VerifyOptions { head: Some(report.head), evidence: false });
        assert!(damaged.is_err(), "byte {at}");
    }
    std::fs::write(&segment, &bytes).unwrap();
    assert!(fixture.verify(VerifyOptions::default()).is_ok());
}

#[test]
fn i6_a_log_rewritten_with_another_key_is_not_this_devices() {
    let fixture = AuditFixture::with_entries(2);
    let other = vec![0; 1984];
    let result = verify_dir(&fixture.log(), |_, key| key == other, VerifyOptions::default());
    assert!(result.is_err());
}

#[test]
fn i6_an_exportable_signer_is_said_to_be_one_and_is_no_evidence() {
    let fixture = AuditFixture::with_entries(1);
    let report = fixture.verify(VerifyOptions::default()).unwrap();
    assert_eq!(report.class, SignerClass::Exportable);
    let evidence = fixture.verify(VerifyOptions { evidence: true, head: None });
    assert!(evidence.is_err(), "an exportable key gives no evidence");
}

#[test]
fn i6_every_kind_of_refusal_is_recorded() {
    let mut world = plant();
    let packet = intercept(&mut world, TOPIC, "x");
    world.broker.inject(TOPIC, &flipped(&packet, packet.len() - 1));
    world.broker.inject(TOPIC, &packet);
    world.broker.inject(TOPIC, &packet);
    world.broker.inject(TOPIC, b"\0");
    world.broker.inject(&keys_topic("press"), &vec![0; 1 << 20]);
    world.settle();
    let gateway = world.node("gateway");
    for kind in [
        AuditKind::ClientStarted,
        AuditKind::KeyExchangeAccepted,
        AuditKind::ForgeryRefused,
        AuditKind::ReplayRefused,
        AuditKind::MalformedRefused,
        AuditKind::OversizedRefused,
    ] {
        assert!(gateway.audited(kind) >= 1, "{kind}");
    }
}
